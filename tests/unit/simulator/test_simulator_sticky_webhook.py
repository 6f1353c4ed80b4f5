"""sticky.io's registration with a key phrase, and its test event."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from simulator_asking import ask

from receiver import codec
from receiver.verify.ciphers import CIPHERS
from receiver.verify.request import WebhookRequest
from simulator.clock import SteppedClock
from simulator.systems.sticky.system import Sticky

START = datetime(2026, 3, 8, 10, tzinfo=UTC)
PATH = "/api/v2/webhooks"
PHRASE = "abcdefghijklmnopqrstuvwxyz012345"
VALID = {"url": "https://erp.example.com/hooks", "key_phrase": PHRASE}


def make(**options):
    return Sticky("sticky", seed=1, clock=SteppedClock(START), **options)


def call(system, method, path=PATH, **more):
    return ask(system, method, path, auth=(system.api_user, system.api_password), **more)


def test_a_registration_shows_the_app_key_and_hides_the_phrase():
    system = make()
    answer = call(system, "POST", json=VALID)
    assert (answer.status_code, answer.json()["data"]["clientAppKey"]) == (201, system.app_key)
    assert PHRASE not in answer.text + call(system, "GET").text


@pytest.mark.parametrize("cipher", [name for name in CIPHERS if name != "none"])
def test_bodies_are_encrypted_with_the_registered_phrase(cipher):
    """docs/sources.md, sticky.io: encrypted with AES under a key phrase."""
    system = make(cipher=cipher)
    call(system, "POST", json=VALID)
    assert system.settings(api_url=None)["secrets"] == [PHRASE]
    (message,) = system.messages(system.create(START)[0])
    plain = system.verifier.verify(WebhookRequest(message.body), system.credentials(system.subscriptions[0])).plain
    assert codec.decode(plain)["clientAppKey"] == system.app_key


@pytest.mark.parametrize(
    "phrase", [None, "", PHRASE[:-1], PHRASE + "6", PHRASE[:-1] + "-", PHRASE[:-1] + "é", 32, PHRASE + "\n"]
)
def test_a_phrase_is_exactly_32_letters_and_digits(phrase):
    """docs/sources.md, sticky.io: the phrase is 32 letters and digits."""
    answer = call(make(), "POST", json={**VALID, "key_phrase": phrase})
    assert (answer.status_code, "32 letters and digits" in answer.json()["message"]) == (422, True)


@pytest.mark.parametrize("url", [None, "nowhere", "ftp://erp.example.com"])
def test_a_registration_needs_a_url(url):
    assert call(make(), "POST", json={**VALID, "url": url}).status_code == 422


def test_the_test_event_has_three_members_and_no_type():
    """docs/sources.md, sticky.io: the test event has `message`, `reference` and `URL`, and no `type`."""
    system = make()
    call(system, "POST", json=VALID)
    assert call(system, "POST", f"{PATH}/test").status_code == 202
    (message,) = system.outbox
    plain = system.verifier.verify(WebhookRequest(message.body), system.credentials(system.subscriptions[0])).plain
    assert set(codec.decode(plain)) == {"message", "reference", "URL"}
    assert message.number == 0


def test_a_removed_registration_receives_nothing():
    system = make()
    call(system, "POST", json=VALID)
    assert call(system, "DELETE").status_code == 200
    assert system.messages(system.create(START)[0]) == []
    assert [call(system, method, path).status_code for method, path in (("GET", PATH), ("POST", f"{PATH}/test"))] == [
        404,
        404,
    ]


def test_without_a_password_a_request_is_refused():
    """docs/sources.md, sticky.io, "REST v2": HTTP Basic."""
    system = make()
    assert ask(system, "POST", PATH, json=VALID).status_code == 401
    assert ask(system, "POST", PATH, json=VALID, auth=(system.api_user, "no")).status_code == 401


@pytest.mark.parametrize("cipher", CIPHERS)
def test_the_same_seed_gives_the_same_bytes_in_every_cipher(cipher):
    runs = []
    for _ in range(2):
        system = make(cipher=cipher)
        system.subscribe("http://127.0.0.1:1/")
        runs.append([message.body for _ in range(5) for message in system.messages(system.create(START)[0])])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 5
