"""Locks: those that a batch holds on rows of the mirror on PostgreSQL, all taken in one order.

SQLite has one writer at a time, and needs none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Select, Text, bindparam, or_, select, text

from receiver.database.columns import Many, among
from receiver.mirror.rows import Key, MirrorRow, Write, sql_table, table_name

#: The most rows that a batch locks one by one; a larger batch locks out all other writers instead. PostgreSQL has one
#: lock table of fixed size for all connections, about 6,400 locks by default, and refuses locks once it is full.
MOST_LOCKS = 1_000

#: The key of the advisory lock that stands for all rows.
MIRROR_LOCK = 0x686F6F6B0004


def lock_rows(connection: Connection, keys: Iterable[Key]) -> None:
    """Lock out other writers of these rows, even of rows that do not exist yet and so cannot have row locks."""
    # All writers lock in the same order, so that two of them wait for each other instead of deadlocking.
    numbers = sorted({_lock_number(key) for key in keys})
    if len(numbers) > MOST_LOCKS:
        connection.execute(_LOCK_ALL, {"all": MIRROR_LOCK})
        return
    connection.execute(_LOCK_SOME, {"all": MIRROR_LOCK, "numbers": numbers})


def lock_families(connection: Connection, writes: Sequence[Write]) -> None:
    """Lock the children of lost parents together with the batch's own rows of their table, in one order."""
    lost: dict[tuple[type[MirrorRow], str], set[str]] = defaultdict(set)
    for write in writes:
        if write.children_gone:
            lost[write.children_gone, write.key.source].add(write.key.external_id)
    for (table, source), parents in sorted(lost.items(), key=lock_order):
        own = {write.key.external_id for write in writes if (write.key.table, write.key.source) == (table, source)}
        parameters = {"source": source, "own": sorted(own), "parents": sorted(parents)}
        connection.execute(_family(table), parameters)


@cache
def _family(table: type[MirrorRow]) -> Select[Any]:
    """Make the statement that locks the rows of a `source` with an id in `own`, or a parent in `parents`.

    Each list is one parameter, because PostgreSQL takes at most 65,535, and an event may concern more rows.
    """
    sql = sql_table(table)
    own, parents = (bindparam(name, type_=Many(Text)) for name in ("own", "parents"))
    concerned = or_(among(sql.c.external_id, own), among(sql.c.parent, parents))
    rows = select(sql.c.external_id).where(sql.c.source == bindparam("source"), concerned)
    return rows.order_by(sql.c.external_id).with_for_update()


def lock_order(group: tuple[tuple[type[MirrorRow], str], Any]) -> tuple[str, str]:
    """The sort key of tables and sources, in whose order all writers lock, so that they wait instead of deadlocking."""
    (table, source), _ = group
    return table_name(table), source


def _lock_number(key: Key) -> int:
    name = "\0".join((table_name(key.table), key.source, key.external_id))
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


_LOCK_ALL = text("SELECT pg_advisory_xact_lock(:all)")
#: The lock that stands for all rows comes before the first of the others.
_LOCK_SOME = text(
    "SELECT pg_advisory_xact_lock_shared(:all), pg_advisory_xact_lock(number) "
    "FROM unnest(CAST(:numbers AS bigint[])) AS number"
)
