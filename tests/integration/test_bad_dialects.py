"""Mistakes of a user's dialect, and of the keys of its sender: each has its answer."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs
from waiting import wait_until

from receiver import DetachedJws, Dialect, Envelope, WebhookRequest, senders
from receiver.errors import WiringError
from receiver.testing import Webhooks
from receiver.verify import key_sets

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

#: The next result of the envelope function.
MAKE: list[Any] = [None]

wrong = Dialect("wrong", verify=senders.GitHub())
peeking = Dialect("peeking", verify=senders.StandardWebhooks(), keep_headers=["X-Other"])


@wrong.envelope
def read_wrong(body: dict) -> Envelope:
    return MAKE[0]()


@peeking.envelope
def peek(body: dict, signed: dict) -> Envelope:
    return Envelope(event_type=signed["x-other"], entity=None, occurred_at=NOON, data=None)


def envelope(**parts: Any) -> Envelope:
    return Envelope(**{"event_type": "a", "entity": ("product", "1"), "occurred_at": NOON, "data": None} | parts)


class Endless(list):
    """A list without an end."""

    def __iter__(self):
        while True:
            yield envelope()


def endless():
    while True:
        yield envelope()


RETURNS = {
    "a time without an offset": (lambda: envelope(occurred_at=datetime(2026, 6, 1)), "has no offset"),  # noqa: DTZ001
    "a time that is text": (lambda: envelope(occurred_at="2026-06-01"), "instead of a datetime"),
    "a zero time": (lambda: envelope(occurred_at=datetime(1, 1, 1, tzinfo=UTC)), "programs write for a missing time"),
    "an empty id": (lambda: envelope(entity=("product", "")), "The entity id is empty"),
    "no id": (lambda: envelope(entity=("product", None)), "The entity id is None instead of text"),
    "an id that is a number": (lambda: envelope(entity=("product", 7)), "The entity id is 7 instead of text"),
    "half an entity": (
        lambda: envelope(entity=("product",)),
        "The entity is ('product',) instead of its kind and its id",
    ),
    "nothing": (lambda: None, "returned None instead of an Envelope"),
    "a dict": (lambda: {"event_type": "a"}, "instead of an Envelope"),
    "an error": (lambda: 1 / 0, "The envelope of wrong failed: ZeroDivisionError"),
    "the end of the process": (lambda: exit(1), "The envelope of wrong failed: SystemExit"),
    "an endless generator": (endless, "holds more than 1000 events"),
    "an endless list": (Endless, "holds more than 1000 events"),
}


@pytest.fixture
def kit(tmp_path, mirror_url):
    with closing(Webhooks(tmp_path, {"wrong": wrong, "peeking": peeking}, database_url=mirror_url)) as webhooks:
        yield webhooks


def test_whatever_an_envelope_returns_its_body_is_kept_dead_with_the_reason(kit):
    source = kit.source("wrong")
    for number, (name, (make, says)) in enumerate(RETURNS.items()):
        MAKE[0], body = make, b'{"number": %d}' % number
        _, signature = wrong.verifier.sign(WebhookRequest(body), source.credentials)
        answer = kit.post("wrong", body, signature)
        assert answer.status == 200, name
        shown = kit.delivery(answer)
        assert (shown["state"], shown["body"]) == ("dead", body.decode()), name
        assert says in shown["reason"], name


#: The parts of an envelope, with values to which a dialect tries to change them.
CHANGES: dict[str, Any] = {
    "event_type": None,
    "entity": "p",
    "occurred_at": "2026-06-01T12:00:00Z",
    "dedup_key": 12,
    "fingerprint": "abc",
    "fingerprint_covers_time": None,
    "data": {},
}


@pytest.mark.parametrize("many", [False, True], ids=["one envelope", "a list of them"])
def test_an_envelope_that_is_changed_after_it_was_made_is_dead_with_the_reason(kit, many):
    kit.source("wrong")
    for number, (part, value) in enumerate(CHANGES.items()):

        def change(part=part, value=value) -> Any:
            made = envelope(dedup_key="k", fingerprint=b"f")
            setattr(made, part, value)
            return [made] if many else made

        MAKE[0] = change
        shown = kit.delivery(kit.send_body("wrong", b'{"number": %d}' % number))
        assert shown["state"] == "dead", part
        assert "The envelope of wrong failed: AttributeError: immutable type: 'Envelope'" in shown["reason"], part


@pytest.mark.parametrize("many", [False, True], ids=["one envelope", "a list of them"])
@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("event_type", None, "Its envelope cannot be used: TypeError"),
        ("entity", "p", "The database refused its content"),
    ],
    ids=["before it is stored", "while it is stored"],
)
def test_an_envelope_that_proves_wrong_after_it_was_read_is_dead_with_the_reason(kit, part, value, says, many):
    def overwrite() -> Any:
        made = envelope()
        # No class can forbid this.
        getattr(Envelope, part).__set__(made, value)
        return [made] if many else made

    kit.source("wrong")
    MAKE[0] = overwrite
    answer = kit.send_body("wrong", b"{}")
    shown = kit.delivery(answer)
    assert (answer.status, shown["state"], shown["body"]) == (200, "dead", "{}")
    assert says in shown["reason"]


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_child_that_an_envelope_forked_does_not_go_on_as_a_second_server(kit, ends):
    children, here = [], os.getpid()

    def fork() -> Envelope:
        child = os.fork()
        if child == 0 and ends == "raises":
            raise ValueError("in the child")
        children.append(child)
        return envelope(entity=("product", "child" if child == 0 else "parent"))

    source = kit.source("wrong")
    MAKE[0] = fork
    _, signature = wrong.verifier.sign(WebhookRequest(b"{}"), source.credentials)
    try:
        answer = kit.post("wrong", b"{}", signature)
    finally:
        if os.getpid() != here:
            os._exit(0)
    _, status = wait_until(lambda: [each for each in [os.waitpid(children[0], os.WNOHANG)] if each[0]], "its end")[0]
    assert os.waitstatus_to_exitcode(status) == 1
    assert [each["entity"] for each in kit.deliveries()] == ["product:parent"]
    assert kit.delivery(answer)["state"] in ("pending", "ignored")


def test_a_header_that_no_signature_covers_is_not_among_the_signed_ones(kit):
    answer = kit.send_body("peeking", b"{}", headers={"X-Other": "forged"})
    shown = kit.delivery(answer)
    assert (shown["state"], shown["headers"]["x-other"]) == ("dead", "forged")
    assert "KeyError" in shown["reason"]
    assert "x-other" in shown["reason"]


def test_a_request_with_seventeen_signatures_is_refused_with_the_number_allowed(kit):
    kit.source("peeking", secrets=["whsec_AAAA"])
    headers = {"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": " ".join(["v1,AAAA"] * 17)}
    answer = kit.post("peeking", b"{}", headers)
    assert (answer.status, answer.body["error"]) == (401, "signature_malformed")
    assert "holds 17 signatures. Send at most 16" in answer.body["message"]


def test_keys_that_cannot_be_fetched_answer_503_and_log_once(tmp_path, monkeypatch):
    monkeypatch.setattr(key_sets, "FETCH_SECONDS", 2.0)
    keyed = Dialect("keyed", verify=DetachedJws(header="X-Jws", keys="http://127.0.0.1:9/keys"))
    keyed.envelope(lambda body: envelope())
    header = {"X-Jws": "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ..AAAA"}
    with closing(Webhooks(tmp_path, {"keyed": keyed})) as kit, capture_logs() as logs:
        kit.source("keyed")
        answer = kit.post("keyed", b"{}", header)
        key_sets.key_set("http://127.0.0.1:9/keys")._thread.join(60)
        again = kit.post("keyed", b"{}", header)
    assert [(each.status, each.headers["retry-after"]) for each in (answer, again)] == [(503, "5"), (503, "5")]
    assert "cannot fetch the keys of a sender" in [line["event"] for line in logs]


def test_an_address_of_keys_that_is_not_https_is_refused_at_start(tmp_path):
    keyed = Dialect("keyed", verify=DetachedJws(header="X-Jws", keys="http://shop.example/keys"))
    keyed.envelope(lambda body: envelope())
    with (
        closing(Webhooks(tmp_path, {"keyed": keyed})) as kit,
        pytest.raises(WiringError, match="A key set is fetched by https"),
    ):
        kit.source("keyed")
