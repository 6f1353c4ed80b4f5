"""Headers that an envelope reads: signed ones, and a trusted one that only chooses the handler."""

from __future__ import annotations

import hmac
from base64 import b64encode
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver import Dialect, Discard, Envelope, Event, Mirror, Unsigned, WebhookRequest, senders
from receiver.errors import ConfigurationError, WiringError
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
def kit(tmp_path, mirror_url):
    SEEN.clear()
    kit = Webhooks(tmp_path, {"signed-shop": signed_shop, "topical": topical}, database_url=mirror_url)
    yield kit
    kit.close()


def topic(kit: Webhooks, body: bytes, *topics: str) -> Any:
    kit.source("topical")
    _, signature = topical.verifier.sign(WebhookRequest(body), kit.source("topical").credentials)
    headers = [(name.encode(), value.encode()) for name, value in signature.items()]
    return kit.post("topical", body, [*headers, *((b"X-Shopify-Topic", each.encode()) for each in topics)])


def test_a_signed_header_may_be_the_dedup_key_and_is_kept_and_read_again(kit):
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
    def write(event_type: str, entity_id: str, at: datetime, data: Any) -> Any:
        return {"id": entity_id}

    topical.compose(write, override=True)
    kit.send("topical", "products/update", id="7")
    kit.drain()
    assert SEEN == ["products/update"]


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        ("date", "instead of a datetime"),
        ("key", "instead of text"),
        ("account", "may be compared and be the event_type"),
    ],
)
def test_a_trusted_header_neither_dates_nor_names_anything(kit, misuse, says):
    answer = topic(kit, b'{"id": 1, "misuse": "%s"}' % misuse.encode(), "products/update")
    assert answer.status == 200
    shown = kit.delivery(answer)
    assert (shown["state"], says in shown["reason"]) == ("dead", True), shown["reason"]


def test_a_repeated_trusted_header_is_refused(kit):
    answer = topic(kit, b'{"id": 1}', "products/update", "products/delete")
    assert (answer.status, answer.body["error"]) == (401, "signature_repeated")


def test_a_request_without_the_trusted_header_is_read_without_it(kit):
    assert kit.delivery(topic(kit, b'{"id": 1}'))["event_type"] == "unknown"


def test_the_same_body_under_another_topic_is_a_duplicate(kit):
    topic(kit, b'{"id": 1}', "products/update")
    assert topic(kit, b'{"id": 1}', "products/delete").body["status"] == "duplicate"


@pytest.mark.parametrize(("parameter", "says"), [("trusted", "trusts no header"), ("signed", "covers no header")])
def test_an_envelope_with_parameters_that_its_dialect_lacks_is_refused(parameter, says):
    dialect = Dialect("plain", verify=senders.GitHub())
    scope: dict[str, Any] = {"Envelope": Envelope}
    exec(f"def read(body: dict, {parameter}): ...", scope)
    with pytest.raises(WiringError, match=says):
        dialect.envelope(scope["read"])


def test_a_header_that_carries_a_secret_cannot_be_trusted():
    with pytest.raises(WiringError, match="carries a secret"):
        Dialect("plain", verify=senders.GitHub(), trusts_header="Authorization")


# ── messages about signatures ─────────────────────────────────────────────────────────────────────────────────

square = Dialect("square", verify=senders.Square())


@square.envelope
def read_square(body: dict) -> Envelope:
    return Envelope(event_type="a", entity=None, occurred_at=NOON, data=None)


class Broken(Unsigned):
    def verify(self, request, credentials):
        raise KeyError("of a user")


broken = Dialect("broken", verify=Broken())
broken.envelope(lambda body: None)


def test_an_old_request_is_distinguished_from_a_wrong_one_in_answer_and_log(kit):
    headers = {"webhook-timestamp": "1780315200"}
    with capture_logs() as logs:
        answer = kit.send_body("signed-shop", b'{"type": "a"}', headers=headers)
    assert (answer.status, answer.body["error"]) == (401, "signature_stale")
    assert "was made at 2026-06-01T12:00:00Z" in answer.body["message"]
    assert [line["says"] for line in logs if "says" in line] == [answer.body["message"]]


def test_any_error_of_a_dialect_s_own_verifier_is_a_503_and_in_the_log(tmp_path):
    with closing(Webhooks(tmp_path, {"broken": broken})) as kit, capture_logs() as logs:
        kit.source("broken", allow_unsigned=True)
        answer = kit.post("broken", b"{}")
    assert answer.status == 503
    assert [line["verifier"] for line in logs if "verifier" in line] == ["Broken"]


def test_a_source_whose_sender_signs_the_url_needs_it_and_takes_no_other(tmp_path):
    with closing(Webhooks(tmp_path, {"square": square})) as kit:
        with pytest.raises(ConfigurationError, match="its sender signs the URL that it calls: set `public_url`"):
            kit.source("square", secrets=["s"], registered_url=None)
        kit.source("square", secrets=["s"], registered_url="https://hooks.example/square")
        digest = hmac.new(b"s", b"https://hooks.example/square?shop=1{}", "sha256").digest()
        signature = {"x-square-hmacsha256-signature": b64encode(digest).decode(), "host": "elsewhere.example"}
        assert kit.post("square?shop=1", b"{}", signature).status == 200
        assert kit.post("square?shop=2", b"{}", signature).body["error"] == "signature_wrong"
