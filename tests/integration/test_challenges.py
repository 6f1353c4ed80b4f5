"""Challenges are answered by their dialect within bounds, and never stored."""

from __future__ import annotations

import hashlib
import hmac
import json
from types import SimpleNamespace

import pytest
from shopping import NOON, named, new_shop

from receiver import (
    ChallengeRequest,
    Consent,
    Dialect,
    EchoBody,
    EchoQuery,
    FormPing,
    Header,
    HmacSha256,
    SenderReply,
    Signature,
    SignedToken,
)
from receiver.errors import ChallengeRefused, ConfigurationError, NotVerified, WiringError
from receiver.ingest.challenging import answer_challenge, check_signed_text
from receiver.metrics import metrics
from receiver.testing import TEST_SECRET, Webhooks
from receiver.verify.request import WebhookRequest


def stored(kit) -> int:
    return len(kit.deliveries())


def counted(result: str) -> float:
    return metrics.CHALLENGES.labels("shop", result)._value.get()


# ── challenges in the address ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_token_in_the_address_is_returned_as_plain_text(shop, kit, method):
    shop.challenge(EchoQuery("validationToken"))
    before = counted("answered")
    answer = kit.ask("shop", method, query={"validationToken": "abc 123"})
    assert (answer.status, answer.text) == (200, "abc 123")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (stored(kit), counted("answered") - before) == (0, 1)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("<script>alert(1)</script>", "holds markup"),
        ("x" * 1_025, "printable ASCII"),
        ("two\nlines", "printable ASCII"),
        ("caf\u00e9", "printable ASCII"),
        ("nul\0", "printable ASCII"),
    ],
)
def test_a_harmful_token_is_not_returned(shop, kit, value, told):
    shop.challenge(EchoQuery("validationToken"))
    answer = kit.ask("shop", query={"validationToken": value})
    assert (answer.status, answer.body["error"]) == (403, "challenge_refused")
    assert told in answer.body["message"]
    assert value not in answer.text


def test_a_query_that_is_not_text_is_refused(shop, kit):
    shop.challenge(EchoQuery("validationToken"))
    source = kit.source("shop")
    with pytest.raises(ChallengeRefused, match="not in UTF-8"):
        answer_challenge(source, "GET", b"/hooks/shop?validationToken=%ff%fe", [], b"", verified=False)


def test_a_signed_webhook_with_a_query_that_is_not_text_is_accepted(shop, kit):
    shop.challenge(EchoQuery("validationToken"))
    source = kit.source("shop")
    body = shop.write("product.updated", "A1", at=NOON, data=named())
    signature = shop.verifier.sign(WebhookRequest(body), source.credentials)[1]
    assert kit.post("shop?from=caf%e9", body, signature).body["status"] == "accepted"
    assert kit.post("shop?from=caf%e9", body, {}).body["error"] == "signature_missing"


def test_a_signed_webhook_to_an_address_with_the_parameter_of_a_challenge_is_stored(shop, kit):
    shop.challenge(EchoQuery("validationToken"))
    source = kit.source("shop")
    body = shop.write("product.updated", "A1", at=NOON, data=named())
    signature = shop.verifier.sign(WebhookRequest(body), source.credentials)[1]
    answer = kit.post("shop?validationToken=abc", body, signature)
    assert (answer.body["status"], stored(kit)) == ("accepted", 1)


def test_a_challenge_with_a_token_is_answered_only_if_the_token_is_right(shop, kit):
    shop.challenge(EchoQuery("hub.challenge", token="hub.verify_token"))
    kit.source("shop", challenge_token="between us")
    right = kit.ask("shop", query={"hub.challenge": "42", "hub.verify_token": "between us"})
    wrong = kit.ask("shop", query={"hub.challenge": "42", "hub.verify_token": "guessed"})
    none = kit.ask("shop", query={"hub.challenge": "42"})
    assert (right.status, right.text) == (200, "42")
    assert [each.body["error"] for each in (wrong, none)] == ["challenge_refused"] * 2
    assert "42" not in wrong.text


def test_a_source_without_the_token_that_its_dialect_needs_does_not_start(shop, kit):
    shop.challenge(EchoQuery("hub.challenge", token="hub.verify_token"))
    with pytest.raises(ConfigurationError, match="set `challenge_token`"):
        kit.source("shop")


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "HEAD", "PUT"])
def test_without_challenges_only_post_is_accepted(kit, method):
    kit.source("shop")
    answer = kit.ask("shop", method, query={"validationToken": "abc"})
    assert answer.status == 405


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_a_request_that_is_not_a_challenge_gets_a_405(shop, kit, method):
    shop.challenge(EchoQuery("validationToken"))
    assert kit.ask("shop", method).status == 405


def test_an_unknown_source_answers_no_challenge(shop, kit):
    shop.challenge(EchoQuery("validationToken"))
    kit.source("shop")
    assert kit.post("shopp?validationToken=x", b"").status == 404


def test_an_ordinary_webhook_of_a_source_with_challenges_is_accepted(shop, kit):
    shop.challenge(EchoQuery("validationToken"))
    assert kit.send("shop", "product.updated", id="A1", at=NOON, data=named()).body["status"] == "accepted"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_text_that_cannot_be_encoded_is_answered_with_a_replacement(shop, kit, method):
    shop.challenge(lambda asked: SenderReply(200, "a\ud800b"), before_verifying=True)
    assert kit.ask("shop", method).text == "a\ufffdb"


def test_a_reply_is_measured_with_its_replacements():
    assert len(SenderReply(200, "\ud800" * 1_365).body.encode()) == 4_095
    with pytest.raises(WiringError, match="at most 4096 bytes"):
        SenderReply(200, "\ud800" * 1_366)


def test_a_reply_that_was_changed_after_it_was_made_is_checked_again(shop, kit):
    def answer(asked: ChallengeRequest) -> SenderReply:
        reply = SenderReply(200, headers={"Allow": "POST"})
        object.__setattr__(reply, "headers", {"Allow": "POST\r\nSet-Cookie: a=b"})
        return reply

    shop.challenge(answer, before_verifying=True)
    assert (kit.ask("shop").status, kit.ask("shop").body["error"]) == (503, "unavailable")


# ── consent ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_origin_in_the_settings_gets_consent(shop, kit):
    shop.challenge(Consent(rate="120"))
    kit.source("shop", allowed_origins=["eventgrid.azure.net"])
    answer = kit.ask("shop", "OPTIONS", headers={"WebHook-Request-Origin": "eventgrid.azure.net"})
    assert answer.status == 200
    assert answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    assert (answer.headers["webhook-allowed-rate"], answer.headers["allow"]) == ("120", "POST")
    other = kit.ask("shop", "OPTIONS", headers={"WebHook-Request-Origin": "evil.example"})
    assert (other.status, "webhook-allowed-origin" in other.headers) == (403, False)


# ── challenges in a body ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def slack(shop):
    shop.challenge(EchoBody("challenge", where={"type": "url_verification"}, answer="challenge"))
    return shop


def test_a_signed_challenge_is_answered_and_not_stored(slack, kit):
    answer = kit.send_body("shop", b'{"type": "url_verification", "challenge": "3eZbrw"}')
    assert (answer.status, answer.body, stored(kit)) == (200, {"challenge": "3eZbrw"}, 0)


def test_a_challenge_without_a_right_signature_is_refused(slack, kit):
    kit.source("shop")
    answer = kit.post("shop", b'{"type": "url_verification", "challenge": "3eZbrw"}', {"X-Webhook-Signature": "0" * 64})
    assert (answer.status, "3eZbrw" in answer.text) == (401, False)


@pytest.mark.parametrize("value", ['"<img>"', "7", "null", '["a"]'])
def test_a_signed_challenge_of_another_form_is_refused(slack, kit, value):
    answer = kit.send_body("shop", f'{{"type": "url_verification", "challenge": {value}}}'.encode())
    assert (answer.body["error"], stored(kit)) == ("challenge_refused", 0)


def test_a_body_that_only_mentions_a_challenge_is_a_webhook(slack, kit):
    answer = kit.send("shop", "product.updated", id="A1", at=NOON, data=named("url_verification"))
    assert answer.body["status"] == "accepted"


def test_a_code_is_returned_under_another_name(shop, kit):
    shop.challenge(EchoBody("0.data.validationCode", where={"0.eventType": "Validation"}, answer="validationResponse"))
    answer = kit.send_body("shop", b'[{"eventType": "Validation", "data": {"validationCode": "512d38b6"}}]')
    assert answer.body == {"validationResponse": "512d38b6"}


def test_a_token_is_returned_with_its_hmac(shop, kit):
    shop.challenge(SignedToken())
    asked = {"event": "endpoint.url_validation", "inside": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}
    answer = kit.send_body("shop", json.dumps(asked).encode())
    digest = hmac.new(TEST_SECRET.encode(), b"qgg8vlvZRS6UYooatFL8Aw", hashlib.sha256).hexdigest()
    assert answer.body == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": digest}


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"webhook_id=17", 200), (b"webhook_id=", 401), (b"webhook_id=17&more=1", 401), (b"other=17", 401), (b"", 401)],
)
def test_an_unsigned_form_ping_is_acked_only_in_the_declared_form(shop, kit, body, status):
    shop.challenge(FormPing("webhook_id"))
    kit.source("shop")
    answer = kit.post("shop", body, {"content-type": "application/x-www-form-urlencoded"})
    assert (answer.status, stored(kit)) == (status, 0)


# ── functions of a dialect ────────────────────────────────────────────────────────────────────────────────────────


def test_a_function_of_the_dialect_answers(shop, kit):
    proving(shop)
    digest = hmac.new(TEST_SECRET.encode(), b"s1", hashlib.sha256).hexdigest()
    assert kit.ask("shop", query={"shop-id": "s1"}).body == {"proof": digest}


def proving(dialect, **options):
    """Let the dialect sign the `shop-id` of any query, as the senders LinkedIn and X require."""

    def prove(asked: ChallengeRequest) -> SenderReply | None:
        if "shop-id" not in asked.query:
            return None
        return asked.json(proof=asked.hmac_sha256(asked.query["shop-id"]))

    dialect.challenge(prove, **options)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "text", ['{"a":1}', "[1]", '"a"', "a=b", "1700000000.abc", "v0:1:a", "<b>", "x" * 257, "", " a"]
)
def test_a_text_that_could_be_signed_by_the_sender_is_not_signed_for_a_stranger(shop, kit, method, text):
    proving(shop, before_verifying=True)
    answer = kit.ask("shop", method, query={"shop-id": text})
    assert (answer.status, answer.body["error"]) == (403, "challenge_refused")
    assert "letters, digits" in answer.body["message"]


@pytest.mark.parametrize("text", ["8f14e45f-ceea-467a", "MWM0NDYx/2Vj+E==", "17", "true"])
def test_a_body_that_a_stranger_may_have_signed_by_a_challenge_is_refused(shop, kit, text):
    proving(shop)
    proof = kit.ask("shop", query={"shop-id": text}).body["proof"]
    answer = kit.post("shop", text.encode(), {"X-Webhook-Signature": proof})
    assert (answer.status, answer.body["error"], stored(kit)) == (401, "signature_wrong", 0)
    assert "anyone can have such a word signed" in answer.body["message"]


def test_the_refusal_of_such_a_body_says_that_no_other_secret_would_verify_it(shop):
    # Refused requests that another secret may verify are kept, and count as those of a wrong secret.
    proving(shop)
    source = SimpleNamespace(dialect=shop)
    with pytest.raises(NotVerified) as refused:
        check_signed_text(source, b"word")
    assert refused.value.final


def test_an_empty_body_behind_signed_headers_that_are_a_word_is_refused(shop, tmp_path):
    kit = proving_kit(tmp_path, shop, signed="{x-time}{body}")
    proof = kit.ask("signed", query={"shop-id": "1700000000"}).body["proof"]
    answer = kit.post("signed", b"", {"X-Time": "1700000000", "X-Signature": proof})
    assert (answer.status, answer.body["error"]) == (401, "signature_wrong")
    kit.close()


def proving_kit(folder, shop, *, signed):
    dialect = Dialect("signed", verify=Signature(signed, at=Header("X-Signature")))
    dialect.envelope(shop._read)
    proving(dialect)
    return Webhooks(folder, {"signed": dialect})


def test_no_text_is_signed_for_a_stranger_if_a_function_makes_the_text_of_signatures(shop, tmp_path):
    def digest_of(request: WebhookRequest) -> bytes:
        return hashlib.sha256(request.body).hexdigest().encode()

    kit = proving_kit(tmp_path, shop, signed=digest_of)
    answer = kit.ask("signed", query={"shop-id": digest_of(WebhookRequest(b"{}")).decode()})
    assert (answer.status, answer.body["error"]) == (403, "challenge_refused")
    assert "a function" in answer.body["message"]
    kit.close()


def test_a_word_from_a_sender_whose_challenge_is_only_repeated_is_kept(shop, kit):
    shop.challenge(EchoQuery("validationToken"))
    assert kit.send_body("shop", b"ping").body["status"] == "accepted"


def test_a_function_of_the_dialect_gets_only_verified_posts(shop, kit):
    seen = []

    @shop.challenge
    def look(asked: ChallengeRequest) -> SenderReply | None:
        seen.append(asked.verified)

    kit.source("shop")
    kit.post("shop", b"{}", {"X-Webhook-Signature": "0" * 64})
    kit.send("shop", "product.updated", id="A1", at=NOON, data=named())
    assert seen == [True]


@pytest.mark.parametrize("wrong", [lambda: 1 / 0, lambda: exit(3), lambda: "abc", lambda: SenderReply(302)])
def test_a_function_that_fails_answers_its_request_with_503(shop, kit, wrong):
    @shop.challenge
    def fail(asked: ChallengeRequest) -> SenderReply | None:
        return wrong() if asked.method == "GET" else None

    before = counted("failed")
    answer = kit.ask("shop", query={"a": "b"})
    assert (answer.status, answer.body["error"], counted("failed") - before) == (503, "unavailable", 1)
    assert kit.send("shop", "product.updated", id="A1", at=NOON, data=named()).status == 200


def test_an_async_challenge_is_refused_at_import(shop):
    async def later(asked):
        return None

    with pytest.raises(WiringError, match="is async"):
        shop.challenge(later)


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 302},
        {"status": 100},
        {"status": 200, "body": "x" * 4_097},
        {"status": 200, "content_type": "text/html"},
        {"status": 200, "headers": {"Set-Cookie": "a=b"}},
        {"status": 200, "headers": {"Allow": "POST\r\nX-Evil: 1"}},
    ],
)
def test_a_harmful_reply_is_refused(reply):
    with pytest.raises(WiringError):
        SenderReply(**reply)


# ── own forms of acks and refusals ────────────────────────────────────────────────────────────────────────────────


def replying(**more):
    dialect = new_shop()
    told = type(dialect)("shop", verify=HmacSha256(header="X-Webhook-Signature"), **more)
    told.envelope(dialect._read)
    return told


def test_a_dialect_may_choose_its_own_2xx(tmp_path, mirror_url):

    kit = Webhooks(tmp_path, {"shop": replying(on_accept=SenderReply(200, "[accepted]"))}, database_url=mirror_url)
    body = json.dumps({"type": "a", "id": "1", "timestamp": NOON.isoformat()}).encode()
    answer = kit.send_body("shop", body)
    assert (answer.status, answer.text, stored(kit)) == (200, "[accepted]", 1)
    kit.close()


@pytest.mark.parametrize("reply", [SenderReply(200, "[accepted]"), SenderReply(202), SenderReply(204)])
def test_the_test_kit_finds_the_delivery_behind_a_reply_that_does_not_name_it(tmp_path, reply):
    kit = Webhooks(tmp_path, {"shop": replying(on_accept=reply)})
    first = kit.send("shop", "a", id="1", at=NOON)
    again = kit.send("shop", "a", id="1", at=NOON)
    refused = kit.post("shop", b"{}")
    kit.drain()
    assert (again.delivery, refused.stored) == (first.delivery, ())
    assert kit.delivery(first)["state"] == "ignored"
    kit.close()


def test_a_fixture_is_checked_behind_a_reply_that_does_not_name_the_delivery(tmp_path):
    kit = Webhooks(tmp_path, {"shop": replying(on_accept=SenderReply(200, "[accepted]"))})
    fixture = tmp_path / "shop" / "a.json"
    fixture.parent.mkdir()
    fixture.write_text(json.dumps({"type": "a", "id": "1", "timestamp": NOON.isoformat()}))
    fixture.with_name("a.expected.json").write_text('{"state": "ignored", "rows": []}')
    kit.check_fixture(fixture)
    kit.close()


@pytest.mark.parametrize(
    ("wanted", "status", "text"),
    [(503, 503, "signature_missing"), (SenderReply(401), 401, ""), (SenderReply(503, "wait"), 503, "wait")],
)
def test_a_refusal_has_the_form_that_the_dialect_declares(tmp_path, mirror_url, wanted, status, text):

    kit = Webhooks(tmp_path, {"shop": replying(on_refusal=wanted)}, database_url=mirror_url)
    kit.source("shop")
    answer = kit.post("shop", b"{}")
    assert answer.status == status
    assert text in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    kit.close()


@pytest.mark.parametrize("wrong", [200, 302, 99, "503", SenderReply(204)])
def test_a_refusal_that_would_ack_is_refused_at_import(wrong):
    with pytest.raises(WiringError, match="on_refusal"):
        replying(on_refusal=wrong)


def test_an_ack_that_would_cause_a_retry_is_refused_at_import():
    with pytest.raises(WiringError, match="on_accept"):
        replying(on_accept=SenderReply(503))
