"""The short forms for senders: each is in the guide, and none of its parts contradicts another."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from raw import raw_headers

from receiver import senders
from receiver.errors import ConfigurationError
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
def test_a_short_form_is_a_verifier_and_stands_in_the_guide(name):
    assert isinstance(FORMS[name](), (Signature, Token))
    assert f"`{name}`" in GUIDE


@pytest.mark.parametrize("name", FORMS)
def test_a_source_that_is_warm_sets_no_key_up_again(name, monkeypatch):
    verifier, url = FORMS[name](), "https://hooks.example.com/hooks/shop"
    if isinstance(verifier, Token) or verifier.by not in DIGESTS or isinstance(verifier.at, BodyMember):
        pytest.skip("its proof needs a private key, or stands in the body")
    secrets = tuple(Secret(b"whsec_" + b64encode(bytes([number]) * 32)) for number in (1, 2))
    if verifier.key == "hex":
        secrets = tuple(Secret(bytes([number]).hex().encode() * 32) for number in (1, 2))
    credentials = Credentials(secrets=secrets, public_url=url)
    request = WebhookRequest(b"a=b", target=b"/hooks/shop", public_url=url, at=datetime(2026, 6, 1, tzinfo=UTC))
    try:
        _, headers = verifier.sign(request, credentials)
    except ConfigurationError:
        pytest.skip("it signs headers of which a value cannot be made up")
    request.headers = raw_headers(headers)
    verifier.verify(request, credentials)
    monkeypatch.setattr(hashlib, "new", lambda *_: pytest.fail("a hash was set up for a known secret"))
    assert verifier.verify(request, credentials).secret == 0
