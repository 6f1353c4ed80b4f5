"""IIMMPACT: signed events with full resources. A delete has `data: null`, and the resource may come back later."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from receiver import codec
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Verifier
from simulator.clock import Clock
from simulator.families import Families
from simulator.oracle import Key
from simulator.systems.base import Change, Edit, RetryPolicy, Subscription, iso_milliseconds, only
from simulator.systems.edits import SingleEntitySystem

#: The prefix of the event type, and the `resource` of the event, which is also the name of the mirror's table
#: (IIMMPACT events, section "Event Types").
RESOURCES = {"product": "products", "option": "options", "category": "categories", "group": "groups"}

#: The kind of each kind's parent.
PARENTS = {"product": "category", "option": "product", "category": "group"}

PROCESSING_TIMES = ("instant", "5 minutes", "1 day")
FIELD = "denomination"


def retried(status: int | None) -> bool:
    """Whether IIMMPACT retries: after 5xx, 408, 429 and connection errors (IIMMPACT guide, section "Retry Policy")."""
    return status is None or status >= 500 or status in (408, 429)


@dataclass(slots=True, kw_only=True)
class Resource:
    kind: str
    id: str
    #: The resource as the events carry it.
    data: dict[str, Any]
    alive: bool = True

    @property
    def family(self) -> str:
        return f"{self.kind}:{self.id}"

    @property
    def key(self) -> Key:
        return (RESOURCES[self.kind], self.id)


class Iimmpact(SingleEntitySystem[Resource]):
    dialect: ClassVar[str] = "iimmpact"
    resolution: ClassVar[timedelta] = timedelta(milliseconds=1)
    #: IIMMPACT guide, section "Retry Policy": five attempts, the first at once, then after ~1, 2, 4 and 8 minutes.
    retries: ClassVar[RetryPolicy] = RetryPolicy((60, 120, 240, 480), retried)
    listed: ClassVar[frozenset[str]] = frozenset({"products", "categories", "groups"})
    verifier: Verifier = HmacSha256(header="X-Webhook-Signature")

    def __init__(
        self, source: str, *, seed: int, clock: Clock, size: int = 100, allow_loopback_http: bool = False
    ) -> None:
        super().__init__(source, seed=seed, clock=clock, size=size)
        self.resources: Families[Resource] = Families()
        #: Whether to accept `http://` URLs of this machine, which the real system never does.
        self.allow_loopback_http = allow_loopback_http
        self.api_key = self.wire.token(32)
        #: The base64 of the key that signs requests (docs/sources.md, IIMMPACT, "API auth").
        self.api_secret = b64encode(self.wire.randbytes(32)).decode()
        self.last_updated = clock.now()

    @property
    def families(self) -> Families[Resource]:
        return self.resources

    def subscribe(self, url: str) -> None:
        """Register the one webhook, which gets every event type (IIMMPACT guide, section "Event Types")."""
        self.subscriptions = [Subscription(id="webhook", url=url, secret=self.wire.hexadecimal(64))]

    def renewed(self, subscription: Subscription) -> Subscription:
        return replace(subscription, secret=self.wire.hexadecimal(64))

    def settings(self, *, api_url: str | None) -> dict[str, Any]:
        table: dict[str, Any] = {"dialect": self.dialect, "secrets": self.secrets()}
        if api_url:
            table |= {"api_url": api_url, "api_key": self.api_key, "api_secret": self.api_secret}
        return table

    def access(self) -> dict[str, str]:
        return {"X-Api-Key": self.api_key, "secret of X-Signature": self.api_secret}

    def key(self, family: str) -> Key:
        return self.resources[family].key

    def alive(self, kind: str) -> Iterator[Resource]:
        return (resource for resource in self.resources if resource.alive and resource.kind == kind)

    def edits(self) -> Mapping[Edit, int]:
        return {self.update: 60, self.switch: 6, self.bulk_update: 4, self.delete: 10, self.come_back: 8}

    def body(self, change: Change, subscription: Subscription) -> bytes:  # noqa: ARG002 (there is only one)
        """Write a body (IIMMPACT events, section "Payload Format")."""
        kind, _, name = change.family.partition(":")
        return codec.encode(
            {
                "type": change.event_type,
                "resource": RESOURCES[kind],
                "id": name,
                "timestamp": iso_milliseconds(change.at),
                "data": change.data,
            }
        )

    # Edits of the history.

    def create(self, at: datetime, **attributes: Any) -> list[Change]:
        """Create a group, a category of a group, a product of a category, or an option of a product.

        `kind` chooses one of these. If there is no possible parent, a parent is created first.
        """
        kind = attributes.pop("kind", None)
        if kind is None:
            kind = self.rng.weighted({"product": 5, "option": 6, "category": 2, "group": 1})
            while kind in PARENTS and not any(self.alive(PARENTS[kind])):
                kind = PARENTS[kind]
        elif kind not in RESOURCES:
            raise ValueError(f"there is no kind {kind!r}: choose from {', '.join(RESOURCES)}")
        before = []
        if kind in PARENTS and not any(self.alive(PARENTS[kind])):
            before = self.create(at, kind=PARENTS[kind])
        parent = self.rng.choice([*self.alive(PARENTS[kind])]).id if kind in PARENTS else ""
        resource = self._invent(kind, parent)
        only(attributes, [*resource.data])
        resource.data |= attributes
        if kind == "product":
            # The code of a product is its id.
            resource.id = resource.data["product_code"]
        self.resources.add(resource.family, resource, at=at)
        return [*before, self._announce(resource, "created", at)]

    def alter(self, family: str, at: datetime, **attributes: Any) -> list[Change]:
        resource = self.resources[family]
        only(attributes, [*resource.data])
        self.resources.edited(family, at=at)
        resource.data = {**resource.data, **attributes}
        return [self._announce(resource, "updated", at)]

    def switch(self, at: datetime) -> list[Change]:
        """Switch a product off or on again, by an update."""
        resource = self._pick(is_product, at)
        if resource is None:
            return []
        resource.data = {**resource.data, "is_active": not resource.data["is_active"]}
        return [self._announce(resource, "updated", at)]

    def come_back(self, at: datetime) -> list[Change]:
        resource = self._pick(is_gone, at)
        if resource is None:
            return []
        resource.alive = True
        return [self._announce(resource, self.rng.choice(("created", "updated")), at)]

    # Parts of several edits.

    @property
    def _families(self) -> Families[Resource]:
        return self.resources

    def _is_removable(self, resource: Resource) -> bool:
        """Whether a history may delete it: groups and categories only when empty, so that the catalog stays a tree."""
        if not resource.alive:
            return False
        if resource.kind == "category":
            return not any(product.data["product_category_code"] == resource.id for product in self.alive("product"))
        if resource.kind == "group":
            return not any(category.data["group_id"] == resource.id for category in self.alive("category"))
        return True

    def _deleted(self, resource: Resource, at: datetime) -> Change:
        """Delete a resource. Its event has null as `data` (IIMMPACT events, section "Delete Events")."""
        resource.alive = False
        self.last_updated = at
        change = self.change(f"{resource.kind}.deleted", at, resource.family, None)
        self.remove(resource.key, change)
        return change

    def _revised(self, resource: Resource, at: datetime) -> Change:
        resource.data = {**resource.data, **self._reinvented(resource)}
        return self._announce(resource, "updated", at)

    def _announce(self, resource: Resource, verb: str, at: datetime) -> Change:
        self.last_updated = at
        change = self.change(f"{resource.kind}.{verb}", at, resource.family, resource.data)
        active = resource.data.get("is_active", True)
        self.put(resource.key, change, active=active, **columns(resource))
        return change

    def _invent(self, kind: str, parent: str) -> Resource:
        name = self.rng.name()
        number = len(self.resources)
        if kind == "option":
            return Resource(kind=kind, id=f"{parent}-{number}", data=self._option(f"{parent}-{number}", parent))
        code = f"{name.replace(' ', '').upper()}{number}"
        image = f"https://images.example.com/{code}.png"
        if kind == "product":
            data = {
                "product_code": code,
                "product_category_code": parent,
                "name": name,
                "display_name": f"{name} Reload",
                "image_url": image,
                "processing_time": self.rng.choice(PROCESSING_TIMES),
                "is_active": not self.rng.happens(0.05),
            }
        else:
            data = {"id": code, "name": name, "icon_url": image, **({"group_id": parent} if kind == "category" else {})}
        return Resource(kind=kind, id=code, data=data)

    def _option(self, code: str, product: str) -> dict[str, Any]:
        """Invent an option. Events have it as `GET /v2/options` does, with product and field (not published)."""
        return {
            "code": code,
            "label": self.rng.name(),
            "price": {"amount": str(self.rng.price()), "currency": "MYR"},
            "product_code": product,
            "field_id": FIELD,
        }

    def _reinvented(self, resource: Resource) -> dict[str, Any]:
        if resource.kind == "option":
            label = self.rng.name() if self.rng.happens(0.3) else resource.data["label"]
            return {"label": label, "price": {"amount": str(self.rng.price()), "currency": "MYR"}}
        name = self.rng.name()
        if resource.kind == "product":
            processing_time = self.rng.choice(PROCESSING_TIMES)
            return {"name": name, "display_name": f"{name} Reload", "processing_time": processing_time}
        return {"name": name}


def is_gone(resource: Resource) -> bool:
    return not resource.alive


def is_product(resource: Resource) -> bool:
    return resource.alive and resource.kind == "product"


def columns(resource: Resource) -> dict[str, Any]:
    """Return the mirror's columns of a resource. Only options have a price."""
    data = resource.data
    if resource.kind == "product":
        found = {"name": data["display_name"], "sku": data["product_code"], "parent": data["product_category_code"]}
    elif resource.kind == "option":
        price = data["price"]
        found = {"name": data["label"], "price": Decimal(price["amount"]), "currency": price["currency"]}
        found["parent"] = data["product_code"]
    else:
        found = {"name": data["name"], **({"parent": data["group_id"]} if resource.kind == "category" else {})}
    return {**found, "data": data}
