"""IIMMPACT's one webhook over its API: HTTPS only, a secret that is shown once, and no events while it is disabled."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from raw import raw_headers
from simulator_asking import ask, sign_request

from receiver import codec
from receiver.verify.request import WebhookRequest
from simulator.clock import SteppedClock
from simulator.systems.iimmpact.system import Iimmpact

START = datetime(2026, 3, 8, 10, tzinfo=UTC)
PATH = "/v2/reseller/catalog/webhook"
URL = "https://erp.example.com/hooks"

nonces = (f"nonce-number-{number:06d}" for number in itertools.count())


@pytest.fixture
def system():
    return Iimmpact("iimmpact", seed=1, clock=SteppedClock(START))


def call(system, method, path=PATH, *, body=None):
    content = b"" if body is None else codec.encode(body)
    headers = sign_request(system, method, body=content, nonce=next(nonces))
    return ask(system, method, path, headers=headers, content=content)


def register(system, url=URL):
    return call(system, "POST", body={"webhook_url": url})


def test_the_secret_is_shown_once(system):
    """IIMMPACT guide, "Setup": "your webhook secret is shown once"."""
    answer = register(system)
    assert (answer.status_code, set(answer.json())) == (201, {"webhook_url", "enabled", "secret"})
    assert call(system, "GET").json() == {"webhook_url": URL, "enabled": True}
    assert "secret" not in call(system, "PUT", body={"enabled": False}).json()


@pytest.mark.parametrize("url", ["http://erp.example.com/hooks", "http://127.0.0.1:8000/hooks"])
def test_http_is_rejected(system, url):
    """IIMMPACT guide, "HTTPS Required": "HTTP endpoints are rejected"."""
    answer = register(system, url)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "HTTPS_REQUIRED")


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://127.0.0.1:8000/hooks", 201),
        ("http://localhost/hooks", 201),
        ("http://[::1]:8000/hooks", 201),
        ("http://erp.example.com/hooks", 422),
        ("http://127.0.0.1.example.com/hooks", 422),
    ],
)
def test_an_option_allows_http_on_this_machine_only(url, status):
    system = Iimmpact("iimmpact", seed=1, clock=SteppedClock(START), allow_loopback_http=True)
    assert register(system, url).status_code == status


@pytest.mark.parametrize("body", [None, [], {}, {"webhook_url": 5}, {"webhook_url": "https://"}, {"url": URL}])
def test_a_registration_without_a_url_is_refused(system, body):
    assert call(system, "POST", body=body).status_code == 422


def test_a_second_registration_is_a_conflict(system):
    register(system)
    assert register(system).status_code == 409


def test_events_during_a_disabled_webhook_are_never_sent(system):
    """IIMMPACT guide, "Events During Downtime": "not queued"."""
    register(system)
    sent = []
    for enabled in (False, True):
        call(system, "PUT", body={"enabled": enabled})
        sent.append([message.number for change in system.create(START) for message in system.messages(change)])
    assert sent == [[], [2]]


def test_a_webhook_receives_every_event_type(system):
    """IIMMPACT guide, "Event Types": "receives all event types automatically"."""
    register(system)
    changes = [
        change for kind in ("option", "product", "category", "group") for change in system.create(START, kind=kind)
    ]
    assert all(len(system.messages(change)) == 1 for change in changes)


def test_a_rotated_secret_signs_from_the_rotation_on(system):
    """IIMMPACT guide, "Setup": "Rotate your webhook secret if compromised"."""
    old = register(system).json()["secret"]
    answer = call(system, "POST", f"{PATH}/rotate")
    assert answer.json()["secret"] != old
    message = system.messages(system.create(START)[0])[0]
    hook = system.subscriptions[0]
    assert hook.secret == answer.json()["secret"]
    assert system.verifier.verify(
        WebhookRequest(message.body, raw_headers(message.headers)), system.credentials(hook)
    ).plain


def test_a_removed_webhook_receives_nothing(system):
    """IIMMPACT guide, "Setup": "Remove your webhook configuration entirely"."""
    register(system)
    assert call(system, "DELETE").status_code == 204
    assert system.messages(system.create(START)[0]) == []


@pytest.mark.parametrize(
    ("method", "path"), [("GET", PATH), ("PUT", PATH), ("DELETE", PATH), ("POST", f"{PATH}/rotate")]
)
def test_without_a_registration_the_webhook_is_not_found(system, method, path):
    answer = call(system, method, path, body={"enabled": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")


def test_enabled_must_be_true_or_false(system):
    register(system)
    assert call(system, "PUT", body={"enabled": "yes"}).status_code == 422


def test_the_signature_of_a_request_covers_its_body(system):
    """docs/sources.md, IIMMPACT, "API auth": the canonical string ends in the body's digest."""
    headers = sign_request(system, "POST", body=b'{"webhook_url":"https://a.example.com"}')
    assert (
        ask(system, "POST", PATH, headers=headers, content=b'{"webhook_url":"https://b.example.com"}').status_code
        == 401
    )
    assert system.subscriptions == []
