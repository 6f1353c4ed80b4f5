"""What handlers may do besides writing: run SQL, and read the mirror as their batch will leave it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from shopping import NOON, drain, named, new_worker, states
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from trouble import refusing
from waiting import wait_until

from handlers.catalog import Product, Variant
from receiver import Discard, Event, Mirror
from receiver.errors import WiringError
from receiver.mirror.news import SessionRequested
from receiver.mirror.rows import Key
from receiver.provenance.why import explain_row
from receiver.worker.handling import MOST_INSIDE

# ── sessions ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def notes(shop, kit):
    """Make a user's table, which a handler fills with SQL."""

    @shop.on("product.noted")
    def note(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="noted")
        mirror.session.execute(text("INSERT INTO notes VALUES (:id)"), {"id": event.entity_id})
        if event.data == "fail":
            raise RuntimeError("after the note")

    with kit.database.write() as connection:
        connection.execute(text("CREATE TABLE notes (id TEXT PRIMARY KEY)"))

    def read() -> list[str]:
        with kit.database.read() as connection:
            return list(connection.execute(text("SELECT id FROM notes ORDER BY id")).scalars())

    return read


def test_a_handler_s_sql_is_committed_with_the_batch_and_rolled_back_with_its_failure(kit, worker, notes):
    kit.send("shop", "product.noted", id="A1")
    failed = kit.send("shop", "product.noted", id="A2", data="fail")
    kit.send("shop", "product.noted", id="A3")
    kit.send("shop", "product.updated", id="A4", data=named())
    assert worker.work() == 4
    assert states(kit) == ["processed", "pending", "processed", "processed"]
    assert "raised RuntimeError: after the note" in kit.delivery(failed)["reason"]
    assert notes() == ["A1", "A3"]
    assert [row.external_id for row in kit.rows(Product)] == ["A1", "A3", "A4"]


def test_a_handler_reads_what_an_earlier_one_of_its_batch_has_written_with_a_session(shop, kit, worker, notes):
    @shop.on("product.seen")
    def see(event: Event, mirror: Mirror) -> None:
        row = mirror.get(Product, event.entity_id)
        mirror.upsert(Product, event.entity_id, sku="unknown" if row is None else row.name)

    kit.send("shop", "product.noted", id="A1", at=NOON)
    kit.send("shop", "product.seen", id="A1", at=NOON + timedelta(minutes=1))
    assert worker.work() == 2
    assert kit.row(Product, "A1").sku == "noted"


def test_a_handler_that_discards_for_a_note_that_is_rolled_back_runs_again(shop, kit, worker, notes):
    @shop.on("product.noted_once")
    def note_once(event: Event, mirror: Mirror) -> None:
        if mirror.session.execute(text("SELECT count(*) FROM notes")).scalar():
            raise Discard("There is a note.")
        add_note(mirror, event.entity_id)

    kit.send("shop", "product.noted", id="A1")
    kit.send("shop", "product.noted_once", id="A2")
    with refusing(kit.database, "products", "not this one", row="NEW.external_id = 'A1'"):
        assert worker.work() == 2
    assert states(kit) == ["pending", "processed"]
    assert notes() == ["A2"]


def test_few_handlers_run_inside_one_settling_transaction_because_others_wait_for_it(shop, kit, worker, notes):
    inside: list[str] = []

    @shop.on("product.seen")
    def see(event: Event, mirror: Mirror) -> None:
        mirror.get(Product, "A0")
        with suppress(SessionRequested):
            assert mirror.session
            inside.append(event.entity_id)
        mirror.upsert(Product, event.entity_id, name="seen")

    kit.send("shop", "product.noted", id="A0")
    for number in range(1, 60):
        kit.send("shop", "product.seen", id=f"A{number}")
    assert worker.work() == 60
    assert states(kit) == ["processed"] * 60
    assert inside == [f"A{number}" for number in range(1, MOST_INSIDE)]


def test_sql_that_the_database_refuses_fails_only_its_own_delivery(kit, worker, notes):
    kit.send("shop", "product.noted", id="A1", at=NOON)
    kit.send("shop", "product.noted", id="A1", at=NOON + timedelta(minutes=1))
    kit.send("shop", "product.noted", id="A2")
    drain(worker)
    assert states(kit) == ["processed", "pending", "processed"]
    assert re.search("(?i)unique constraint", kit.deliveries()[1]["reason"])
    assert notes() == ["A1", "A2"]


def add_note(mirror: Mirror, note: str) -> None:
    mirror.session.execute(text("INSERT INTO notes VALUES (:id)"), {"id": note})


def test_sql_that_a_handler_commits_itself_is_rolled_back_with_its_failure(shop, kit, worker, notes):
    @shop.on("product.committed")
    def commit(event: Event, mirror: Mirror) -> None:
        add_note(mirror, f"{event.entity_id} in attempt {event.attempt}")
        mirror.session.commit()
        if event.attempt < 3:
            raise RuntimeError("a later step")

    kit.send("shop", "product.committed", id="A1")
    for _ in range(3):
        drain(worker)
        kit.advance(hours=30)
    assert states(kit) == ["processed"]
    assert notes() == ["A1 in attempt 3"]


def test_an_error_of_the_database_may_be_caught_within_a_savepoint(shop, kit, worker, notes):
    @shop.on("product.caught")
    def catch(event: Event, mirror: Mirror) -> None:
        with suppress(IntegrityError), mirror.session.begin_nested():
            add_note(mirror, event.entity_id)
        mirror.upsert(Product, event.entity_id, name="noted")

    for minutes in range(2):
        kit.send("shop", "product.caught", id="A1", at=NOON + timedelta(minutes=minutes))
    drain(worker)
    assert states(kit) == ["processed"] * 2
    assert notes() == ["A1"]


def test_an_error_of_the_database_that_is_caught_without_a_savepoint_fails_the_attempt_on_postgresql(
    shop, kit, worker, notes
):
    @shop.on("product.caught")
    def catch(event: Event, mirror: Mirror) -> None:
        with suppress(IntegrityError):
            add_note(mirror, "A1")
        mirror.upsert(Product, event.entity_id, name="noted")

    kit.send("shop", "product.noted", id="A1")
    caught = kit.send("shop", "product.caught", id="A2")
    kit.send("shop", "product.updated", id="A3", data=named())
    drain(worker)
    if kit.database.is_postgresql:
        assert states(kit) == ["processed", "pending", "processed"]
        assert kit.delivery(caught)["attempts_made"] == 1
        assert (
            "catch errors of the database only inside `with mirror.session.begin_nested():`"
            in (kit.delivery(caught)["reason"])
        )
    else:
        assert states(kit) == ["processed"] * 3


def _commit_quietly(connection: Connection) -> None:
    with suppress(Exception):
        connection.commit()


#: What handlers do with the connection of their session, whose transaction is the worker's.
MEDDLING: dict[str, Callable[[Connection], object]] = {
    "commit": Connection.commit,
    "commit of the transaction": lambda connection: connection.get_transaction().commit(),
    "quiet commit": _commit_quietly,
    "rollback": Connection.rollback,
    "close": Connection.close,
    "open savepoint": Connection.begin_nested,
}


@pytest.mark.filterwarnings("ignore:nested transaction already deassociated")
@pytest.mark.parametrize("way", MEDDLING)
def test_a_handler_that_ends_the_worker_s_transaction_fails_alone(shop, kit, worker, notes, way):
    @shop.on("product.odd")
    def odd(event: Event, mirror: Mirror) -> None:
        add_note(mirror, event.entity_id)
        MEDDLING[way](mirror.session.connection())

    kit.send("shop", "product.noted", id="A1")
    guilty = kit.send("shop", "product.odd", id="A2")
    kit.send("shop", "product.noted", id="A3")
    kit.send("shop", "product.updated", id="A4", data=named())
    assert worker.work() == 4
    assert states(kit) == ["processed", "pending", "processed", "processed"]
    assert kit.delivery(guilty)["attempts_made"] == 1
    assert "on the connection of `mirror.session`" in kit.delivery(guilty)["reason"]
    assert notes() == ["A1", "A3"]


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
def test_a_handler_that_ends_the_transaction_by_sql_fails_its_attempt(shop, kit, worker, notes, statement):
    @shop.on("product.odd")
    def odd(event: Event, mirror: Mirror) -> None:
        mirror.session.execute(text(statement))

    guilty = kit.send("shop", "product.odd", id="A1")
    kit.send("shop", "product.updated", id="A2", data=named())
    assert worker.work() == 2
    assert states(kit) == ["pending", "processed"]
    assert (kit.delivery(guilty)["attempts_made"], len(kit.delivery(guilty)["attempts"])) == (1, 1)


# ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_get_sees_the_earlier_writes_of_the_batch_but_not_those_of_a_failed_handler(shop, kit, worker):
    seen = []

    @shop.on("product.broken")
    def fail(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="of the failed one")
        raise ValueError

    @shop.on("product.looked")
    def look(event: Event, mirror: Mirror) -> None:
        row = mirror.get(Product, event.entity_id)
        seen.append((row.name, row.active) if row else None)

    kit.send("shop", "product.looked", id="A1")
    kit.send("shop", "product.updated", id="A1", at=NOON, data=named("first"))
    kit.send("shop", "product.looked", id="A1", at=NOON)
    kit.send("shop", "product.broken", id="A1")
    kit.send("shop", "product.updated", id="A1", at=NOON - timedelta(days=1), data=named("older"))
    kit.send("shop", "product.looked", id="A1", at=NOON + timedelta(minutes=1))
    kit.send("shop", "product.deleted", id="A1", at=NOON + timedelta(minutes=2))
    kit.send("shop", "product.looked", id="A1", at=NOON + timedelta(minutes=3))
    assert worker.work() == 8
    assert seen == [None, ("first", True), ("first", True), ("first", False)]


@pytest.mark.parametrize("batch_size", [1, 100])
def test_get_sees_that_the_delete_of_a_parent_deactivated_the_child(shop, kit, batch_size):
    seen = []

    @shop.on("variant.looked")
    def look(event: Event, mirror: Mirror) -> None:
        row = mirror.get(Variant, event.entity_id)
        assert row is not None
        seen.append(row.active)

    kit.send("shop", "variant.updated", id="V1", at=NOON, data={"parent": "A1"})
    kit.send("shop", "variant.looked", id="V1", at=NOON)
    kit.send("shop", "product.deleted", id="A1", at=NOON + timedelta(minutes=1))
    kit.send("shop", "variant.looked", id="V1", at=NOON + timedelta(minutes=1))
    drain(new_worker(kit, batch_size=batch_size))
    assert seen == [True, False]


def test_an_async_handler_is_refused_with_the_advice_to_hydrate(shop):
    async def handle(event: Event, mirror: Mirror) -> None: ...

    with pytest.raises(WiringError, match=r"is async.*plain `def`.*shop\.hydrate"):
        shop.on("product.created")(handle)


def test_batches_of_one_delivery_give_the_same_result_as_one_batch_of_all(kit):
    one_by_one = new_worker(kit, batch_size=1)
    for number in range(5):
        kit.send("shop", "product.updated", id="A1", at=NOON + timedelta(minutes=number), data=named(f"{number}"))
    assert [one_by_one.work() for _ in range(6)] == [1, 1, 1, 1, 1, 0]
    one_by_one.close()
    assert kit.row(Product, "A1").name == "4"


# ── code that is not run, or run twice ────────────────────────────────────────────────────────────────────────


def test_a_handler_that_returns_a_coroutine_fails_instead_of_doing_nothing(shop, kit, worker):
    async def write(event: Event, mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="written")

    @shop.on("product.async")
    def handle(event: Event, mirror: Mirror) -> object:
        return write(event, mirror)

    sent = kit.send("shop", "product.async", id="A1")
    worker.work()
    assert re.search("handle returned a coroutine, so that its code was not run", kit.delivery(sent)["reason"])


def test_a_handler_that_returns_a_generator_fails_instead_of_doing_nothing(shop, kit, worker):
    @shop.on("product.lazy")
    def handle(event: Event, mirror: Mirror) -> object:
        return (mirror.upsert(Product, each, name="written") for each in ("A1", "A2"))

    sent = kit.send("shop", "product.lazy", id="A1")
    worker.work()
    assert re.search("handle returned a generator, so that its code was not run", kit.delivery(sent)["reason"])


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_child_that_a_handler_forked_does_not_go_on_as_a_second_worker(shop, kit, worker, ends):
    children = []

    @shop.on("product.forked")
    def handle(event: Event, mirror: Mirror) -> None:
        child = os.fork()
        if child == 0 and ends == "raises":
            raise ValueError("in the child")
        children.append(child)
        mirror.upsert(Product, event.entity_id, name="child" if child == 0 else "parent")

    sent = kit.send("shop", "product.forked", id="A1")
    worker.work()
    _, status = os.waitpid(children[0], 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert kit.delivery(sent)["state"] == "processed"
    assert kit.row(Product, "A1").name == "parent"


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_child_that_a_handler_forks_while_a_row_is_explained_takes_no_result(shop, kit, worker, ends):
    forks, children = threading.Event(), []

    @shop.on("product.forked")
    def handle(event: Event, mirror: Mirror) -> None:
        if forks.is_set():
            child = os.fork()
            if child == 0 and ends == "raises":
                raise ValueError("in the child")
            children.append(child)
        mirror.upsert(Product, event.entity_id, name="Lamp")

    kit.send("shop", "product.forked", id="A1")
    worker.work()
    forks.set()
    assert explain_row(kit.database, {"shop": kit.source("shop")}, Key(Product, "shop", "A1")) is not None
    _, status = wait_until(lambda: [each for each in [os.waitpid(children[0], os.WNOHANG)] if each[0]], "its end")[0]
    assert os.waitstatus_to_exitcode(status) == 1
