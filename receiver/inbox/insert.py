"""Inserting arrivals: one statement puts a whole batch into the inbox, and may be a transaction by itself.

One, because each statement costs a thread that works beside a busy event loop the interpreter's lock several times,
and costs a round trip where the database is elsewhere (docs/decisions/0011). On SQLite it is an INSERT into a view
whose trigger fills the three tables; on PostgreSQL it is one query that does. Either way a dedup key is inserted or it
is not, and only with it come the delivery and its body.

Nearly always every key of a batch is new. SQLite takes that for granted and lets the statement fail if it is not so,
since a second one, to count what was kept, would cost as many hand-overs as the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from receiver import codec
from receiver.database.bulk import SIZES, padded, portions, values
from receiver.database.columns import iso_text
from receiver.database.database import Database
from receiver.inbox.arrival import Arrival
from receiver.inbox.tables import kept_reason

#: The channel on which PostgreSQL tells workers elsewhere that something was accepted.
CHANNEL = "hookmirror_accepted"


def insert_all(database: Database, arrivals: Sequence[Arrival]) -> bool:
    """Insert every arrival under its own id and commit, if every dedup key is new.

    Otherwise returns False, with none or some of them inserted.
    """
    if database.is_postgresql:
        return bool(database.run_at_once(*_postgresql_query(arrivals))[0][0] == len(arrivals))
    try:
        if len(arrivals) <= SIZES[-1]:
            for statement in _sqlite_inserts(_ALL, arrivals):
                database.run_at_once(*statement, after=_VIEWS)
        else:
            with database.write() as connection:
                _insert_into_sqlite(connection, _ALL, arrivals)
    except IntegrityError:
        return False
    return True


def insert_new(connection: Connection, arrivals: Sequence[Arrival]) -> None:
    """Insert each arrival whose dedup key is new, under its own id; of several with one key, the first."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(*_postgresql_query(arrivals))
    else:
        _insert_into_sqlite(connection, _NEW, arrivals)


#: The columns of an arrival: those of the three tables that are known before it is kept.
COLUMNS = {
    "id": "bigint",
    "source": "text",
    "event_type": "text",
    "entity_kind": "text",
    "entity_id": "text",
    "occurred_at": "timestamptz",
    "received_at": "timestamptz",
    "state": "text",
    "reason": "text",
    "dedup_key": "text",
    "fingerprint": "text",
    "conflict": "boolean",
    "secret": "integer",
    "body": "text",
    "plain": "text",
    "headers": "text",
}


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────────────────────

#: Stands for NULL, which the driver takes several times as long to bind: none of these columns is ever empty text.
_ABSENT = ""

#: The two views: what goes into the first must be new, what goes into the second may be known, and then is left out.
_ALL, _NEW = "arrivals", "arrivals_or_duplicates"

_VIEW = "CREATE TEMP VIEW IF NOT EXISTS {view} AS SELECT {columns}"

_TRIGGER = """
CREATE TEMP TRIGGER IF NOT EXISTS insert_{view} INSTEAD OF INSERT ON {view} BEGIN
    INSERT INTO dedup_keys (source, dedup_key, fingerprint, delivery_id)
    VALUES (NEW.source, NEW.dedup_key, NEW.fingerprint, NEW.id)
    {conflict};
    INSERT INTO deliveries (
        id, source, event_type, entity_kind, entity_id, occurred_at, received_at, state, due_at, reason, ended_at,
        dedup_key, conflict, secret
    )
    SELECT
        NEW.id, NEW.source, nullif(NEW.event_type, ''), nullif(NEW.entity_kind, ''), nullif(NEW.entity_id, ''),
        nullif(NEW.occurred_at, ''), NEW.received_at, NEW.state, NEW.received_at, nullif(NEW.reason, ''),
        CASE NEW.state WHEN 'pending' THEN NULL ELSE NEW.received_at END, NEW.dedup_key, NEW.conflict,
        nullif(NEW.secret, '')
    WHERE changes() = 1;
    INSERT INTO bodies (delivery_id, body, plain, headers)
    SELECT NEW.id, NEW.body, nullif(NEW.plain, ''), NEW.headers
    WHERE changes() = 1;
END
"""

#: They are of a connection, not of the file: they change with this code, not with a migration.
_VIEWS = tuple(
    template.format(view=view, conflict=conflict, columns=", ".join(f"NULL AS {name}" for name in COLUMNS))
    for view, conflict in {_ALL: "", _NEW: "ON CONFLICT DO NOTHING"}.items()
    for template in (_VIEW, _TRIGGER)
)


def _insert_into_sqlite(connection: Connection, view: str, arrivals: Sequence[Arrival]) -> None:
    for statement in _VIEWS:
        connection.exec_driver_sql(statement)
    for statement, parameters in _sqlite_inserts(view, arrivals):
        connection.exec_driver_sql(statement, parameters)


def _sqlite_inserts(view: str, arrivals: Sequence[Arrival]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements with their parameters, as few as can be."""
    for rows, size in portions([_sqlite_row(arrival) for arrival in arrivals]):
        yield f"INSERT INTO {view} {values(len(COLUMNS), size)}", padded(rows, size, len(COLUMNS))


def _sqlite_row(arrival: Arrival) -> tuple[Any, ...]:
    """In the order of `COLUMNS`."""
    kind, entity_id = arrival.entity or (_ABSENT, _ABSENT)
    return (
        arrival.id,
        arrival.source,
        arrival.event_type,
        kind,
        entity_id,
        iso_text(arrival.occurred_at) or _ABSENT,
        iso_text(arrival.received_at),
        arrival.state.value,
        kept_reason(arrival.reason) or _ABSENT,
        arrival.dedup_key,
        arrival.fingerprint,
        int(arrival.conflict),
        _ABSENT if arrival.secret is None else arrival.secret,
        arrival.body,
        _ABSENT if arrival.plain is None else arrival.plain,
        codec.encode(arrival.headers).decode(),
    )


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────

#: Keys are inserted in their order, so that two processes that take the same ones wait for each other instead of
#: deadlocking; of two arrivals with one key, the earlier is kept.
_QUERY = """
WITH arrivals AS (
    SELECT * FROM json_to_recordset(CAST(%s AS json)) AS given ({columns})
), new AS (
    INSERT INTO dedup_keys (source, dedup_key, fingerprint, delivery_id)
    SELECT source, dedup_key, decode(fingerprint, 'base64'), id FROM arrivals ORDER BY source, dedup_key, id
    ON CONFLICT DO NOTHING
    RETURNING delivery_id
), delivered AS (
    INSERT INTO deliveries (
        id, source, event_type, entity_kind, entity_id, occurred_at, received_at, state, due_at, reason, ended_at,
        dedup_key, conflict, secret
    )
    SELECT
        id, source, event_type, entity_kind, entity_id, occurred_at, received_at, state, received_at, reason,
        CASE state WHEN 'pending' THEN NULL ELSE received_at END, dedup_key, conflict, secret
    FROM arrivals JOIN new ON new.delivery_id = arrivals.id
), kept AS (
    INSERT INTO bodies (delivery_id, body, plain, headers)
    SELECT id, decode(body, 'base64'), decode(plain, 'base64'), headers
    FROM arrivals JOIN new ON new.delivery_id = arrivals.id
)
SELECT count(*), pg_notify('{channel}', '') FROM new
""".format(columns=", ".join(f"{name} {kind}" for name, kind in COLUMNS.items()), channel=CHANNEL)  # noqa: S608 (our own names)


def _postgresql_query(arrivals: Sequence[Arrival]) -> tuple[str, tuple[str]]:
    """The statement, which returns how many are new, with its parameter."""
    return _QUERY, (codec.encode([_json_row(arrival) for arrival in arrivals]).decode(),)


def _json_row(arrival: Arrival) -> dict[str, Any]:
    kind, entity_id = arrival.entity or (None, None)
    return {
        "id": arrival.id,
        "source": arrival.source,
        "event_type": arrival.event_type or None,
        "entity_kind": kind,
        "entity_id": entity_id,
        "occurred_at": arrival.occurred_at,
        "received_at": arrival.received_at,
        "state": arrival.state.value,
        "reason": kept_reason(arrival.reason),
        "dedup_key": arrival.dedup_key,
        "fingerprint": arrival.fingerprint,
        "conflict": arrival.conflict,
        "secret": arrival.secret,
        "body": arrival.body,
        "plain": arrival.plain,
        "headers": codec.encode(arrival.headers).decode(),
    }
