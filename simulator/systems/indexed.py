"""Indexed PIM: one webhook record and secret for each event name, bodies made of the entity's scalars, no retry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from receiver import codec
from receiver.signatures import HmacSha256, Verifier
from simulator.clock import Clock
from simulator.families import Families
from simulator.systems.base import Change, Edit, RetryPolicy, Subscription, System, iso_seconds
from simulator.systems.indexed_entities import KINDS, VERBS, reflect, reinvented, scalars
from simulator.truth import Key

#: Where the mirror keeps a kind that is not one of its catalog tables: in records, the kind before the id.
TABLES = {"product": "products", "category": "categories", "product_group": "groups"}


@dataclass(slots=True, kw_only=True)
class Entity:
    kind: str
    external_id: str
    #: The database id, a new one when the entity is created again.
    id: int
    scalars: dict[str, Any]
    #: The external id of the category it belongs to, or of its parent category.
    relation: str | None = None
    alive: bool = True

    @property
    def family(self) -> str:
        return f"{self.kind}:{self.external_id}"

    @property
    def key(self) -> Key:
        table = TABLES.get(self.kind)
        return (table, self.external_id) if table else ("records", self.family)


@dataclass(slots=True)
class Account:
    """The context that wraps every body: the company and the app."""

    account: dict[str, str]
    app: dict[str, str] = field(default_factory=lambda: {"external_id": "app_products", "name": "Products"})


class Indexed(System):
    dialect: ClassVar[str] = "indexed"
    #: Times are written in whole seconds (Indexed docs, section "Example shape").
    resolution: ClassVar[timedelta] = timedelta(seconds=1)
    #: Indexed docs, section "Operational limitation to know": one chance.
    retries: ClassVar[RetryPolicy] = RetryPolicy((), lambda status: False)  # noqa: ARG005 (nothing is retried)
    verifier: ClassVar[Verifier] = HmacSha256(header="X-Webhook-Signature")

    def __init__(self, source: str, *, seed: int, clock: Clock, size: int = 120) -> None:
        super().__init__(source, seed=seed, clock=clock, size=size)
        self.entities: Families[Entity] = Families()
        self.account = Account({"external_id": f"acc_{self.chance.hexadecimal(8)}", "name": "Example Company"})
        self._next_id = 40

    def subscribe(self, url: str) -> None:
        """A record for each event, and a second one for product.updated: the same change then arrives twice."""
        names = [f"{kind}.{verb}" for kind in KINDS for verb in VERBS]
        self.subscriptions += [self._record(name, url) for name in [*names, "product.updated"]]

    def _record(self, event_type: str, url: str) -> Subscription:
        return Subscription(
            id=f"web_{self.chance.hexadecimal(12)}",
            url=url,
            secret=self.chance.hexadecimal(40),
            events=frozenset({event_type}),
        )

    def settings(self, *, api_url: str | None) -> dict[str, Any]:  # noqa: ARG002 (it has no API)
        secrets = {record.id: record.secret for record in self.subscriptions}
        return {"dialect": self.dialect, "webhook_secrets": secrets}

    def living(self) -> int:
        return sum(entity.alive for entity in self.entities)

    def edits(self) -> Mapping[Edit, int]:
        return {self.update: 70, self.bulk_update: 4, self.delete: 8, self.come_back: 8}

    def body(self, change: Change, subscription: Subscription) -> bytes:
        """Indexed docs, section "Example shape": the entity's key is the part of the event name before the dot."""
        return codec.encode(
            {
                "event": change.event_type,
                "timestamp": iso_seconds(change.at),
                "account": self.account.account,
                "app": self.account.app,
                "webhook": {"external_id": subscription.id},
                change.event_type.partition(".")[0]: change.data,
                **change.extras,
            }
        )

    # Edits of the history.

    def create(self, at: datetime) -> list[Change]:
        kind = self.chance.weighted(KINDS)
        self._next_id += 1
        entity = Entity(
            kind=kind,
            external_id=f"{kind[:4]}_{self.chance.hexadecimal(6)}_{self._next_id}",
            id=self._next_id,
            scalars=scalars(self.chance, kind, at),
            relation=self._relation(kind),
        )
        self.entities.add(entity.family, entity, at=at)
        return [self._announce(entity, "created", at)]

    def update(self, at: datetime) -> list[Change]:
        entity = self._take(is_alive, at)
        return [self._updated(entity, at)] if entity else []

    def bulk_update(self, at: datetime) -> list[Change]:
        taken = [self._take(is_alive, at) for _ in range(self.chance.randint(2, 6))]
        return [self._updated(entity, at) for entity in taken if entity]

    def delete(self, at: datetime) -> list[Change]:
        """By the time the event is written, the entity has lost its numeric id (sources.md, Indexed PIM)."""
        entity = self._take(is_alive, at)
        if entity is None:
            return []
        entity.alive = False
        change = self._event(entity, "deleted", at, {**reflect(entity), "id": None}, [])
        self.remove(entity.key, change)
        return [change]

    def come_back(self, at: datetime) -> list[Change]:
        entity = self._take(is_gone, at)
        if entity is None:
            return []
        self._next_id += 1
        entity.id = self._next_id
        entity.alive = True
        entity.scalars |= scalars(self.chance, entity.kind, at)
        return [self._announce(entity, "created", at)]

    # What the edits share.

    def _take(self, wanted: Callable[[Entity], bool], at: datetime) -> Entity | None:
        return self.entities.take(self.chance, wanted, at=at)

    def _relation(self, kind: str) -> str | None:
        """A category for most products, a parent for some categories; without one the key is missing in the body."""
        if kind not in ("product", "category") or self.chance.happens(0.2):
            return None
        categories = [entity.external_id for entity in self.entities if entity.kind == "category"]
        return self.chance.choice(categories) if categories else None

    def _updated(self, entity: Entity, at: datetime) -> Change:
        before = dict(entity.scalars)
        entity.scalars |= reinvented(self.chance, entity.scalars, at)
        changes = [
            {"field": name, "old": before[name], "new": value}
            for name, value in entity.scalars.items()
            if value != before[name] and name != "updatedAt"
        ]
        return self._announce(entity, "updated", at, changes)

    def _announce(self, entity: Entity, verb: str, at: datetime, changes: list[dict[str, Any]] | None = None) -> Change:
        change = self._event(entity, verb, at, self.reflection(entity), changes or [])
        self.put(entity.key, change, **columns(entity, change.data))
        return change

    def _event(
        self, entity: Entity, verb: str, at: datetime, data: dict[str, Any], changes: list[dict[str, Any]]
    ) -> Change:
        extras = {"revision": revision(verb, at, changes)} if entity.kind == "product" else {}
        return self.change(f"{entity.kind}.{verb}", at, entity.family, data, **extras)

    def reflection(self, entity: Entity) -> dict[str, Any]:
        """The entity's scalars, and its relation as ids (Indexed docs, section "Entity section")."""
        related = self.entities.get(f"category:{entity.relation}") if entity.relation else None
        name = "category" if entity.kind == "product" else "parent"
        relation = {name: {"id": related.id, "externalId": related.external_id}} if related else {}
        return {**reflect(entity), **relation}


def is_alive(entity: Entity) -> bool:
    return entity.alive


def is_gone(entity: Entity) -> bool:
    return not entity.alive


def revision(verb: str, at: datetime, changes: list[dict[str, Any]]) -> dict[str, Any]:
    """The latest product revision. `changes` in a shape of our own: the documents show only an empty list."""
    return {"action": verb, "user_name": "Import", "timestamp": iso_seconds(at), "changes": changes}


def columns(entity: Entity, data: dict[str, Any]) -> dict[str, Any]:
    """The mirror's columns of what the body says; a key that is missing is no news."""
    found: dict[str, Any] = {"data": data}
    names = {"sku": "sku", "name": "name" if "name" in data else "title", "lifecycle_state": "status"}
    found |= {column: data[name] for column, name in names.items() if name in data}
    found |= {"currency": data["currency"]} if isinstance(data.get("currency"), str) else {}
    if "price" in data:
        found["price"] = None if data["price"] is None else Decimal(data["price"])
    relation = data.get("category" if entity.kind == "product" else "parent")
    if relation:
        found["parent"] = relation["externalId"]
    if entity.key[0] == "records":
        found["kind"] = entity.kind
    return found
