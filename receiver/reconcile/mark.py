"""How far a walk is: a plain value that JSON can hold, from which another process goes on."""

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
from receiver.reconcile.window import Window


class Stage(StrEnum):
    """The stages of a walk, in their order; the middle three are repeated for each part of the list."""

    BEGIN = "begin"
    #: Date back news from the future.
    MISDATED = "misdated"
    #: Read the list, page by page.
    PAGES = "pages"
    #: Whether the part was read completely.
    CHECK = "check"
    #: Ask for each row of a part that only names its rows.
    DETAILS = "details"
    #: Deactivate what the complete list lacks.
    MISSING = "missing"
    DONE = "done"


@dataclass(slots=True, kw_only=True)
class Mark:
    """How far a walk is, and what it has found so far."""

    run: str
    source: str
    #: By our clock.
    began_at: datetime
    #: Whether the walk only tells what it would do.
    plan: bool = False
    #: Whether a list that lacks very many rows is believed.
    force: bool = False
    #: Whether only news from the future is dated back.
    only_misdated: bool = False
    stage: Stage = Stage.BEGIN
    #: When the walk began, by the source's clock or ours, whichever is behind: what is missing is missing as of then.
    as_of: datetime | None = None
    #: The marks of the beginning.
    low: int = 0
    seq: int = 0
    #: The position in the parts of the list, or in the tables.
    part: int = 0
    #: Where the next page begins, as the dialect says.
    start: Any = None
    #: The last key that is done, where a stage goes through keys.
    after: str = ""
    #: The walk through the part, from 1: a list that does not hold still is walked again.
    walk: int = 1
    #: The different totals that the pages of this walk told; two say enough.
    totals: list[int] = field(default_factory=list)
    #: Whether a page of this walk named a row that another page had named.
    repeats: bool = False
    #: Tables whose list came in several pages: a row may have moved from a page to one that was read before.
    split: list[str] = field(default_factory=list)
    #: Rows that wait for a second look, as table and external id.
    again: list[list[str]] = field(default_factory=list)
    #: Rows read so far, those of repeated walks included.
    read: int = 0
    #: Different rows in the list; None while it is not read to the end.
    listed: int | None = None
    repaired: int = 0
    #: Rows left alone because the mirror has newer news.
    newer: int = 0
    #: Rows left alone because a delivery about them came while they were asked for.
    left: int = 0
    #: Rows whose news from the future was dated back.
    misdated: int = 0
    #: In a forecast, how many active rows more, or fewer, each table would have.
    grown: dict[str, int] = field(default_factory=dict)
    #: Per table, how many active rows the list lacks, where that is more than the brake allows.
    braked: dict[str, int] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.stage is Stage.DONE

    @property
    def window(self) -> Window:
        """The marks of the beginning, for what is said of the list as a whole."""
        return Window(self.low, self.seq)

    def copy(self) -> Mark:
        return deepcopy(self)

    def behind(self, changes: Sequence[RowChange]) -> Mark:
        """The mark behind these repairs."""
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
    source: str, *, now: datetime, plan: bool = False, force: bool = False, only_misdated: bool = False
) -> Mark:
    """The mark of a walk that has not begun. Runs sort by their beginning."""
    run = str(first_id_at(now) + secrets.randbelow(MOST_PROCESSES))
    return Mark(run=run, source=source, began_at=now, plan=plan, force=force, only_misdated=only_misdated)
