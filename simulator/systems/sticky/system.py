"""sticky.io: full snapshots in encrypted bodies, times in US Eastern without an offset, and no id used twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from receiver import codec
from receiver.verify.ciphers import CIPHERS, EncryptedBody
from receiver.verify.verifiers import Credentials, Secret
from simulator.clock import Clock
from simulator.families import Families
from simulator.oracle import Key
from simulator.systems.base import Change, Edit, RetryPolicy, Subscription, System, only, refused
from simulator.systems.sticky.products import Product, Variant, eastern, invent_product, invent_variant, variant_name

#: The members of the test event, which has no type and no application key (docs/sources.md, sticky.io).
TEST_EVENT = frozenset({"message", "reference", "URL"})

#: The attributes that `create` and `alter` accept; `alter` does not accept `kind`.
ATTRIBUTES = ("kind", "name", "sku", "price", "description")


class Sticky(System):
    dialect: ClassVar[str] = "sticky"
    #: `time` has whole seconds (product webhook guide, every sample).
    resolution: ClassVar[timedelta] = timedelta(seconds=1)
    #: The vendor publishes no retries. These are an assumption, so that a failed delivery is not lost at once.
    retries: ClassVar[RetryPolicy] = RetryPolicy((60, 300, 900), refused)
    listed: ClassVar[frozenset[str]] = frozenset({"products", "variants"})

    def __init__(self, source: str, *, seed: int, clock: Clock, size: int = 100, cipher: str = "aes-256-cbc") -> None:
        super().__init__(source, seed=seed, clock=clock, size=size)
        if cipher not in CIPHERS:
            raise ValueError(f"there is no cipher {cipher!r}: choose one of {', '.join(CIPHERS)}")
        self.products: Families[Product] = Families()
        self.cipher = cipher
        self.verifier = EncryptedBody(app_key_member="clientAppKey", keyless=TEST_EVENT, random=self.wire.randbytes)
        self.app_key = f"app_key_{self.wire.token(16)}"
        #: Exactly 32 letters and digits, the bytes of an AES-256 key (docs/sources.md, sticky.io).
        self.key_phrase = self.wire.token(32)
        self.api_user = f"api_{self.wire.token(8)}"
        self.api_password = self.wire.token(24)
        self._last_id = 20

    @property
    def families(self) -> Families[Product]:
        return self.products

    def subscribe(self, url: str) -> None:
        self.subscriptions = [Subscription(id="registration", url=url, secret=self.key_phrase)]

    def renewed(self, subscription: Subscription) -> Subscription:
        return replace(subscription, secret=self.wire.token(32))

    def is_sealed(self, subscription: Subscription) -> bool:  # noqa: ARG002 (there is only one)
        return self.cipher != "none"

    def settings(self, *, api_url: str | None) -> dict[str, Any]:
        table: dict[str, Any] = {"dialect": self.dialect, "app_key": self.app_key, "cipher": self.cipher}
        if self.cipher != "none":
            table["secrets"] = self.secrets()
        if api_url:
            table |= {"api_url": api_url, "api_key": self.api_user, "api_secret": self.api_password}
        return table

    def access(self) -> dict[str, str]:
        return {"user": self.api_user, "password": self.api_password, "clientAppKey": self.app_key}

    def key(self, family: str) -> Key:
        return ("products", family)

    def credentials(self, subscription: Subscription) -> Credentials:
        secret = Secret((subscription.secret or "").encode())
        return Credentials(secrets=(secret,), app_key=self.app_key, cipher=self.cipher)

    def alive(self) -> Iterator[Product]:
        return (product for product in self.products if product.alive)

    def edits(self) -> Mapping[Edit, int]:
        return {
            self.update: 40,
            self.update_several: 3,
            self.add_variant: 8,
            self.update_variant: 14,
            self.delete_variant: 5,
            self.add_variants: 4,
            self.update_variants: 6,
            self.delete_variants: 2,
            self.delete: 6,
        }

    def body(self, change: Change, subscription: Subscription) -> bytes:  # noqa: ARG002 (there is only one)
        """Write a body (product webhook guide, "Decrypted JSON Encoded Payload")."""
        time = eastern(change.at).strftime("%Y-%m-%d %H:%M:%S")
        return codec.encode(
            {
                "clientAppKey": self.app_key,
                "type": change.event_type,
                "time": time,
                "data": {
                    "id": self.wire.uuid(),
                    "object": change.data,
                    "created": time,
                    "triggeringEvent": "",
                    "correlationId": change.extras["correlation"],
                },
            }
        )

    # Edits of the history.

    def create(self, at: datetime, **attributes: Any) -> list[Change]:
        """Create a product of a random kind (regular, pre-built bundle, custom-built bundle), or of this `kind`."""
        only(attributes, ATTRIBUTES)
        kind = attributes.pop("kind", None)
        product = invent_product(self.rng, self._new_id(), at, others=[*self.alive()], kind=kind)
        assign(product, attributes)
        if product.kind == "product":
            for _ in range(self.rng.randrange(4)):
                self._grow(product, at)
        self.products.add(str(product.id), product, at=at)
        return [self._snapshot(product, "created", at, self.rng.uuid())]

    def alter(self, family: str, at: datetime, **attributes: Any) -> list[Change]:
        only(attributes, ATTRIBUTES[1:])
        product = self.products[family]
        self.products.edited(family, at=at)
        assign(product, attributes)
        product.updated_at = at
        return [self._snapshot(product, "updated", at, self.rng.uuid())]

    def erase(self, family: str, at: datetime) -> list[Change]:
        self.products.edited(family, at=at)
        return [self._deleted(self.products[family], at)]

    def update(self, at: datetime) -> list[Change]:
        product = self._pick(is_alive, at)
        return [self._updated(product, at, self.rng.uuid())] if product else []

    def update_several(self, at: datetime) -> list[Change]:
        """Change several products in one bulk action. Its events share a correlation id (docs/sources.md: inferred)."""
        taken = [self._pick(is_alive, at) for _ in range(self.rng.randint(2, 5))]
        correlation = self.rng.uuid()
        return [self._updated(product, at, correlation) for product in taken if product]

    def delete(self, at: datetime) -> list[Change]:
        product = self._pick(is_alive, at)
        return [self._deleted(product, at)] if product else []

    def add_variant(self, at: datetime) -> list[Change]:
        return self._add_variants(at, 1)

    def add_variants(self, at: datetime) -> list[Change]:
        return self._add_variants(at, self.rng.randint(2, 4))

    def update_variant(self, at: datetime) -> list[Change]:
        return self._update_variants(at, 1)

    def update_variants(self, at: datetime) -> list[Change]:
        return self._update_variants(at, self.rng.randint(2, 4))

    def delete_variant(self, at: datetime) -> list[Change]:
        return self._delete_variants(at, 1)

    def delete_variants(self, at: datetime) -> list[Change]:
        return self._delete_variants(at, 2)

    # Parts of several edits.

    def _pick(self, wanted: Callable[[Product], bool], at: datetime) -> Product | None:
        return self.products.pick(self.rng, wanted, at=at)

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _grow(self, product: Product, at: datetime) -> Variant:
        variant = invent_variant(self.rng, self._new_id(), at)
        product.variants[variant.id] = variant
        return variant

    def _deleted(self, product: Product, at: datetime) -> Change:
        """Delete a product for ever, with its variants (product webhook guide, `product.deleted`)."""
        product.alive = False
        data = {"id": product.id}
        change = self.change("product.deleted", at, str(product.id), data, correlation=self.rng.uuid())
        self.remove(("products", str(product.id)), change)
        self._remove_variants([*product.variants.values(), *product.retired], change)
        return change

    def _add_variants(self, at: datetime, count: int) -> list[Change]:
        product = self._pick(is_regular, at)
        if product is None:
            return []
        return [self._announce_variants(product, [self._grow(product, at) for _ in range(count)], "created", at)]

    def _update_variants(self, at: datetime, count: int) -> list[Change]:
        product = self._pick(has_variants(count), at)
        if product is None:
            return []
        variants = self.rng.sample([*product.variants.values()], count)
        for variant in variants:
            variant.price = self.rng.price(4)
            variant.quantity = self.rng.randrange(100)
            variant.updated_at = at
        return [self._announce_variants(product, variants, "updated", at)]

    def _delete_variants(self, at: datetime, count: int) -> list[Change]:
        product = self._pick(has_variants(count), at)
        if product is None:
            return []
        variants = self.rng.sample([*product.variants.values()], count)
        change = self._variant_event(product, [{"id": variant.id} for variant in variants], "deleted", at)
        for variant in variants:
            del product.variants[variant.id]
            product.retired.append(variant)
        self._remove_variants(variants, change)
        return [change]

    def _announce_variants(self, product: Product, variants: list[Variant], verb: str, at: datetime) -> Change:
        objects = [variant.event_object(product.id) for variant in variants]
        change = self._variant_event(product, objects, verb, at)
        for variant, data in zip(variants, objects, strict=True):
            self._put_variant(product, variant, data, change)
        return change

    def _variant_event(self, product: Product, objects: list[dict[str, Any]], verb: str, at: datetime) -> Change:
        """Make a `variant.*` event of one variant, or a `bulk.variant.*` event of several (docs/sources.md)."""
        bulk = len(objects) > 1
        name = f"bulk.variant.{verb}" if bulk else f"variant.{verb}"
        data = objects if bulk else objects[0]
        return self.change(name, at, str(product.id), data, correlation=self.rng.uuid())

    def _updated(self, product: Product, at: datetime, correlation: str) -> Change:
        product.name = self.rng.name()
        product.price = self.rng.price(4)
        product.updated_at = at
        if product.variants and self.rng.happens(0.3):
            variant = self.rng.choice([*product.variants.values()])
            variant.quantity = self.rng.randrange(100)
        return self._snapshot(product, "updated", at, correlation)

    def _snapshot(self, product: Product, verb: str, at: datetime, correlation: str) -> Change:
        """Make an event with the whole product. It is also news about the variants: the listed ones and the deleted."""
        data = product.event_object()
        change = self.change(f"product.{verb}", at, str(product.id), data, correlation=correlation)
        self.put(
            ("products", str(product.id)),
            change,
            sku=product.sku,
            name=product.name,
            price=product.price,
            parent=str(product.category["id"]),
            data=data,
        )
        for variant in product.variants.values():
            self._put_variant(product, variant, variant.listed(), change)
        self._remove_variants(product.retired, change)
        return change

    def _put_variant(self, product: Product, variant: Variant, data: dict[str, Any], change: Change) -> None:
        self.put(
            ("variants", str(variant.id)),
            change,
            sku=variant.sku,
            price=Decimal(variant.price),
            name=variant_name(variant),
            parent=str(product.id),
            data=data,
        )

    def _remove_variants(self, variants: list[Variant], change: Change) -> None:
        for variant in variants:
            self.remove(("variants", str(variant.id)), change)


def assign(product: Product, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        setattr(product, name, Decimal(value) if name == "price" else value)


def is_alive(product: Product) -> bool:
    return product.alive


def is_regular(product: Product) -> bool:
    return product.alive and product.kind == "product"


def has_variants(count: int) -> Callable[[Product], bool]:
    def enough(product: Product) -> bool:
        return product.alive and len(product.variants) >= count

    return enough
