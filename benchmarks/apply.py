"""Events applied per second by one worker on both databases, compared with the driver's own upserts of those rows."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from benchmarks import postgresql, rounds, scale
from benchmarks.draining import drain
from benchmarks.inboxes import SOURCE
from benchmarks.rounds import Report
from benchmarks.senders import IIMMPACT
from handlers.catalog import Product
from handlers.iimmpact import iimmpact
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.mirror.rows import sql_table

PRODUCTS = sql_table(Product)

EVENTS = scale.either(10_000, 5_000)
ROUNDS = scale.rounds()

#: Rows that the raw programs write in one transaction: the size of the worker's batch.
BATCH = 200


#: Each worker, and the raw program that it is compared with.
PAIRS = {"worker on SQLite": "raw sqlite3", "worker on PostgreSQL": "raw psycopg"}


def report() -> Report:
    sides = {
        "raw sqlite3": _raw_sqlite,
        "worker on SQLite": _worker_on_sqlite,
        "raw psycopg": _raw_postgresql,
        "worker on PostgreSQL": _worker_on_postgresql,
    }
    figures = rounds.take_turns(sides, rounds=ROUNDS, unit="events/s")
    return rounds.report(list(figures.values()), [figures[ours] / figures[raw] for ours, raw in PAIRS.items()])


def row(number: int) -> dict[str, Any]:
    """Return the row that the `number`th event leaves in the mirror, as a driver binds it."""
    envelope = iimmpact.read(IIMMPACT.body(number))
    moment = envelope.occurred_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    registers = ["active", "sku", "name", "parent", "data"]
    return {
        "source": SOURCE,
        "external_id": envelope.data["product_code"],
        "active": True,
        "changed_at": moment,
        "deactivated_at": None,
        "tie": False,
        "versions": json.dumps({"own": True, "at": [[1_768_000_000_000_000 + number, 1, 10**18 + number, *registers]]}),
        "sku": envelope.data["product_code"],
        "name": envelope.data["display_name"],
        "price": None,
        "currency": None,
        "parent": envelope.data["product_category_code"],
        "lifecycle_state": None,
        "data": json.dumps(envelope.data, separators=(",", ":")),
    }


def _raw_sqlite() -> float:
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "raw.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(str(CreateTable(PRODUCTS).compile(dialect=sqlite.dialect())))
        for index in PRODUCTS.indexes:
            connection.execute(str(CreateIndex(index).compile(dialect=sqlite.dialect())))
        with closing(connection):
            return _raw(connection, "?", "BEGIN IMMEDIATE")


def _raw_postgresql() -> float:
    with (
        postgresql.fresh_database() as url,
        psycopg.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        return _raw(cursor, "%s", "BEGIN")


def _raw(runs: Any, mark: str, begin: str) -> float:
    """Return upserts per second, one row for each event, into the same table as the worker's."""
    rows = [tuple(row(number).values()) for number in range(EVENTS)]
    names = list(row(0))
    updates = ", ".join(f"{name} = excluded.{name}" for name in names)
    marks = ", ".join([mark] * len(names))
    upsert = (
        f"INSERT INTO products ({', '.join(names)}) VALUES ({marks}) "
        f"ON CONFLICT (source, external_id) DO UPDATE SET {updates}"
    )
    began = time.perf_counter()
    for start in range(0, EVENTS, BATCH):
        runs.execute(begin)
        runs.executemany(upsert, rows[start : start + BATCH])
        runs.execute("COMMIT")
    return EVENTS / (time.perf_counter() - began)


def _worker_on_sqlite() -> float:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'hookmirror.db'}"
        with closing(Database(url)) as database:
            Schema(database).upgrade()
        return drain(url, events=EVENTS).events_per_second


def _worker_on_postgresql() -> float:
    with postgresql.fresh_database() as url:
        return drain(url, events=EVENTS).events_per_second
