"""Rows that another session of PostgreSQL holds: only the arrival that needs one is refused, and nothing waits long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bundling import bundle, item, new_batcher
from held_locks import held
from senders import body, sent
from serving import serving
from shopping import NOON, drain, named, new_shop, new_worker
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError

from receiver.database.database import Database
from receiver.database.errors import is_overdue
from receiver.errors import NotVerified, Unavailable
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.inbox import Inbox
from receiver.inbox.refused import Bounds
from receiver.inbox.tables import DELIVERIES, State
from receiver.ingest import group_commit
from receiver.ingest.admission import Request
from receiver.ingest.group_commit import GroupCommit
from receiver.ingest.keeping import Keeper
from receiver.ingest.reverifying import verify_again
from receiver.testing import Webhooks
from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret

#: Seconds that nothing takes unless it is broken.
BOUND = 20.0

#: Seconds that a statement waits for a lock here, if it is expected to wait in vain.
SHORT = 0.1


@pytest.fixture
def url(databases, tmp_path) -> Iterator[str]:
    with databases.lend(tmp_path) as lent:
        yield lent


@pytest.fixture
def database(url) -> Iterator[Database]:
    with closing(Database(url)) as opened:
        yield opened


@pytest.fixture
def inbox(database) -> Inbox:
    """An inbox whose statements end after a short wait for a lock."""
    return Inbox(database.beside(connections=1, lock_seconds=SHORT))


def arrival(name: str) -> Arrival:
    return Arrival(
        source="shop",
        body=name.encode(),
        plain=None,
        headers={},
        received_at=datetime.now(UTC),
        secret=0,
        dedup_key=name,
        fingerprint=name.encode(),
        event_type="product.updated",
        entity=("product", name),
    )


def let_die(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(DELIVERIES).values(state=State.DEAD.value, ended_at=datetime.now(UTC)))


def duplicates(database: Database, name: str) -> int:
    with database.read() as connection:
        return connection.execute(
            text("SELECT duplicates FROM deliveries WHERE dedup_key = :name"), {"name": name}
        ).scalar_one()


def answers(inbox: Inbox, names: Sequence[str]) -> list[str]:
    """The status of the answer to each sender, if all arrivals come in one batch; `503` if it is asked to retry."""

    async def play() -> list[Accepted | BaseException]:
        accepting = GroupCommit(inbox)
        accepting.start()
        waiting: list[asyncio.Future[Accepted]] = [asyncio.get_running_loop().create_future() for _ in names]
        accepting.accept([(arrival(name), answer) for name, answer in zip(names, waiting, strict=True)])
        try:
            found = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), BOUND)
            assert accepting.trouble() is None
            return found
        finally:
            await asyncio.to_thread(accepting.stop)

    return [_status(each) for each in asyncio.run(play())]


def _status(answer: Accepted | BaseException) -> str:
    if isinstance(answer, Accepted):
        return answer.status
    assert isinstance(answer, Unavailable)
    return "503"


# ── accept ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_duplicate_of_a_held_delivery_is_acked_without_being_counted(database, inbox):
    inbox.accept([arrival("held"), arrival("free")])
    with held(database, "SELECT id FROM deliveries WHERE dedup_key = 'held' FOR UPDATE"):
        assert answers(inbox, ["new", "held", "free"]) == ["accepted", "duplicate", "duplicate"]
    assert (duplicates(database, "held"), duplicates(database, "free")) == (0, 1)


def test_a_duplicate_of_a_held_dead_delivery_is_refused_alone(database, inbox):
    inbox.accept([arrival("held")])
    let_die(database)
    with held(database):
        assert answers(inbox, ["a", "held", "b"]) == ["accepted", "503", "accepted"]
    assert answers(inbox, ["held"]) == ["duplicate"]
    with database.read() as connection:
        states = connection.execute(text("SELECT state, round FROM deliveries WHERE dedup_key = 'held'")).all()
    assert states == [("pending", 2)]


def test_a_duplicate_of_a_held_dead_delivery_is_refused_although_nothing_else_bounds_the_wait(database):
    patient = Inbox(database)
    patient.accept([arrival("held")])
    let_die(database)
    with held(database), pytest.raises(OperationalError) as refused:
        patient.accept([arrival("held")])
    assert is_overdue(refused.value)


def test_a_duplicate_of_a_dead_delivery_that_is_held_for_a_moment_revives_it(database, inbox):
    inbox.accept([arrival("held")])
    let_die(database)
    with held(database) as holding:
        threading.Timer(0.1, holding.rollback).start()
        assert answers(inbox, ["held"]) == ["duplicate"]
    with database.read() as connection:
        assert connection.execute(text("SELECT state FROM deliveries")).scalar_one() == State.PENDING


def test_many_accepted_arrivals_before_a_locked_one_take_nothing_from_those_behind_it(database, inbox, monkeypatch):
    """Storing one by one takes long, and the wait for the lock does not."""
    monkeypatch.setattr(group_commit, "LOCKS_TIMEOUT", 2.0)
    inbox.accept([arrival("held")])
    let_die(database)
    names = [f"before {number}" for number in range(5)]
    accept = inbox.accept

    def slowly(batch):
        time.sleep(0.45 if len(batch) == 1 else 0.0)
        return accept(batch)

    monkeypatch.setattr(inbox, "accept", slowly)
    with held(database):
        assert answers(inbox, [*names, "held", "behind"]) == ["accepted"] * 5 + ["503", "accepted"]


def test_a_duplicate_of_a_delivery_that_is_gone_is_new_while_others_are_held(database, inbox):
    inbox.accept([arrival("gone"), arrival("held")])
    with database.write() as connection:
        connection.execute(text("DELETE FROM deliveries WHERE dedup_key = 'gone'"))
    with held(database):
        assert answers(inbox, ["gone", "held"]) == ["accepted", "duplicate"]


def test_an_arrival_whose_dedup_key_another_session_is_inserting_is_refused_alone(database, inbox):
    insert = "INSERT INTO dedup_keys (source, dedup_key, fingerprint, delivery_id) VALUES ('shop', 'held', '', 1)"
    with held(database, insert):
        assert answers(inbox, ["a", "held", "b"]) == ["accepted", "503", "accepted"]
    assert answers(inbox, ["held"]) == ["accepted"]


def test_a_locked_table_holds_up_a_batch_for_a_few_waits_only(database, inbox, monkeypatch):
    monkeypatch.setattr(group_commit, "LOCKS_TIMEOUT", SHORT)
    names = [f"N{number}" for number in range(100)]
    with held(database, "LOCK TABLE deliveries"):
        waited = datetime.now(UTC)
        assert set(answers(inbox, names)) == {"503"}
        assert (datetime.now(UTC) - waited).total_seconds() < len(names) * SHORT
    assert set(answers(inbox, names)) == {"accepted"}


@pytest.mark.parametrize("acceptor_process", [False, True])
def test_webhooks_are_acked_beside_one_that_waits_for_a_lock(url, acceptor_process):
    with serving(url, acceptor_process=acceptor_process) as served, closing(Database(url)) as database:
        assert served.post("sigma", *sent("sigma", body("sigma"))).status_code == 200
        with held(database):
            again = served.post("sigma", *sent("sigma", body("sigma")))
            assert (again.status_code, again.json()["status"]) == (200, "duplicate")
        with database.write() as connection:
            connection.execute(text("DELETE FROM deliveries"))
        with held(database, "UPDATE dedup_keys SET delivery_id = delivery_id"):
            assert served.post("sigma", *sent("sigma", body("sigma"))).status_code == 503
            assert served.post("indexed", *sent("indexed", body("indexed"))).status_code == 200


# ── verify again, unfold ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_kept_request_whose_dead_delivery_is_held_stays_kept_and_the_others_are_accepted(url, tmp_path):
    both = Credentials(secrets=(Secret(b"the new secret"), Secret(b"the old secret")))
    new = Credentials(secrets=(Secret(b"the new secret"),))
    with closing(Webhooks(tmp_path, {"shop": new_shop()}, database_url=url)) as kit:
        shop = kit.source("shop")
        bodies = [shop.dialect.write("product.updated", each, at=NOON, data=named()) for each in ("A1", "A2", "A3")]
        assert kit.send_body("shop", bodies[1]).status == 200
        let_die(kit.database)
        keeper = Keeper(kit.inbox, {"shop": shop}, Bounds(1_000, 1 << 24, timedelta(days=1)))
        for each in bodies:
            keeper.offer(signed(shop, each, new), NotVerified("signature_wrong", "No."))
        keeper.flush()
        listening = replace(shop, credentials=both)
        with held(kit.database):
            done = verify_again(kit.inbox, listening)
        assert done._asdict() == {"number": 2, "accepted": 2, "duplicates": 0, "left": 1}
        assert verify_again(kit.inbox, listening)._asdict() == {"number": 1, "accepted": 0, "duplicates": 1, "left": 0}


def signed(source: Any, content: bytes, credentials: Credentials) -> Request:
    _, headers = source.dialect.verifier.sign(WebhookRequest(content), credentials)
    return Request(source, [(name.lower().encode(), value.encode()) for name, value in headers.items()], content)


def test_a_bundle_with_an_item_whose_dead_delivery_is_held_is_tried_again_and_harms_no_other(url, tmp_path):
    shop = new_batcher()
    with closing(Webhooks(tmp_path, {"shop": shop}, database_url=url)) as kit, closing(new_worker(kit)) as worker:
        known = kit.send_body("shop", bundle(item(2, event="e2")))
        let_die(kit.database)
        readable, shop._read = shop._read, lambda body: 1 / 0
        whole = kit.send_body("shop", bundle(item(1), item(2, event="e2")))
        shop._read = readable
        other = kit.send_body("shop", bundle(item(3)))
        kit.inbox.replay([int(whole.delivery)], now=kit.now())
        with held(kit.database, f"SELECT id FROM deliveries WHERE id = {known.delivery} FOR UPDATE"):
            worker.work()
            assert (kit.delivery(other)["state"], kit.delivery(whole)["state"]) == ("processed", "pending")
            assert "holds a row of `deliveries`" in kit.delivery(whole)["reason"]
        kit.advance(days=1)
        drain(worker)
        assert {each["state"] for each in kit.deliveries()} == {"processed"}
        number = len(kit.deliveries())
        kit.send_body("shop", bundle(item(1), item(2, event="e2")))
        assert len(kit.deliveries()) == number, "each event of the repeated bundle is a duplicate"
