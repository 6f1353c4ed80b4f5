"""Millions of deliveries that ended long ago, written directly into the tables.

There are ten a second, about as many products as the other events are about. One in a thousand is dead, nine are
ignored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import psycopg
from sqlalchemy import make_url

from benchmarks.inboxes import SOURCE
from benchmarks.senders import PRODUCTS, SIGMA, STICKY
from receiver.inbox.arrival import Arrival
from receiver.inbox.ids import MOST_PROCESSES

#: Arrival of the first delivery in microseconds since 1970, and microseconds between two arrivals.
FIRST, BETWEEN = 1_700_000_000_000_000, 100_000

#: The fingerprint of all bodies. No measured statement depends on it.
FINGERPRINT = bytes(range(32))

#: Statements for both databases; `{numbers}` counts and `{key}` writes 64 hexadecimal digits, which differ between
#: them.
_DELIVERIES = """
INSERT INTO deliveries (
    id, source, event_type, entity_kind, entity_id, occurred_at, received_at, state, attempts, due_at, outcome,
    ended_at, dedup_key, conflict
)
SELECT
    ({first} + n * {between}) * {processes}, '{source}', 'product.updated', 'product', {entity}, moment, moment,
    CASE WHEN n % 1000 = 0 THEN 'dead' WHEN n % 1000 < 10 THEN 'ignored' ELSE 'processed' END, 1, moment,
    CASE WHEN n % 1000 < 10 THEN NULL ELSE 'applied' END, moment, {key}, false
FROM {numbers}
"""

_BODIES = "INSERT INTO bodies (delivery_id, body, headers) SELECT id, {body}, '{{}}' FROM deliveries ORDER BY id"

#: Yields statements that write dedup keys, given what writes 32 hexadecimal digits at random.
Keys = Callable[[str], Iterator[str]]

#: One time for all of them, since no measured statement asks for it.
_MOMENT = "2024-01-01T00:00:00.000000Z"


def known_keys(_: str) -> Iterator[str]:
    """The keys of the deliveries, as `again` makes them."""
    yield "SELECT source, dedup_key, {fingerprint}, id FROM deliveries ORDER BY id"


def random_keys(drawn: str) -> Iterator[str]:
    """Two random keys for each delivery: one of Sigma that follows the delivery's time, and one of sticky.io alone."""
    moment = f"id / {MOST_PROCESSES}"
    yield f"SELECT '{SIGMA.name}', ({moment}) || '-del-' || {drawn}, {{fingerprint}}, id FROM deliveries ORDER BY id"
    yield f"SELECT '{STICKY.name}', '[\"' || {drawn} || '\"]', {{fingerprint}}, id FROM deliveries ORDER BY id"


def fill(url: str, deliveries: int, keys: Keys = known_keys) -> None:
    """Fill an empty inbox that has its tables, and leave it as the database's own maintenance would."""
    if make_url(url).get_backend_name() == "postgresql":
        _fill_postgresql(url, deliveries, keys)
    else:
        _fill_sqlite(str(make_url(url).database), deliveries, keys)


def again(number: int) -> Arrival:
    """Make a duplicate of the `number`th delivery."""
    arrival = Arrival(source=SOURCE, body=b"{}", plain=None, headers={}, received_at=datetime.now(UTC), secret=0)
    arrival.event_type, arrival.entity = "product.updated", ("product", f"P{number % PRODUCTS:05d}")
    arrival.occurred_at = arrival.received_at
    arrival.dedup_key, arrival.fingerprint = f"{FIRST + number * BETWEEN}-{number:064x}", FINGERPRINT
    return arrival


def _fill_sqlite(path: str, deliveries: int, keys: Keys) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    # If the program dies, the file is thrown away. The next connection restores the journal.
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    # Random keys are in memory until all are written, if there are up to ten million.
    connection.execute("PRAGMA cache_size=-3000000")
    connection.execute("BEGIN")
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '%deliveries%'")
    # The indexes are made again at the end, which is faster than updating them row by row.
    made_anew = indexes.fetchall()
    for name, _ in made_anew:
        connection.execute(f"DROP INDEX {name}")
    connection.execute(
        _DELIVERIES.format(
            **_shared(),
            entity=f"printf('P%05d', n % {PRODUCTS})",
            key=f"printf('%d-%064x', {FIRST} + n * {BETWEEN}, n)",
            numbers="(WITH RECURSIVE count(n) AS "
            f"(SELECT 0 UNION ALL SELECT n + 1 FROM count WHERE n + 1 < {deliveries}) "
            f"SELECT n, '{_MOMENT}' AS moment FROM count)",
        )
    )
    for each in keys("lower(hex(randomblob(16)))"):
        connection.execute(f"INSERT INTO dedup_keys {each}".format(fingerprint=f"x'{FINGERPRINT.hex()}'"))
    connection.execute(_BODIES.format(body="x'7b7d'"))
    for _, statement in made_anew:
        connection.execute(statement)
    connection.execute("COMMIT")
    connection.close()


def _fill_postgresql(url: str, deliveries: int, keys: Keys) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '512MB'")
        indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'deliveries' AND indexname LIKE 'ix_%'"
        made_anew = connection.execute(indexes).fetchall()
        for name, _ in made_anew:
            connection.execute(f"DROP INDEX {name}")  # type: ignore[call-overload]
        connection.execute(
            _DELIVERIES.format(  # type: ignore[arg-type]
                **_shared(),
                entity=f"'P' || lpad((n % {PRODUCTS})::text, 5, '0')",
                key=f"({FIRST} + n * {BETWEEN}) || '-' || lpad(to_hex(n), 64, '0')",
                numbers=f"(SELECT n, timestamptz '{_MOMENT}' AS moment "
                f"FROM generate_series(0::bigint, {deliveries - 1}) AS n) AS numbers",
            )
        )
        connection.execute("ALTER TABLE dedup_keys DROP CONSTRAINT dedup_keys_pkey")
        for each in keys("md5(id::text)"):
            statement = f"INSERT INTO dedup_keys {each}".format(fingerprint=f"'\\x{FINGERPRINT.hex()}'::bytea")
            connection.execute(statement)  # type: ignore[arg-type]
        # As full as pages are after insertions in any order, and after insertions in order.
        full = 70 if keys is random_keys else 90
        connection.execute(f"ALTER TABLE dedup_keys ADD PRIMARY KEY (source, dedup_key) WITH (fillfactor = {full})")  # type: ignore[call-overload]
        connection.execute(_BODIES.format(body="'\\x7b7d'::bytea"))  # type: ignore[arg-type]
        for _, statement in made_anew:
            connection.execute(statement)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _shared() -> dict[str, object]:
    return {"first": FIRST, "between": BETWEEN, "processes": MOST_PROCESSES, "source": SOURCE}
