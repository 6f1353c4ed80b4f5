"""Writes what one step of a walk found: rows, seen keys and the mark, in one transaction. A forecast writes no row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from receiver.database.database import Database
from receiver.mirror.changes import RowChange
from receiver.mirror.rows import ACTIVE, Key, MirrorRow, Write, table_name
from receiver.reconcile import misdated, missing
from receiver.reconcile.mark import Mark, Stage
from receiver.reconcile.misdated import DatedBack, tables_from_the_top
from receiver.reconcile.repair import Repair, RepairedRows
from receiver.reconcile.rows import gone
from receiver.reconcile.seen import SeenKeys
from receiver.reconcile.tables import Transact, read_from
from receiver.reconcile.window import Window

#: Receives the changes that a forecast foresees, before the mark after them is stored.
Foresee = Callable[[Sequence[RowChange]], None]


class WalkStep(NamedTuple):
    """The result of one page of a walk."""

    #: The mark from which the walk continues.
    mark: Mark
    #: The changes made; in a forecast, those foreseen.
    changes: Sequence[RowChange] = ()


class StepWriter:
    """Repairs rows of the mirror, each time together with the seen keys and the mark after the repair."""

    def __init__(
        self,
        database: Database,
        seen: SeenKeys,
        *,
        clock: Callable[[], datetime],
        transact: Transact,
        run: int | None,
        foresee: Foresee,
    ) -> None:
        self._database, self._seen = database, seen
        self._clock, self._transact, self._run, self._foresee = clock, transact, run, foresee

    def date_back(self, mark: Mark, keys: Sequence[Key]) -> WalkStep:
        """Date back the news from the future about these rows and their children."""
        if mark.plan:
            # Examined already, together with their parents.
            known = self._seen.known(mark, keys, walk=0)
            keys = [key for key in keys if key not in known]

        def along(connection: Connection, done: DatedBack) -> None:
            self._seen.write(connection, done.counted_in(mark))

        done = misdated.date_back(
            self._database,
            keys,
            as_of=mark.counts_from,
            plan=mark.plan,
            clock=self._clock,
            transact=self._transact,
            run=self._run,
            along=along,
        )
        if mark.plan:
            self._foresee(done.changes)
            for key, active in done.active.items():
                self._seen.add([key], 0, active=active)
        else:
            self._seen.written()
        return WalkStep(done.counted_in(mark), done.changes)

    def let_in(
        self,
        mark: Mark,
        writes: Sequence[Write],
        window: Window,
        as_of: datetime,
        *,
        can_ask: Collection[type[MirrorRow]] = (),
    ) -> WalkStep:
        """Compare and repair. Rows of `can_ask` about which a delivery arrived meanwhile are looked up again."""
        written = False

        def along(connection: Connection, done: RepairedRows) -> None:
            nonlocal written
            self._seen.write(connection, done.counted_in(mark, can_ask))
            written = True

        given: dict[str, Any] = {"plan": mark.plan, "transact": self._transact, "run": lambda _: self._run}
        repair = Repair(self._database, mark.source, self._clock, **given)
        done = repair.let_in(writes, window, as_of, along)
        following = done.counted_in(mark, can_ask)
        if written:
            self._seen.written()
        else:
            if mark.plan:
                self._foresee(done.changes)
            foresees_missing = mark.plan and mark.stage is Stage.MISSING
            if foresees_missing:
                # Otherwise the children among them would be missing rows of their own table as well.
                self._seen.add(_deactivated(mark, done.changes), 0, active=False)
            self._seen.flush(following, now=foresees_missing)
        return WalkStep(following, done.changes)

    def gone(
        self, mark: Mark, keys: Sequence[Key], window: Window, as_of: datetime, *, with_listed: bool = False
    ) -> list[Write]:
        """Make the news that these rows are gone, and their children with them.

        If the list contains a child of a row, the row's children stay, except `with_listed`.
        """
        writes = [write for key in keys for write in gone(key, window, as_of)]
        if with_listed or not writes:
            return writes
        given: dict[str, Any] = {"mark": mark, "writes": writes, "waiting": self._seen.waiting}
        kept = read_from(self._database, lambda connection: missing.with_listed_child(connection, **given))
        return [each for each in writes if (each.key, each.children_gone) not in kept]


def keys_of(mark: Mark, named: Iterable[Sequence[str]]) -> list[Key]:
    """Make keys of rows that are given as table and external id."""
    tables = {table_name(table): table for table in tables_from_the_top()}
    return [Key(tables[table], mark.source, external_id) for table, external_id in named]


def _deactivated(mark: Mark, changes: Sequence[RowChange]) -> list[Key]:
    return keys_of(mark, [(each.table, each.external_id) for each in changes if each.after.get(ACTIVE) is False])
