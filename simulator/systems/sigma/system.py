"""Sigma PIM: thin events that name an entity and its changed attributes, and an API that has the values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from receiver import codec
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Verifier
from simulator.clock import Clock
from simulator.families import Families
from simulator.oracle import Key
from simulator.systems.base import Change, Edit, RetryPolicy, Subscription, iso_milliseconds, only, refused
from simulator.systems.edits import SingleEntitySystem, is_alive
from simulator.systems.sigma.entities import (
    EVENTS,
    SigmaEntity,
    Values,
    Variant,
    everywhere,
    has_variants,
    invent_values,
    invent_variant_values,
    is_gone,
    reinvent,
    row_columns,
)

STATES = ("draft", "review", "published", "archived")
SCHEMAS = ("schema-apparel", "schema-home", "schema-outdoor")
USERS = ("user-admin", "user-editor", "user-import")
EDITABLE = ["name", "price", "description", "color"]

#: The attributes that `create` and `alter` accept. `alter` changes a state by a transition.
ATTRIBUTES = ("sku", "name", "price", "currency", "description", "color", "state")


class Sigma(SingleEntitySystem[SigmaEntity]):
    dialect: ClassVar[str] = "sigma"
    resolution: ClassVar[timedelta] = timedelta(milliseconds=1)
    #: Sigma docs, section "Retry Policy": non-2xx, up to 3 retries after 10, 60 and 300 s.
    retries: ClassVar[RetryPolicy] = RetryPolicy((10, 60, 300), refused)
    listed: ClassVar[frozenset[str]] = frozenset({"products", "variants"})
    verifier: Verifier = HmacSha256(header="X-Sigma-Signature")
    api_path: ClassVar[str] = "/api/v1"

    def __init__(
        self, source: str, *, seed: int, clock: Clock, size: int = 60, signed: bool = True, hydrated: bool = True
    ) -> None:
        super().__init__(source, seed=seed, clock=clock, size=size)
        self.entities: Families[SigmaEntity] = Families()
        self.api_key = f"sigma_sk_live_{self.wire.token(24)}"
        #: An API key that may only read. The API refuses to write with it: PERMISSION_DENIED.
        self.reading_key = f"sigma_sk_live_{self.wire.token(24)}"
        self._secret = f"sigma_{self.wire.token(20)}" if signed else None
        #: Whether the receiver reads the API, so that the values in the API count as announced.
        self.hydrated = hydrated

    @property
    def families(self) -> Families[SigmaEntity]:
        return self.entities

    def subscribe(self, url: str) -> None:
        hook = Subscription(id=f"wh-{self.source}", name=self.source, url=url, secret=self._secret, events=EVENTS)
        self.subscriptions.append(hook)

    def settings(self, *, api_url: str | None) -> dict[str, Any]:
        table: dict[str, Any] = {"dialect": self.dialect}
        table |= {"secrets": self.secrets()} if self.secrets() else {"allow_unsigned": True}
        if api_url and self.hydrated:
            # The simulated API is never behind an event.
            table |= {"api_url": api_url, "api_key": self.api_key, "api_lag_seconds": 0}
        return table

    def access(self) -> dict[str, str]:
        return {"X-Sigma-ApiKey": self.api_key, "X-Sigma-ApiKey (may only read)": self.reading_key}

    def key(self, family: str) -> Key:
        return ("products", family)

    def renewed(self, subscription: Subscription) -> Subscription:
        secret = subscription.secret and f"sigma_{self.wire.token(20)}"
        return replace(subscription, secret=secret)

    def alive(self) -> Iterator[SigmaEntity]:
        return (entity for entity in self.entities if entity.alive)

    def edits(self) -> Mapping[Edit, int]:
        return {
            self.update: 40,
            self.transition: 14,
            self.add_variant: 12,
            self.update_variant: 14,
            self.delete_variant: 4,
            self.bulk_update: 3,
            self.delete: 5,
            self.come_back: 5,
        }

    def headers(self, change: Change, body: bytes) -> dict[str, str]:
        """Return the event's headers, which are not signed (Sigma docs, section "Webhook Payload Shape")."""
        return {"X-Sigma-Event": change.event_type, "X-Sigma-Delivery": codec.decode(body)["deliveryId"]}

    def body(self, change: Change, subscription: Subscription) -> bytes:  # noqa: ARG002 (one body for every hook)
        return codec.encode(
            {
                "event": change.event_type,
                "deliveryId": f"del-{self.wire.hexadecimal(12)}",
                "timestamp": iso_milliseconds(change.at),
                "data": change.data,
            }
        )

    # Edits of the history.

    def create(self, at: datetime, **attributes: Any) -> list[Change]:
        only(attributes, ATTRIBUTES)
        user = self.rng.choice(USERS)
        name = self.rng.name()
        entity = SigmaEntity(
            id=f"ent-{name.lower().replace(' ', '-')}-{self.rng.hexadecimal(4)}-{len(self.entities)}",
            schema=self.rng.choice(SCHEMAS),
            state=attributes.pop("state", "draft"),
            created_at=at,
            updated_at=at,
            created_by=user,
            updated_by=user,
            values={**invent_values(self.rng, name), **scoped(attributes)},
        )
        self.entities.add(entity.id, entity, at=at)
        return [self._created(entity, at)]

    def alter(self, family: str, at: datetime, **attributes: Any) -> list[Change]:
        only(attributes, ATTRIBUTES)
        entity = self.entities[family]
        self.entities.edited(family, at=at)
        state = attributes.pop("state", None)
        moved = [self._moved(entity, state, at)] if state else []
        if attributes:
            entity.values |= scoped(attributes)
            return [*moved, self._updated(entity, at, list(attributes))]
        return moved

    def transition(self, at: datetime) -> list[Change]:
        entity = self._pick(is_alive, at)
        if entity is None:
            return []
        return [self._moved(entity, self.rng.choice([state for state in STATES if state != entity.state]), at)]

    def come_back(self, at: datetime) -> list[Change]:
        """Create a deleted entity again under its old id, as an import may do."""
        entity = self._pick(is_gone, at)
        if entity is None:
            return []
        entity.alive = True
        entity.created_at = at
        self._touch(entity, at)
        self._revalue(entity.values, ["name", "price"])
        return [self._created(entity, at)]

    def add_variant(self, at: datetime) -> list[Change]:
        entity = self._pick(is_alive, at)
        if entity is None:
            return []
        if entity.retired and self.rng.happens(0.5):
            name = entity.retired.pop()
        else:
            name = f"var-{self.rng.hexadecimal(8)}-{len(entity.variants) + len(entity.retired)}"
        variant = Variant(id=name, values=invent_variant_values(self.rng))
        entity.variants[name] = variant
        return [self._announce_variant("variant.created", entity, variant, at)]

    def update_variant(self, at: datetime) -> list[Change]:
        entity = self._pick(has_variants, at)
        if entity is None:
            return []
        variant = self.rng.choice(list(entity.variants.values()))
        changed = self._revalue(variant.values, self.rng.some(["price", "color", "size"]))
        return [self._announce_variant("variant.updated", entity, variant, at, changedAttributes=changed)]

    def delete_variant(self, at: datetime) -> list[Change]:
        entity = self._pick(has_variants, at)
        if entity is None:
            return []
        variant = self.rng.choice(list(entity.variants))
        data = {"variantId": variant, "entityId": entity.id, "schemaId": entity.schema}
        change = self.change("variant.deleted", at, entity.id, data)
        self._retire(entity, variant, change)
        return [change]

    # Parts of several edits.

    @property
    def _families(self) -> Families[SigmaEntity]:
        return self.entities

    def _touch(self, entity: SigmaEntity, at: datetime) -> None:
        entity.updated_at = at
        entity.updated_by = self.rng.choice(USERS)

    def _revalue(self, values: Values, aliases: list[str]) -> list[str]:
        """Give these attributes new values in their old form, and return the attributes' names."""
        for alias in aliases:
            values[alias] = reinvent(self.rng, alias, values[alias])
        return aliases

    def _created(self, entity: SigmaEntity, at: datetime) -> Change:
        data = {
            "entityId": entity.id,
            "schemaId": entity.schema,
            "lifecycleState": entity.state,
            "createdBy": entity.created_by,
        }
        return self._put_entity(entity, self.change("entity.created", at, entity.id, data))

    def _revised(self, entity: SigmaEntity, at: datetime) -> Change:
        return self._updated(entity, at, self._revalue(entity.values, self.rng.some(EDITABLE)))

    def _updated(self, entity: SigmaEntity, at: datetime, changed: list[str]) -> Change:
        self._touch(entity, at)
        data = {
            "entityId": entity.id,
            "schemaId": entity.schema,
            "changedAttributes": changed,
            "lifecycleState": entity.state,
            "updatedBy": entity.updated_by,
        }
        return self._put_entity(entity, self.change("entity.updated", at, entity.id, data))

    def _moved(self, entity: SigmaEntity, state: str, at: datetime) -> Change:
        old, entity.state = entity.state, state
        self._touch(entity, at)
        data = {
            "entityId": entity.id,
            "schemaId": entity.schema,
            "fromState": old,
            "toState": state,
            "triggeredBy": entity.updated_by,
        }
        return self._put_entity(entity, self.change("entity.transition", at, entity.id, data))

    def _deleted(self, entity: SigmaEntity, at: datetime) -> Change:
        """Delete the entity and its variants. The variants get no events of their own."""
        entity.alive = False
        data = {"entityId": entity.id, "schemaId": entity.schema, "deletedBy": self.rng.choice(USERS)}
        change = self.change("entity.deleted", at, entity.id, data)
        self.remove(("products", entity.id), change)
        for variant in list(entity.variants):
            self._retire(entity, variant, change)
        return change

    def _announce_variant(
        self, event_type: str, entity: SigmaEntity, variant: Variant, at: datetime, **more: Any
    ) -> Change:
        data = {"variantId": variant.id, "entityId": entity.id, "schemaId": entity.schema, **more}
        change = self.change(event_type, at, entity.id, data)
        columns = row_columns(variant.values, entity.variant_record(variant)) if self.hydrated else {"data": data}
        self.put(("variants", variant.id), change, parent=entity.id, **columns)
        return change

    def _put_entity(self, entity: SigmaEntity, change: Change) -> Change:
        columns = row_columns(entity.values, entity.record()) if self.hydrated else {"data": change.data}
        key: Key = ("products", entity.id)
        self.put(key, change, lifecycle_state=entity.state, **columns)
        return change

    def _retire(self, entity: SigmaEntity, variant: str, change: Change) -> None:
        del entity.variants[variant]
        entity.retired.append(variant)
        self.remove(("variants", variant), change)


def scoped(attributes: Mapping[str, Any]) -> Values:
    """Write the attributes as values in the global scope."""
    return {alias: everywhere(value) for alias, value in attributes.items()}
