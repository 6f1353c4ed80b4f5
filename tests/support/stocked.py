"""A database with an invented history to search in: deliveries of every kind, rows, and changes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, text

from handlers.catalog import Product, Variant
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.inbox.ids import first_id_at
from receiver.inbox.tables import BODIES, DEDUP_KEYS, DELIVERIES, State
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import sql_table

#: Arrival of the first delivery; the others follow at intervals of one minute.
BEGAN = datetime(2026, 5, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

SOURCES = ("shop", "mall", "kiosk")
EVENT_TYPES = ("product.updated", "product.deleted", "moon.eclipsed")
REASONS = (None, "data.price: not a number", "100% of_them", "no handler takes it")

#: One delivery in this many belongs to the last source.
RARE = 97


@dataclass(repr=False)
class Stock:
    """The contents of the database, as they were inserted."""

    database: Database
    deliveries: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    changes: list[dict[str, Any]]

    def close(self) -> None:
        self.database.close()


def stocked(url: str, *, deliveries: int, rows: int, seed: int = 1) -> Stock:
    """Make a stocked database at this URL. The same seed makes the same contents."""
    database, chance = Database(url), random.Random(seed)
    Schema(database).upgrade()
    made = [_delivery(number, chance) for number in range(deliveries)]
    held = [_row(number, chance) for number in range(rows)]
    changed = [_change(number, held[number % rows], made, chance) for number in range(rows * 2)]
    bodies = [{"delivery_id": each["id"], "body": b"{}", "headers": {}} for each in made]
    with database.write() as connection:
        connection.execute(insert(DELIVERIES), made)
        connection.execute(insert(DEDUP_KEYS), [_key(each) for each in made])
        connection.execute(insert(BODIES), bodies)
        connection.execute(insert(sql_table(Product)), held)
        connection.execute(insert(CHANGES), changed)
        if database.is_postgresql:
            # SQLite gets no statistics, because it has none in production.
            connection.execute(text("ANALYZE"))
    return Stock(database, made, held, changed)


def _delivery(number: int, chance: random.Random) -> dict[str, Any]:
    moment = BEGAN + number * MINUTE
    state = chance.choices(list(State), weights=[5, 2, 70, 15, 8])[0]
    entity = f"P{number % 50}"
    return {
        "id": first_id_at(moment),
        "source": SOURCES[2] if number % RARE == 0 else SOURCES[number % 2],
        "event_type": chance.choice(EVENT_TYPES),
        "entity_kind": chance.choice(("product", "variant")),
        "entity_id": f"product:{entity}" if number % 31 == 0 else entity,
        "occurred_at": moment,
        "received_at": moment,
        "state": state.value,
        "due_at": moment,
        "ended_at": None if state in (State.PENDING, State.PROCESSING) else moment,
        "outcome": chance.choice(("applied", "stale", "unchanged")) if state is State.PROCESSED else None,
        "reason": chance.choice(REASONS),
        "dedup_key": f"key-{number}",
        "conflict": chance.random() < 0.05,
    }


def _key(delivery: dict[str, Any]) -> dict[str, Any]:
    names = {name: delivery[name] for name in ("source", "dedup_key")}
    return {**names, "fingerprint": b"f" * 32, "delivery_id": delivery["id"]}


def _row(number: int, chance: random.Random) -> dict[str, Any]:
    return {
        "source": SOURCES[number % 2],
        "external_id": f"P{number:04}",
        "active": chance.random() < 0.9,
        "changed_at": BEGAN,
        "tie": chance.random() < 0.05,
        "versions": "{}",
        "sku": f"SKU-{number // 2}",
        "name": f"Lamp {number}",
    }


def _change(
    number: int, row: dict[str, Any], deliveries: list[dict[str, Any]], chance: random.Random
) -> dict[str, Any]:
    moment = BEGAN + number * MINUTE
    return {
        "table": sql_table(Product if number % 5 else Variant).name,
        "source": row["source"],
        "external_id": row["external_id"],
        "operation": "update",
        "before": {},
        "after": {"name": row["name"]},
        "delivery_id": chance.choice(deliveries)["id"] if number % 3 else None,
        "changed_at": moment,
        "recorded_at": moment,
    }
