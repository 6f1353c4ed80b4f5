"""Stripe's events about products: distinct, of about 1 kB, each with its own id, no two of a product in one second."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.senders import BEGINNING, PRODUCTS, SIZE, Sender, Sent
from vendors.stripe import stripe

#: The secret of the endpoint, and an account's id and secret key, which Stripe does not accept.
ENDPOINT_SECRET, ACCOUNT, API_KEY = "whsec_benchmark", "acct_benchmark", f"sk_test_{'benchmark' * 3}"

#: The release of Stripe's API that writes the events.
API_VERSION = "2020-08-27"

_BEGAN = int(BEGINNING.timestamp())


def product_id(number: int) -> str:
    """The id of the product that the event with this number is about."""
    return f"prod_{number % PRODUCTS:05d}"


def product(number: int, size: int = 500) -> dict[str, Any]:
    """Stripe's object of the product as in the event with this number. Its name ends with the number."""
    return {
        "id": product_id(number),
        "object": "product",
        "active": True,
        "created": _BEGAN,
        "default_price": None,
        "description": "x" * size,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "name": f"Product of edition {number}",
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": None,
        "updated": _second(number),
        "url": None,
    }


def edition(name: str | None) -> int:
    """The number of the event that a row's name is from; -1 without a row."""
    found = re.search(r"\d+$", name or "")
    return int(found[0]) if found else -1


def outdated(names: Mapping[str, str], first: int, acked: int) -> int:
    """Count the products whose row is older than their newest of `acked` events from the `first`th on."""
    newest = {product_id(number): number for number in range(first, first + acked)}
    return sum(edition(names.get(product)) < number for product, number in newest.items())


def _second(number: int) -> int:
    """A second later for each turn through all products."""
    return _BEGAN + number // PRODUCTS


def _event(number: int, size: int) -> dict[str, Any]:
    return {
        "id": f"evt_{hashlib.sha256(b'%d' % number).hexdigest()[:24]}",
        "object": "event",
        "api_version": API_VERSION,
        "created": _second(number),
        "data": {"object": product(number, size - 700)},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": "product.created" if number < PRODUCTS else "product.updated",
    }


class _Stripe(Sender):
    """Signs as Stripe does, now, faster than a composed signature is made."""

    def sent(self, number: int, size: int = SIZE) -> Sent:
        body, at = self.body(number, size), int(time.time())
        signature = hmac.digest(ENDPOINT_SECRET.encode(), b"%d.%b" % (at, body), "sha256").hex()
        return Sent(body, f"t={at},v1={signature}")


STRIPE = _Stripe(stripe, _event, secrets=[ENDPOINT_SECRET])
