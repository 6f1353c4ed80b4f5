"""A long history: a million deliveries, 200,000 rows, 400,000 changes, and two weeks of tallies.

It is written directly into the tables.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, func, select, text

from benchmarks import ended, scale, senders
from benchmarks.inboxes import SOURCE
from benchmarks.lending import LENDERS
from receiver.database.bulk import insert_mappings
from receiver.database.database import Database
from receiver.findings import tallies
from receiver.findings.counting import RUNNING, WATCHED
from receiver.findings.tables import TALLIES
from receiver.inbox import tables
from receiver.inbox.ids import MOST_PROCESSES

DELIVERIES = int(os.environ.get("BENCHMARK_DELIVERIES") or scale.either(1_000_000, 100_000))
ROWS = int(os.environ.get("BENCHMARK_ROWS") or scale.either(200_000, 20_000))

#: Pending deliveries, and deliveries of a source that hardly ever sends.
PENDING, RARE = 20_000, 5

#: The product whose deliveries have readable bodies; all other bodies are empty.
SUBJECT = 42

#: Greater than the id of every delivery of the history, and less than those of deliveries that arrive.
END = (ended.FIRST + DELIVERIES * ended.BETWEEN) * MOST_PROCESSES

BEGAN = datetime.fromtimestamp(ended.FIRST / 1_000_000, UTC)
MIDDLE = BEGAN + timedelta(microseconds=DELIVERIES // 2 * ended.BETWEEN)

#: Kinds and details of the tallies of each minute; two processes have written them.
TALLIED = (
    *((SOURCE, "accepted", ""), (SOURCE, "duplicate", ""), (SOURCE, "verified", "0"), (SOURCE, "lag", "")),
    *((SOURCE, "ended", detail) for detail in ("processed/applied", "processed/stale", "ignored", "dead")),
    *((SOURCE, "refused", "signature_wrong"), ("", RUNNING, "0.1.0 space 0123456789ab"), ("", WATCHED, "")),
)
PROCESSES = ("aaaaaa", "bbbbbb")
TALLIED_FOR = scale.either(tallies.MINUTES_KEPT, timedelta(days=2))

#: Statements for both databases: rows, each with an SKU, some not active; and two changes of each row.
FILL = (
    "INSERT INTO products (source, external_id, active, changed_at, tie, versions, sku, name, data) "
    "SELECT '{source}', {key}, n % 100 <> 0, moment, n % 5000 = 0, {versions}, 'SKU-' || n, 'Lamp ' || n, {data} "
    "FROM {rows}",
    'INSERT INTO changes ("table", source, external_id, operation, before, after, delivery_id, changed_at, '
    "recorded_at) SELECT 'products', '{source}', {key}, 'update', '{{}}', '{{}}', "
    "({first} + n * {between}) * {processes}, moment, moment FROM {rows}",
)
AGAIN = FILL[1]

#: The versions of a row: the text before and after the microsecond of its change.
VERSIONS = ('{"own": true, "at": [[', ',0,1,"active","sku","name","data"]]}')

FINAL = (
    "UPDATE deliveries SET state = 'pending', ended_at = NULL, outcome = NULL WHERE id > :pending",
    "UPDATE deliveries SET source = 'rare' WHERE id <= :rare",
    "UPDATE dedup_keys SET source = 'rare' WHERE delivery_id <= :rare",
)


def fill(url: str) -> None:
    """Write the history into a database that is empty and has its tables."""
    ended.fill(url, DELIVERIES)
    with closing(Database(url)) as database:
        bounds = {
            "pending": END - PENDING * ended.BETWEEN * MOST_PROCESSES,
            "rare": (ended.FIRST + RARE * ended.BETWEEN) * MOST_PROCESSES,
        }
        with database.write() as connection:
            for statement in (*FILL, AGAIN):
                connection.execute(text(statement.format(**_forms(database))))
            for statement in FINAL:
                known = {name: bound for name, bound in bounds.items() if f":{name}" in statement}
                connection.execute(text(statement), known)
            _write_bodies(connection)
            _tally(connection)
        if database.is_postgresql:
            with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                connection.execute(text("VACUUM ANALYZE"))


class LaterArrivals:
    """What has arrived since the history was written; removed, so that the backlog is as long as it was."""

    def __init__(self, url: str) -> None:
        self._url = url

    def count(self, since: datetime, until: datetime) -> int:
        """The number of deliveries that arrived between these times."""
        received_at = tables.DELIVERIES.c.received_at
        arrived = tables.DELIVERIES.c.id >= END, received_at >= since, received_at < until
        with closing(Database(self._url)) as database, database.read() as connection:
            return int(connection.execute(select(func.count()).where(*arrived)).scalar_one())

    def remove(self) -> None:
        """Remove all of them from the database."""
        with closing(Database(self._url)) as database, database.write() as connection:
            for table, key in (("dedup_keys", "delivery_id"), ("bodies", "delivery_id"), ("deliveries", "id")):
                connection.execute(text(f"DELETE FROM {table} WHERE {key} >= :end"), {"end": END})


def _forms(database: Database) -> dict[str, object]:
    """Return the parts of the statements that differ between the databases: counting, and times that grow."""
    shared: dict[str, object] = {
        "source": SOURCE,
        "first": ended.FIRST,
        "between": ended.BETWEEN,
        "processes": MOST_PROCESSES,
    }
    seconds = f"{ended.FIRST // 1_000_000} + n * 2"
    shared["versions"] = f"'{VERSIONS[0]}' || (({seconds}) * 1000000) || '{VERSIONS[1]}'"
    if database.is_postgresql:
        moment = f"to_timestamp({seconds}) AS moment"
        rows = f"(SELECT n, {moment} FROM generate_series(0::bigint, {ROWS - 1}) AS n) AS numbers"
        return {
            **shared,
            "key": "'P' || lpad(n::text, greatest(5, length(n::text)), '0')",
            "data": "'\"' || repeat('x', 300) || '\"'",
            "rows": rows,
        }
    moment = f"strftime('%Y-%m-%dT%H:%M:%S', {seconds}, 'unixepoch') || '.000000Z' AS moment"
    counted = f"WITH RECURSIVE count(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM count WHERE n + 1 < {ROWS})"
    rows = f"({counted} SELECT n, {moment} FROM count)"
    return {**shared, "key": "printf('P%05d', n)", "data": "printf('\"%.300c\"', 'x')", "rows": rows}


def _write_bodies(connection: Connection) -> None:
    """Give readable bodies to the deliveries about one product, because its page reads them."""
    change = text("UPDATE bodies SET body = :body WHERE delivery_id = :id")
    for number in range(SUBJECT, DELIVERIES, senders.PRODUCTS):
        identity = (ended.FIRST + number * ended.BETWEEN) * MOST_PROCESSES
        connection.execute(change, {"body": senders.IIMMPACT.body(number), "id": identity})


def _tally(connection: Connection) -> None:
    newest = tallies.beginning(datetime.now(UTC), tallies.MINUTE)
    for process in PROCESSES:
        for source, kind, detail in TALLIED:
            about = {"span": 60, "source": source, "kind": kind, "detail": detail, "process": process}
            minutes = range(TALLIED_FOR // tallies.MINUTE)
            rows = [{**about, "at": newest - n * tallies.MINUTE, "number": 60, "amount": 1.0} for n in minutes]
            insert_mappings(connection, TALLIES, rows)


def filled() -> Iterator[tuple[str, str, float]]:
    """Fill a database of either kind, or of the one chosen; give its name, its URL, and the seconds of filling."""
    chosen = os.environ.get("BENCHMARK_DATABASE") or None
    for name, lend in LENDERS.items():
        if chosen not in (None, name):
            continue
        with lend() as url:
            began = time.perf_counter()
            fill(url)
            yield name, url, time.perf_counter() - began
