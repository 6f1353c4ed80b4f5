"""Tokens: the secret itself, sent in a header, in the query or in the body."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from receiver import Credentials, Dialect, Envelope, NotVerified, Secret, Token, WebhookRequest, senders
from receiver.errors import ConfigurationError, WiringError
from receiver.testing import Webhooks

BOTH = Credentials(secrets=(Secret(b"the-new-one"), Secret(b"the-old-one")))

HEADER = senders.GitLab()
QUERY = Token(query="code")
BODY = senders.BusinessCentral()


def code(verifier: Token, request: WebhookRequest, credentials: Credentials = BOTH) -> str:
    with pytest.raises(NotVerified) as caught:
        verifier.verify(request, credentials)
    assert "one" not in caught.value.message.replace("one secret", "")
    return caught.value.code


def sent(*tokens: bytes) -> WebhookRequest:
    return WebhookRequest(b"{}", [(b"x-gitlab-token", each) for each in tokens])


def notified(*tokens: object) -> WebhookRequest:
    return WebhookRequest(json.dumps({"value": [{"clientState": each, "id": 1} for each in tokens]}).encode())


def asked(query: bytes) -> WebhookRequest:
    return WebhookRequest(b"{}", target=b"/hooks/grid" + query)


@pytest.mark.parametrize(
    ("verifier", "request_", "position"),
    [
        (HEADER, sent(b"the-new-one"), 0),
        (HEADER, sent(b"the-old-one"), 1),
        (Token(header="Authorization", prefix="Bearer "), None, 0),
        (QUERY, asked(b"?a=1&code=the-old-one"), 1),
        (QUERY, asked(b"?code=the%2Dnew-one"), 0),
        (BODY, notified("the-old-one", "the-old-one"), 1),
        (Token(body="clientState"), WebhookRequest(b'{"clientState": "the-new-one"}'), 0),
    ],
)
def test_any_secret_of_the_source_is_a_token_and_the_one_used_is_returned(verifier, request_, position):
    request = request_ or WebhookRequest(b"{}", [(b"authorization", b"Bearer the-new-one")])
    assert verifier.verify(request, BOTH).secret == position


@pytest.mark.parametrize(
    ("verifier", "request_", "expected"),
    [
        (HEADER, sent(), "signature_missing"),
        (HEADER, sent(b""), "signature_wrong"),
        (HEADER, sent(b"the-new-on"), "signature_wrong"),
        (HEADER, sent(b"the-new-one", b"the-new-one"), "signature_repeated"),
        (Token(header="A", prefix="Bearer "), WebhookRequest(b"", [(b"a", b"the-new-one")]), "signature_malformed"),
        (QUERY, asked(b""), "signature_missing"),
        (QUERY, asked(b"?code="), "signature_wrong"),
        (QUERY, asked(b"?code=the-new-one&code=the-new-one"), "signature_repeated"),
        (QUERY, asked(b"?" + b"a&" * 200), "signature_malformed"),
        (QUERY, asked(b"?code=%ff%00"), "signature_wrong"),
        (BODY, notified(), "signature_missing"),
        (BODY, notified("the-new-one", None), "signature_missing"),
        (BODY, notified("the-new-one", 7), "signature_missing"),
        (BODY, notified("the-new-one", "the-old-one"), "signature_wrong"),
        (BODY, WebhookRequest(b'{"value": "the-new-one"}'), "signature_missing"),
        (BODY, WebhookRequest(b"[" * 100_000), "signature_missing"),
        (BODY, WebhookRequest(b"\xff"), "signature_missing"),
    ],
)
def test_any_other_request_is_refused_and_no_message_quotes_a_token(verifier, request_, expected):
    assert code(verifier, request_) == expected


def test_a_token_without_a_place_or_with_two_is_refused():
    for places in ({}, {"header": "A", "query": "b"}, {"query": "b", "prefix": "Bearer "}):
        with pytest.raises(WiringError, match="A Token needs exactly one place"):
            Token(**places)


@pytest.mark.parametrize(
    ("credentials", "says"),
    [
        (Credentials(), "it has no secret to compare the header X-Gitlab-Token with: set `secrets"),
        (Credentials(secrets=(Secret(b" "),)), "is empty"),
        (Credentials(secrets=(Secret(b"a", "web_1"),)), "knows no webhook records"),
        (Credentials(secrets=(Secret(b"a"),), app_key="k"), "`app_key` is for encrypted bodies"),
    ],
)
def test_a_source_that_could_not_be_verified_does_not_start(credentials, says):
    assert says in HEADER.check(credentials)


def test_a_sent_request_carries_the_newest_secret():
    assert HEADER.sign(WebhookRequest(b"{}"), BOTH) == (b"{}", {"X-Gitlab-Token": "the-new-one"})
    prepared = BODY.prepare(notified("x", "y").body, BOTH)
    assert BODY.verify(WebhookRequest(prepared), BOTH).secret == 0
    with pytest.raises(ConfigurationError, match="send to an address that contains it"):
        QUERY.sign(asked(b""), BOTH)


def test_a_token_in_a_kept_header_is_refused_at_import():
    for kept in ({"keep_headers": ["x-gitlab-token"]}, {"trusts_header": "X-GitLab-Token"}):
        with pytest.raises(WiringError, match="carries a secret"):
            Dialect("lab", verify=HEADER, **kept)


central = Dialect("central", verify=BODY)


@central.envelope
def read(body: dict) -> Envelope:
    return Envelope(event_type="a", entity=None, occurred_at=datetime(2026, 6, 1, tzinfo=UTC), data=None)


def test_no_token_is_stored_shown_or_logged(tmp_path):
    with closing(Webhooks(tmp_path, {"central": central})) as kit, capture_logs() as logs:
        kit.source("central", secrets=["hidden-one"])
        answer = kit.post("central", b'{"value": [{"clientState": "hidden\\u002done", "n": 1.50}]}', {})
        refused = kit.post("central", notified("hidden-other").body, {})
        shown = kit.delivery(answer)
    assert (answer.status, refused.status) == (200, 401)
    assert json.loads(shown["body"]) == {"value": [{"clientState": "(not stored)", "n": 1.5}]}
    assert "hidden" not in f"{shown}{logs}{refused.body}"
