"""How workers learn of deliveries accepted elsewhere: by NOTIFY on PostgreSQL, by the log on SQLite, or by polling."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg
import pytest
from postgresql_server import PostgresServer
from serving import TIMEOUT, wait_until
from shopping import NOON, inbox_of_another_process, named, new_shop, new_worker, states
from sqlalchemy import text
from structlog.testing import capture_logs

from receiver.database.announcements import NOTIFY
from receiver.database.database import Database
from receiver.logs import outages
from receiver.testing import Webhooks
from receiver.worker import listener
from receiver.worker.thread import WorkerThread

#: Seconds between polls of a worker that must not find its work by polling.
LONG = 2 * TIMEOUT


@pytest.fixture
def kit(tmp_path, databases) -> Iterator[Webhooks]:
    with databases.lend(tmp_path) as url, closing(Webhooks(tmp_path, {"shop": new_shop()}, database_url=url)) as kit:
        yield kit


@contextmanager
def worker_elsewhere(kit: Webhooks) -> Iterator[WorkerThread]:
    """Make a worker with a listener, as in another process."""
    inbox = inbox_of_another_process(kit)
    with closing(inbox.database):
        thread = WorkerThread(lambda: new_worker(kit, inbox=inbox), inbox.database)
        thread.start()
        try:
            yield thread
        finally:
            thread.stop()


def listeners(database: Database) -> list[int]:
    """Return the connections that listen and are idle."""
    mine = "datname = current_database() AND state = 'idle' AND query LIKE 'LISTEN%'"
    with database.read() as connection:
        return list(connection.execute(text(f"SELECT pid FROM pg_stat_activity WHERE {mine}")).scalars())


def test_a_worker_that_polls_seldom_starts_at_once_when_another_process_accepts(kit, monkeypatch):
    monkeypatch.setattr("receiver.worker.worker.POLL_INTERVAL", LONG)
    with worker_elsewhere(kit):
        wait_until(lambda: listeners(kit.database), "the listener")
        for number in range(3):
            kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named())
            wait_until(lambda: set(states(kit)) == {"processed"}, "the worker to hear of it")


def test_deliveries_accepted_before_the_listener_started_are_worked_on_at_once(kit, monkeypatch):
    monkeypatch.setattr("receiver.worker.worker.POLL_INTERVAL", LONG)
    kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    with worker_elsewhere(kit):
        wait_until(lambda: states(kit) == ["processed"], "the worker")


def test_on_sqlite_a_worker_that_polls_seldom_starts_once_another_process_has_written(tmp_path, monkeypatch):
    monkeypatch.setattr("receiver.worker.worker.POLL_INTERVAL", LONG)
    with closing(Webhooks(tmp_path, {"shop": new_shop()})) as kit, worker_elsewhere(kit):
        for number in range(3):
            kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named())
            wait_until(lambda: set(states(kit)) == {"processed"}, "the worker to see the write")


def test_without_a_listener_the_worker_finds_its_work_by_polling(kit, monkeypatch):
    monkeypatch.setattr(listener, "RECONNECT_PAUSE", LONG)
    with worker_elsewhere(kit):
        end_listener(kit)
        kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
        wait_until(lambda: states(kit) == ["processed"], "the worker to look")
        assert listeners(kit.database) == []


def test_a_listener_whose_connection_was_ended_listens_again_and_misses_nothing(kit, monkeypatch):
    monkeypatch.setattr("receiver.worker.worker.POLL_INTERVAL", LONG)
    monkeypatch.setattr(listener, "RECONNECT_PAUSE", 0.2)
    with worker_elsewhere(kit):
        end_listener(kit)
        kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
        wait_until(lambda: states(kit) == ["processed"], "the worker to hear of deliveries that came meanwhile")
        wait_until(lambda: listeners(kit.database), "the listener to be back")
        kit.send("shop", "product.updated", id="A2", at=NOON, data=named())
        wait_until(lambda: states(kit) == ["processed"] * 2, "the worker to hear of deliveries that came since")


def test_a_listener_does_not_say_that_it_listens_again_to_a_server_that_accepts_no_writes(kit, monkeypatch):
    refused: list[object] = []

    def refuse(connection: object) -> None:
        refused.append(connection)
        raise psycopg.errors.ReadOnlySqlTransaction("the server accepts no writes")

    monkeypatch.setattr(listener, "CHECK", 0.0)
    monkeypatch.setattr(listener, "RECONNECT_PAUSE", 0.01)
    with capture_logs() as lines, monkeypatch.context() as broken:
        broken.setattr(listener, "_demand_writable", refuse)
        with worker_elsewhere(kit):
            wait_until(lambda: len(refused) > 2, "further tries")
            broken.undo()
            wait_until(lambda: len(lines) > 1, "the end")
    fails, works = lines
    assert fails["event"].startswith("cannot listen")
    assert (works["event"].startswith("listening again"), works["errors"]) == (True, len(refused))


def test_a_listener_says_that_it_listens_again_a_little_later_if_it_has_just_said_so(kit, monkeypatch):
    checks = iter([False, True, False])

    def check(connection: object) -> None:
        if not next(checks, True):
            raise psycopg.errors.ReadOnlySqlTransaction("the server accepts no writes")

    monkeypatch.setattr(outages, "BETWEEN_ENDS", 0.5)
    monkeypatch.setattr(listener, "CHECK", 0.01)
    monkeypatch.setattr(listener, "RECONNECT_PAUSE", 0.01)
    monkeypatch.setattr(listener, "_demand_writable", check)
    with capture_logs() as lines, worker_elsewhere(kit):
        wait_until(lambda: len(lines) > 3, "the second end")
    assert [line["event"].split()[0] for line in lines] == ["cannot", "listening"] * 2


def test_a_listener_that_cannot_connect_stops_when_asked(monkeypatch):
    monkeypatch.setattr(listener, "RECONNECT_PAUSE", LONG)
    with closing(Database("postgresql://nobody@127.0.0.1:1/nothing")) as database:
        unheard = listener.Listener(database, lambda: None)
        unheard.start()
        unheard.stop()
        wait_until(lambda: not unheard._thread.is_alive(), "its end")


def end_listener(kit: Webhooks) -> None:
    """End the listener's connection, as an operator or a firewall would."""
    (number,) = wait_until(lambda: listeners(kit.database), "the listener")
    with kit.database.read() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend({number}, 60000)"))


def test_an_ack_does_not_wait_for_the_slow_commit_of_another_session_that_notifies(tmp_path):
    server = PostgresServer()
    server.start()
    try:
        with closing(Webhooks(tmp_path, {"shop": new_shop()}, database_url=server.url())) as kit, committing(server):
            kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
            assert states(kit) == ["pending"]
    finally:
        server.stop()


def test_a_notification_waits_for_no_standby(tmp_path):
    server = PostgresServer()
    server.start()
    try:
        server.run("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
        server.run("SELECT pg_reload_conf()")
        with closing(Database(server.url())) as database:
            wait_until(lambda: shown(database, "synchronous_standby_names") == "absent", "the setting")
            assert shown(database, "synchronous_commit") == "on"
            assert database.run_at_once(NOTIFY, ()) == [("",)]
    finally:
        server.stop()


def shown(database: Database, setting: str) -> str:
    with database.read() as connection:
        return str(connection.execute(text(f"SHOW {setting}")).scalar())


@contextmanager
def committing(server: PostgresServer) -> Iterator[None]:
    """Let a session that has notified stand still in its commit, during which it holds the lock of all that notify."""
    server.run("CREATE TABLE others (id integer)")
    server.run("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    server.run("SELECT pg_reload_conf()")
    ended = threading.Event()
    with psycopg.connect(server.url()) as slow:
        thread = threading.Thread(target=commit, args=(slow, ended))
        thread.start()
        find = f"SELECT 1 FROM pg_stat_activity WHERE pid = {slow.info.backend_pid} AND wait_event = 'SyncRep'"
        wait_until(lambda: server.run(find), "the wait for the standby")
        os.kill(slow.info.backend_pid, signal.SIGSTOP)
        try:
            server.run("ALTER SYSTEM RESET synchronous_standby_names")
            server.run("SELECT pg_reload_conf()")
            yield
        finally:
            ended.set()
            os.kill(slow.info.backend_pid, signal.SIGCONT)
            thread.join(TIMEOUT)


def commit(session: psycopg.Connection, ended: threading.Event) -> None:
    """Notify in one transaction after another, because the first may end before the server has its new setting."""
    with suppress(psycopg.Error):
        while not ended.is_set():
            session.execute("INSERT INTO others VALUES (1)")
            session.execute("NOTIFY elsewhere")
            session.commit()
