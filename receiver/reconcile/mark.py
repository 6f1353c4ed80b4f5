"""Marks: the place that a walk has reached, as a JSON value from which another process can continue."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from receiver.inbox.ids import MOST_PROCESSES, first_id_at
from receiver.mirror.changes import RowChange
from receiver.moments import MICROSECOND
from receiver.reconcile.window import Window

#: The end of the name of a walk without a run.
ALONE = "-alone"


class Stage(StrEnum):
    """The stages of a walk, in their order; the middle three are repeated for each part of the list."""

    BEGIN = "begin"
    #: Date back news from the future.
    MISDATED = "misdated"
    #: Read the list, page by page.
    PAGES = "pages"
    #: Check whether the part was read completely.
    CHECK = "check"
    #: Ask for each row of a part that only names its rows.
    DETAILS = "details"
    #: Deactivate the rows that the complete list lacks.
    MISSING = "missing"
    DONE = "done"


@dataclass(slots=True, kw_only=True)
class Mark:
    """The place that a walk has reached, and its counts so far."""

    #: The name of the walk, under which its seen keys are stored.
    run: str
    source: str
    #: The time at which the walk began, by our clock.
    began_at: datetime
    #: Whether the walk is a forecast, which writes no row.
    plan: bool = False
    #: Whether the brake is off, so that any number of missing rows is deactivated.
    force: bool = False
    #: Whether only news from the future is dated back.
    only_misdated: bool = False
    #: The number of the forecast, from 1: if the list changes while it is read, a forecast begins anew.
    forecast: int = 1
    #: The number of times that a stream was begun again because it broke off, or another process continued the walk.
    breaks: int = 0
    stage: Stage = Stage.BEGIN
    #: The moment from which the list counts, by the earlier of the source's clock and ours; None until the first stage
    #: has recorded it. Missing rows are deactivated as of this moment.
    as_of: datetime | None = None
    #: The window opened at the beginning.
    low: int = 0
    seq: int = 0
    #: The position in the parts of the list, or in the tables.
    part: int = 0
    #: The beginning of the next page, as the dialect gave it.
    start: Any = None
    #: The last key processed, in a stage that goes through keys.
    after: str = ""
    #: The number of the walk through the part: a list that changed while it was read is walked again. Later parts have
    #: larger numbers.
    walk: int = 1
    #: Up to two different totals in the pages of this walk; two show that the list changed.
    totals: list[int] = field(default_factory=list)
    #: Whether two pages of this walk contained the same row.
    repeats: bool = False
    #: Tables whose rows stand on several pages: a row may have moved to a page that was read before.
    split: list[str] = field(default_factory=list)
    #: Rows to be looked up again, as table and external id.
    again: list[list[str]] = field(default_factory=list)
    #: The number of times in a row that the source answered about none of the next rows to be looked up.
    tries: int = 0
    #: The number of groups of rows in a row that were given up like this.
    silent: int = 0
    #: Rows and pages read so far, those of repeated walks included.
    read: int = 0
    pages: int = 0
    #: The pages of this walk through the part, and the different rows in them.
    pages_of_walk: int = 0
    rows_of_walk: int = 0
    #: Since the last page with a new row: the pages with rows, the rows in them, and the pages without rows.
    repeated_pages: int = 0
    repeated_rows: int = 0
    empty_pages: int = 0
    #: A digest of the `next` of an earlier page of this walk.
    earlier_next: str = ""
    #: The number of different rows in the list; None until it is read to its end.
    listed: int | None = None
    repaired: int = 0
    #: Rows left alone because the mirror has newer news.
    newer: int = 0
    #: Rows left alone because the mirror has other news of the same time.
    tied: int = 0
    #: Rows left alone because a delivery about them arrived before the source answered.
    left: int = 0
    #: Rows left alone because the source did not answer about them, and the last reason.
    unanswered: int = 0
    unanswered_reason: str = ""
    #: Rows left alone because the source gives a value that cannot be stored, and the last reason.
    unstorable: int = 0
    unstorable_reason: str = ""
    #: Rows whose news from the future was dated back.
    misdated: int = 0
    #: In a forecast, by how much the number of each table's active rows would change.
    grown: dict[str, int] = field(default_factory=dict)
    #: Per table, how many active rows the list lacks, where that is more than the brake allows.
    braked: dict[str, int] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.stage is Stage.DONE

    @property
    def counts_from(self) -> datetime:
        """The moment from which the list counts, once the first stage has recorded it."""
        assert self.as_of is not None
        return self.as_of

    @property
    def window(self) -> Window:
        """The window opened at the beginning, for conclusions from the list as a whole."""
        return Window(self.low, self.seq)

    def change_of_list(self, table: str, found: int) -> str | None:
        """How the list shows that it changed while it was read; None if it does not.

        `found` is the number of rows of the part's first table. A total of other rows looks like a change, too.
        """
        if self.repeats:
            return "two of its pages had the same row"
        if len(self.totals) > 1:
            return f"its pages gave the totals {self.totals[0]} and {self.totals[1]}"
        if self.totals and self.totals != [found]:
            return (
                f"its `total` was {self.totals[0]}, and the number of its rows of {table} was {found}. If that stays "
                f"so, the list function has to give the number of rows of {table} alone, or no `total`"
            )
        return None

    def begin_walk(self, number: int) -> None:
        """Go to the beginning of the walk with this number through the current part."""
        self.walk, self.start, self.totals, self.repeats = number, None, [], False
        self.pages_of_walk = self.rows_of_walk = self.repeated_pages = self.repeated_rows = self.empty_pages = 0
        self.earlier_next = ""

    def copy(self) -> Mark:
        return deepcopy(self)

    def anew(self, *, now: datetime, forecast: int) -> Mark:
        """The mark of the same forecast before its beginning, under a later name. Only reading stays counted."""
        now, alone = max(now, self.began_at + MICROSECOND), self.run.endswith(ALONE)
        beginning = new_mark(self.source, now=now, plan=self.plan, force=self.force, alone=alone)
        beginning.forecast, beginning.breaks = forecast, self.breaks
        beginning.read, beginning.pages = self.read, self.pages
        return beginning

    def behind(self, changes: Sequence[RowChange]) -> Mark:
        """This mark with these repairs counted."""
        following = self.copy()
        following.repaired += len(changes)
        for change in changes if self.plan else ():
            was, now = change.before.get("active"), change.after.get("active")
            step = int(bool(now)) - int(bool(was)) if now is not None else 0
            following.grown[change.table] = following.grown.get(change.table, 0) + step
        return following

    def to_json(self) -> dict[str, Any]:
        as_of = None if self.as_of is None else self.as_of.isoformat()
        return asdict(self) | {"stage": str(self.stage), "began_at": self.began_at.isoformat(), "as_of": as_of}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Mark:
        mark = cls(**document)
        mark.stage = Stage(mark.stage)
        mark.began_at = datetime.fromisoformat(document["began_at"])
        mark.as_of = None if mark.as_of is None else datetime.fromisoformat(document["as_of"])
        return mark


def new_mark(
    source: str,
    *,
    now: datetime,
    plan: bool = False,
    force: bool = False,
    only_misdated: bool = False,
    alone: bool = False,
) -> Mark:
    """Make the mark of a walk that has not begun, which is `alone` if no run stores it.

    The names of walks sort by the time of the beginning.
    """
    run = f"{first_id_at(now) + secrets.randbelow(MOST_PROCESSES)}{ALONE if alone else ''}"
    return Mark(run=run, source=source, began_at=now, plan=plan, force=force, only_misdated=only_misdated)
