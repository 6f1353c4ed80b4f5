"""Settlement without a worker's pass or thread: one transaction, or one for each delivery if that is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from shopping import NOON, named, states
from sqlalchemy import event, text
from sqlalchemy.exc import InterfaceError
from trouble import refusing

from handlers.catalog import Product
from receiver import Event, Mirror
from receiver.inbox.retries import RetrySchedule
from receiver.mirror import unit_of_work
from receiver.mirror.changes import after
from receiver.worker.attempt import Attempt, AttemptResults, DialectGuard
from receiver.worker.handling import Handling
from receiver.worker.liveness import Pulse
from receiver.worker.locks import Locks
from receiver.worker.settlement import Settlement

WORKER = "a worker"


@pytest.fixture
def attempt_results(kit) -> AttemptResults:
    return AttemptResults(RetrySchedule(), clock=kit.now, jitter=lambda: 0.5)


@pytest.fixture
def handling(kit, attempt_results) -> Handling:
    pulse = Pulse()

    def guard(attempt: Attempt, code: str, *, in_transaction: bool = False) -> DialectGuard:
        return DialectGuard(attempt_results, pulse, attempt, code, in_transaction)

    return Handling(kit.database, guard, keep_lease=lambda: None, stopping=lambda: False)


@pytest.fixture
def settlement(kit, attempt_results, handling) -> Settlement:
    return Settlement(
        kit.inbox,
        WORKER,
        attempt_results,
        handling,
        Locks(kit.inbox, WORKER, clock=kit.now, jitter=random.random),
        keep_lease=lambda: None,
        clock=kit.now,
        jitter=random.random,
        wait=lambda seconds: None,
    )


def claimed(kit, handling) -> list[Attempt]:
    """Claim and handle the due deliveries."""
    found = kit.inbox.claim(WORKER, ["shop"], limit=100, now=kit.now(), lease=timedelta(minutes=1))
    attempts = [Attempt(delivery) for delivery in found]
    source = kit.source("shop")
    for attempt in attempts:
        attempt.envelope = source.read(attempt.delivery.plain)
        attempt.handler = source.dialect.handler_for(attempt.envelope.event_type)
        attempt.event = Event(
            source="shop",
            event_type=attempt.envelope.event_type,
            entity_kind="product",
            entity_id=attempt.envelope.entity[1],
            occurred_at=attempt.envelope.occurred_at,
            data=attempt.handler.parse(attempt.envelope.data),
            delivery_id=str(attempt.delivery.id),
            attempt=attempt.delivery.attempt,
            received_at=attempt.delivery.received_at,
        )
    handling.handle(attempts)
    return attempts


def send(kit, *names: str) -> list[str]:
    return [kit.send("shop", "product.updated", id=name, at=NOON, data=named(name)).delivery for name in names]


def test_rows_feed_and_states_are_committed_together(kit, handling, settlement, settled):
    send(kit, "A1", "A2")
    settlement.settle(claimed(kit, handling))
    assert settled == [2]
    assert states(kit) == ["processed", "processed"]
    assert [row.name for row in kit.rows(Product)] == ["A1", "A2"]
    assert len(after(kit.database, 0, limit=10)) == 2


def test_settled_deliveries_are_released(kit, handling, settlement):
    send(kit, "A1")
    (attempt,) = claimed(kit, handling)
    settlement.settle([attempt])
    assert (attempt.delivery.plain, attempt.envelope, attempt.event, attempt.writes) == (None, None, None, [])


def test_a_delivery_that_neither_ran_nor_ended_is_unchanged(kit, handling, settlement, settled):
    send(kit, "A1")
    (attempt,) = claimed(kit, handling)
    settlement.settle([Attempt(attempt.delivery)])
    assert (settled, states(kit)) == ([], ["processing"])


def test_if_the_database_refuses_a_row_only_its_delivery_fails(kit, handling, settlement):
    _, guilty, _ = send(kit, "A1", "A2", "A3")
    attempts = claimed(kit, handling)
    with refusing(kit.database, "products", "not this one", row="NEW.external_id = 'A2'"):
        settlement.settle(attempts)
    assert states(kit) == ["processed", "pending", "processed"]
    assert "The mirror refused its rows" in kit.delivery(guilty)["reason"]
    assert "not this one" in kit.delivery(guilty)["reason"]


def test_after_an_infrastructure_error_no_delivery_fails(kit, handling, settlement, monkeypatch):
    send(kit, "A1", "A2")
    attempts = claimed(kit, handling)

    def away(*_: Any, **__: Any) -> None:
        raise InterfaceError("INSERT", {}, Exception("the connection is gone"))

    monkeypatch.setattr(unit_of_work, "insertions", away)
    with pytest.raises(InterfaceError, match="the connection is gone"):
        settlement.settle(attempts)
    assert states(kit) == ["processing", "processing"]
    assert kit.rows(Product) == []


def test_a_delivery_that_another_worker_reclaimed_is_left_to_it(kit, handling, settlement):
    _, taken = send(kit, "A1", "A2")
    attempts = claimed(kit, handling)
    with kit.database.write() as connection:
        connection.execute(text("UPDATE deliveries SET claimed_by = 'another' WHERE id = :id"), {"id": int(taken)})
    settlement.settle(attempts)
    assert states(kit) == ["processed", "processing"]
    assert [row.external_id for row in kit.rows(Product)] == ["A1"]


def test_a_handler_that_asks_for_a_session_runs_in_the_transaction_and_fails_alone(shop, kit, handling, settlement):
    @shop.on("product.counted")
    def count(event: Event[Any], mirror: Mirror) -> None:
        known = mirror.session.execute(text("SELECT count(*) FROM deliveries")).scalar_one()
        if event.entity_id == "A2":
            raise ValueError("not this one")
        mirror.upsert(Product, event.entity_id, name=str(known))

    for name in ("A1", "A2", "A3"):
        kit.send("shop", "product.counted", id=name, at=NOON)
    settlement.settle(claimed(kit, handling))
    assert states(kit) == ["processed", "pending", "processed"]
    assert [(row.external_id, row.name) for row in kit.rows(Product)] == [("A1", "3"), ("A3", "3")]


# ── the cost of a batch ───────────────────────────────────────────────────────────────────────────────────────────

#: Most statements that settle 100 similar deliveries. On SQLite one statement takes 64 rows, so rows and changes take
#: two each, and two more prepare the settlement; on PostgreSQL there are locks instead.
MOST_STATEMENTS = 10


class Traffic:
    """Counts the statements of a database, and the commits of transactions that wrote."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.commits = 0
        self._written = False

    def note(self, statement: str) -> None:
        self.statements.append(statement)
        self._written |= statement.startswith(("INSERT", "UPDATE"))

    def commit(self) -> None:
        self.commits += self._written
        self._written = False

    def of(self, table: str) -> int:
        """Count the statements that write to this table."""
        marks = (f'INSERT INTO "{table}"', f"UPDATE {table}")
        return sum(statement.startswith(marks) for statement in self.statements)


@contextmanager
def counted(kit) -> Iterator[Traffic]:
    traffic = Traffic()

    def note(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        traffic.note(sql)

    def commit(_connection: Any) -> None:
        traffic.commit()

    event.listen(kit.database.engine, "before_cursor_execute", note)
    event.listen(kit.database.engine, "commit", commit)
    yield traffic
    event.remove(kit.database.engine, "before_cursor_execute", note)
    event.remove(kit.database.engine, "commit", commit)


def rows_in(kit, table: str) -> int:
    with kit.database.read() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()


def test_a_batch_costs_one_commit_and_a_handful_of_statements(kit, handling, settlement):
    send(kit, *(f"A{number}" for number in range(100)))
    attempts = claimed(kit, handling)
    with counted(kit) as traffic:
        settlement.settle(attempts)
    assert traffic.commits == 1
    assert len(traffic.statements) <= MOST_STATEMENTS, traffic.statements
    assert (traffic.of("deliveries"), traffic.of("settlements"), traffic.of("attempts")) == (1, 1, 0)


def test_good_attempts_of_a_batch_need_one_row(kit, handling, settlement):
    send(kit, *(f"A{number}" for number in range(100)))
    settlement.settle(claimed(kit, handling))
    assert {table: rows_in(kit, table) for table in ("settlements", "attempts", "rounds")} == {
        "settlements": 1,
        "attempts": 0,
        "rounds": 0,
    }


def test_deliveries_with_the_same_result_are_settled_together_whatever_their_times(kit, handling, settlement):
    send(kit, *(f"A{number}" for number in range(10)))
    attempts = claimed(kit, handling)
    for number, attempt in enumerate(attempts):
        attempt.details.hydrate_us = attempt.details.handle_us = 1_000 * (number + 1)
    with counted(kit) as traffic:
        settlement.settle(attempts)
    assert (traffic.of("deliveries"), traffic.of("settlements")) == (1, 1)
    took = [kit.delivery(str(each.delivery.id))["rounds"][0]["attempts"][0] for each in attempts]
    assert [(each["hydrate_ms"], each["handle_ms"]) for each in took] == [(float(n), float(n)) for n in range(1, 11)]
