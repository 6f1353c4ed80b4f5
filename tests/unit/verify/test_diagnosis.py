"""The likely cause of a wrong signature: each common mistake is recognised, and no cause is invented."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from raw import raw_headers

from receiver import senders
from receiver.verify.composed import Signature
from receiver.verify.diagnosis import likely_form, likely_mistake
from receiver.verify.freshness import Fresh
from receiver.verify.places import Header
from receiver.verify.request import WebhookRequest
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Credentials, Secret, Verifier

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
BODY = '{"name": "Lampe é", "path": "a/b", "price": 1.5}'.encode()


def credentials(*secrets: bytes) -> Credentials:
    return Credentials(secrets=tuple(map(Secret, secrets)))


def posted(verifier: Verifier, secret: bytes, signed: bytes = BODY, body: bytes = BODY) -> WebhookRequest:
    _, headers = verifier.sign(WebhookRequest(signed, at=AT), credentials(secret))
    return WebhookRequest(body, raw_headers(headers), at=AT)


def told(verifier: Verifier, request: WebhookRequest, *ours: bytes, **others: bytes) -> str:
    of_others = {name: credentials(secret) for name, secret in others.items()}
    return likely_mistake(verifier, request, credentials(*ours), of_others) or ""


@pytest.mark.parametrize(
    ("theirs", "ours", "says"),
    [
        (b"secret", b" secret ", "without the blanks"),
        (b"secret\n", b"secret", "and a line end behind it"),
        (b"whsec_abc", b"v1,whsec_abc", "without `v1,`"),
        (b"abc", b"whsec_abc", "without `whsec_`"),
        (b"\x01\x02\x03", b64encode(b"\x01\x02\x03"), "decoded from base64"),
        (b"\x01\x02\xff", b"0102ff", "decoded from hexadecimal digits"),
    ],
)
def test_a_secret_that_is_decoded_differently_is_recognised(theirs, ours, says):
    github = senders.GitHub()
    assert says in told(github, posted(github, theirs), ours)


def test_a_secret_that_the_sender_uses_as_text_although_it_is_decoded_here_is_recognised():
    key = b64encode(b"abcdefgh")
    assert "taken as written" in told(senders.StandardWebhooks(), posted(senders.BigCommerce(), key), key)


@pytest.mark.parametrize(
    ("called", "known", "host"),
    [
        ("https://pim.example/hooks/s", "https://pim.example:8443/hooks/s", "10.0.0.7:8000"),
        ("https://pim.example:8443/hooks/s", "https://pim.example/hooks/s", "pim.example:8443"),
        ("https://pim.example:443/hooks/s", "https://pim.example/hooks/s", "pim.example"),
        ("http://pim.example/hooks/s", "https://pim.example/hooks/s", "pim.example"),
        ("https://shop.example/hooks/s", "https://pim.example/hooks/s", "shop.example"),
        ("https://pim.example/hooks/s", "https://pim.example/webhooks/s", "pim.example"),
    ],
)
def test_the_url_that_the_sender_signed_instead_of_the_one_in_the_settings_is_named_without_its_query(
    called, known, host
):
    square, target = senders.Square(), b"/hooks/s?token=hidden"
    _, headers = square.sign(WebhookRequest(BODY, target=target, public_url=called, at=AT), credentials(b"secret"))
    request = WebhookRequest(
        BODY, [*raw_headers(headers), (b"host", host.encode())], target=target, public_url=known, at=AT
    )
    assert told(square, request, b"secret").startswith(f"It fits with the URL {called}: set `registered_url`")
    assert told(square, request, b"another") == ""


@pytest.mark.parametrize(
    "sent",
    [
        json.dumps(json.loads(BODY), separators=(",", ":")).encode(),
        json.dumps(json.loads(BODY), separators=(",", ":"), ensure_ascii=False).encode(),
        json.dumps(json.loads(BODY)).encode(),
        json.dumps(json.loads(BODY), separators=(",", ":")).replace("/", "\\/").encode(),
    ],
)
def test_a_body_that_was_serialised_again_is_recognised(sent):
    github = senders.GitHub()
    request = posted(github, b"secret", signed=sent, body=json.dumps(json.loads(BODY), indent=1).encode())
    assert "decoded and encoded again" in told(github, request, b"secret")


@pytest.mark.parametrize(
    ("signed", "body"), [(BODY, BODY + b"\n"), (BODY + b"\n", BODY), (BODY, b"\xef\xbb\xbf" + BODY)]
)
def test_a_body_with_another_end_or_beginning_is_recognised(signed, body):
    github = senders.GitHub()
    assert "the body with" in told(github, posted(github, b"secret", signed, body), b"secret")


def test_the_secret_of_another_source_is_recognised():
    stripe = senders.Stripe()
    assert "the source other" in told(stripe, posted(stripe, b"theirs"), b"ours", other=b"theirs")


@pytest.mark.parametrize("body", [BODY, b"", b"[" * 100_000, b"\xff\xfe", b"NaN"])
def test_without_a_known_mistake_no_cause_is_named(body):
    github = senders.GitHub()
    assert told(github, posted(github, b"guess", body, body), b"secret", other=b"another") == ""


def timed(unit: str) -> Signature:
    return Signature("{X-Time}.{body}", at=Header("X-Sign"), fresh=Fresh("{X-Time}", unit=unit))


@pytest.mark.parametrize("theirs", ["seconds", "milliseconds", "iso"])
@pytest.mark.parametrize("ours", ["seconds", "milliseconds", "iso"])
def test_a_signed_time_in_another_unit_is_recognised(theirs, ours):
    request = posted(timed(theirs), b"secret")
    said = likely_form(timed(ours), request, credentials(b"secret"))
    assert said is None if theirs == ours else f'set unit="{theirs}" in Fresh' in said
    if (ours, theirs) == ("seconds", "milliseconds"):
        assert "looks like milliseconds" in said


def test_an_old_time_and_a_time_under_a_wrong_signature_are_not_of_another_unit():
    request = posted(timed("seconds"), b"secret")
    old = WebhookRequest(request.body, request.headers, at=datetime(2030, 1, 1, tzinfo=UTC))
    assert likely_form(timed("seconds"), old, credentials(b"secret")) is None
    assert likely_form(timed("milliseconds"), request, credentials(b"other")) is None


@pytest.mark.parametrize(("theirs", "size"), [("hmac_sha256", 32), ("hmac_sha1", 20), ("hmac_sha512", 64)])
@pytest.mark.parametrize("written", ["hex", "base64"])
def test_the_algorithm_that_makes_the_length_of_a_signature_is_named(theirs, size, written):
    request = posted(Signature("{body}", at=Header("X-Sign"), by=theirs, written=written), b"secret")
    for ours in {"hmac_sha256", "hmac_sha1", "hmac_sha512"} - {theirs}:
        said = likely_form(
            Signature("{body}", at=Header("X-Sign"), by=ours, written=written), request, credentials(b"s")
        )
        assert f"to {size} bytes, the length that {theirs} makes" in said
        assert f'set by="{theirs}" in a Signature' in said


def test_another_encoding_of_a_signature_is_named():
    request = posted(Signature("{body}", at=Header("X-Sign"), by="hmac_sha512", written="base64"), b"secret")
    said = likely_form(HmacSha256(header="X-Sign"), request, credentials(b"secret"))
    assert 'set by="hmac_sha512" and written="base64" in a Signature' in said


@pytest.mark.parametrize("value", ["", "zz", "a" * 10, "é", "A" * 5000])
def test_no_form_is_invented_for_another_text(value):
    request = WebhookRequest(BODY, [(b"x-sign", value.encode())], at=AT)
    for verifier in (HmacSha256(header="X-Sign"), Signature("{body}", at=Header("X-Sign"))):
        assert likely_form(verifier, request, credentials(b"secret")) is None
    assert likely_form(HmacSha256(header="X-Other"), request, credentials(b"secret")) is None


def test_an_error_of_a_signed_text_is_no_hint():
    def fails(request):
        raise SystemExit

    verifier = Signature(fails, at=Header("X-Sign"), fresh=None)
    assert likely_form(verifier, WebhookRequest(BODY, [(b"x-sign", b"zz")], at=AT), credentials(b"s")) is None
