"""PgBouncer before PostgreSQL: pooled sessions work as without it, and pooled transactions are refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from commanding import TIMEOUT, Folder, post, product, wait_until
from pgbouncer import pooling
from postgresql_server import PostgresServer
from raw import ping
from sqlalchemy import text

from receiver.database.database import Database
from receiver.database.postgresql import SESSION
from receiver.errors import ConfigurationError

#: How PgBouncer treats the options that a client sends at the start of a connection.
OPTIONS = {"refused": "", "dropped": "ignore_startup_parameters = options,extra_float_digits"}

REFUSED = (
    "HOOKMIRROR_DATABASE_URL leads to a pooler that pools transactions, such as PgBouncer, where no session is our "
    "own: set its pool_mode to `session`, or name PostgreSQL's own address and port."
)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Let a session be examined for longer than a machine stands still, except where a test sets the limit."""
    monkeypatch.setattr("receiver.database.postgresql.PROBE_TIMEOUT", int(TIMEOUT))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Run a server whose settings differ from those that Hookmirror asks for."""
    server = PostgresServer(synchronous_commit="off", timezone="Asia/Tokyo")
    try:
        server.start()
        server.run("CREATE DATABASE hookmirror")
        yield server
    finally:
        server.remove()


def url(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/hookmirror"


@pytest.mark.parametrize("options", OPTIONS)
def test_a_pooled_session_is_set_up_like_one_of_the_server(server, options):
    with (
        pooling(server.port, "session", user=server.user, more=OPTIONS[options]) as port,
        closing(Database(url(port))) as database,
    ):
        for _ in range(3):
            with database.read() as connection:
                found = {name: connection.execute(text(f"SHOW {name}")).scalar() for name in ("timezone", *SESSION)}
        assert (found["timezone"], found["synchronous_commit"]) == ("UTC", "on")
        assert found["default_transaction_isolation"] == "read committed"
        assert found["idle_in_transaction_session_timeout"] == "1min"


def test_everything_works_behind_a_pooler_of_sessions(server, tmp_path):
    with pooling(server.port, "session", user=server.user) as port:
        folder = Folder(tmp_path, database_url=url(port))
        assert folder.run("migrate").returncode == 0
        with folder.serving() as (_, client), ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda n: post(client, product(n, key=f"k{n}", name="Lamp")).status_code, range(60))
            assert set(answers) == {200}
            wait_until(lambda: listens(server), "the listener")
            wait_until(lambda: folder.states() == {"processed": 60}, "the worker")
            checked = folder.run("doctor")
    assert "ok   database: answers" in checked.stdout, checked.stdout


def listens(server: PostgresServer) -> bool:
    with psycopg.connect(server.url("hookmirror")) as connection:
        found = connection.execute("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").fetchall()
    return bool(found)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest.mark.parametrize("more", [*OPTIONS.values(), "server_round_robin = 1", "min_pool_size = 20"])
def test_a_pooler_of_transactions_is_recognised_at_the_first_connection(server, mode, more):
    with (
        pooling(server.port, mode, user=server.user, more=more) as port,
        closing(Database(url(port))) as database,
        pytest.raises(ConfigurationError) as raised,
    ):
        ping(database)
    assert str(raised.value) == REFUSED


def test_a_pooler_of_transactions_is_recognised_beside_other_clients(server):
    with pooling(server.port, "transaction", user=server.user, size=6) as port, ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(use, port) for _ in range(4)]
        for _ in range(5):
            with closing(Database(url(port))) as database, pytest.raises(ConfigurationError):
                ping(database)
        assert not any(each.result() for each in busy)


def use(port: int) -> None:
    with psycopg.connect(url(port), autocommit=True, prepare_threshold=None) as connection:
        for _ in range(300):
            connection.execute("SELECT pg_sleep(0.001)")


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_pooler_of_transactions_is_refused_in_one_line(server, tmp_path, command):
    with pooling(server.port, "transaction", user=server.user) as port:
        done = Folder(tmp_path, database_url=url(port)).run(command)
    assert done.returncode == 1
    told = (done.stdout + done.stderr).splitlines()
    expected = f"MEND database: {REFUSED}" if command == "doctor" else f"hookmirror: {REFUSED}"
    assert told[-1] == expected


def test_a_pooler_of_sessions_without_a_free_session_is_not_taken_for_one_of_transactions(server, monkeypatch):
    monkeypatch.setattr("receiver.database.postgresql.PROBE_TIMEOUT", 2)
    with (
        pooling(server.port, "session", user=server.user, size=1) as port,
        closing(Database(url(port))) as database,
        database.read() as connection,
    ):
        assert connection.execute(text("SHOW timezone")).scalar() == "UTC"
