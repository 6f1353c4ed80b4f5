"""Repairs: brings rows of the mirror in line with their source, in one transaction.

Correct rows cost no write. A row stays as it is if the mirror has newer news of it, or if a delivery about it arrived
before the source answered. A forecast writes nothing, and returns the changes that a repair would make.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.mirror import changes
from receiver.mirror.changes import RowChange
from receiver.mirror.rows import Key, MirrorRow, Write, table_name
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.mirror.versions import AHEAD, Rank, microseconds
from receiver.reconcile.mark import Mark
from receiver.reconcile.rows import differs
from receiver.reconcile.tables import Transact, transact_on
from receiver.reconcile.window import Window, pending_among, told_since

#: Returns the repairing run's id, called inside the transaction; None without a run.
RunOf = Callable[[Connection], int | None]

#: Further work for the repairing transaction.
Along = Callable[[Connection, "RepairedRows"], None]


class RepairedRows(NamedTuple):
    """The results of comparing and repairing some rows."""

    #: The changes made, or foreseen.
    changes: Sequence[RowChange] = ()
    #: The number of rows of which the mirror has newer news.
    newer: int = 0
    #: Rows not written because a delivery about them arrived meanwhile.
    moved: Sequence[Key] = ()
    #: The number of rows with other news of the same time as the answer, which therefore did not win.
    tied: int = 0
    #: Damaged rows that were written again, whose values may be the same as before.
    mended: Collection[Key] = ()

    def counted_in(self, mark: Mark, can_ask: Collection[type[MirrorRow]]) -> Mark:
        """The mark after these repairs. Rows that moved are looked up again if their source can be asked."""
        following = mark.behind(self.changes)
        following.newer, following.tied = following.newer + self.newer, following.tied + self.tied
        for key in self.moved:
            if key.table in can_ask:
                following.again.append([table_name(key.table), key.external_id])
            else:
                following.left += 1
        return following


class Repair:
    """Brings the mirror of one source in line with its list, or with answers about single rows."""

    def __init__(
        self,
        database: Database,
        source: str,
        clock: Callable[[], datetime],
        *,
        plan: bool = False,
        transact: Transact | None = None,
        run: RunOf = lambda _: None,
    ) -> None:
        """`run` is the run to which the changes belong."""
        self._database, self._source, self._clock = database, source, clock
        self._plan, self._run = plan, run
        self._transact = transact or transact_on(database)

    def let_in(
        self, writes: Sequence[Write], window: Window, as_of: datetime, along: Along | None = None
    ) -> RepairedRows:
        """Write the news that differs from the mirror.

        Calls `along` inside the writing transaction, and not at all if there is nothing to write.
        """
        found, candidates = retry_transaction(lambda: self._compare(writes, window, as_of))
        if self._plan or not candidates:
            return found
        done = self._transact(lambda connection: self._write(connection, candidates, window, as_of, found, along))
        return done._replace(newer=done.newer + found.newer)

    def _compare(self, writes: Sequence[Write], window: Window, as_of: datetime) -> tuple[RepairedRows, list[Write]]:
        """Find the rows to be written, without a lock; in a forecast, the foreseen changes."""
        with self._database.read() as connection:
            rows = UnitOfWork(connection, mends_before=as_of)
            rows.load(writes)
            if self._plan:
                _date_back(rows, [write.key for write in writes], as_of)
            needed, newer = self._needed(rows, connection, writes, as_of)
            if self._plan:
                return self._take(rows, connection, needed, window)._replace(newer=newer), []
            return RepairedRows(newer=newer), needed

    def _write(
        self,
        connection: Connection,
        candidates: Sequence[Write],
        window: Window,
        as_of: datetime,
        found: RepairedRows,
        along: Along | None,
    ) -> RepairedRows:
        rows = UnitOfWork(connection, mends_before=as_of)
        rows.load(candidates, lock=True)
        needed, newer = self._needed(rows, connection, candidates, as_of)
        done = self._take(rows, connection, needed, window)._replace(newer=newer)
        rows.save()
        changes.record(connection, done.changes, now=self._clock(), run=self._run(connection))
        if along is not None:
            along(connection, done._replace(newer=newer + found.newer))
        return done

    def _needed(
        self, rows: UnitOfWork, connection: Connection, writes: Sequence[Write], as_of: datetime
    ) -> tuple[list[Write], int]:
        """The news that must be written, and the number of rows that the mirror has newer news of."""
        pending = pending_among(connection, self._source, _entities(rows, writes))
        fresh = [write for write in writes if not _is_newer(rows.row(write.key), as_of)]
        # A damaged row is written again even if its values are right.
        needed = [each for each in fresh if each.key in rows.damaged or _is_needed(rows, each, pending)]
        return needed, len({write.key for write in writes} - {write.key for write in fresh})

    def _take(self, rows: UnitOfWork, connection: Connection, writes: Sequence[Write], window: Window) -> RepairedRows:
        keys = dict.fromkeys(write.key for write in writes)
        told = told_since(connection, self._source, window, keys, _entities(rows, writes))
        moved = [key for key in keys if not told.isdisjoint(_names(rows.row(key), key))]
        there = [write for write in writes if write.key not in moved]
        repaired = [change for write in there for change in rows.apply([write], delivery_id=None)[1]]
        tied = {write.key for write in there if rows.contradicts(write)}
        mended = rows.damaged & (keys.keys() - set(moved))
        return RepairedRows(repaired, moved=moved, tied=len(tied), mended=mended)


def _date_back(rows: UnitOfWork, keys: Sequence[Key], as_of: datetime) -> None:
    """Date the rows back in memory, as a run would have done by then."""
    parents = [parent for key in keys if (parent := _parent(rows.row(key), key)) is not None]
    there = [key for key in dict.fromkeys([*parents, *keys]) if rows.row(key) is not None]
    rows.date_back(there, after=microseconds(as_of + AHEAD), latest=microseconds(as_of) - 1)


def _parent(row: MirrorRow | None, key: Key) -> Key | None:
    parent = getattr(row, "parent", None)
    return Key(key.table.parent_table, key.source, parent) if key.table.parent_table and parent is not None else None


def _is_newer(row: MirrorRow | None, as_of: datetime) -> bool:
    return row is not None and row.changed_at > as_of


def _is_needed(rows: UnitOfWork, write: Write, pending: set[str]) -> bool:
    """Whether the news must be written, given the mirror's row."""
    row = rows.row(write.key)
    if not pending.isdisjoint(_names(row, write.key)):
        # A confirmation must be written, too, because it is newer than deliveries still pending.
        return True
    if write.version.rank == Rank.ABSENT:
        if row is None:
            # Children of an unknown row go with its tombstone; without them, there is nothing to remove.
            return any(child is not None and child.active for child in map(rows.row, rows.children(write.key)))
        return write.children_gone is not None or row.active
    # A confirmation settles a tie.
    return row is None or row.tie or differs(row, write)


def _names(row: MirrorRow | None, key: Key) -> set[str]:
    """The ids of entities whose deliveries may concern the row: its own, and its parent's."""
    parent = getattr(row, "parent", None)
    return {key.external_id} if parent is None else {key.external_id, parent}


def _entities(rows: UnitOfWork, writes: Sequence[Write]) -> set[str]:
    return {name for write in writes for name in _names(rows.row(write.key), write.key)}
