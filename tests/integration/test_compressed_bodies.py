"""Compressed bodies: read if the dialect allows it, otherwise reported as compressed, and never lost."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64decode
from datetime import UTC, datetime

import pytest
from shopping import NOON, named

from handlers.catalog import Product
from receiver import Dialect, EncryptedBody
from receiver.testing import TEST_APP_KEY, Webhooks
from receiver.verify.request import WebhookRequest
from receiver.verify.token import Token

GZIP = {"content-encoding": "gzip"}


@pytest.fixture
def body(kit: Webhooks) -> bytes:
    return kit.source("shop").dialect.write("product.updated", "A1", at=NOON, data=named("Lantern"))


@pytest.fixture
def allowing(shop: Dialect) -> None:
    shop.decompress = True


def signature(kit: Webhooks, content: bytes) -> dict[str, str]:
    source = kit.source("shop")
    return source.dialect.verifier.sign(WebhookRequest(content), source.credentials)[1]


def packed_at(year: int, content: bytes) -> bytes:
    return gzip.compress(content, mtime=datetime(year, 1, 1, tzinfo=UTC).timestamp())


# ── dialects that allow compression ───────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("allowing")
@pytest.mark.parametrize(("content", "shown"), [(b"not JSON", "utf-8"), (b"\xff\xfe not text", "base64")])
def test_what_a_compressed_body_holds_is_given_with_its_encoding(kit, content, shown):
    packed = gzip.compress(content)
    delivery = kit.delivery(kit.post("shop", packed, signature(kit, packed) | GZIP))
    assert delivery["plain_encoding"] == shown
    assert (delivery["plain"].encode() if shown == "utf-8" else b64decode(delivery["plain"])) == content


@pytest.mark.usefixtures("allowing")
@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("signed", ["what is sent", "what was compressed"])
@pytest.mark.parametrize("headers", [GZIP, {}, {"content-encoding": "br"}])
def test_a_compressed_body_is_read_whatever_a_header_says(kit, body, pack, signed, headers):
    packed = pack(body)
    proof = signature(kit, packed if signed == "what is sent" else body)
    answer = kit.post("shop", packed, proof | headers)
    kit.drain()
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["outcome"]) == ("processed", "applied")
    assert kit.row(Product, "A1").name == "Lantern"
    assert b64decode(delivery["body"]) == packed
    assert delivery["plain"].encode() == body


@pytest.mark.usefixtures("allowing")
def test_a_token_in_a_compressed_body_is_found(shop, kit):
    shop.verifier = Token(body="token")
    kit.source("shop", secrets=["between us"])
    plain = {"type": "product.updated", "id": "A1", "timestamp": NOON.isoformat(), "data": named("Lantern")}
    right, wrong = (gzip.compress(json.dumps(plain | {"token": each}).encode()) for each in ("between us", "guessed"))
    answer = kit.post("shop", right, GZIP)
    assert answer.body["status"] == "accepted", answer.text
    assert "between us" not in str(kit.delivery(answer))
    assert kit.post("shop", wrong, GZIP).body["error"] == "signature_wrong"


@pytest.mark.usefixtures("allowing")
def test_an_uncompressed_body_is_read_even_if_a_header_says_otherwise(kit, body):
    answer = kit.post("shop", body, signature(kit, body) | GZIP)
    kit.drain()
    delivery = kit.delivery(answer)
    assert (delivery["state"], delivery["plain"], delivery["body"].encode()) == ("processed", None, body)


@pytest.mark.usefixtures("allowing")
def test_the_same_content_compressed_or_not_is_a_duplicate(kit, body):
    ways = (packed_at(2020, body), packed_at(2021, body), body)
    answers = [kit.post("shop", sent, signature(kit, body)).body for sent in ways]
    assert [answer["status"] for answer in answers] == ["accepted", "duplicate", "duplicate"]


@pytest.mark.usefixtures("allowing")
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda packed: packed[:-4], "ends in the middle"),
        (lambda packed: packed + b"{}", "has bytes after its end"),
        (lambda packed: packed[:10] + b"\xff" * 30, "is damaged"),
        (lambda _: gzip.compress(b" " * 2_000_000), "holds more than 1048576 bytes"),
        (lambda _: gzip.compress(b"") * 1_000, "more than 16 parts"),
        (lambda _: gzip.compress(b"<event/>"), "XML or HTML"),
        (lambda _: gzip.compress(b""), "it is empty"),
    ],
)
def test_a_signed_body_that_cannot_be_decompressed_is_kept_with_its_reason(kit, body, spoil, reason):
    sent = spoil(gzip.compress(body))
    delivery = kit.delivery(kit.post("shop", sent, signature(kit, sent)))
    assert delivery["state"] == "dead"
    assert reason in delivery["reason"]
    assert b64decode(delivery["body"]) == sent


@pytest.mark.usefixtures("allowing")
@pytest.mark.parametrize("sent", [gzip.compress(b" " * 2_000_000), gzip.compress(b"{}")[:-4]], ids=["bomb", "cut"])
def test_a_body_that_neither_verifies_nor_decompresses_is_refused_as_compressed(kit, sent):
    answer = kit.post("shop", sent, signature(kit, b"something else") | GZIP)
    assert (answer.status, answer.body["error"]) == (401, "body_compressed")


@pytest.mark.usefixtures("allowing")
def test_a_body_that_verifies_in_neither_form_is_refused_for_its_signature(kit, body):
    answer = kit.post("shop", gzip.compress(body), signature(kit, b"something else") | GZIP)
    assert (answer.status, answer.body["error"]) == (401, "signature_wrong")
    assert kit.post("shop", gzip.compress(body), GZIP).body["error"] == "signature_missing"


# ── dialects without compression ──────────────────────────────────────────────────────────────────────────────


def test_a_compressed_body_signed_as_sent_is_kept_and_replayed_after_a_fix(kit, shop, body):
    packed = gzip.compress(body)
    answer = kit.post("shop", packed, signature(kit, packed) | GZIP)
    delivery = kit.delivery(answer)
    assert (answer.status, delivery["state"]) == (200, "dead")
    assert "compressed with gzip" in delivery["reason"]
    shop.decompress = True
    kit.inbox.replay([int(answer.delivery)], now=kit.now())
    kit.drain()
    assert kit.delivery(answer)["state"] == "processed"
    assert kit.row(Product, "A1").name == "Lantern"


@pytest.mark.parametrize("headers", [GZIP, {"content-encoding": "br"}, {}])
def test_a_compressed_body_that_does_not_verify_is_refused_as_compressed(kit, body, headers):
    answer = kit.post("shop", gzip.compress(body), signature(kit, body) | headers)
    assert (answer.status, answer.body["error"]) == (401, "body_compressed")
    assert "compressed" in answer.body["message"]
    assert answer.body["message"].isprintable()


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "identity"}, {"content-encoding": ""}])
def test_a_plain_body_with_a_wrong_signature_is_refused_for_its_signature(kit, body, headers):
    answer = kit.post("shop", body, signature(kit, b"something else") | headers)
    assert (answer.status, answer.body["error"]) == (401, "signature_wrong")


# ── encrypted bodies ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def sealing(shop: Dialect) -> None:
    shop.verifier = EncryptedBody(app_key_member="key")
    shop.decompress = True


def with_key(body: bytes) -> bytes:
    return body.replace(b"{", b'{"key":"%b",' % TEST_APP_KEY.encode(), 1)


@pytest.mark.usefixtures("sealing")
def test_an_encrypted_body_may_be_compressed(kit, body):
    source = kit.source("shop")
    sealed, headers = source.dialect.verifier.sign(WebhookRequest(with_key(body)), source.credentials)
    delivery = kit.delivery(kit.post("shop", gzip.compress(sealed), headers))
    assert (delivery["state"], TEST_APP_KEY in delivery["plain"]) == ("pending", False)
    assert b64decode(delivery["body"])[:2] == b"\x1f\x8b"


@pytest.mark.usefixtures("sealing")
def test_an_application_key_inside_compressed_bytes_is_not_stored(kit, body):
    kit.source("shop", cipher="none", app_key=TEST_APP_KEY, secrets=[])
    delivery = kit.delivery(kit.post("shop", gzip.compress(with_key(body))))
    assert (delivery["state"], delivery["plain"]) == ("pending", None)
    assert TEST_APP_KEY not in delivery["body"]
    assert "Lantern" in delivery["body"]
