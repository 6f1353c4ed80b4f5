"""Odd values that a user's dialect may raise or return: each fails an attempt of its own delivery only."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import timedelta
from typing import Any

import httpx
import pytest
from odd_errors import ODD, TextRaises
from serving import wait_until
from shopping import NOON, drain, named, new_worker, running, states
from structlog.testing import capture_logs
from systems import ON_BOTH, database_system  # noqa: F401

from handlers.catalog import Product
from receiver import Discard, Event, Mirror, Retry, SourceSettings, Unreadable
from receiver.envelope import Envelope
from receiver.logs import outages


class OddRetry(Retry):
    after = property(lambda _: 1 / 0, lambda *_: None)  # type: ignore[assignment]


class OddDiscard(Discard):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def between_good_ones(kit, event_type: str) -> tuple[Any, list[Any]]:
    """Send an event of this type between two good ones, and return the states of all three."""
    first = kit.send("shop", "product.updated", id="A1", at=NOON, data=named("first"))
    guilty = kit.send("shop", event_type, id="B1", at=NOON)
    second = kit.send("shop", "product.updated", id="A2", at=NOON, data=named("second"))
    return guilty, [first, second]


def let_fail(shop, error) -> None:
    @shop.on("product.odd")
    def fail(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="of the failed one")
        raise error


# ── exceptions ────────────────────────────────────────────────────────────────────────────────────────────────────


def all_odd_ones_among_good_ones(kit) -> list[Any]:
    """Return a function that sends each odd error, named in the event's data, with a good event after it."""
    guilty = []
    for number, name in enumerate(ODD):
        guilty.append(kit.send("shop", "product.odd", id=f"B{number}", at=NOON, data=name))
        kit.send("shop", "product.updated", id=f"A{number:02}", at=NOON, data=named())
    return guilty


def expect_only_the_odd_ones_to_have_failed(kit, guilty, code: str) -> None:
    for answer, name in zip(guilty, ODD, strict=True):
        failed = kit.delivery(answer)
        assert (failed["state"], failed["attempts_made"]) == ("pending", 1), name
        assert re.search(rf"{code} raised \w+", failed["reason"]), name
    assert states(kit) == ["pending", "processed"] * len(ODD)
    assert [row.external_id for row in kit.rows(Product)] == [f"A{number:02}" for number in range(len(ODD))]


@ON_BOTH
def test_any_error_of_a_handler_fails_its_own_attempt(shop, kit, worker):
    @shop.on("product.odd")
    def fail(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="of the failed one")
        raise ODD[event.data]()

    guilty = all_odd_ones_among_good_ones(kit)
    assert worker.work() == 2 * len(ODD)
    expect_only_the_odd_ones_to_have_failed(kit, guilty, "fail")


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, SystemExit, BaseException, MemoryError])
def test_an_error_that_is_not_an_exception_fails_its_own_attempt_in_the_same_worker(shop, kit, error):
    let_fail(shop, error("of the handler's"))
    guilty, good = between_good_ones(kit, "product.odd")
    with running(new_worker(kit)):
        wait_until(lambda: kit.delivery(good[1])["state"] == "processed", "the good ones")
    assert kit.delivery(guilty)["reason"].endswith(f"raised {error.__name__}: of the handler's")
    assert states(kit) == ["processed", "pending", "processed"]


def test_an_interrupt_in_the_main_thread_is_not_a_failure_of_the_handler(shop, kit, worker):
    let_fail(shop, KeyboardInterrupt())
    kit.send("shop", "product.odd", id="B1")
    with pytest.raises(KeyboardInterrupt):
        worker.work()


@ON_BOTH
@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (OddDiscard(), "ignored", "OddDiscard"),
        (OddRetry(), "pending", "ZeroDivisionError"),
        (Unreadable(TextRaises()), "dead", "Unreadable"),
        (Retry(TextRaises()), "pending", "Retry"),  # type: ignore[arg-type]
        (Retry("for ever", after=timedelta.max), "pending", "for ever"),
        (Retry("at once", after=timedelta(days=-1)), "pending", "at once"),
    ],
    ids=["discard", "retry", "unreadable", "retry without text", "retry for ever", "retry in the past"],
)
def test_an_odd_verdict_concerns_only_its_own_delivery(shop, kit, worker, error, state, reason):
    let_fail(shop, error)
    guilty, good = between_good_ones(kit, "product.odd")
    worker.work()
    ended = kit.delivery(guilty)
    assert ended["state"] == state
    assert reason in ended["reason"]
    assert [kit.delivery(each)["state"] for each in good] == ["processed"] * 2


@ON_BOTH
def test_any_error_while_hydrating_fails_its_own_attempt(shop, kit):
    @shop.connect
    def client(source: SourceSettings) -> httpx.Client:
        return httpx.Client()

    @shop.hydrate("product.odd")
    def fetch(event: Event[Any], api: httpx.Client) -> None:
        raise ODD[event.data]()

    shop.on("product.odd")(lambda event, mirror: None)
    kit.source("shop", api_url="http://127.0.0.1:9")
    guilty = all_odd_ones_among_good_ones(kit)
    with closing(new_worker(kit)) as worker:
        worker.work()
    expect_only_the_odd_ones_to_have_failed(kit, guilty, "fetch")


@ON_BOTH
def test_any_error_in_the_settling_transaction_fails_its_own_attempt(shop, kit, worker):
    @shop.on("product.odd")
    def fail(event: Event[Any], mirror: Mirror) -> None:
        assert mirror.session is not None
        raise ODD[event.data]()

    guilty = all_odd_ones_among_good_ones(kit)
    worker.work()
    expect_only_the_odd_ones_to_have_failed(kit, guilty, "fail")


# ── clients ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["its text raises", "it is huge"])
def test_a_client_that_cannot_be_made_is_tried_once_a_batch_and_delays_only_its_own_events(shop, kit, name):
    tries = []

    @shop.connect
    def client(source: SourceSettings) -> httpx.Client:
        tries.append(source.name)
        if len(tries) > 1:
            raise ODD[name]()
        return httpx.Client()

    shop.hydrate("product.odd")(lambda event, api: None)
    shop.on("product.odd")(lambda event, mirror: None)
    kit.source("shop", api_url="http://127.0.0.1:9")
    for number in range(5):
        kit.send("shop", "product.odd", id=f"B{number}")
    with closing(new_worker(kit)) as worker:
        worker.work()
    assert states(kit) == ["pending"] * 5
    assert len(tries) == 2, "once at the start, and once for the batch"
    assert all("the client of shop's API raised" in each["reason"] for each in kit.deliveries())


def test_a_client_of_another_type_fails_the_attempts_that_need_it(shop, kit):
    made = []

    @shop.connect
    def client(source: SourceSettings) -> httpx.Client:
        made.append(source.name)
        return httpx.Client() if len(made) == 1 else "no client"  # type: ignore[return-value]

    shop.hydrate("product.odd")(lambda event, api: None)
    shop.on("product.odd")(lambda event, mirror: None)
    kit.source("shop", api_url="http://127.0.0.1:9")
    guilty = kit.send("shop", "product.odd", id="B1")
    with closing(new_worker(kit)) as worker:
        worker.work()
    assert "AttributeError" in kit.delivery(guilty)["reason"]


# ── envelopes ─────────────────────────────────────────────────────────────────────────────────────────────────────


class OddStr(str):
    __slots__ = ()

    def isascii(self) -> bool:
        raise SystemExit

    def __len__(self) -> int:
        return 1


ENVELOPES = {
    "nothing": lambda body: None,
    "something else": lambda body: TextRaises(),
    "a number as the event type": lambda body: new_envelope(event_type=5),
    "a number as the id": lambda body: new_envelope(entity=("product", 5)),
    "three texts as the entity": lambda body: new_envelope(entity=("a", "b", "c")),
    "text as the time": lambda body: new_envelope(occurred_at="now"),
    "a number as the dedup key": lambda body: new_envelope(dedup_key=5),
    "text as the fingerprint": lambda body: new_envelope(fingerprint="text"),
}

RAISING = {**ODD, "it exits": SystemExit, "it interrupts": KeyboardInterrupt, "it ends a generator": GeneratorExit}


def new_envelope(**parts: Any) -> Envelope:
    usual = {"event_type": "product.updated", "entity": ("product", "B1"), "occurred_at": NOON, "data": named()}
    return Envelope(**(usual | parts))  # type: ignore[arg-type]


def let_read(shop, reader) -> None:
    """Read bodies of the type `odd` with this function, and all others as usual."""
    usual = shop._read

    def read(body):
        return reader(body) if body.type == "odd" else usual(body)

    shop._body  # noqa: B018 (found by the usual reader's annotation)
    shop._read = read


ODD_BODY = b'{"type": "odd", "id": "B1", "timestamp": "2026-03-04T12:00:00Z"}'


@ON_BOTH
@pytest.mark.parametrize("name", ENVELOPES)
def test_an_envelope_of_another_type_is_kept_as_dead_with_a_reason_that_describes_it(shop, kit, name):
    let_read(shop, ENVELOPES[name])
    guilty = kit.send_body("shop", ODD_BODY)
    assert guilty.status == 200
    assert kit.delivery(guilty)["state"] == "dead"
    assert re.search(r"instead of |failed: ValueError: too many", kit.delivery(guilty)["reason"])


@ON_BOTH
def test_a_body_whose_envelope_raises_anything_is_acked_and_kept_as_dead(shop, kit):
    def fail(body):
        raise RAISING[body.id]()

    let_read(shop, fail)
    for name in RAISING:
        guilty = kit.send_body("shop", ODD_BODY.replace(b"B1", name.encode()))
        assert guilty.status == 200, name
        assert kit.delivery(guilty)["reason"].startswith("The envelope of shop failed: "), name
    assert kit.send("shop", "product.updated", id="A1", data=named()).status == 200


def test_a_memory_error_while_reading_is_answered_with_503(shop, kit):
    def fail(body):
        raise MemoryError

    let_read(shop, fail)
    answer = kit.send_body("shop", ODD_BODY)
    assert (answer.status, kit.deliveries()) == (503, [])


@ON_BOTH
def test_a_text_with_methods_of_its_own_is_stored_as_plain_text(shop, kit, worker):
    parts = {"event_type": OddStr("product.updated"), "entity": (OddStr("product"), OddStr("B1"))}
    let_read(shop, lambda body: new_envelope(**parts, dedup_key=OddStr("key")))
    kept = kit.send_body("shop", ODD_BODY)
    drain(worker)
    assert (kit.delivery(kept)["state"], kit.row(Product, "B1").name) == ("processed", "Lamp")


@ON_BOTH
def test_an_empty_dedup_key_does_not_join_all_deliveries(shop, kit):
    let_read(shop, lambda body: new_envelope(dedup_key=""))
    answers = [kit.send_body("shop", ODD_BODY + b" " * number) for number in range(2)]
    assert [answer.body["status"] for answer in answers] == ["accepted", "accepted"]


# ── the group commit ──────────────────────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_after_any_error_of_storing_the_next_batch_is_stored(kit, monkeypatch):
    failing: list[BaseException] = []
    accept = kit.inbox.accept

    def accept_or_fail(batch):
        if failing:
            raise failing.pop()
        return accept(batch)

    monkeypatch.setattr(kit.inbox, "accept", accept_or_fail)
    monkeypatch.setattr(outages, "BETWEEN_ENDS", 0.0)
    for number, name in enumerate(RAISING):
        failing.append(RAISING[name]())
        # An error that may be caused by the values of one delivery is tried again for each delivery.
        one_by_one = issubclass(type(failing[0]), ValueError | TypeError | ArithmeticError)
        with capture_logs() as logs:
            told = [kit.send_body("shop", body_of(kit, f"A{number}")).status for _ in range(2)]
        assert told == ([200, 200] if one_by_one else [503, 200]), name
        assert [each["event"] for each in logs if "stor" in each["event"] and each["log_level"] != "info"] == [
            "a delivery keeps its batch from being stored; storing one by one"
            if one_by_one
            else "cannot store deliveries; their senders are asked to retry"
        ], name


def body_of(kit, entity_id: str) -> bytes:
    return kit.source("shop").dialect.write("product.updated", entity_id, at=NOON, data=named())
