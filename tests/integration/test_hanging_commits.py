"""A commit that hangs on PostgreSQL: its connection is given up, and the next webhooks are stored over another one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from senders import body, sent
from serving import TIMEOUT, serving, wait_until
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from trouble import run_statements

from receiver.database.database import Database
from receiver.database.errors import is_transient

#: Statements after which inserts of Sigma's deliveries hang while a transaction holds a lock, and those that end this.
HANGING = [
    "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
    "WHILE NOT pg_try_advisory_xact_lock_shared(2026) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NEW; END$$",
    "CREATE TRIGGER hang BEFORE INSERT ON deliveries FOR EACH ROW WHEN (NEW.source = 'sigma') EXECUTE FUNCTION hang()",
]
ENDED = ["DROP FUNCTION hang CASCADE"]


@pytest.fixture
def url(databases, tmp_path) -> Iterator[str]:
    with databases.lend(tmp_path) as lent:
        yield lent


@contextmanager
def sigma_hangs(url: str) -> Iterator[None]:
    with closing(Database(url)) as beside:
        run_statements(beside, HANGING)
        with beside.write() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(2026)"))
            yield
        run_statements(beside, ENDED)


@pytest.mark.parametrize("acceptor_process", [False, True])
def test_webhooks_are_acked_again_while_the_commit_of_an_earlier_one_hangs(url, acceptor_process, monkeypatch):
    monkeypatch.setattr("receiver.ingest.gathering.HANGING", 0.2)
    monkeypatch.setattr("receiver.ingest.gathering.COMMIT_TIMEOUT", 0.1)
    with serving(url, acceptor_process=acceptor_process) as served, ThreadPoolExecutor() as pool:
        assert served.post("indexed", *sent("indexed", body("indexed"))).status_code == 200
        with sigma_hangs(url):
            hanging = pool.submit(served.post, "sigma", *sent("sigma", body("sigma")))
            assert hanging.result(TIMEOUT).status_code == 503
            later = sent("iimmpact", body("iimmpact"))
            wait_until(lambda: served.post("iimmpact", *later).status_code == 200, "the next webhook to be acked")
        again = sent("sigma", body("sigma"))
        wait_until(lambda: served.post("sigma", *again).status_code == 200, "the first one to be acked")
        assert served.count() == 3


def test_a_statement_whose_connection_is_ended_fails_as_a_lost_connection_and_another_one_opens(url):
    with closing(Database(url)) as opened, closing(opened.beside(connections=1)) as only, ThreadPoolExecutor() as pool:
        end = only.new_ending()
        end()
        sleeping = pool.submit(only.run_at_once, "SELECT pg_sleep(600)", ())
        wait_until(lambda: sleepers(opened) == 1, "the statement to run")
        end()
        with pytest.raises(OperationalError) as lost:
            sleeping.result(TIMEOUT)
        assert is_transient(lost.value)
        assert only.run_at_once("SELECT 1", ()) == [(1,)]


def sleepers(database: Database) -> int:
    with database.read() as connection:
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        return connection.execute(text(asleep)).scalar_one()
