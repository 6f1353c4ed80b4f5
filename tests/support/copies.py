"""Databases to copy: with deliveries of the four systems, and of a shop in every state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from histories import STARTS, live, new_system
from shopping import NOON, named, new_shop
from sqlalchemy import Connection, insert, text

from receiver import Event, Mirror
from receiver.copying.copying import Copier, CopyReport
from receiver.copying.preconditions import Side
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.dialects.sources import find_dialects
from receiver.inbox.tables import ATTEMPTS
from receiver.testing import Webhooks
from simulator.systems import SYSTEMS


def migrate(url: str) -> None:
    with closing(Database(url)) as database:
        Schema(database).upgrade()


def sql(url: str, *statements: str, **parameters: Any) -> list[Any]:
    """Run the statements in one transaction through a separate connection; return the rows of the last."""
    with closing(Database(url)) as database, database.write() as connection:
        for statement in statements:
            found = connection.execute(text(statement), parameters)
        return [tuple(row) for row in found] if found.returns_rows else []


@contextmanager
def kit_on(folder: Path, url: str) -> Iterator[Webhooks]:
    """Open the test kit on a database with tables, with the four systems and a shop that has a failing handler."""
    shop = new_shop()

    @shop.on("product.failed")
    def fail(event: Event[Any], mirror: Mirror) -> None:
        raise ValueError("a fault of this test's own 😊")

    with closing(Webhooks(folder, {**find_dialects(), "shop": shop}, database_url=url)) as kit:
        yield kit


def live_through(kit: Webhooks) -> None:
    """Post some hours of webhooks of the four systems, and make a delivery of the shop in every state."""
    for name in SYSTEMS:
        options: dict[str, Any] = {"hydrated": False} if name == "sigma" else {}
        system = new_system(name, seed=7, start=STARTS[0], **options)
        kit.source(name, **system.settings(api_url=None))
        for message in live(system, events=8, start=STARTS[0], step=timedelta(minutes=20)):
            kit.post(name, message.body, message.headers)
    kit.send("shop", "product.updated", id="Löwe 🦁", at=NOON, data=named("Löwe"))
    kit.send("shop", "product.updated", id="Löwe 🦁", at=NOON - timedelta(hours=1), data=named("Katze"))
    kit.send("shop", "product.deleted", id="gone", at=NOON)
    kit.send("shop", "moon.eclipsed", id="M", at=NOON)
    kit.send("shop", "product.failed", id="F", at=NOON)
    kit.send_body("shop", b"\xff\x00 not JSON")
    kit.drain()
    kit.send("shop", "product.updated", id="late", at=NOON, data=named())
    kit.inbox.claim("a worker that is dead", ["shop"], now=kit.now(), limit=1, lease=timedelta(seconds=-1))
    kit.send("shop", "product.updated", id="pending", at=NOON, data=named())


def copy(source: str, target: str, *, afresh: bool = False, **options: Any) -> CopyReport:
    with both(source, target) as sides:
        return Copier(*sides, **options).copy(afresh=afresh)


def verify(source: str, target: str, **options: Any) -> CopyReport:
    with both(source, target) as sides:
        return Copier(*sides, **options).verify()


@contextmanager
def both(source: str, target: str) -> Iterator[tuple[Side, Side]]:
    sides = Side("FROM", source), Side("TO", target)
    try:
        yield sides
    finally:
        for side in sides:
            side.database.close()


def everything(url: str) -> dict[str, list[Any]]:
    """Read all rows of all tables in a form that is the same for both databases."""
    with closing(Database(url)) as database, database.read() as connection:
        return {table.name: _rows(connection, table) for table in Side.tables()}


def _rows(connection: Connection, table: Any) -> list[Any]:
    return sorted(repr(tuple(row)) for row in connection.execute(table.select()))


def fill_attempts(url: str, rows: int) -> None:
    """Insert this many rows into the table `attempts`."""
    with closing(Database(url)) as database, database.write() as connection:
        connection.execute(
            insert(ATTEMPTS),
            [
                {
                    "delivery_id": n,
                    "ended_at": NOON + timedelta(microseconds=n),
                    "number": 1,
                    "worker": "w",
                    "reason": "r",
                }
                for n in range(rows)
            ],
        )
