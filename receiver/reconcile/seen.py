"""The keys that a walk has seen, stored in a table so that a list of any length fits in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import ColumnElement, Connection, Text, bindparam, delete, func, select

from receiver.database.bulk import insert_rows
from receiver.database.columns import Many, among
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.envelope import LONGEST_NAME
from receiver.mirror.rows import Key, MirrorRow, table_name
from receiver.reconcile.mark import ALONE, Mark
from receiver.reconcile.tables import SEEN, Transact

#: The number of keys that wait for the next write, and the seconds for which they wait: most pages then need no lock.
KEYS_AT_ONCE, SECONDS_AT_ONCE = 5_000, 5.0

#: The number of keys that one transaction drops.
DROPPED_KEYS_BATCH = 5_000

#: Stores the mark within the caller's transaction.
Keep = Callable[[Connection, Mark], None]


class SeenKeys:
    """The keys that a walk has seen, written in one transaction with the mark that they lead to."""

    def __init__(
        self, database: Database, keep: Keep, transact: Transact, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._database, self._keep, self._seconds = database, keep, seconds
        self._transact = transact
        self._waiting: dict[tuple[str, str], tuple[int, bool | None]] = {}
        self._written_at = seconds()

    def add(self, keys: Collection[Key], walk: int, *, active: bool | None = None) -> None:
        for key in keys:
            name = table_name(key.table), key.external_id
            forecast = self._waiting[name][1] if active is None and name in self._waiting else active
            self._waiting[name] = walk, forecast

    def write(self, connection: Connection, mark: Mark) -> None:
        """Write the waiting keys and the mark within the caller's transaction."""
        rows = [(mark.run, *key, *each) for key, each in self._waiting.items()]
        insert_rows(connection, SEEN, _COLUMNS, rows, conflict=_LATEST)
        self._keep(connection, mark)

    def written(self) -> None:
        """Forget the waiting keys, after the transaction of `write` has committed."""
        self._waiting.clear()
        self._written_at = self._seconds()

    def flush(self, mark: Mark, *, now: bool = True) -> None:
        """Write the waiting keys in a transaction of its own, if they are many or have waited long, or if `now`."""
        is_due = self._seconds() - self._written_at >= SECONDS_AT_ONCE
        if not (now or is_due or len(self._waiting) >= KEYS_AT_ONCE):
            return

        self._transact(lambda connection: self.write(connection, mark))
        self.written()

    def flush_waiting(self, mark: Mark) -> None:
        """Write the waiting keys in a transaction of its own, if there are any."""
        if self._waiting:
            self.flush(mark)

    def known(self, mark: Mark, keys: Collection[Key], *, walk: int) -> set[Key]:
        """Those of the keys that this walk has seen already; with walk 0, those that a forecast knows."""
        found = {key for key in keys if self._walk_of(key) == walk}
        return found | self._stored(mark, keys, SEEN.c.walk == walk)

    def listed(self, mark: Mark, keys: Collection[Key]) -> set[Key]:
        """Those of the keys that the list or an answer contained so far."""
        return {key for key in keys if self._walk_of(key)} | self._stored(mark, keys, SEEN.c.walk > 0)

    def waiting(self, table: type[MirrorRow]) -> list[str]:
        """The ids of a table's rows that the list contained, and that wait for the next write."""
        name = table_name(table)
        return sorted(each for (of, each), (walk, _) in self._waiting.items() if of == name and walk > 0)

    def _walk_of(self, key: Key) -> int | None:
        """The walk of a key that waits for the next write; None for another key."""
        return self._waiting.get((table_name(key.table), key.external_id), (None,))[0]

    def _stored(self, mark: Mark, keys: Collection[Key], which: ColumnElement[bool]) -> set[Key]:
        def read() -> set[Key]:
            found: set[Key] = set()
            with self._database.read() as connection:
                for table in {key.table for key in keys}:
                    ids = sorted(key.external_id for key in keys if key.table is table)
                    given = {"run": mark.run, "table": table_name(table), "ids": ids}
                    rows = connection.execute(select(SEEN.c.external_id).where(*_OF_TABLE, which), given).scalars()
                    found.update(Key(table, mark.source, each) for each in rows)
            return found

        return retry_transaction(read) if keys else set()


def count_listed(connection: Connection, mark: Mark, *, table: type[MirrorRow] | None = None) -> int:
    """Count the different rows in the list: of one table in this walk, or of all tables in any walk."""
    of_run = [SEEN.c.run == mark.run, SEEN.c.walk > 0]
    if table is not None:
        of_run += [SEEN.c.table == table_name(table), SEEN.c.walk == mark.walk]
    return connection.execute(select(func.count()).select_from(SEEN).where(*of_run)).scalar_one()


def next_named(connection: Connection, mark: Mark, table: type[MirrorRow], *, limit: int) -> Sequence[str]:
    """The next ids, in key order, that the list contained, without those that are too long for the mirror."""
    of_table = (SEEN.c.run == mark.run, SEEN.c.table == table_name(table), SEEN.c.walk > 0)
    named = select(SEEN.c.external_id).where(*of_table, SEEN.c.external_id > mark.after)
    named = named.where(func.length(SEEN.c.external_id) <= LONGEST_NAME)
    return connection.execute(named.order_by(SEEN.c.external_id).limit(limit)).scalars().all()


def drop(database: Database, run: str, *, tables: Collection[type[MirrorRow]] | None = None) -> None:
    """Drop the keys of a run, of some tables or of all, in small transactions."""
    mine = SEEN.c.run == run
    if tables is not None:
        mine &= SEEN.c.table.in_([table_name(table) for table in tables])
    while retry_transaction(lambda: _drop_some(database, mine)):
        pass


def drop_older(database: Database, oldest: str, *, oldest_alone: str, keep: Collection[str] = ()) -> None:
    """Drop the keys of walks that began before `oldest`, except those in `keep`.

    Nothing shows whether a walk without a run has ended, so its keys are dropped if it began before `oldest_alone`.
    """

    def runs() -> Sequence[str]:
        with database.read() as connection:
            return connection.execute(select(SEEN.c.run).where(SEEN.c.run < oldest).distinct()).scalars().all()

    for run in set(retry_transaction(runs)) - set(keep):
        if not run.endswith(ALONE) or run < oldest_alone:
            drop(database, run)


def _drop_some(database: Database, mine: object) -> int:
    first = select(SEEN.c.run, SEEN.c.table, SEEN.c.external_id).where(mine)  # type: ignore[arg-type]
    with database.read() as connection:
        found = connection.execute(first.limit(DROPPED_KEYS_BATCH)).all()
    if not found:
        return 0
    with database.write() as connection:
        for run, table in {(row.run, row.table) for row in found}:
            ids = sorted(row.external_id for row in found if (row.run, row.table) == (run, table))
            connection.execute(_DROP, {"run": run, "table": table, "ids": ids})
    return len(found)


_COLUMNS = ("run", "table", "external_id", "walk", "active")

#: Keeps the forecast of a row when the list contains it again.
_LATEST = (
    'ON CONFLICT ("run", "table", "external_id") DO UPDATE SET "walk" = excluded."walk", '
    '"active" = coalesce(excluded."active", seen."active")'
)

_IDS = bindparam("ids", type_=Many(Text))

_OF_TABLE = (SEEN.c.run == bindparam("run"), SEEN.c.table == bindparam("table"), among(SEEN.c.external_id, _IDS))

_DROP = delete(SEEN).where(*_OF_TABLE)
