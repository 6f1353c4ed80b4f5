"""Finds rows missing from a complete list: active rows of the mirror whose keys the walk has not seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from sqlalchemy import ColumnElement, Connection, FromClause, Text, and_, bindparam, exists, func, or_, select

from receiver.database.columns import Many, among
from receiver.mirror.rows import Key, MirrorRow, Write, child_tables, sql_table, table_name
from receiver.reconcile.mark import Mark
from receiver.reconcile.report import BRAKE
from receiver.reconcile.tables import SEEN

#: A parent, and the table of its children; the second is None for news about a row itself.
Family = tuple[Key, type[MirrorRow] | None]

#: Returns the ids of a table's rows that the list contained, and that wait for the next write.
UnwrittenIds = Callable[[type[MirrorRow]], list[str]]


def next_missing(connection: Connection, mark: Mark, table: type[MirrorRow], *, limit: int) -> list[Key]:
    """The next active rows, in key order, that the list lacks; none if the brake holds, which the mark then records."""
    if mark.after == "" and _is_braked(connection, mark, table):
        return []
    own = sql_table(table)
    rows, is_missing = _missing(mark, table)
    wanted = select(own.c.external_id).select_from(rows).where(is_missing, own.c.external_id > mark.after)
    found = connection.execute(wanted.order_by(own.c.external_id).limit(limit)).scalars()
    return [Key(table, mark.source, external_id) for external_id in found]


def active_children(connection: Connection, parents: Iterable[Key]) -> set[Key]:
    """The active rows of the mirror whose parents are these."""
    found: set[Key] = set()
    for table, source, external_id in parents:
        for child in child_tables(table):
            own = sql_table(child)
            wanted = select(own.c.external_id).where(own.c.source == source, own.c.parent == external_id, own.c.active)
            found.update(Key(child, source, each) for each in connection.execute(wanted).scalars())
    return found


def first_families(connection: Connection, keys: Sequence[Key], *, most: int) -> Sequence[Key]:
    """The first of these rows of one table, with at most `most` children in the mirror; always at least one row.

    News about a parent loads its children, active or not, and locks them.
    """
    children: Counter[str] = Counter()
    for table in child_tables(keys[0].table):
        own = sql_table(table)
        counted = select(own.c.parent, func.count()).where(own.c.source == keys[0].source, among(own.c.parent, _IDS))
        found = connection.execute(counted.group_by(own.c.parent), {"ids": sorted(key.external_id for key in keys)})
        for parent, number in found:
            children[parent] += number
    upto = accumulate(children[key.external_id] for key in keys)
    return keys[: max(sum(total <= most for total in upto), 1)]


def with_listed_child(
    connection: Connection, mark: Mark, writes: Iterable[Write], waiting: UnwrittenIds
) -> set[Family]:
    """The parents that lose their children by these writes although the list contains one of these.

    `waiting` returns the listed keys of a table that are not stored yet.
    """
    parents: dict[tuple[type[MirrorRow], str], dict[str, Key]] = defaultdict(dict)
    for write in writes:
        if write.children_gone is not None:
            parents[write.children_gone, write.key.source][write.key.external_id] = write.key
    found: set[Family] = set()
    for (table, source), by_id in parents.items():
        own, given = sql_table(table), {"ids": sorted(by_id), "waiting": waiting(table)}
        same = and_(SEEN.c.run == mark.run, SEEN.c.table == table_name(table), SEEN.c.external_id == own.c.external_id)
        is_listed = or_(exists().where(same, SEEN.c.walk > 0), among(own.c.external_id, _WAITING))
        wanted = select(own.c.parent).where(own.c.source == source, among(own.c.parent, _IDS), is_listed).distinct()
        found |= {(by_id[parent], table) for parent in connection.execute(wanted, given).scalars()}
    return found


def _is_braked(connection: Connection, mark: Mark, table: type[MirrorRow]) -> bool:
    """Whether more active rows are missing than the brake allows; the mark then records how many."""
    name = table_name(table)
    rows, is_missing = _missing(mark, table)
    missing = connection.execute(select(func.count()).select_from(rows).where(is_missing)).scalar_one()
    if not missing or mark.force:
        return False
    own = sql_table(table)
    counted = select(func.count()).select_from(own).where(own.c.source == mark.source, own.c.active)
    active = connection.execute(counted).scalar_one() + mark.grown.get(name, 0)
    if missing <= BRAKE * active:
        return False
    mark.braked[name] = missing
    return True


def _missing(mark: Mark, table: type[MirrorRow]) -> tuple[FromClause, ColumnElement[bool]]:
    """The mirror joined with the seen keys, and the condition that a row is active and missing.

    In a forecast, a row counts as active if the run would have left it active.
    """
    own = sql_table(table)
    same = and_(SEEN.c.run == mark.run, SEEN.c.table == table_name(table), SEEN.c.external_id == own.c.external_id)
    active = func.coalesce(SEEN.c.active, own.c.active) if mark.plan else own.c.active
    return own.outerjoin(SEEN, same), and_(own.c.source == mark.source, active, func.coalesce(SEEN.c.walk, 0) == 0)


_IDS, _WAITING = bindparam("ids", type_=Many(Text)), bindparam("waiting", type_=Many(Text))
