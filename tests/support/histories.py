"""Histories of the four systems, delivered in any order by workers that die, and a comparison with the true catalog."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from faults import Killed
from serving import TIMEOUT, wait_until
from sqlalchemy import event, func, select
from starlette.applications import Starlette

from handlers.catalog import Category, Group, Option, Product, Record, Variant
from receiver import Dialect, codec
from receiver.dialects.sources import find_dialects
from receiver.inbox.tables import DELIVERIES
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import own_columns
from receiver.testing import Webhooks
from receiver.worker.worker import Worker
from simulator.clock import SteppedClock
from simulator.oracle import COLUMNS
from simulator.systems import SYSTEMS
from simulator.systems.apis import routes

TABLES = {
    "products": Product,
    "variants": Variant,
    "categories": Category,
    "groups": Group,
    "options": Option,
    "records": Record,
}

LEASE = timedelta(seconds=60)

#: An ordinary day, and the minutes before New York's clocks go back and forward.
STARTS = [
    datetime(2026, 5, 4, 10, tzinfo=UTC),
    datetime(2026, 11, 1, 5, 40, tzinfo=UTC),
    datetime(2026, 3, 8, 6, 55, tzinfo=UTC),
]


def new_system(name: str, *, seed: int, start: datetime, **options: Any) -> Any:
    """Make a simulated system with a small catalog and a subscription."""
    system = SYSTEMS[name](name, seed=seed, clock=SteppedClock(start), size=8, **options)
    system.subscribe("http://receiver.test/hooks")
    return system


def live(system: Any, *, events: int, start: datetime, step: timedelta) -> list[Any]:
    """Make this many events, and return their messages in the order of sending."""
    found: list[Any] = []
    while system.events < events:
        changes = system.step(start + system.events * step)
        found += [message for change in changes for message in system.messages(change)]
    return found


@dataclass(slots=True)
class FaultPlan:
    """Decides when workers die: the number of steps that each of them lives. A step is a statement or a commit."""

    lives: list[int] = field(default_factory=list)
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.lives and self.steps >= self.lives[0]:
            self.lives.pop(0)
            self.steps = 0
            raise Killed

    @contextmanager
    def over(self, engine: Any) -> Iterator[None]:
        """Count the steps on this engine, and raise `Killed` when the plan says so."""

        def before_statement(*_: Any) -> None:
            self.step()

        def before_commit(_: Any) -> None:
            self.step()

        event.listen(engine, "before_cursor_execute", before_statement)
        event.listen(engine, "commit", before_commit)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", before_statement)
            event.remove(engine, "commit", before_commit)


class Workers:
    """Runs one worker after another on one inbox. Each works until it is killed."""

    def __init__(
        self, kit: Webhooks, source: Any, *, batch_size: int, fault_plan: FaultPlan, wait_for_lease: bool
    ) -> None:
        self.kit = kit
        self.fault_plan = fault_plan
        self.wait_for_lease = wait_for_lease
        self.make = lambda: Worker(kit.inbox, {source.name: source}, batch_size=batch_size, lease=LEASE, clock=kit.now)
        self.worker = self.make()
        self.deaths = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()

    def work(self) -> bool:
        """Make one pass with the current worker. Returns whether it had work or died."""
        try:
            with self.fault_plan.over(self.kit.database.engine):
                return self.worker.work() > 0
        except Killed:
            self.deaths += 1
            self._replace()
            return True

    def drain(self) -> None:
        while self.work():
            pass

    def _replace(self) -> None:
        dead, self.worker = self.worker, self.make()
        dead.close()
        if self.wait_for_lease:
            self.kit.advance(seconds=LEASE.total_seconds() + 1)
        gone = [] if self.wait_for_lease else [dead.name]

        def is_reclaimed() -> bool:
            # PostgreSQL holds the locks of the killed statement until it notices that the connection is closed.
            self.kit.inbox.reclaim(now=self.kit.now(), dead=gone, max_attempts=10)
            return dead.name not in self.kit.inbox.workers()

        wait_until(is_reclaimed, "the locks of the dead worker")


@contextmanager
def new_kit(
    lend_database: Callable[[Path], AbstractContextManager[str]], dialects: Mapping[str, Dialect] | None = None
) -> Iterator[Webhooks]:
    """Open a test kit for one example, with an empty mirror and these dialects, or the installed ones."""
    with TemporaryDirectory() as folder, lend_database(Path(folder)) as url:
        kit = Webhooks(Path(folder), dialects or find_dialects(), database_url=url)
        try:
            yield kit
        finally:
            kit.close()


def post(kit: Webhooks, source: str, message: Any) -> None:
    answer = kit.post(source, message.body, message.headers)
    assert answer.status == 200, answer.body


def snapshot(kit: Webhooks, source: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return everything that the mirror shows of one source, prices with their digits."""
    found = {}
    for name, table in TABLES.items():
        for row in kit.rows(table, source=source):
            shown = {column: getattr(row, column) for column in own_columns(table)}
            shown |= {column: getattr(row, column) for column in ("active", "changed_at", "deactivated_at", "tie")}
            found[name, row.external_id] = shown | {"price": _digits(row.price)}
    return found


def differences(system: Any, mirror: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """Describe each difference between the mirror and the system's own catalog: row, column, both values."""
    found = []
    for key, row in system.oracle:
        shown = mirror.get(key)
        if (shown is not None and shown["active"]) != row.active:
            found.append(f"{key}: active is not {row.active}")
        elif row.active and shown is not None:
            expected = dict.fromkeys(COLUMNS) | row.columns
            expected |= {"price": _digits(expected["price"]), "data": codec.decode(codec.encode(expected["data"]))}
            found += [
                f"{key}: {column} is {shown[column]!r}, not {value!r}"
                for column, value in expected.items()
                if shown[column] != value
            ]
    known = {key for key, _ in system.oracle}
    return found + [f"{key}: never was" for key, row in mirror.items() if row["active"] and key not in known]


def endings(kit: Webhooks) -> set[tuple[str, str | None]]:
    """Return the states of the deliveries with their reasons."""
    return {(each["state"], each["reason"]) for each in kit.deliveries()}


def silent(kit: Webhooks) -> list[int]:
    """List the deliveries that changed a row although their outcome does not say so."""
    deliveries = DELIVERIES.c
    say_so = func.coalesce(deliveries.outcome, "").in_(["applied", "tie"])
    found = select(deliveries.id).join(CHANGES, CHANGES.c.delivery_id == deliveries.id).where(~say_so).distinct()
    with kit.database.read() as connection:
        return list(connection.execute(found).scalars())


class Api:
    """Serves one system's API at a time on a real socket; the system can be changed meanwhile."""

    def __init__(self) -> None:
        self._shown = Starlette()
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            self._answer,
            log_level="critical",
            lifespan="off",
            ws="none",
            interface="asgi3",
            # An idle connection would otherwise be closed just as the dialect's client uses it again.
            timeout_keep_alive=int(10 * TIMEOUT),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def show(self, system: Any) -> None:
        self._shown = Starlette(routes=routes(system))

    def __enter__(self) -> Api:
        self._thread.start()
        wait_until(lambda: self._server.started, "the API to listen")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        await self._shown(scope, receive, send)


def _digits(price: Decimal | None) -> str | None:
    return None if price is None else format(price, "f")
