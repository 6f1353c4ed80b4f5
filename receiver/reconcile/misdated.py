"""Dates news from the future back to its arrival, because the version guard refuses all other news until its date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, exists, or_, select

from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.mirror import changes
from receiver.mirror.changes import RowChange
from receiver.mirror.rows import Key, MirrorRow, Write, child_tables, mirror_tables, sql_table
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.mirror.versions import AHEAD, Rank, Version, microseconds
from receiver.reconcile.mark import Mark
from receiver.reconcile.tables import Transact


class DatedBack(NamedTuple):
    """Rows that were dated back, or would be in a forecast."""

    changes: Sequence[RowChange]
    #: The number of rows with news from the future.
    misdated: int
    #: The rows examined, children of the keys included, and whether each is active afterwards.
    active: dict[Key, bool]

    def counted_in(self, mark: Mark) -> Mark:
        """The mark after these rows were dated back."""
        following = mark.behind(self.changes)
        following.misdated += self.misdated
        return following


def tables_from_the_top() -> list[type[MirrorRow]]:
    """List the tables of the mirror, parents before their children."""
    return parents_first(mirror_tables())


def parents_first(tables: Iterable[type[MirrorRow]]) -> list[type[MirrorRow]]:
    """Order tables so that parents come before their children, and keep the order of all others."""
    return sorted(tables, key=lambda table: table.parent_table is not None)


def misdated_keys(
    connection: Connection, source: str, table: type[MirrorRow], *, as_of: datetime, after: str, limit: int
) -> list[Key]:
    """The next rows, in key order, with news from the future of their own or possibly from their parent."""
    own = sql_table(table)
    future = as_of + AHEAD
    has_children = [_has_child(own, sql_table(child), future) for child in child_tables(table)]
    wanted = select(own.c.external_id).where(
        own.c.source == source, own.c.external_id > after, or_(own.c.changed_at > future, *has_children)
    )
    found = connection.execute(wanted.order_by(own.c.external_id).limit(limit)).scalars()
    return [Key(table, source, external_id) for external_id in found]


def date_back(
    database: Database,
    keys: Sequence[Key],
    *,
    as_of: datetime,
    plan: bool,
    clock: Callable[[], datetime],
    transact: Transact,
    run: int | None,
    along: Callable[[Connection, DatedBack], None],
) -> DatedBack:
    """Date news from the future of these rows back to its arrival. Calls `along` inside the transaction."""

    def forecast() -> DatedBack:
        with database.read() as connection:
            return _date_back(UnitOfWork(connection, mends_before=as_of), keys, as_of, lock=False)

    def write(connection: Connection) -> DatedBack:
        rows = UnitOfWork(connection, mends_before=as_of)
        done = _date_back(rows, keys, as_of, lock=True)
        rows.save()
        changes.record(connection, done.changes, now=clock(), run=run)
        along(connection, done)
        return done

    return retry_transaction(forecast) if plan else transact(write)


def _date_back(rows: UnitOfWork, keys: Sequence[Key], as_of: datetime, *, lock: bool) -> DatedBack:
    nothing = Version(microseconds(as_of), int(Rank.ABSENT), 0)
    own = [Write(key, nothing, {}) for key in keys]
    children = [write._replace(children_gone=child) for write in own for child in child_tables(write.key.table)]
    # In one statement, because every transaction locks rows in the same order.
    rows.load([*own, *children], lock=lock)
    # A row deleted by hand in the meantime has no date.
    found = [key for key in keys if rows.row(key) is not None]
    # The list's news counts from a later moment.
    latest = microseconds(as_of) - 1
    misdated, changed = rows.date_back(found, after=microseconds(as_of + AHEAD), latest=latest)
    concerned = {*found, *(child for key in found for child in rows.children(key))}
    active = {key: row.active for key in concerned if (row := rows.row(key)) is not None}
    return DatedBack(changed, misdated, active)


def _has_child(parent: object, child: object, future: datetime) -> ColumnElement[bool]:
    own, below = parent.c, child.c  # type: ignore[attr-defined]
    return exists().where(below.source == own.source, below.parent == own.external_id, below.changed_at > future)
