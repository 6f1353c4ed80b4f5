"""The four systems as senders: their bodies and signatures, written without Hookmirror's own code.

A mistake in a verifier therefore cannot hide behind the same mistake in the tests.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from base64 import b64encode
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

#: The sources of the tests. Each is named for its dialect.
SECRETS = {
    "sigma": "sigma-secret-of-these-tests",
    "indexed": "indexed-secret-of-these-tests",
    "iimmpact": "iimmpact-secret-of-these-tests",
    "sticky": "KeyPhraseOf32CharactersForTests1",
}
APP_KEY = "app-key-of-these-tests"
SOURCES: dict[str, dict[str, Any]] = {
    "sigma": {"secrets": [SECRETS["sigma"]]},
    "indexed": {"secrets": [SECRETS["indexed"]]},
    "iimmpact": {"secrets": [SECRETS["iimmpact"]]},
    "sticky": {"secrets": [SECRETS["sticky"]], "app_key": APP_KEY, "cipher": "aes-256-cbc"},
}
SIGNED = ("sigma", "indexed", "iimmpact")
HEADERS = {"sigma": "X-Sigma-Signature", "indexed": "X-Webhook-Signature", "iimmpact": "X-Webhook-Signature"}

NOON = "2026-03-04T12:00:00Z"


def document(source: str, *, id: Any = "A1", event_type: str | None = None, key: str = "k1", data: Any = ...) -> Any:  # noqa: A002
    """Make the JSON value that the system posts about a product; `data` replaces its content."""
    if source == "sigma":
        data = {"lifecycleState": "live"} if data is ... else data
        thing = None if data is None else {"entityId": id, **data}
        return {"event": event_type or "entity.updated", "deliveryId": key, "timestamp": NOON, "data": thing}
    if source == "indexed":
        data = {"name": f"Lamp {key}"} if data is ... else data
        thing = None if data is None else {"externalId": id, **data}
        return {"event": event_type or "product.updated", "timestamp": NOON, "product": thing}
    if source == "iimmpact":
        data = {"display_name": f"Lamp {key}"} if data is ... else data
        named = event_type or "product.updated"
        return {"type": named, "resource": "products", "id": id, "timestamp": NOON, "data": data}
    data = {"name": "Lamp"} if data is ... else data
    thing = None if data is None else {"id": id, **data}
    change = {"id": "c1", "object": thing, "created": "2026-03-04 07:00:00", "correlationId": key}
    return {
        "clientAppKey": APP_KEY,
        "type": event_type or "product.updated",
        "time": "2026-03-04 07:00:00",
        "data": change,
    }


def body(source: str, **parts: Any) -> bytes:
    return json.dumps(document(source, **parts)).encode()


def digits(source: str, content: bytes, secret: str | None = None) -> str:
    """Compute the hexadecimal digits of the signature."""
    return hmac.new((secret or SECRETS[source]).encode(), content, hashlib.sha256).hexdigest()


def seal(content: bytes, phrase: str = SECRETS["sticky"]) -> bytes:
    """Encrypt with AES-256-CBC and PKCS7 padding; return base64 text that begins with the initialisation vector."""
    vector = os.urandom(16)
    missing = 16 - len(content) % 16
    encryptor = Cipher(algorithms.AES256(phrase.encode()), modes.CBC(vector)).encryptor()
    return b64encode(vector + encryptor.update(content + bytes([missing]) * missing) + encryptor.finalize())


def sent(source: str, content: bytes, secret: str | None = None) -> tuple[bytes, dict[str, str]]:
    """Return the bytes to send and the headers that authenticate them."""
    if source == "sticky":
        return seal(content, secret or SECRETS["sticky"]), {}
    return content, {HEADERS[source]: f"sha256={digits(source, content, secret)}"}
