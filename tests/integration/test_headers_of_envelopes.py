"""Headers that an envelope reads: those that are signed, and one that is trusted to choose the handler alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from receiver import Dialect, Discard, Envelope, Event, Mirror, senders
from receiver.errors import WiringError
from receiver.header_values import TrustedValue
from receiver.testing import Webhooks

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

signed_shop = Dialect("signed-shop", verify=senders.StandardWebhooks())
topical = Dialect("topical", verify=senders.Shopify(), trusts_header="X-Shopify-Topic")
SEEN: list[Any] = []


@signed_shop.envelope
def read_signed(body: dict, signed: dict) -> Envelope:
    return Envelope(event_type=body["type"], entity=None, occurred_at=NOON, data=None, dedup_key=signed["webhook-id"])


@signed_shop.on("*")
def see(event: Event[Any], mirror: Mirror) -> None:
    SEEN.append(event.event_type)


@topical.envelope
def read_topical(body: dict, trusted: TrustedValue | None) -> Envelope:
    misuse = body.get("misuse")
    kind = "gone" if trusted == "products/delete" else "product"
    return Envelope(
        event_type=trusted or "unknown",
        entity=(str(trusted) if misuse == "account" else kind, str(body["id"])),
        occurred_at=trusted if misuse == "date" else NOON,
        data=None,
        dedup_key=trusted if misuse == "key" else None,
    )


@topical.on("products/*")
def see_topic(event: Event[Any], mirror: Mirror) -> None:
    SEEN.append(event.event_type)
    if event.attempt == 1 and event.entity_id == "again":
        raise Discard("once more, please")


@pytest.fixture
def kit(tmp_path, database_url):
    SEEN.clear()
    kit = Webhooks(tmp_path, {"signed-shop": signed_shop, "topical": topical}, database_url=database_url)
    yield kit
    kit.close()


def topic(kit: Webhooks, body: bytes, *topics: str) -> Any:
    kit.source("topical")
    _, signature = topical.verifier.sign(request(body), kit.source("topical").credentials)
    headers = [(name.encode(), value.encode()) for name, value in signature.items()]
    return kit.post("topical", body, [*headers, *((b"X-Shopify-Topic", each.encode()) for each in topics)])


def request(body: bytes) -> Any:
    from receiver import WebhookRequest

    return WebhookRequest(body)


def test_a_signed_header_may_be_the_dedup_key_and_is_kept_shown_and_read_again_by_the_worker(kit):
    first = kit.send_body("signed-shop", b'{"type": "a"}', headers={"webhook-id": "m1"})
    again = kit.send_body("signed-shop", b'{"type": "a"}', headers={"webhook-id": "m1"})
    other = kit.send_body("signed-shop", b'{"type": "a"}', headers={"webhook-id": "m2"})
    assert [each.body["status"] for each in (first, again, other)] == ["accepted", "duplicate", "accepted"]
    kit.drain()
    shown = kit.delivery(first)
    assert (shown["state"], shown["dedup_key"], shown["headers"]["webhook-id"]) == ("processed", "m1", "m1")
    assert (shown["signed"], shown["trusted"]) == (["webhook-id", "webhook-timestamp"], None)
    assert SEEN == ["a", "a"]


def test_a_trusted_header_chooses_the_handler_and_the_delivery_is_marked(kit):
    answer = topic(kit, b'{"id": 1}', "products/delete")
    kit.drain()
    shown = kit.delivery(answer)
    assert (shown["event_type"], shown["entity"], shown["trusted"]) == ("products/delete", "gone:1", "x-shopify-topic")
    assert SEEN == ["products/delete"]


def test_the_test_kit_sends_the_event_type_in_the_trusted_header(kit):
    @topical.compose
    def write(event_type: str, entity_id: str, at: datetime, data: Any) -> Any:
        return {"id": entity_id}

    kit.send("topical", "products/update", id="7")
    kit.drain()
    assert SEEN == ["products/update"]


@pytest.mark.parametrize(
    ("misuse", "says"),
    [("date", "not a datetime"), ("key", "and not text"), ("account", "may be compared and be the event_type")],
)
def test_a_trusted_header_neither_dates_nor_names_anything(kit, misuse, says):
    answer = topic(kit, b'{"id": 1, "misuse": "%s"}' % misuse.encode(), "products/update")
    assert answer.status == 200
    shown = kit.delivery(answer)
    assert (shown["state"], says in shown["reason"]) == ("dead", True), shown["reason"]


def test_a_trusted_header_that_stands_there_twice_is_refused(kit):
    answer = topic(kit, b'{"id": 1}', "products/update", "products/delete")
    assert (answer.status, answer.body["error"]) == (401, "signature_repeated")


def test_a_request_without_the_trusted_header_is_read_without_it(kit):
    assert kit.delivery(topic(kit, b'{"id": 1}'))["event_type"] == "unknown"


def test_the_same_body_under_another_topic_is_a_duplicate(kit):
    topic(kit, b'{"id": 1}', "products/update")
    assert topic(kit, b'{"id": 1}', "products/delete").body["status"] == "duplicate"


@pytest.mark.parametrize(("parameter", "says"), [("trusted", "trusts no header"), ("signed", "covers no header")])
def test_an_envelope_that_takes_what_its_dialect_does_not_have_is_refused(parameter, says):
    dialect = Dialect("plain", verify=senders.GitHub())
    scope: dict[str, Any] = {"Envelope": Envelope}
    exec(f"def read(body: dict, {parameter}): ...", scope)
    with pytest.raises(WiringError, match=says):
        dialect.envelope(scope["read"])


def test_a_header_that_carries_a_secret_cannot_be_trusted():
    with pytest.raises(WiringError, match="carries a secret"):
        Dialect("plain", verify=senders.GitHub(), trusts_header="Authorization")
