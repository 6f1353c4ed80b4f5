"""The report of a reconcile, as data and as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from receiver import codec
from receiver.logs.escapes import visible
from receiver.logs.safe_text import sentence
from receiver.mirror.changes import RowChange
from receiver.moments import time_text
from receiver.reconcile.mark import Mark

#: The share of a table's active rows that may be missing; deactivating more requires `force`.
BRAKE = 0.2

#: The most repairs that a report shows; the change feed has all.
MOST_SHOWN = 10_000


@dataclass(slots=True)
class Report:
    """The differences that a reconcile found and repaired."""

    source: str
    #: The moment from which the list counts: the beginning of the walk, by the earlier of the source's clock and ours.
    as_of: datetime
    #: The number of rows in the source's list; None if it was not read.
    listed: int | None = None
    #: The first repairs, made or foreseen.
    repaired: list[RowChange] = field(default_factory=list)
    #: The number of repairs.
    repairs: int = 0
    #: Rows that changed since the walk began, and were left alone.
    newer: int = 0
    #: Rows left alone because the mirror has other news of the same time, such as from a reconcile a moment before.
    tied: int = 0
    #: Rows left alone because a delivery about them arrived before the source answered.
    left: int = 0
    #: Rows left alone because the source did not answer about them, and the last reason.
    unanswered: int = 0
    unanswered_reason: str = ""
    #: Rows left alone because the source gives a value that cannot be stored, and the last reason.
    unstorable: int = 0
    unstorable_reason: str = ""
    #: Rows that were dated more than a day after the walk began, and were dated back.
    misdated: int = 0
    #: Per table, how many active rows the list lacks, where that is more than the brake allows.
    braked: dict[str, int] = field(default_factory=dict)
    dry_run: bool = False
    #: The time at which the resumed walk began; None if this walk was not resumed.
    resumed: datetime | None = None

    def add(self, changes: Sequence[RowChange]) -> None:
        self.repaired.extend(changes[: max(MOST_SHOWN - len(self.repaired), 0)])

    def take(self, mark: Mark) -> None:
        """Take over the counts of this mark."""
        self.as_of = mark.as_of or mark.began_at
        self.listed, self.repairs, self.misdated = mark.listed, mark.repaired, mark.misdated
        self.newer, self.tied, self.left, self.braked = mark.newer, mark.tied, mark.left, mark.braked
        self.unanswered, self.unanswered_reason = mark.unanswered, mark.unanswered_reason
        self.unstorable, self.unstorable_reason = mark.unstorable, mark.unstorable_reason

    def lines(self) -> list[str]:
        """Format the report as text: a line for each differing row, then totals, with invisible characters escaped."""
        return [visible(line) for line in (*self._repairs(), *self._sums())]

    def _repairs(self) -> list[str]:
        lines = [f"{change.operation} {change.table} {change.external_id}: {_told(change)}" for change in self.repaired]
        more = self.repairs - len(lines)
        if more > 0:
            lines.append(f"… and {more} more; the change feed has all repairs.")
        return lines

    def _sums(self) -> list[str]:
        lines = []
        did = "would be repaired" if self.dry_run else "repaired"
        if self.resumed is not None:
            lines.append(f"Resumed the walk that began at {time_text(self.resumed)}.")
        if self.listed is not None:
            lines.append(f"{self.source}: {self.listed} rows listed, {self.repairs} {did}, {self.newer} changed since.")
        if self.tied:
            lines.append(
                f"Rows left alone because the mirror has other news of the same time: {self.tied}. Run this again: the "
                "list will be newer."
            )
        if self.left:
            lines.append(f"Rows left alone because a delivery about them arrived meanwhile: {self.left}.")
        lines += left_alone(self)
        if self.misdated or self.listed is None:
            dated_back = "would be dated back" if self.dry_run else "dated back"
            lines.append(f"Rows with news from the future: {self.misdated}, {dated_back} to its arrival.")
        for table, missing in self.braked.items():
            lines.append(
                f"{missing} active rows of {table} are missing from the list, more than {BRAKE:.0%}: nothing of "
                f"{table} was deactivated. If the list is right, run this again with --force."
            )
        return lines


def left_alone(counted: Report | Mark) -> list[str]:
    """Say how many rows were left alone because of the source's answers, and why: at most two lines."""
    causes = (
        (f"{counted.source} did not answer about them", counted.unanswered, counted.unanswered_reason),
        ("a value cannot be stored", counted.unstorable, counted.unstorable_reason),
    )
    return [
        f"Rows left alone because {cause}: {rows}. The last reason: {sentence(reason)}"
        for cause, rows, reason in causes
        if rows
    ]


def _told(change: RowChange) -> str:
    return ", ".join(
        f"{name} {_as_json(before)} -> {_as_json(after)}"
        for name, after in change.after.items()
        if (before := change.before.get(name)) != after
    )


def _as_json(value: Any) -> str:
    return codec.encode(value).decode()
