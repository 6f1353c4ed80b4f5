"""Asks the source for one row, compares it with the mirror, and repairs it on request.

A repair passes the version guard like any news, and does not overrule a delivery that arrives meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection

from receiver import codec
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.dialects.sources import Source
from receiver.errors import ApiError, ConfigurationError
from receiver.logs.escapes import visible
from receiver.mirror.changes import RowChange
from receiver.mirror.rows import ACTIVE, Key, MirrorRow, Write, table_name
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.mirror.versions import Rank
from receiver.moments import time_text
from receiver.reconcile.lookup import check_lookup, look_up, wanted
from receiver.reconcile.question import Asking
from receiver.reconcile.repair import Repair, RepairedRows, RunOf
from receiver.reconcile.rows import gone, key_of, present
from receiver.reconcile.window import Window, open_window

#: Bounds of a reason, in characters.
SHORTEST_REPAIR_REASON, LONGEST_REPAIR_REASON = 3, 200


DAMAGED_HERE = "The mirror's row is damaged, and takes no news until it is repaired: repair it by this answer."
MENDED = "Repaired: the damaged row was written anew."


class ReasonError(ConfigurationError):
    """The reason of a repair is too short or too long."""


#: Called with the answer inside the repairing transaction, so that every repair has its record.
Record = Callable[[Connection, "SourceAnswer"], None]


@dataclass(frozen=True, slots=True)
class ComparedColumn:
    """The values of one column in the mirror and at the source."""

    name: str
    here: Any
    there: Any
    equal: bool


@dataclass(slots=True)
class SourceAnswer:
    """The source's answer about one row, compared with the mirror."""

    table: str
    source: str
    external_id: str
    asked_at: datetime
    #: Seconds that the source took to answer.
    seconds: float
    #: Whether the mirror has the row, a tombstone included.
    known_here: bool
    #: Whether the source has it.
    known_there: bool
    #: The time of the newest news that the mirror has about it.
    changed_here: datetime | None
    #: The time of the last change according to the source, if its answer has one.
    changed_there: datetime | None
    #: The columns in the source's answer.
    columns: list[ComparedColumn] = field(default_factory=list)
    #: The changes of the repair; None if no repair was requested.
    repaired: list[RowChange] | None = None
    #: The reason for which a differing row was not repaired, `newer` or `delivery`; None otherwise.
    left: Literal["newer", "delivery"] | None = None
    #: Whether the mirror's row was edited by hand, so that it takes no news until it is repaired.
    damaged: bool = False
    #: Whether the repair wrote the damaged row again.
    mended: bool = False
    #: The reason given for the repair.
    reason: str | None = None
    #: The action that records the question or the repair; None if the question has no author.
    action: int | None = None

    @property
    def equal(self) -> bool:
        """Whether mirror and source agree."""
        return all(column.equal for column in self.columns)

    def lines(self) -> list[str]:
        """Format the answer as lines of text, with invisible characters escaped."""
        lines = [f"{self.source} was asked for {self.table} {self.external_id}, and answered in {self.seconds:.2f} s."]
        if not self.known_there:
            lines.append("The source does not have it: it was deleted, or never existed.")
        if not self.known_here:
            lines.append("The mirror has no news of it.")
        lines += [
            f"{column.name}: {_as_text(column.there)} there, {_as_text(column.here)} here"
            for column in self.columns
            if not column.equal
        ]
        if self.equal:
            lines.append("The mirror agrees.")
        lines += [
            f"Last change {where}: {time_text(moment)}."
            for where, moment in (("there", self.changed_there), ("here", self.changed_here))
            if moment is not None
        ]
        return [visible(line) for line in (*lines, *self._result())]

    def _result(self) -> list[str]:
        if self.left == "newer":
            return ["Not repaired: the mirror has news as new as this answer, or newer. Ask again."]
        if self.left == "delivery":
            return ["Not repaired: a delivery about it arrived before the source answered. Ask again."]
        if self.repaired is None:
            return [DAMAGED_HERE] if self.damaged else []
        if self.mended:
            return [MENDED]
        return [f"Repaired: {len(self.repaired)} rows changed." if self.repaired else "There was nothing to repair."]


def ask_source(
    database: Database,
    source: Source,
    table: type[MirrorRow],
    external_id: str,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SourceAnswer:
    """Compare one row with its source, by one call of its API. Changes nothing.

    Raises `ConfigurationError` where the dialect cannot ask or the source has no API, and `ApiError` if it does not
    answer.
    """
    return _Question(database, source, Key(table, source.name, external_id), clock).asked


def repair_row(
    database: Database,
    source: Source,
    table: type[MirrorRow],
    external_id: str,
    *,
    reason: str,
    run: RunOf = lambda _: None,
    record: Record = lambda _connection, _asked: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SourceAnswer:
    """Ask the source for one row, and repair the mirror by its answer.

    `run` inserts the run to which the changes belong, and `record` stores the answer, both inside the transaction.

    Raises as `ask_source` does, and `ReasonError` for a reason that is too short or too long.
    """
    if not SHORTEST_REPAIR_REASON <= len(reason.strip()) <= LONGEST_REPAIR_REASON:
        raise ReasonError(
            f"A repair needs a reason of {SHORTEST_REPAIR_REASON} to {LONGEST_REPAIR_REASON} characters: say why."
        )
    question = _Question(database, source, Key(table, source.name, external_id), clock)
    question.asked.reason = reason.strip()
    question.repair(run, record)
    return question.asked


class _Question:
    """One question about one row, with its window."""

    def __init__(self, database: Database, source: Source, key: Key, clock: Callable[[], datetime]) -> None:
        check_lookup(source, key.table)
        self._database, self._key, self._clock = database, key, clock
        self._window: Window = open_window(database, source.name)
        self._is_damaged = False
        asked_at = clock()
        with closing(Asking(source, clock)) as asking:
            question = wanted(database, key)
            asking.begin()
            began = time.monotonic()
            with asking.telling_of(question):
                rows = look_up(source, asking, question)
            seconds = time.monotonic() - began
            self._as_of = asking.as_of
        found = [row for row in rows if key_of(source.name, row) == key]
        if rows and not found:
            raise ApiError(f"The lookup of {source.dialect.name} answered with other rows than {key.external_id!r}.")
        self._writes = [present(source.name, row, self._window, self._as_of) for row in found]
        row = retry_transaction(self._row)
        self.asked = SourceAnswer(
            table=table_name(key.table),
            source=source.name,
            external_id=key.external_id,
            asked_at=asked_at,
            seconds=seconds,
            known_here=row is not None,
            known_there=bool(found),
            changed_here=None if row is None else row.changed_at,
            changed_there=found[0].changed_at if found else None,
            columns=_compared(row, self._writes),
            damaged=self._is_damaged,
        )

    def repair(self, run: RunOf, record: Record) -> None:
        """Apply the answer to this row alone; if the source does not have the row, to its children, too."""
        writes = self._writes
        if not writes:
            writes = gone(self._key, self._window, self._as_of) if self.asked.known_here else []
        repair = Repair(self._database, self._key.source, self._clock, run=run)

        def along(connection: Connection, done: RepairedRows) -> None:
            self.asked.repaired = list(done.changes)
            self._note_left(done)
            record(connection, self.asked)

        self.asked.repaired = []
        done = repair.let_in(writes, self._window, self._as_of, along)
        self._note_left(done)

    def _note_left(self, done: RepairedRows) -> None:
        self.asked.mended = self._key in done.mended
        if done.moved:
            self.asked.left = "delivery"
        elif (done.newer or done.tied) and not self.asked.equal:
            self.asked.left = "newer"

    def _row(self) -> MirrorRow | None:
        with self._database.read() as connection:
            rows = UnitOfWork(connection, mends_before=self._as_of)
            rows.load([Write(self._key, self._window.version(Rank.ABSENT, self._as_of), {})])
            self._is_damaged = self._key in rows.damaged
            return rows.row(self._key)


def _compared(row: MirrorRow | None, writes: list[Write]) -> list[ComparedColumn]:
    """Pair the columns of the answer with the mirror's; a row missing at the source compares as inactive."""
    there = writes[0].columns if writes else {ACTIVE: False}
    if row is None and not writes:
        return []
    return [
        ComparedColumn(
            name,
            codec.plain(here := getattr(row, name, None)),
            codec.plain(value),
            row is not None and codec.is_equal(here, value),
        )
        for name, value in there.items()
    ]


def _as_text(value: Any) -> str:
    return codec.encode(value).decode()
