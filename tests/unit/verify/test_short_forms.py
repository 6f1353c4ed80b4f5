"""The short forms for senders: each is in the guide, and their parts do not contradict each other."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from raw import raw_headers

from receiver import senders
from receiver.errors import ConfigurationError, NotVerified
from receiver.verify.algorithms import DIGESTS
from receiver.verify.composed import Signature
from receiver.verify.places import BodyMember
from receiver.verify.request import WebhookRequest
from receiver.verify.token import Token
from receiver.verify.verifiers import Credentials, Secret

GUIDE = (Path(__file__).parents[3] / "docs" / "writing-a-dialect.md").read_text("utf-8")

FORMS = {
    name: value for name, value in vars(senders).items() if name[0].isupper() and isinstance(value, senders.partial)
}


@pytest.mark.parametrize("name", FORMS)
def test_a_short_form_is_a_verifier_and_is_explained_in_the_guide(name):
    assert isinstance(FORMS[name](), (Signature, Token))
    assert f"`{name}`" in GUIDE


@pytest.mark.parametrize("name", FORMS)
def test_a_source_sets_up_each_key_only_once(name, monkeypatch):
    verifier, url = FORMS[name](), "https://hooks.example.com/hooks/shop"
    if isinstance(verifier, Token) or verifier.by not in DIGESTS or isinstance(verifier.at, BodyMember):
        pytest.skip("it needs a private key, or its signature is in the body")
    secrets = tuple(Secret(b"whsec_" + b64encode(bytes([number]) * 32)) for number in (1, 2))
    if verifier.key == "hex":
        secrets = tuple(Secret(bytes([number]).hex().encode() * 32) for number in (1, 2))
    credentials = Credentials(secrets=secrets, public_url=url)
    request = WebhookRequest(b"a=b", target=b"/hooks/shop", public_url=url, at=datetime(2026, 6, 1, tzinfo=UTC))
    _, headers = verifier.sign(request, credentials)
    request.headers = raw_headers(headers)
    verifier.verify(request, credentials)
    monkeypatch.setattr(hashlib, "new", lambda *_: pytest.fail("a hash was set up for a known secret"))
    assert verifier.verify(request, credentials).secret == 0


# ── a signature in the body ───────────────────────────────────────────────────────────────────────────────────────


ADYEN = Credentials(secrets=(Secret(b"44782DEF547AAA06"),))


@pytest.mark.parametrize("more", [b"", b', "additionalData": {"a": 1.50, "hmacSignature": "old"}'])
def test_a_signature_is_written_into_the_body_that_it_signs(more):
    body = b'{"pspReference": "7", "amount": {"value": 1.10, "currency": "EUR"}%b}' % more
    signed, headers = senders.AdyenItem().sign(WebhookRequest(body), ADYEN)
    assert headers == {}
    assert senders.AdyenItem().verify(WebhookRequest(signed), ADYEN).plain == signed
    assert b'"value":1.10' in signed
    with pytest.raises(NotVerified, match="does not fit"):
        senders.AdyenItem().verify(WebhookRequest(signed.replace(b"1.10", b"1.11")), ADYEN)


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b'{"a": {"b": 7}}', b'{"a": []}'])
def test_a_body_without_an_object_for_the_signature_cannot_be_signed(body):
    signature = Signature(lambda _: b"", at=BodyMember("a.b.c"))
    with pytest.raises(ConfigurationError, match=r"the signature is `a\.b\.c` in the body.*Send a JSON object"):
        signature.sign(WebhookRequest(body), ADYEN)


# ── bad input to the functions that make signed texts ─────────────────────────────────────────────────────────────


def refused_by(text_of, body: bytes = b"", headers: dict[str, str] | None = None, target: bytes = b"/hooks/a") -> str:
    request = WebhookRequest(body, raw_headers(headers or {}), target=target, public_url="https://a.example/hooks/a")
    with pytest.raises(NotVerified) as caught:
        text_of(request)
    return caught.value.code


@pytest.mark.parametrize("claimed", [b"%C3%A9", b"%FF", b"\xe9"])
def test_a_checksum_of_twilio_that_is_not_ascii_is_a_wrong_signature(claimed):
    assert refused_by(senders.twilio_text, b"{}", target=b"/hooks/a?bodySHA256=" + claimed) == "signature_wrong"


def test_a_query_of_twilio_with_too_many_fields_is_refused_before_they_are_parsed():
    target = b"/hooks/a?" + b"a&" * senders.MOST_TWILIO_FIELDS + b"bodySHA256=" + sha256(b"{}").hexdigest().encode()
    assert refused_by(senders.twilio_text, b"{}", target=target) == "signature_malformed"


def test_a_form_of_twilio_with_too_many_fields_is_refused_before_they_are_sorted():
    body = b"&".join(b"f%d=1" % number for number in range(senders.MOST_TWILIO_FIELDS + 1))
    assert refused_by(senders.twilio_text, body) == "signature_malformed"


@pytest.mark.parametrize("named", ["x-long," * 100, "x" * 3_000])
def test_a_long_list_of_headers_signed_by_contentful_is_refused_before_values_are_copied(named):
    names = f"x-contentful-signed-headers,x-contentful-timestamp,{named}"
    sent = {"x-contentful-signed-headers": names, "x-contentful-timestamp": "1", "x-long": "x" * 8_000}
    assert refused_by(senders.contentful_text, headers=sent) == "signature_malformed"
