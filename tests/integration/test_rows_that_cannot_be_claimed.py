"""Names that no index accepts, and rows that the database refuses to change, delay no other delivery."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from pydantic import AwareDatetime, BaseModel
from serving import wait_until
from shopping import NOON, drain, named, new_shop, running
from sqlalchemy import text
from structlog.testing import capture_logs
from trouble import refusing_changes

from handlers.catalog import Product, Variant
from receiver import Dialect, Envelope
from receiver.codec import encode
from receiver.envelope import LONGEST_KIND, LONGEST_NAME
from receiver.metrics import metrics
from receiver.testing import Answer, Webhooks
from receiver.worker.batch_sizes import BatchSize
from receiver.worker.reclaiming import Reclaiming


def incompressible(length: int, *, seed: int) -> str:
    """Make text of random characters of four bytes each, which cannot be compressed."""
    jitter = random.Random(seed)
    return "".join(chr(jitter.randrange(0x10000, 0x110000)) for _ in range(length))


class Body(BaseModel):
    type: str = "product.updated"
    id: str
    kind: str = "product"
    key: str | None = None
    timestamp: AwareDatetime = NOON
    data: Any = None


@pytest.fixture
def shop() -> Dialect:
    """Make a shop whose bodies also name the kind of their entity and their dedup key."""
    shop = new_shop()
    shop._read = None

    @shop.envelope
    def read(body: Body) -> Envelope:
        return Envelope(
            event_type=body.type,
            entity=(body.kind, body.id),
            occurred_at=body.timestamp,
            data=body.data,
            dedup_key=body.key,
        )

    return shop


def post(kit: Webhooks, **parts: Any) -> Answer:
    return kit.send_body("shop", encode({"data": named(), **parts}))


def test_the_longest_names_of_the_widest_characters_are_processed(shop, kit, worker):
    """That concerns every column in an index or a key: of the inbox, of the feed, of rows and of their parents."""
    widest, parent = incompressible(LONGEST_NAME, seed=1), incompressible(LONGEST_NAME, seed=2)
    product = kit.send("shop", "product.updated", id=widest, at=NOON, data=named())
    variant = kit.send("shop", "variant.updated", id=widest, at=NOON, data={"parent": parent})
    drain(worker)
    assert [kit.delivery(each)["state"] for each in (product, variant)] == ["processed"] * 2
    assert (kit.row(Product, widest).name, kit.row(Variant, widest).parent) == ("Lamp", parent)


def test_the_longest_dedup_key_of_the_widest_characters_is_kept_even_with_its_mark(kit):
    key = incompressible(LONGEST_NAME, seed=3)
    answers = [post(kit, id=entity_id, key=key) for entity_id in ("A1", "A2")]
    assert [answer.body["status"] for answer in answers] == ["accepted"] * 2
    assert kit.delivery(answers[1])["conflict"]


def test_the_widest_kind_is_processed_with_the_widest_id(kit, worker):
    sent = post(kit, kind=incompressible(LONGEST_KIND // 4, seed=4), id=incompressible(LONGEST_NAME, seed=5))
    drain(worker)
    assert kit.delivery(sent)["state"] == "processed"


def test_a_kind_that_no_index_accepts_beside_an_id_is_dead_with_its_reason_and_delays_no_other(kit, worker):
    wide = incompressible(LONGEST_NAME, seed=6)
    dead, good = post(kit, kind=wide, id=wide), post(kit, id="A1")
    drain(worker)
    assert (kit.delivery(dead)["state"], kit.delivery(good)["state"]) == ("dead", "processed")
    assert f"kind is longer than {LONGEST_KIND} bytes" in kit.delivery(dead)["reason"]


@pytest.mark.parametrize(
    ("width", "says", "entity_is_kept"), [(512, "index row size", True), (1_024, "index row requires", False)]
)
def test_a_row_that_no_index_accepts_ends_dead_with_the_database_s_reason(kit, worker, width, says, entity_is_kept):
    """An earlier release, or another program, may have stored such a row."""
    sent = [kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named()) for number in range(5)]
    wide = incompressible(width, seed=7)
    with kit.database.write() as connection:
        connection.execute(
            text("UPDATE deliveries SET entity_kind = :wide, entity_id = :wide WHERE id = :id"),
            {"wide": wide, "id": int(sent[2].delivery)},
        )
    drain(worker)
    states = [kit.delivery(each)["state"] for each in sent]
    if kit.database.is_postgresql:
        assert states == ["processed", "processed", "dead", "processed", "processed"]
        assert says in kit.delivery(sent[2])["reason"]
        assert kit.delivery(sent[2])["entity"] == (f"{wide}:{wide}" if entity_is_kept else None)
    else:
        assert states == ["processed"] * 5


def test_a_row_that_may_not_be_claimed_ends_dead_with_the_database_s_reason_and_is_counted(kit, worker):
    sent = [kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named()) for number in range(7)]
    before = metrics.ended("shop", "dead", "")._value.get()
    with refusing_changes(kit.database, f"NEW.id = {sent[3].delivery} AND NEW.state = 'processing'"):
        drain(worker)
    assert metrics.ended("shop", "dead", "")._value.get() == before + 1
    assert [kit.delivery(each)["state"] for each in sent] == ["processed"] * 3 + ["dead"] + ["processed"] * 3
    assert "could not be claimed" in kit.delivery(sent[3])["reason"]
    assert "not this one" in kit.delivery(sent[3])["reason"]


def test_rows_that_may_not_be_changed_at_all_stay_and_the_others_are_processed(kit, worker):
    sent = [kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named()) for number in range(9)]
    worker._batch_size = BatchSize(2, grows=False)
    with refusing_changes(kit.database, f"NEW.id <= {sent[4].delivery}"):
        drain(worker)
        assert [kit.delivery(each)["state"] for each in sent] == ["pending"] * 5 + ["processed"] * 4


def test_a_claim_divided_around_a_bad_row_keeps_the_order_of_an_entity(kit, worker):
    """A batch that had to be divided is one claim for all other workers: all of its deliveries or none."""
    first = kit.send("shop", "product.updated", id="A1", at=NOON, data=named("old"))
    guilty = kit.send("shop", "product.updated", id="B1", at=NOON, data=named())
    second = kit.send("shop", "product.deleted", id="A1", at=NOON)
    with refusing_changes(kit.database, f"NEW.id = {guilty.delivery} AND NEW.state = 'processing'"):
        drain(worker)
    assert [kit.delivery(each)["state"] for each in (first, guilty, second)] == ["processed", "dead", "processed"]
    assert not kit.row(Product, "A1").active


def left_behind(kit: Webhooks, number: int) -> list[Answer]:
    """Send some deliveries, and let a worker vanish with all of them."""
    sent = [kit.send("shop", "product.updated", id=f"A{each}", at=NOON, data=named()) for each in range(number)]
    claimed = kit.inbox.claim("vanished", ["shop"], limit=9, now=kit.now(), lease=timedelta(seconds=60))
    assert len(claimed) == number
    kit.advance(seconds=61)
    return sent


def test_a_lost_attempt_that_may_not_be_recorded_ends_its_delivery_and_keeps_no_other_from_being_given_back(kit):
    sent = left_behind(kit, 7)
    reclaiming = Reclaiming(kit.inbox, lease=timedelta(seconds=60), max_attempts=9)
    before = metrics.ended("shop", "dead", "")._value.get()
    with refusing_changes(kit.database, f"NEW.id = {sent[3].delivery} AND NEW.state = 'pending'"):
        reclaiming.look(kit.now())
    assert [kit.delivery(each)["state"] for each in sent] == ["pending"] * 3 + ["dead"] + ["pending"] * 3
    assert "not this one" in kit.delivery(sent[3])["reason"]
    assert [len(kit.delivery(each)["attempts"]) for each in sent] == [1, 1, 1, 0, 1, 1, 1]
    assert metrics.ended("shop", "dead", "")._value.get() == before + 1


def test_a_lost_delivery_that_may_not_be_changed_at_all_stays_and_the_others_are_given_back(kit):
    sent = left_behind(kit, 4)
    with refusing_changes(kit.database, f"NEW.id = {sent[0].delivery}"), capture_logs() as lines:
        for _ in range(2):
            kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=9)
    assert [kit.delivery(each)["state"] for each in sent] == ["processing"] + ["pending"] * 3
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
        "cannot reclaim deliveries together; reclaiming without the rows at fault"
    ]


@pytest.mark.parametrize("missing", ["claimed_by", "lease_until", "both"])
def test_a_row_in_processing_that_nobody_holds_is_given_back(kit, missing):
    """It was edited by hand."""
    sent = kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    kit.inbox.claim("far", ["shop"], limit=9, now=kit.now(), lease=timedelta(days=9))
    with kit.database.write() as connection:
        names = ["claimed_by", "lease_until"] if missing == "both" else [missing]
        connection.execute(text(f"UPDATE deliveries SET {', '.join(f'{name} = NULL' for name in names)}"))
    [lost] = kit.inbox.reclaim(now=kit.now(), dead=[], max_attempts=9)
    assert (str(lost.delivery_id), kit.delivery(sent)["state"]) == (sent.delivery, "pending")
    assert kit.inbox.reclaim(now=kit.now() + timedelta(days=99), dead=[], max_attempts=9) == []


@pytest.mark.parametrize(
    ("verb", "changed"),
    [
        (lambda inbox, ids: inbox.extend("one", ids, until=NOON), "lease_until < '2026-03-05'"),
        (lambda inbox, ids: inbox.put_back("one", ids), "state = 'pending'"),
        (lambda inbox, ids: inbox.postpone("one", ids, "A lock.", now=NOON, due_at=NOON), "reason LIKE 'A lock.%'"),
        (lambda inbox, _: inbox.release("one"), "state = 'pending'"),
        (lambda inbox, _: inbox.release("one", aside_until=NOON), "state = 'pending' AND suspect"),
    ],
    ids=["extend", "put back", "postpone", "release", "release as suspects"],
)
def test_a_claimed_row_that_may_not_be_changed_stays_claimed_alone(kit, verb, changed):
    sent = [kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named()) for number in range(5)]
    ids = [int(each.delivery) for each in sent]
    kit.inbox.claim("one", ["shop"], limit=9, now=kit.now(), lease=timedelta(days=9))
    with refusing_changes(kit.database, f"NEW.id = {ids[2]}"), capture_logs() as lines:
        verb(kit.inbox, ids)
    with kit.database.read() as connection:
        found = connection.execute(text(f"SELECT id FROM deliveries WHERE {changed} ORDER BY id")).scalars()
        assert list(found) == ids[:2] + ids[3:]
    [line] = [each for each in lines if each["log_level"] == "warning"]
    assert "not this one" in line["error"]


@pytest.mark.parametrize("database_system", ["sqlite"], scope="module")
def test_a_lost_delivery_with_a_time_that_cannot_be_read_dies_with_its_last_attempt_and_is_counted(kit):
    left_behind(kit, 1)
    with kit.database.write() as connection:
        connection.execute(text("UPDATE deliveries SET received_at = 'yesterday', suspect = true"))
    before = metrics.ended("shop", "dead", "")._value.get()
    Reclaiming(kit.inbox, lease=timedelta(seconds=60), max_attempts=1).look(kit.now())
    assert metrics.ended("shop", "dead", "")._value.get() == before + 1


@pytest.mark.parametrize("database_system", ["sqlite"], scope="module")
def test_a_row_with_a_time_that_cannot_be_read_ends_dead(kit, worker):
    sent = [kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named()) for number in range(3)]
    with kit.database.write() as connection:
        connection.execute(
            text("UPDATE deliveries SET received_at = 'yesterday' WHERE id = :id"), {"id": int(sent[1].delivery)}
        )
    drain(worker)
    with kit.database.read() as connection:
        found = connection.execute(text("SELECT state, reason FROM deliveries ORDER BY id")).all()
    assert [state for state, _ in found] == ["processed", "dead", "processed"]
    assert "yesterday" in found[1][1]


def test_the_running_worker_skips_rows_that_it_cannot_claim(kit, worker):
    guilty = kit.send("shop", "product.updated", id="B1", at=NOON, data=named())
    with refusing_changes(kit.database, f"NEW.id = {guilty.delivery}"), running(worker):
        good = kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
        wait_until(lambda: kit.delivery(good)["state"] == "processed", "the good delivery")
