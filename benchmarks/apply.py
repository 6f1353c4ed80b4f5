"""Events applied per second by one worker, against raw sqlite3 upserts of the same rows."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from benchmarks import load
from benchmarks.servers import SECRET
from handlers.catalog import Product
from handlers.iimmpact import iimmpact
from receiver.database import Database
from receiver.filing import Arrival
from receiver.inbox import Inbox
from receiver.mirror import sql_table
from receiver.settings import SourceSettings
from receiver.sources import build_source
from receiver.worker import Worker

PRODUCTS = sql_table(Product)

EVENTS = 10_000
ROUNDS = 3

#: Rows that the raw program writes in one transaction, as many as the worker's batch.
BATCH = 200


def measure() -> dict[str, float]:
    """Events per second, the median of the rounds; within a round both take a turn, on databases of their own."""
    rates: dict[str, list[float]] = {"raw": [], "worker": []}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            rates["raw"].append(EVENTS / _raw(Path(folder)))
            rates["worker"].append(EVENTS / _worker(Path(folder)))
    return {name: median(each) for name, each in rates.items()}


def report() -> list[str]:
    rates = measure()
    return [
        f"raw sqlite3 upserts  {rates['raw']:>9.0f} rows/s",
        f"worker               {rates['worker']:>9.0f} events/s",
        f"worker / raw         {rates['worker'] / rates['raw']:.2f}",
    ]


def _raw(folder: Path) -> float:
    """Seconds to upsert a row per event, the same rows into the same table as the worker's."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(str(CreateTable(PRODUCTS).compile(dialect=sqlite.dialect())))
    for index in PRODUCTS.indexes:
        connection.execute(str(CreateIndex(index).compile(dialect=sqlite.dialect())))
    names = list(_row(0))
    columns = ", ".join(f"{name} = excluded.{name}" for name in names)
    marks = ", ".join("?" * len(names))
    upsert = f"INSERT INTO products ({', '.join(names)}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {columns}"
    rows = [tuple(_row(number).values()) for number in range(EVENTS)]
    began = time.perf_counter()
    for start in range(0, EVENTS, BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(upsert, rows[start : start + BATCH])
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return took


def _worker(folder: Path) -> float:
    """Seconds to claim, handle and settle the events, from an inbox that holds them all."""
    database = Database(f"sqlite:///{folder / 'hookmirror.db'}")
    database.create_tables()
    inbox = Inbox(database)
    source = build_source(SourceSettings(name="iimmpact", secrets=[SECRET.decode()]), {"iimmpact": iimmpact})
    for start in range(0, EVENTS, BATCH):
        inbox.accept([_arrival(load.body(number)) for number in range(start, start + BATCH)])
    worker = Worker(inbox, {"iimmpact": source})
    began = time.perf_counter()
    while worker.work():
        pass
    took = time.perf_counter() - began
    database.close()
    return took


def _row(number: int) -> dict[str, Any]:
    """What the event leaves in the mirror, as SQLite keeps it."""
    envelope = iimmpact.read(load.body(number))
    moment = envelope.occurred_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    registers = ["active", "sku", "name", "parent", "data"]
    return {
        "source": "iimmpact",
        "external_id": envelope.data["product_code"],
        "active": 1,
        "changed_at": moment,
        "deactivated_at": None,
        "tie": 0,
        "versions": json.dumps({"own": True, "at": [[1_768_000_000_000_000 + number, 1, 10**18 + number, *registers]]}),
        "sku": envelope.data["product_code"],
        "name": envelope.data["display_name"],
        "price": None,
        "currency": None,
        "parent": envelope.data["product_category_code"],
        "lifecycle_state": None,
        "data": json.dumps(envelope.data, separators=(",", ":")),
    }


def _arrival(body: bytes) -> Arrival:
    arrival = Arrival(
        source="iimmpact",
        body=body,
        plain=None,
        headers={"content-type": "application/json"},
        received_at=datetime.now(UTC),
        secret=0,
    )
    arrival.know(iimmpact.read(body))
    return arrival
