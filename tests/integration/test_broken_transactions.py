"""Transactions that PostgreSQL aborts are repeated with a bound, and nothing is lost or done twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import httpx
import psycopg
import pytest
from away import away
from serving import TIMEOUT, serving, wait_until
from shopping import NOON, drain, named, new_shop, new_worker, running, states, url_of
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from structlog.testing import capture_logs

from handlers.catalog import Product
from receiver import Event, Listed, Mirror
from receiver.database.database import Database
from receiver.inbox.retention import Retention
from receiver.inbox.retries import RetrySchedule
from receiver.mirror.changes import after
from receiver.mirror.locks import MIRROR_LOCK
from receiver.reconcile import reconcile
from receiver.testing import Webhooks

#: Makes the server refuse rows this many times with a serialization failure.
UNSERIALIZABLE = (
    "CREATE SEQUENCE refusals",
    """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    IF nextval('refusals') <= {times} THEN
        RAISE 'could not serialize access' USING ERRCODE = '40001';
    END IF;
    RETURN NEW;
END$$""",
    "CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
)


@pytest.fixture
def kit(tmp_path, databases) -> Iterator[Webhooks]:
    """Open the test kit on PostgreSQL, because on SQLite no other connection can abort a transaction."""
    with databases.lend(tmp_path) as url, closing(Webhooks(tmp_path, {"shop": new_shop()}, database_url=url)) as kit:
        yield kit


def refuse(database: Database, table: str, *, times: int) -> None:
    with database.write() as connection:
        for statement in UNSERIALIZABLE:
            connection.exec_driver_sql(statement.format(table=table, times=times))


def end_connection(database: Database, number: int) -> None:
    """End the connection as the server's operator would, and wait until it has ended."""
    address = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as beside:
        beside.execute("SELECT pg_terminate_backend(%s, 60000)", [number])


@contextmanager
def losing_its_connection(database: Database, before: str) -> Iterator[list[int]]:
    """End the connection of the first statement that contains `before`.

    Gives the list of ended connections.
    """
    ended: list[int] = []

    def end(cursor: psycopg.Cursor[Any], statement: Any, *given: Any, **named: Any) -> Any:
        if before in str(statement) and not ended:
            ended.append(cursor.connection.info.backend_pid)
            end_connection(database, ended[0])
        return execute(cursor, statement, *given, **named)

    # In the driver, because an accept does without SQLAlchemy's connection.
    execute = psycopg.Cursor.execute
    with patch.object(psycopg.Cursor, "execute", end):
        yield ended


@contextmanager
def losing_the_answer_to_its_commit(database: Database, holding: str) -> Iterator[list[bool]]:
    """Commit the first transaction with `holding` in a statement, and then cut its connection before the answer."""
    commit, execute, marked, lost = database.engine.dialect.do_commit, psycopg.Cursor.execute, set(), []

    def lose(connection) -> None:
        lost.append(True)
        connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    def execute_and_lose(cursor: psycopg.Cursor[Any], statement: Any, *given: Any, **named: Any) -> Any:
        result = execute(cursor, statement, *given, **named)
        if holding in str(statement):
            marked.add(threading.get_ident())
            if cursor.connection.autocommit and not lost:
                lose(cursor.connection)
        return result

    def commit_and_lose(connection) -> None:
        commit(connection)
        if threading.get_ident() in marked and not lost:
            lose(connection.dbapi_connection)

    database.engine.dialect.do_commit = commit_and_lose
    with patch.object(psycopg.Cursor, "execute", execute_and_lose):
        yield lost
    del database.engine.dialect.do_commit


def told_once(kit: Webhooks) -> bool:
    """Whether the event was stored and applied once, in its first attempt."""
    (delivery,) = kit.deliveries()
    return (delivery["state"], delivery["attempts_made"], kit.delivery(delivery["id"])["attempts"]) == (
        "processed",
        1,
        [],
    ) and len(after(kit.database, 0, limit=10)) == 1


def lamp(kit: Webhooks) -> str:
    return kit.send("shop", "product.updated", id="A1", at=NOON, data=named()).delivery


# ── accept ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_accept_with_a_serialization_failure_is_repeated_and_acked_once(kit, worker):
    refuse(kit.database, "bodies", times=2)
    lamp(kit)
    drain(worker)
    assert told_once(kit)


def test_an_accept_that_never_succeeds_is_answered_with_503_after_a_few_tries(kit):
    refuse(kit.database, "bodies", times=1_000)
    answer = kit.send_body("shop", kit.source("shop").dialect.write("product.updated", "A1", at=NOON, data=named()))
    assert (answer.status, answer.body["error"]) == (503, "unavailable")
    assert kit.deliveries() == []


def test_an_accept_that_loses_its_connection_is_repeated_on_another(kit, worker):
    with losing_its_connection(kit.database, "INTO dedup_keys") as ended:
        lamp(kit)
    assert len(ended) == 1
    drain(worker)
    assert told_once(kit)


def test_a_duplicate_whose_connection_is_lost_stays_a_duplicate(kit, worker):
    first = lamp(kit)
    with losing_its_connection(kit.database, "UPDATE deliveries") as ended:
        again = kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    assert len(ended) == 1
    assert again.body == {"status": "duplicate", "delivery": first}
    drain(worker)
    assert told_once(kit)


def test_an_accept_with_a_lost_answer_to_its_commit_is_kept_once(kit, worker):
    with losing_the_answer_to_its_commit(kit.database, "INTO bodies") as lost:
        answered = lamp(kit)
    assert lost
    assert [delivery["id"] for delivery in kit.deliveries()] == [answered]
    drain(worker)
    assert told_once(kit)


def test_after_the_server_ended_all_connections_senders_still_get_acks(databases, tmp_path):
    with databases.lend(tmp_path) as url, serving(url) as served:
        first = served.send("sigma", key="before")
        end_all_others(served.beside)
        second = served.send("sigma", key="after")
        assert served.count("deliveries", f"id IN ({first}, {second})") == 2


# ── claim and settle ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("table", ["products", "changes"])
def test_a_settlement_with_a_serialization_failure_is_repeated_within_its_attempt(kit, worker, table):
    lamp(kit)
    refuse(kit.database, table, times=3)
    assert worker.work() == 1
    assert told_once(kit)


def test_a_settlement_aborted_in_a_deadlock_is_repeated_within_its_attempt(kit, worker):
    """Another program holds one of the rows and waits for a lock of ours. It looks for deadlocks later than we do."""
    for name in ("A1", "B1"):
        kit.send("shop", "product.updated", id=name, at=NOON, data=named())
    drain(worker)
    for name in ("A1", "B1"):
        kit.send("shop", "product.deleted", id=name)
    errors: list[str] = []
    event.listen(kit.database.engine, "handle_error", lambda met: errors.append(met.original_exception.sqlstate))
    with closing(Database(url_of(kit))) as other, ThreadPoolExecutor() as pool, other.write() as connection:
        demand_patience(connection)
        connection.execute(text("SELECT * FROM products WHERE external_id = 'B1' FOR UPDATE"))
        waits: list[Future[object]] = []

        def let_the_other_wait(_connection, _cursor, statement, *_) -> None:
            """Let the other program wait once the settlement has its first locks and is about to wait for the row."""
            if "FROM products" in statement and not waits:
                lock = text("SELECT pg_advisory_xact_lock(:number)")
                waits.append(pool.submit(connection.execute, lock, {"number": MIRROR_LOCK}))
                wait_until(lambda: waiting(other) == 1, "the other program to wait")

        event.listen(kit.database.engine, "before_cursor_execute", let_the_other_wait)
        settling = pool.submit(worker.work)
        wait_until(lambda: settling.done() or (waits and waits[0].done()), "the end of the deadlock")
        waits[0].result(TIMEOUT)
        connection.commit()
        assert settling.result(TIMEOUT) == 2
    assert errors == ["40P01"]
    assert [row.active for row in kit.rows(Product)] == [False, False]
    assert [delivery["attempts_made"] for delivery in kit.deliveries()] == [1] * 4
    assert len(after(kit.database, 0, limit=10)) == 4


def demand_patience(connection: Connection) -> None:
    """Let this transaction look for deadlocks so late that the other one finds them first."""
    try:
        connection.execute(text("SET LOCAL deadlock_timeout = '10min'"))
    except ProgrammingError:
        pytest.skip("the role on DATABASE_URL may not set deadlock_timeout")


def note_everything(kit: Webhooks) -> None:
    """Make a user's table, and a handler that writes to it with SQL."""
    with kit.database.write() as connection:
        connection.execute(text("CREATE TABLE notes (id text)"))

    @kit.source("shop").dialect.on("product.noted")
    def note(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="noted")
        mirror.session.execute(text("INSERT INTO notes VALUES (:id)"), {"id": event.entity_id})


def test_a_handler_whose_own_sql_has_a_serialization_failure_is_repeated_within_its_attempt(kit, worker):
    note_everything(kit)
    refuse(kit.database, "notes", times=3)
    kit.send("shop", "product.noted", id="A1")
    assert worker.work() == 1
    assert told_once(kit)


@pytest.mark.parametrize("guilty", [1, 2, 7])
def test_handlers_whose_own_sql_always_fails_fail_alone_and_delay_no_other(kit, worker, guilty):
    note_everything(kit)
    refuse(kit.database, "notes", times=1_000)
    failed = [kit.send("shop", "product.noted", id=f"A{number}").delivery for number in range(guilty)]
    kit.send("shop", "product.updated", id="B1", data=named())
    assert worker.work() == guilty + 1
    assert states(kit) == ["pending"] * guilty + ["processed"]
    for delivery in map(kit.delivery, failed):
        assert (delivery["attempts_made"], len(delivery["attempts"])) == (1, 1)
        assert "could not serialize access" in delivery["reason"]


def test_a_handler_that_loses_its_connection_in_its_own_sql_is_repeated_within_its_attempt(kit, worker):
    note_everything(kit)
    kit.send("shop", "product.noted", id="A1")
    with losing_its_connection(kit.database, "INTO notes") as ended:
        assert worker.work() == 1
    assert len(ended) == 1
    assert told_once(kit)


def look_first(kit: Webhooks, then: Callable[[], object] = lambda: None) -> None:
    """Send an event whose handler reads its row, calls `then`, and changes the row."""

    @kit.source("shop").dialect.on("product.looked")
    def look(event: Event[Any], mirror: Mirror) -> None:
        mirror.get(Product, event.entity_id)
        then()
        mirror.upsert(Product, event.entity_id, name="looked")

    kit.send("shop", "product.looked", id="A1", at=NOON)


def test_a_handler_that_loses_its_connection_in_a_read_reads_again_within_its_attempt(kit, worker):
    look_first(kit)
    with losing_its_connection(kit.database, "FROM products") as ended:
        assert worker.work() == 1
    assert len(ended) == 1
    assert told_once(kit)


def test_the_end_of_a_connection_through_which_a_handler_has_read_costs_nothing(kit, worker):
    with closing(Database(url_of(kit))) as beside:
        look_first(kit, then=lambda: end_all_others(beside))
        assert worker.work() == 1
    assert told_once(kit)


def test_a_handler_that_asks_for_an_id_that_no_driver_takes_fails_alone(kit, worker):
    @kit.source("shop").dialect.on("product.looked")
    def look(event: Event[Any], mirror: Mirror) -> None:
        mirror.get(Product, object())  # type: ignore[arg-type]

    kit.send("shop", "product.looked", id="A1", at=NOON)
    assert worker.work() == 1
    (delivery,) = kit.deliveries()
    assert (delivery["state"], delivery["attempts_made"]) == ("pending", 1)
    assert "ProgrammingError" in delivery["reason"]


@pytest.mark.parametrize("catches", [False, True])
def test_a_handler_that_cannot_read_because_the_database_is_away_runs_again_and_keeps_its_attempt(kit, catches):
    begun: list[int] = []
    is_back = threading.Event()

    @kit.source("shop").dialect.on("product.looked")
    def look(event: Event[Any], mirror: Mirror) -> None:
        begun.append(event.attempt)
        try:
            with away(url_of(kit)) if len(begun) == 1 else nullcontext(), suppress(SQLAlchemyError if catches else ()):
                mirror.get(Product, event.entity_id)
        finally:
            is_back.set()
        mirror.upsert(Product, event.entity_id, name="looked")

    kit.send("shop", "product.looked", id="A1", at=NOON)
    with capture_logs() as lines, running(new_worker(kit, retries=RetrySchedule(attempts=1))):
        assert is_back.wait(TIMEOUT)
        wait_until(lambda: set(states(kit)) & {"processed", "dead"}, "the worker")
    assert begun == [1, 1]
    assert [line["event"] for line in lines] == ["a pass of the worker failed; trying again", "the worker works again"]
    assert told_once(kit)


@pytest.mark.parametrize("before", ["pg_advisory", 'INTO "products"', "outcome=", 'INTO "changes"'])
def test_a_pass_that_loses_its_connection_neither_loses_nor_doubles_an_attempt(kit, before):
    """The connection is lost in the middle of a claim or of a settlement."""
    lamp(kit)
    with losing_its_connection(kit.database, before) as ended, running(new_worker(kit)):
        wait_until(lambda: states(kit) == ["processed"], "the worker")
    assert len(ended) == 1
    assert told_once(kit)


def test_a_settlement_with_a_lost_answer_to_its_commit_has_its_effect_once(kit, worker):
    lamp(kit)
    with losing_the_answer_to_its_commit(kit.database, 'INTO "changes"') as lost:
        assert worker.work() == 1
    assert lost
    drain(worker)
    assert told_once(kit)


def test_a_worker_whose_settlements_all_fail_returns_its_deliveries_and_goes_on_later(kit):
    lamp(kit)
    refuse(kit.database, "changes", times=9)
    with running(new_worker(kit)):
        wait_until(lambda: states(kit) == ["processed"], "the worker to try until it succeeds")
    assert told_once(kit)


def test_a_worker_survives_the_end_of_every_connection(kit):
    with closing(Database(url_of(kit))) as beside, running(new_worker(kit)):
        for number in range(3):
            kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named())
            wait_until(lambda: open_deliveries(beside) == 0, "the worker")
            end_all_others(beside)
    assert len(after(kit.database, 0, limit=10)) == 3


def end_all_others(database: Database) -> None:
    """End every connection to this database except the one that does so."""
    with database.read() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid, 60000) {others}"))


def open_deliveries(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(text("SELECT count(*) FROM deliveries WHERE ended_at IS NULL")).scalar_one()


# ── other transactions ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("before", ["FOR UPDATE", "DELETE FROM bodies"])
def test_a_prune_that_loses_its_connection_is_repeated_on_another(kit, worker, before):
    answer = lamp(kit)
    drain(worker)
    kept = Retention(bodies=timedelta(days=30), dedup_keys=timedelta(days=400))
    with losing_its_connection(kit.database, before) as ended:
        assert kept.prune(kit.database, now=kit.now() + timedelta(days=31)) == 1
    assert len(ended) == 1
    assert kit.delivery(answer)["body"] is None


@pytest.mark.parametrize("before", ["changed_at >", "FOR UPDATE", "FROM products", 'INTO "changes"', "products.active"])
def test_a_reconcile_that_loses_its_connection_repairs_each_row_once(kit, before):
    shop = kit.source("shop").dialect
    shop.connect(lambda _: httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))))
    shop.listing(Product)(lambda _: iter([Listed(Product, "A1", {"name": "Lamp"}, True)]))
    source = kit.source("shop", api_url="http://api.test", secrets=["TestSecretOf32CharactersForTests"])
    with losing_its_connection(kit.database, before) as ended:
        report = reconcile(kit.database, source, force=True)
    assert len(ended) == 1
    assert [change.external_id for change in report.repaired] == ["A1"]
    assert len(after(kit.database, 0, limit=10)) == 1


def waiting(database: Database) -> int:
    """Count the transactions of this database that wait for a lock."""
    with database.read() as connection:
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return connection.execute(text(asleep)).scalar_one()
