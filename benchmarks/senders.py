"""The systems whose webhooks the benchmarks send: distinct bodies of any size, signed or encrypted as theirs are.

IIMMPACT's dedup keys begin with the time, Sigma's ids are random, and sticky.io encrypts its bodies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from handlers import sticky
from handlers.iimmpact import iimmpact
from handlers.sigma import sigma
from receiver import Dialect
from receiver.dialects.sources import Source, build_source
from receiver.settings.settings import SourceSettings
from receiver.verify.request import WebhookRequest

#: Number of products that the events are about.
PRODUCTS = 2_000

#: Bytes of a body, about.
SIZE = 1_000

SECRET = "benchmark-secret"

#: A key phrase of sticky.io, which must have 32 characters.
KEY_PHRASE = "BenchmarkKeyPhraseWith32Letters0"

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Sender:
    """One kind of system: how it writes and signs the body with a number."""

    def __init__(self, dialect: Dialect, write: Callable[[int, int], Any], **settings: Any) -> None:
        """`write` makes a document from a number and a size in bytes. `settings` are those of its source."""
        self.name = dialect.name
        self.settings: Mapping[str, Any] = {"secrets": [SECRET]} | settings
        self._dialect, self._write = dialect, write

    @cached_property
    def source(self) -> Source:
        return build_source(SourceSettings(name=self.name, **self.settings), {self.name: self._dialect})

    @property
    def header(self) -> str:
        """The header of the signature. A sender that encrypts has none, and sends one that is not read."""
        return next(iter(self._dialect.verifier.signature_headers), "X-Unused")

    def body(self, number: int, size: int = SIZE) -> bytes:
        """Make the `number`th body. Its time grows with the number."""
        return json.dumps(self._write(number, size), separators=(",", ":")).encode()

    def sent(self, number: int, size: int = SIZE) -> Sent:
        """Make the `number`th body as it is sent."""
        request = WebhookRequest(self.body(number, size))
        body, headers = self._dialect.verifier.sign(request, self.source.credentials)
        return Sent(body, next(iter(headers.values()), "-"))


class Sent(NamedTuple):
    """A body on its way, and the value of its signature's header."""

    body: bytes
    signature: str


def _iimmpact(number: int, size: int) -> Any:
    """A full product."""
    code = f"P{number % PRODUCTS:05d}"
    data = {
        "product_code": code,
        "product_category_code": "MOBILE_PREPAID",
        "name": f"Product {code}",
        "display_name": f"Product {code}, edition {number}",
        "image_url": "https://images.example/" + "x" * (size - 360),
        "processing_time": "instant",
        "is_active": True,
    }
    return {"type": "product.updated", "resource": "products", "id": code, "timestamp": time_of(number), "data": data}


def _sigma(number: int, size: int) -> Any:
    """A change of an entity, whose id looks random."""
    entity = f"ent-{number % PRODUCTS:05d}"
    data = {"entityId": entity, "schemaId": "schema-1", "lifecycleState": "published", "updatedBy": "x" * (size - 300)}
    delivery = f"del-{hashlib.sha256(b'%d' % number).hexdigest()[:32]}"
    return {"event": "entity.updated", "deliveryId": delivery, "timestamp": time_of(number), "data": data}


def _sticky(number: int, size: int) -> Any:
    """A product without variants; encrypted, it is a third larger. Its time is in whole seconds."""
    data = {"sku": f"P{number}", "name": f"Product {number % PRODUCTS}", "price": "9.90", "description": "x"}
    data["description"] *= size * 3 // 4 - 380
    at = BEGINNING + timedelta(seconds=number // 1_000)
    return sticky.write("product.updated", str(1 + number % PRODUCTS), at, data)


def time_of(number: int) -> str:
    """A millisecond later for each body."""
    moment = BEGINNING + timedelta(milliseconds=number)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


IIMMPACT = Sender(iimmpact, _iimmpact)
SIGMA = Sender(sigma, _sigma)
STICKY = Sender(sticky.sticky, _sticky, secrets=[KEY_PHRASE], app_key=sticky.SAMPLE_APP_KEY, cipher="aes-256-cbc")

SENDERS = {sender.name: sender for sender in (IIMMPACT, SIGMA, STICKY)}


def settings_text() -> str:
    """The tables of a settings file for the sources of all senders."""
    lines = []
    for sender in SENDERS.values():
        lines.append(f"[sources.{sender.name}]")
        # A JSON string, or an array of them, is also TOML.
        lines += [f"{name} = {json.dumps(value)}" for name, value in sender.settings.items()]
    return "\n".join(lines) + "\n"
