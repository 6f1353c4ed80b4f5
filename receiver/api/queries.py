"""What people and machines look up: deliveries and rows of the mirror. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    RowMapping,
    Select,
    exists,
    literal,
    select,
    text,
    tuple_,
    union_all,
)

from receiver.database.columns import Many, among, raw_columns
from receiver.database.database import Database
from receiver.inbox.rounds import history
from receiver.inbox.tables import BODIES, DELIVERIES, HAS_ENDED, State, in_state
from receiver.mirror.rows import MirrorRow, mirror_tables, sql_table

#: Items of one page: unless asked for, and at most.
USUAL_PAGE, LARGEST_PAGE = 100, 1_000

#: Ids of one page, where nobody looks at pages.
IDS_AT_ONCE = 500

#: Columns of a mirror row that only the guard needs.
HIDDEN = frozenset({"versions"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries; None leaves a part open."""

    source: str | None = None
    state: State | None = None
    event_type: str | None = None
    #: `id` or `kind:id`.
    entity: str | None = None
    ids: tuple[int, ...] | None = None


def deliveries(database: Database, wanted: DeliveryFilter, *, before: int | None, limit: int) -> Sequence[RowMapping]:
    """Deliveries, newest first, older than the id `before`."""
    with database.read() as connection:
        return connection.execute(select_deliveries(wanted, before=before, limit=limit)).mappings().all()


def select_deliveries(wanted: DeliveryFilter, *, before: int | None, limit: int) -> Select[Any]:
    """Selects deliveries, newest first, older than the id `before`."""
    found = _filtered(select(DELIVERIES), wanted)
    if before is not None:
        found = found.where(DELIVERIES.c.id < before)
    if wanted.entity is not None:
        return _about_entity(found, limit)
    return found.order_by(DELIVERIES.c.id.desc()).limit(limit)


def _about_entity(found: Select[Any], limit: int) -> Select[Any]:
    """The newest of the deliveries about one entity: an index knows those that have ended, and few have not."""
    ended = found.where(text("deliveries.ended_at IS NOT NULL")).order_by(DELIVERIES.c.id.desc()).limit(limit)
    still_open = [found.where(in_state(state)) for state in (State.PENDING, State.PROCESSING)]
    either = union_all(select(ended.subquery()), *still_open).subquery()
    # Not the plain column, in whose order SQLite would go through the whole table to find the few.
    return select(either).order_by((either.c.id + 0).desc()).limit(limit)


class KeptDelivery(NamedTuple):
    """A delivery with its body and headers, and its rounds, oldest first."""

    row: RowMapping
    rounds: list[dict[str, Any]]


def delivery(database: Database, delivery_id: int) -> KeptDelivery | None:
    """One delivery with all that is kept about it."""
    found = select(DELIVERIES, BODIES.c.body, BODIES.c.plain, BODIES.c.headers)
    found = found.outerjoin(BODIES, BODIES.c.delivery_id == DELIVERIES.c.id).where(DELIVERIES.c.id == delivery_id)
    with database.read() as connection:
        row = connection.execute(found).mappings().first()
        if row is None:
            return None
        return KeptDelivery(row, history(connection, row))


def replayable_ids(database: Database, wanted: DeliveryFilter) -> Iterator[list[int]]:
    """The ids of deliveries that have ended and whose body has not expired, in pages, oldest first."""
    has_body = exists().where(BODIES.c.delivery_id == DELIVERIES.c.id)
    last = 0
    while True:
        statement = _filtered(select(DELIVERIES.c.id), wanted).where(DELIVERIES.c.id > last, HAS_ENDED, has_body)
        with database.read() as connection:
            ids = list(connection.execute(statement.order_by(DELIVERIES.c.id).limit(IDS_AT_ONCE)).scalars())
        if not ids:
            return
        yield ids
        last = ids[-1]


def unknown_ids(database: Database, ids: Collection[int]) -> list[int]:
    """Those that are no deliveries, in the order of their numbers."""
    storable = tuple(number for number in ids if number.bit_length() < 64)
    with database.read() as connection:
        found = connection.execute(_filtered(select(DELIVERIES.c.id), DeliveryFilter(ids=storable))).scalars().all()
    return sorted(set(ids) - set(found))


def is_source(database: Database, name: str) -> bool:
    """Whether anything that is stored came from a source of this name, one that has left the settings included."""
    tables = [DELIVERIES, *map(sql_table, mirror_tables())]
    with database.read() as connection:
        return any(
            connection.execute(select(literal(1)).where(table.c.source == name).limit(1)).first() for table in tables
        )


def shown_columns(table: type[MirrorRow]) -> list[Column[Any]]:
    """The columns of a mirror table that are shown, in the order in which its rows are selected."""
    return [column for column in sql_table(table).columns if column.name not in HIDDEN]


def select_rows(
    table: type[MirrorRow], *, source: str | None, active: bool | None, behind: tuple[str, str] | None
) -> Select[Any]:
    """Selects rows of a mirror table in the order of (source, external id), after the key `behind`, to be passed on."""
    sql = sql_table(table)
    statement = select(*raw_columns(sql, but=HIDDEN)).order_by(sql.c.source, sql.c.external_id)
    if source is not None:
        statement = statement.where(sql.c.source == source)
    if active is not None:
        statement = statement.where(sql.c.active == active)
    if behind is not None:
        statement = statement.where(tuple_(sql.c.source, sql.c.external_id) > tuple_(*behind))
    return statement


def row(database: Database, table: type[MirrorRow], source: str, external_id: str) -> RowMapping | None:
    """One row of a mirror table, to be passed on."""
    sql = sql_table(table)
    statement = select(*raw_columns(sql, but=HIDDEN)).where(sql.c.source == source, sql.c.external_id == external_id)
    with database.read() as connection:
        return connection.execute(statement).mappings().first()


def _filtered(statement: Select[Any], wanted: DeliveryFilter) -> Select[Any]:
    if wanted.source is not None:
        statement = statement.where(DELIVERIES.c.source == wanted.source)
    if wanted.state is not None:
        statement = statement.where(text(f"deliveries.state = '{wanted.state}'"))
    if wanted.event_type is not None:
        statement = statement.where(DELIVERIES.c.event_type == wanted.event_type)
    if wanted.entity is not None:
        kind, colon, entity_id = wanted.entity.partition(":")
        whole = DELIVERIES.c.entity_id == wanted.entity
        parts = (DELIVERIES.c.entity_id == entity_id) & (DELIVERIES.c.entity_kind == kind)
        # Said twice, because an index serves a list of ids, and not this alternative.
        named = DELIVERIES.c.entity_id.in_([wanted.entity, entity_id] if colon else [wanted.entity])
        statement = statement.where(named, whole | parts if colon else whole)
    if wanted.ids is not None:
        statement = statement.where(among(DELIVERIES.c.id, literal(list(wanted.ids), Many(BigInteger))))
    return statement
