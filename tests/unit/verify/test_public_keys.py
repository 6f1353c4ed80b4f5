"""Signatures by key pairs, of RSA, of elliptic curves and Ed25519: only the owner of the private key can sign."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509 import CertificateBuilder, Name, random_serial_number
from raw import raw_headers

from receiver import Credentials, Header, NotVerified, Secret, Signature, WebhookRequest
from receiver.errors import ConfigurationError

#: The algorithms, each with the name of its keys in messages.
KINDS = {
    "ed25519": "an Ed25519",
    "rsa_sha256": "an RSA",
    "rsa_sha1": "an RSA",
    "rsa_sha512": "an RSA",
    "ecdsa_sha256": "an elliptic curve",
}

BODY = b'{"id": "A1"}'


@cache
def key(kind: str, number: int):
    if kind == "an RSA":
        # Making a longer one takes long.
        return rsa.generate_private_key(65_537, 1_024)
    if kind == "an elliptic curve":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def private(kind: str, encryption=None) -> bytes:
    return key(kind, 0).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def public(kind: str, number: int = 0) -> bytes:
    return key(kind, number).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate(kind: str) -> bytes:
    now, name = datetime.now(UTC), Name([])
    made = CertificateBuilder(
        name, name, key(kind, 0).public_key(), random_serial_number(), now, now + timedelta(days=1)
    )
    return made.sign(key(kind, 0), hashes.SHA256()).public_bytes(Encoding.PEM)


def verifier(algorithm: str) -> Signature:
    return Signature("{body}", at=Header("X-Sign"), by=algorithm, key="pem", written="base64")


def credentials(*secrets: bytes) -> Credentials:
    return Credentials(secrets=tuple(map(Secret, secrets)))


def signed(algorithm: str) -> WebhookRequest:
    body, headers = verifier(algorithm).sign(WebhookRequest(BODY), credentials(private(KINDS[algorithm])))
    return WebhookRequest(body, raw_headers(headers))


def refusal(algorithm: str, request: WebhookRequest, secret: bytes) -> str:
    with pytest.raises(NotVerified) as caught:
        verifier(algorithm).verify(request, credentials(secret))
    return caught.value.code


@pytest.mark.parametrize("algorithm", KINDS)
def test_what_the_private_key_signed_verifies_with_the_public_one(algorithm):
    kind, request = KINDS[algorithm], signed(algorithm)
    assert verifier(algorithm).check(credentials(public(kind))) is None
    assert verifier(algorithm).verify(request, credentials(public(kind, 1), public(kind))).secret == 1


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_changed_body_under_a_signature_is_refused(algorithm):
    changed = replace(signed(algorithm), body=BODY + b" ")
    assert refusal(algorithm, changed, public(KINDS[algorithm])) == "signature_wrong"


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_signature_by_another_key_of_the_kind_is_refused(algorithm):
    assert refusal(algorithm, signed(algorithm), public(KINDS[algorithm], 1)) == "signature_wrong"


@pytest.mark.parametrize(("algorithm", "other"), [("rsa_sha1", "rsa_sha256"), ("rsa_sha512", "rsa_sha1")])
def test_a_signature_with_another_hash_is_refused(algorithm, other):
    assert refusal(algorithm, signed(other), public("an RSA")) == "signature_wrong"


@pytest.mark.parametrize("algorithm", KINDS)
@pytest.mark.parametrize("sent", [b"AAAA", b"A" * 88, b"A" * 172])
def test_bytes_that_are_no_signature_are_refused(algorithm, sent):
    request = WebhookRequest(BODY, [(b"x-sign", sent)])
    assert refusal(algorithm, request, public(KINDS[algorithm])).startswith("signature_")


@pytest.mark.parametrize("kind", ["an RSA", "an elliptic curve"])
def test_a_certificate_and_a_private_key_hold_the_public_one(kind):
    algorithm = next(name for name, of in KINDS.items() if of == kind)
    for secret in (certificate(kind), private(kind)):
        assert verifier(algorithm).verify(signed(algorithm), credentials(secret)).secret == 0


def test_the_lines_of_a_key_may_be_written_as_in_a_variable():
    written = b" " + public("an RSA").replace(b"\n", b"\\n")
    assert verifier("rsa_sha256").verify(signed("rsa_sha256"), credentials(written)).secret == 0


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_key_of_another_kind_is_refused_at_start(algorithm):
    wrong = public("an RSA" if KINDS[algorithm] != "an RSA" else "an Ed25519")
    assert f"is not {KINDS[algorithm]} key" in str(verifier(algorithm).check(credentials(wrong)))


@pytest.mark.parametrize(
    "secret", [private("an elliptic curve", BestAvailableEncryption(b"word")), b"-----BEGIN PRIVATE KEY-----"]
)
def test_a_private_key_that_cannot_be_read_is_refused_at_start(secret):
    said = str(verifier("ecdsa_sha256").check(credentials(secret)))
    assert "is not a private key in PEM without a password" in said


def test_one_key_in_two_forms_is_refused_at_start():
    both = credentials(public("an elliptic curve"), certificate("an elliptic curve"))
    assert "are the same key, written in two ways" in str(verifier("ecdsa_sha256").check(both))


@pytest.mark.parametrize("algorithm", KINDS)
def test_nobody_signs_with_a_public_key(algorithm):
    with pytest.raises(ConfigurationError, match="is a public key, and only the private one signs"):
        verifier(algorithm).sign(WebhookRequest(BODY), credentials(public(KINDS[algorithm])))


@pytest.mark.parametrize("raw", [b"whpk_AAAA", b"whpk_" + b"A" * 44])
def test_ed25519_in_base64_takes_exactly_32_bytes(raw):
    of_standard = Signature("{body}", at=Header("X-Sign"), by="ed25519", key="whpk", written="base64")
    assert "is not the 32 bytes of an Ed25519 public key" in str(of_standard.check(credentials(raw)))
