"""Bodies come from PostgreSQL in the binary format; as text, they would be twice as long, and parsed."""

from __future__ import annotations

from datetime import UTC, datetime

from psycopg.pq import Format
from sqlalchemy import event

from receiver.inbox.arrival import Arrival
from receiver.inbox.bodies import bodies_of
from receiver.inbox.inbox import Inbox

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

#: Bodies with every byte, with none, and in the forms in which PostgreSQL writes bytes as text.
BODIES = [bytes(range(256)), b"", b"\\x00ff", b"\\000"]


def test_bodies_are_read_byte_for_byte_and_from_postgresql_in_the_binary_format(database, database_system):
    arrivals = [
        Arrival(source="shop", body=body, plain=None, headers={}, received_at=NOON, secret=0, dedup_key=str(number))
        for number, body in enumerate(BODIES)
    ]
    Inbox(database).accept(arrivals)
    ids = [arrival.id for arrival in arrivals]
    formats = []
    event.listen(database.engine, "after_cursor_execute", lambda *given: formats.append(getattr(given[1], "format", 0)))
    with database.read() as connection:
        found = bodies_of(connection, ids)
    assert [found[each] for each in ids] == BODIES
    assert set(formats) == {Format.BINARY if database_system == "postgresql" else Format.TEXT}
