"""What people and machines look up: deliveries, rows of the mirror, counts. Reads only."""

from __future__ import annotations

from base64 import b64encode
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from threading import Lock
from time import monotonic
from typing import Any

from sqlalchemy import BigInteger, RowMapping, Select, exists, func, literal, select, text, tuple_, union_all

from receiver.database.columns import Many, among, raw_columns
from receiver.database.database import Database
from receiver.errors import Unavailable
from receiver.inbox.rounds import history
from receiver.inbox.tables import BODIES, DELIVERIES, HAS_ENDED, State, in_state
from receiver.mirror.rows import MirrorRow, mirror_tables, sql_table

#: Items of one page: unless asked for, and at most.
USUAL_PAGE, LARGEST_PAGE = 100, 1_000

#: Ids of one page, where nobody looks at pages.
IDS_AT_ONCE = 500

#: Columns of a mirror row that only the guard needs.
HIDDEN = frozenset({"versions"})

#: How much longer than it took a count over the whole history is believed, and the least in seconds.
COUNT_REUSE, LEAST_REUSE = 20, 1.0

#: Seconds that somebody waits for another's count.
COUNT_PATIENCE = 5.0

#: The states that a backlog consists of: each has an index of its own.
BACKLOG = (State.PENDING, State.PROCESSING, State.DEAD)


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


def delivery(database: Database, delivery_id: int) -> dict[str, Any] | None:
    """One delivery with its body, headers, rounds and attempts, as the API shows it."""
    found = select(DELIVERIES, BODIES.c.body, BODIES.c.plain, BODIES.c.headers)
    found = found.outerjoin(BODIES, BODIES.c.delivery_id == DELIVERIES.c.id).where(DELIVERIES.c.id == delivery_id)
    with database.read() as connection:
        row = connection.execute(found).mappings().first()
        if row is None:
            return None
        rounds = history(connection, row)
    body, encoding = _readable(row["body"])
    attempts = [attempt for each in rounds for attempt in each["attempts"] if attempt["failed"]]
    return show_delivery(row) | {
        "headers": row["headers"] or {},
        "body": body,
        "body_encoding": encoding,
        "plain": _readable(row["plain"])[0],
        "attempts": [{name: each[name] for name in ("number", "ended_at", "worker", "reason")} for each in attempts],
        "rounds": rounds,
    }


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


def show_delivery(row: RowMapping) -> dict[str, Any]:
    """A delivery as the API lists it."""
    entity = f"{row['entity_kind']}:{row['entity_id']}" if row["entity_kind"] is not None else None
    shown = ("source", "event_type", "occurred_at", "received_at", "state", "outcome", "reason", "ended_at")
    return {
        "id": str(row["id"]),
        **{name: row[name] for name in shown},
        "entity": entity,
        "attempts_made": row["attempts"],
        "next_attempt_at": row["due_at"] if row["state"] == State.PENDING else None,
        "duplicates": row["duplicates"],
        "conflict": row["conflict"],
        "dedup_key": row["dedup_key"],
        "secret": row["secret"],
    }


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


def show_row(row: RowMapping) -> dict[str, Any]:
    """A mirror row as the API shows it: decimals as text with all their digits."""
    return {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in row.items()}


class Statistics:
    """Counts per source. The count over the whole history is reused for a while, since it grows with the history."""

    def __init__(self, database: Database, sources: Sequence[str]) -> None:
        self._database = database
        #: Those in the settings.
        self.sources = sources
        self._counting = Lock()
        self._ended: list[RowMapping] = []
        self._believed_until = 0.0

    def per_source(self, *, now: datetime) -> list[dict[str, Any]]:
        """One entry for each source in the settings or with deliveries, in the order of their names."""
        with self._database.read() as connection:
            open_rows = connection.execute(_OPEN).mappings().all()
        ended_rows = self._count_ended()
        names = {row["source"] for row in [*open_rows, *ended_rows]} | set(self.sources)
        return [self._source(name, open_rows, ended_rows, now) for name in sorted(names)]

    def _count_ended(self) -> list[RowMapping]:
        # One at a time: whoever waits here takes the answer of the one before.
        if not self._counting.acquire(timeout=COUNT_PATIENCE):
            raise Unavailable("The history is being counted already, and that takes long. Ask again later.")
        try:
            began = monotonic()
            if began >= self._believed_until:
                with self._database.read() as connection:
                    self._ended = list(connection.execute(_ENDED).mappings())
                took = monotonic() - began
                self._believed_until = began + (
                    max(took * COUNT_REUSE, LEAST_REUSE) if took > LEAST_REUSE / 20 else 0.0
                )
            return self._ended
        finally:
            self._counting.release()

    def backlog(self) -> dict[tuple[str, str], int]:
        """How many deliveries are not done, or dead, by source and state. It does not go through the history."""
        with self._database.read() as connection:
            rows = connection.execute(_BACKLOG).mappings().all()
        found: dict[tuple[str, str], int] = defaultdict(int)
        for row in rows:
            found[row["source"], row["state"]] += row["deliveries"]
        return found

    def _source(
        self, name: str, open_rows: Sequence[RowMapping], ended_rows: Sequence[RowMapping], now: datetime
    ) -> dict[str, Any]:
        states: dict[str, int] = dict.fromkeys(State, 0)
        outcomes: dict[str, int] = defaultdict(int)
        duplicates = 0
        for row in [*open_rows, *ended_rows]:
            if row["source"] == name:
                states[row["state"]] += row["deliveries"]
                duplicates += row["duplicates"]
                if row["outcome"]:
                    outcomes[row["outcome"]] += row["deliveries"]
        oldest = min((row["oldest"] for row in open_rows if row["source"] == name and row["oldest"]), default=None)
        last = self._last(name)
        return {
            "source": name,
            "states": states,
            "outcomes": outcomes,
            "duplicates": duplicates,
            "oldest_pending_seconds": max((now - oldest).total_seconds(), 0.0) if oldest else None,
            "freshness_seconds": self._freshness(name),
            "last_delivery_at": last,
        }

    def _last(self, name: str) -> datetime | None:
        statement = select(DELIVERIES.c.received_at).where(DELIVERIES.c.source == name)
        with self._database.read() as connection:
            return connection.execute(statement.order_by(DELIVERIES.c.id.desc()).limit(1)).scalar()

    def _freshness(self, name: str) -> float | None:
        """Seconds from change to mirror, of the newest delivery that was processed."""
        statement = (
            select(DELIVERIES.c.occurred_at, DELIVERIES.c.ended_at)
            .where(DELIVERIES.c.source == name, DELIVERIES.c.state == State.PROCESSED.value)
            .order_by(DELIVERIES.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            newest = connection.execute(statement).first()
        if newest is None or newest.occurred_at is None or newest.ended_at is None:
            return None
        return float(max((newest.ended_at - newest.occurred_at).total_seconds(), 0.0))


def _tally(states: Any) -> Select[Any]:
    return (
        select(
            DELIVERIES.c.source,
            DELIVERIES.c.state,
            DELIVERIES.c.outcome,
            func.count().label("deliveries"),
            func.sum(DELIVERIES.c.duplicates).label("duplicates"),
            func.min(DELIVERIES.c.received_at).label("oldest"),
        )
        .where(states)
        # The source last: with it first, SQLite would go through the whole history in the order of the sources.
        .group_by(DELIVERIES.c.state, DELIVERIES.c.outcome, DELIVERIES.c.source)
    )


#: One by one, because each of the two has an index of the few rows in it.
_OPEN = union_all(_tally(in_state(State.PENDING)), _tally(in_state(State.PROCESSING)))
_ENDED = _tally(HAS_ENDED)
_BACKLOG = union_all(*(_tally(in_state(state)) for state in BACKLOG))


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


def _readable(content: bytes | None) -> tuple[str | None, str | None]:
    if content is None:
        return None, None
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return b64encode(content).decode(), "base64"
