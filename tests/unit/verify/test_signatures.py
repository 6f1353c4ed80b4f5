"""HMAC signatures: which verify, and the reasons for which others are refused, whatever a stranger sends."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw import raw_headers

from receiver import Header, Signature
from receiver.errors import NotVerified, WiringError
from receiver.verify.algorithms import KeyedHash
from receiver.verify.request import WebhookRequest
from receiver.verify.signatures import HmacSha256, Unsigned
from receiver.verify.verifiers import Credentials, Secret

BODY = b'{"event":"entity.updated"}'
NEW, OLD = b"whsec_a1b2c3d4e5f6g7h8i9j0", b"whsec_the_one_before"
HEADER = b"x-signature"

strict = HmacSha256(header="X-Signature", prefix_required=True)
lenient = HmacSha256(header="X-Signature")
one = Credentials(secrets=(Secret(NEW),))
both = Credentials(secrets=(Secret(NEW), Secret(OLD)))


def digits(body: bytes = BODY, secret: bytes = NEW) -> bytes:
    return hmac.new(secret, body, hashlib.sha256).hexdigest().encode()


def refusal(signature: bytes | None, verifier: HmacSha256 = strict, credentials: Credentials = one) -> str:
    headers = [] if signature is None else [(HEADER, signature)]
    with pytest.raises(NotVerified) as caught:
        verifier.verify(WebhookRequest(BODY, headers), credentials)
    return caught.value.code


@given(key=st.binary(max_size=300), text=st.binary(), algorithm=st.sampled_from(["sha256", "sha1", "sha512"]))
def test_a_keyed_hash_is_the_hmac_of_any_text_with_any_key(key, text, algorithm):
    kept = KeyedHash(key, f"hmac_{algorithm}")
    wanted = hmac.digest(key, text, algorithm)
    assert [kept.digest(text), kept.digest(text)] == [wanted, wanted]


@given(body=st.binary(), secret=st.binary(min_size=1))
def test_a_signed_body_verifies(body, secret):
    credentials = Credentials(secrets=(Secret(secret),))
    sent, headers = strict.sign(WebhookRequest(body), credentials)
    verified = strict.verify(WebhookRequest(sent, raw_headers(headers)), credentials)
    assert (verified.plain, verified.secret) == (body, 0)


def test_the_signature_equals_the_sender_s_own_computation():
    assert strict.verify(WebhookRequest(BODY, [(HEADER, b"sha256=" + digits())]), one).plain == BODY


def test_upper_case_digits_verify():
    assert strict.verify(WebhookRequest(BODY, [(HEADER, b"sha256=" + digits().upper())]), one).secret == 0


def test_digits_without_the_prefix_verify_only_if_it_is_optional():
    assert lenient.verify(WebhookRequest(BODY, [(HEADER, digits())]), one).secret == 0
    assert refusal(digits(), strict) == "signature_malformed"


def test_an_unknown_encoding_is_refused():
    with pytest.raises(WiringError, match='knows no encoding \'Base64\': write "hex" or "base64"'):
        HmacSha256(header="X-Signature", encoding="Base64")


@pytest.mark.parametrize("template", ["{payload}", "{x-time}.{payload}"])
def test_a_template_with_another_word_for_the_body_is_told_the_placeholder_of_the_body(template):
    with pytest.raises(WiringError, match=r"\{payload\} names a field of X-Signature, .* write \{body\} for the body"):
        Signature(template, at=Header("X-Signature"))


def test_without_a_prefix_it_cannot_be_optional():
    bare = HmacSha256(header="X-Signature", prefix="", prefix_required=True)
    assert bare.verify(WebhookRequest(BODY, [(HEADER, digits())]), one).secret == 0


def test_a_signature_in_base64_verifies_and_is_sent_in_base64():
    in_base64 = HmacSha256(header="X-Signature", prefix="", encoding="base64")
    digest = hmac.new(NEW, BODY, hashlib.sha256).digest()
    assert in_base64.verify(WebhookRequest(BODY, [(HEADER, base64.b64encode(digest))]), one).secret == 0
    assert in_base64.sign(WebhookRequest(BODY), one) == (BODY, {"X-Signature": base64.b64encode(digest).decode()})


@pytest.mark.parametrize(
    "signature", [b"", b"====", b"\xff\xfe", b"sha256=", digits(), base64.b64encode(b"short"), b"?" * 44]
)
def test_a_text_that_is_not_the_base64_of_a_digest_is_malformed(signature):
    in_base64 = HmacSha256(header="X-Signature", prefix="", encoding="base64")
    with pytest.raises(NotVerified, match=r"^X-Signature is not the base64 of 32 bytes\.$") as caught:
        in_base64.verify(WebhookRequest(BODY, [(HEADER, signature)]), one)
    assert caught.value.code == "signature_malformed"


@pytest.mark.parametrize(
    "prefix", [b"sha1=", b"SHA256=", b"sha512=", b"v1=", b"sha256=sha256=", b"sha256= ", b" sha256="]
)
def test_the_right_digits_after_another_prefix_are_refused(prefix):
    assert refusal(prefix + digits(), strict) == "signature_malformed"
    assert refusal(prefix + digits(), lenient) == "signature_malformed"


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length):
    assert refusal(b"sha256=" + (digits() * 2)[:length]) == "signature_malformed"


@pytest.mark.parametrize("signature", [b"", b"sha256=", b"\xff" * 64, b"sha256=" + "é".encode() * 32, b"z" * 64, b"\0"])
def test_a_signature_that_is_not_hexadecimal_is_refused(signature):
    assert refusal(signature) == "signature_malformed"
    assert refusal(signature, lenient) == "signature_malformed"


def test_a_missing_signature_is_refused():
    assert refusal(None) == "signature_missing"


def test_a_header_sent_twice_is_refused_even_if_both_are_right():
    right = (HEADER, b"sha256=" + digits())
    with pytest.raises(NotVerified) as caught:
        strict.verify(WebhookRequest(BODY, [right, right]), one)
    assert caught.value.code == "signature_repeated"


def test_a_signature_over_another_body_is_refused():
    assert refusal(b"sha256=" + digits(BODY + b" ")) == "signature_wrong"


def test_a_signature_with_another_secret_is_refused():
    assert refusal(b"sha256=" + digits(secret=b"guess")) == "signature_wrong"


def test_every_refusal_says_what_to_do():
    for signature in (None, b"", b"sha256=" + digits(secret=b"guess")):
        with pytest.raises(NotVerified, match="X-Signature"):
            strict.verify(WebhookRequest(BODY, [] if signature is None else [(HEADER, signature)]), one)


@pytest.mark.parametrize(("secret", "position"), [(NEW, 0), (OLD, 1)])
def test_during_a_rotation_both_secrets_verify_and_the_one_used_is_returned(secret, position):
    assert strict.verify(WebhookRequest(BODY, [(HEADER, b"sha256=" + digits(secret=secret))]), both).secret == position


def test_the_newest_secret_signs():
    _, headers = strict.sign(WebhookRequest(BODY), both)
    assert headers == {"X-Signature": f"sha256={digits().decode()}"}


def test_a_hint_names_the_secret_to_try_first_and_decides_nothing():
    named = Credentials(secrets=(Secret(NEW, "web_new"), Secret(OLD, "web_old")))
    for hint in ("web_new", "web_old", "web_unknown", None):
        hinted = HmacSha256(header="X-Signature", hint=lambda body, hint=hint: hint)
        assert hinted.verify(WebhookRequest(BODY, [(HEADER, digits(secret=OLD))]), named).secret == 1
        assert refusal(digits(secret=b"guess"), hinted, named) == "signature_wrong"


def test_an_unsigned_body_is_accepted_only_with_allow_unsigned():
    allowed = Credentials(allow_unsigned=True)
    verified = strict.verify(WebhookRequest(BODY), allowed)
    assert (verified.plain, verified.secret) == (BODY, None)
    assert refusal(None, credentials=Credentials(secrets=(Secret(NEW),))) == "signature_missing"


def test_a_wrong_signature_is_refused_even_with_allow_unsigned():
    allowed = Credentials(secrets=(Secret(NEW),), allow_unsigned=True)
    assert refusal(b"sha256=" + digits(secret=b"guess"), credentials=allowed) == "signature_wrong"


def test_a_source_without_a_secret_is_refused_with_the_advice_to_set_one():
    assert "set `secrets" in (strict.check(Credentials()) or "")
    assert strict.check(Credentials(allow_unsigned=True)) is None
    assert strict.check(one) is None


def test_a_dialect_without_any_verification_needs_allow_unsigned():
    assert "allow_unsigned = true" in (Unsigned().check(Credentials()) or "")
    assert Unsigned().verify(WebhookRequest(BODY), Credentials(allow_unsigned=True)).secret is None
    with pytest.raises(NotVerified) as caught:
        Unsigned().verify(WebhookRequest(BODY), Credentials())
    assert caught.value.code == "signature_missing"


def test_secrets_do_not_show_in_a_repr():
    assert NEW.decode() not in repr(one)


@given(headers=st.lists(st.tuples(st.sampled_from([HEADER, b"x-other"]), st.binary(max_size=100)), max_size=4))
@pytest.mark.parametrize("verifier", [strict, lenient])
def test_any_headers_of_a_stranger_are_refused_with_a_401(verifier, headers):
    with pytest.raises(NotVerified) as caught:
        verifier.verify(WebhookRequest(BODY, headers), both)
    assert caught.value.status == 401
    assert caught.value.code.startswith("signature_")
