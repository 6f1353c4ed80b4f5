"""The intake: one statement takes a whole batch of arrivals into the inbox, and may be a transaction by itself.

One, because each statement costs a thread that works beside a busy event loop the interpreter's lock several times,
and costs a round trip where the database is elsewhere (docs/decisions/0011). On SQLite it is an INSERT into a view
whose trigger fills the three tables; on PostgreSQL it is one query that does. Either way a dedup key is inserted or it
is not, and only with it come the delivery and its body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from receiver import codec
from receiver.bulk import padded, portions, values
from receiver.columns import iso_text
from receiver.deliveries import State, kept_reason
from receiver.envelope import Envelope, unread_identity

#: The channel on which PostgreSQL tells workers elsewhere that something was accepted.
CHANNEL = "hookmirror_accepted"


@dataclass(slots=True, kw_only=True)
class Arrival:
    """A verified webhook on its way into the inbox."""

    source: str
    body: bytes
    #: What an encrypted body decrypts to; None if the body is plain.
    plain: bytes | None
    headers: dict[str, str]
    received_at: datetime
    secret: int | None
    #: The id of its delivery, drawn when it is accepted; 0 until then.
    id: int = 0
    dedup_key: str = ""
    fingerprint: bytes = b""
    #: Its dedup key was used for another body.
    conflict: bool = False
    #: pending, ignored (nobody handles its event type) or dead (it cannot be read).
    state: State = State.PENDING
    reason: str | None = None
    event_type: str = ""
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None

    def know(self, envelope: Envelope) -> None:
        """Take over what the body says."""
        self.event_type, self.entity, self.occurred_at = envelope.event_type, envelope.entity, envelope.occurred_at
        self.dedup_key, self.fingerprint = envelope.identity(self.verified)

    def give_up(self, reason: str) -> None:
        """Nobody can read the body: kept all the same, to be replayed after a fix."""
        self.state, self.reason = State.DEAD, reason
        self.dedup_key, self.fingerprint = unread_identity(self.verified)

    def ignore(self, reason: str) -> None:
        self.state, self.reason = State.IGNORED, reason

    @property
    def verified(self) -> bytes:
        return self.body if self.plain is None else self.plain


def take(connection: Connection, arrivals: Sequence[Arrival]) -> int:
    """Keep each arrival whose dedup key is new, under its own id. Returns how many of them are kept so."""
    if connection.dialect.name == "postgresql":
        return _take_into_postgresql(connection, arrivals)
    return _take_into_sqlite(connection, arrivals)


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

_VIEW = f"CREATE TEMP VIEW IF NOT EXISTS arrivals AS SELECT {', '.join(f'NULL AS {name}' for name in COLUMNS)}"

_TRIGGER = """
CREATE TEMP TRIGGER IF NOT EXISTS take_arrival INSTEAD OF INSERT ON arrivals BEGIN
    INSERT INTO dedup_keys (source, dedup_key, fingerprint, delivery_id)
    VALUES (NEW.source, NEW.dedup_key, NEW.fingerprint, NEW.id)
    ON CONFLICT DO NOTHING;
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

#: Not by the driver's count of changes: triggers of somebody else's would be in it.
_KEPT = "SELECT count(*) FROM deliveries WHERE id IN (SELECT value FROM json_each(?))"


def _take_into_sqlite(connection: Connection, arrivals: Sequence[Arrival]) -> int:
    driver: Any = connection.connection.driver_connection
    # The view and its trigger are of the connection, not of the file: they change with this code, not with a migration.
    if "intake" not in connection.info:
        connection.exec_driver_sql(_VIEW)
        connection.exec_driver_sql(_TRIGGER)
        if not driver.in_transaction:
            connection.info["intake"] = True
    for rows, size in portions([_sqlite_row(arrival) for arrival in arrivals]):
        statement = f"INSERT INTO arrivals {values(len(COLUMNS), size)}"
        connection.exec_driver_sql(statement, padded(rows, size, len(COLUMNS)))
    ids = codec.encode([arrival.id for arrival in arrivals]).decode()
    return int(connection.exec_driver_sql(_KEPT, (ids,)).scalar_one())


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


def _take_into_postgresql(connection: Connection, arrivals: Sequence[Arrival]) -> int:
    document = codec.encode([_json_row(arrival) for arrival in arrivals]).decode()
    return int(connection.exec_driver_sql(_QUERY, (document,)).scalar_one())


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
