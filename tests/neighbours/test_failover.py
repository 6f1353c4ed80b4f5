"""A failover of PostgreSQL: the address leads to the demoted server for a while, and then to the promoted one.

The tests share a pair of servers and run in order: each makes the standby the primary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import psycopg
import pytest
from commanding import RECLAIM_SOON, Folder, post, product, wait_until
from postgresql_server import PostgresServer
from switch import Switch, switched

#: Most seconds from the moment when the address leads to another server to the answer that shows it, on a busy machine.
PROMPTLY = 30.0

#: Seconds for which the address leads to a server that takes no writes.
DEMOTED = 1.0


@dataclass
class Pair:
    """A primary and the standby that follows it."""

    primary: PostgresServer
    standby: PostgresServer

    def swap(self) -> None:
        self.primary, self.standby = self.standby, self.primary

    def wait_until_followed(self) -> None:
        wait_until(lambda: self.primary.run("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"), "a standby")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    primary = PostgresServer()
    standby = None
    try:
        primary.start()
        primary.run("CREATE DATABASE hookmirror")
        standby = primary.standby()
        standby.start()
        yield Pair(primary, standby)
    finally:
        primary.remove()
        if standby is not None:
            standby.remove()


@dataclass
class Posted:
    """The answers that one sender got during the failover."""

    client: httpx.Client
    #: The ids in the acks.
    acked: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def once(self) -> int:
        number = len(self.answers)
        answer = post(self.client, product(number, key=f"k{number}", name="Lamp"))
        self.answers.append(answer.status_code)
        if answer.status_code == 200:
            self.acked.append(answer.json()["delivery"])
        else:
            assert answer.status_code == 503
            assert "retry-after" in answer.headers
        return answer.status_code

    def until(self, status: int, *, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.once() != status:
            assert time.monotonic() < end, f"no {status} within {seconds} s, but {self.answers[-5:]}"
            time.sleep(0.02)


@contextmanager
def runtime(tmp_path, pair: Pair) -> Iterator[tuple[Switch, Posted, Folder]]:
    """Run an endpoint and a worker in two processes that know one address, with some acked deliveries."""
    pair.wait_until_followed()
    with switched(pair.primary.port) as switch:
        # Deliveries of a claim whose commit the primary did not confirm wait for the end of their lease.
        url = f"postgresql://postgres@127.0.0.1:{switch.port}/hookmirror"
        folder = Folder(tmp_path, database_url=url, environment=RECLAIM_SOON)
        assert folder.run("migrate").returncode == 0
        with folder.running("worker"), folder.serving("--no-worker") as (_, client):
            posted = Posted(client)
            for _ in range(5):
                assert posted.once() == 200
            wait_until(lambda: processed(pair.primary) >= 5, "the worker")
            wait_until(lambda: listeners(pair.primary), "the listener")
            yield switch, posted, folder


def rows(server: PostgresServer, statement: str) -> list[tuple]:
    with psycopg.connect(server.url("hookmirror"), autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def processed(server: PostgresServer) -> int:
    return rows(server, "SELECT count(*) FROM deliveries WHERE state = 'processed'")[0][0]


def listeners(server: PostgresServer) -> list[tuple]:
    mine = "datname = 'hookmirror' AND query LIKE 'LISTEN%' OR query = 'SHOW transaction_read_only'"
    return rows(server, f"SELECT pid FROM pg_stat_activity WHERE {mine}")


def demand_everything_works_on(server: PostgresServer, posted: Posted) -> None:
    """Check that everything acked is kept and processed, and that the worker listens to the new primary."""
    kept = {str(number) for (number,) in rows(server, "SELECT id FROM deliveries")}
    assert set(posted.acked) <= kept
    waiting = "SELECT count(*) FROM deliveries WHERE state <> 'processed'"
    wait_until(lambda: rows(server, waiting) == [(0,)], "the worker on the new primary")
    wait_until(lambda: listeners(server), "the listener on the new primary")
    wait_until(lambda: posted.client.get("/readyz").status_code == 200, "readiness")


def fail_over(switch: Switch, posted: Posted, demote: Callable[[], None], promoted: PostgresServer) -> None:
    """Lead the address to a demoted server for a while, then to the promoted one; no process of ours restarts."""
    demote()
    posted.until(503, seconds=PROMPTLY)
    end = time.monotonic() + DEMOTED
    while time.monotonic() < end:
        assert posted.once() == 503
    wait_until(lambda: posted.client.get("/readyz").status_code == 503, "readiness to end")
    assert posted.client.get("/healthz").status_code == 200
    switch.lead_to(promoted.port)
    posted.until(200, seconds=PROMPTLY)
    assert [posted.once() for _ in range(20)] == [200] * 20


def test_posts_are_acked_again_after_the_old_primary_became_a_standby_and_the_address_moved(tmp_path, pair):
    old, new = pair.primary, pair.standby
    with runtime(tmp_path, pair) as (switch, posted, _):

        def demote() -> None:
            old.stop()
            new.run("SELECT pg_promote()")
            old.follow(new)
            old.start()

        fail_over(switch, posted, demote, new)
        demand_everything_works_on(new, posted)
    pair.swap()


#: Counts the sessions whose transaction has written.
WRITING = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"


def test_posts_are_acked_again_after_the_old_primary_was_fenced_and_kept_its_connections(tmp_path, pair):
    old, new = pair.primary, pair.standby
    with runtime(tmp_path, pair) as (switch, posted, _):
        # The primary waits for its standby at each commit, so that nothing acked is lost with it.
        for setting in ("synchronous_standby_names = '*'", "default_transaction_read_only = off"):
            old.run(f"ALTER SYSTEM SET {setting}")
        old.run("SELECT pg_reload_conf()")
        assert posted.once() == 200

        def demote() -> None:
            old.run("ALTER SYSTEM SET default_transaction_read_only = on")
            old.run("SELECT pg_reload_conf()")
            wait_until(lambda: old.run("SHOW transaction_read_only") == [("on",)], "the fence")
            # A session of the endpoint or the worker that commits before it hears of the fence would otherwise wait for
            # a standby without end.
            posted.until(503, seconds=PROMPTLY)
            wait_until(lambda: old.run(WRITING) == [(0,)], "the last writes on the old primary")
            new.run("SELECT pg_promote()")

        fail_over(switch, posted, demote, new)
        demand_everything_works_on(new, posted)
        wait_until(lambda: not listeners(old), "the listener to leave the old primary")


def test_of_several_servers_in_the_url_the_one_that_takes_writes_is_used(tmp_path, pair):
    both = ",".join(f"127.0.0.1:{server.port}" for server in (pair.primary, pair.standby))
    folder = Folder(tmp_path, database_url=f"postgresql://postgres@{both}/hookmirror")
    with folder.serving() as (_, client):
        posted = Posted(client)
        assert [posted.once() for _ in range(5)] == [200] * 5
        wait_until(lambda: listeners(pair.standby), "the listener")
        demand_everything_works_on(pair.standby, posted)
        checked = folder.run("doctor")
    assert "ok   database: answers" in checked.stdout, checked.stdout


def test_a_server_that_takes_no_writes_is_refused_at_the_start_with_what_to_do(tmp_path, pair):
    folder = Folder(tmp_path, database_url=pair.primary.url("hookmirror"))
    for command in ("serve", "doctor"):
        done = folder.run(command)
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert "session is read-only. Name the primary server in HOOKMIRROR_DATABASE_URL" in said
