"""Indexed PIM: a webhook record with a secret for each event name, bodies with the entity's scalars, no retries."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from receiver import codec
from receiver.verify.signatures import HmacSha256
from receiver.verify.verifiers import Verifier
from simulator.clock import Clock
from simulator.families import Families
from simulator.oracle import Key
from simulator.systems.base import Attempt, Change, Edit, RetryPolicy, Subscription, iso_seconds, only
from simulator.systems.edits import SingleEntitySystem
from simulator.systems.indexed.entities import APPS, KINDS, VERBS, IndexedEntity, reflect, reinvented, scalars
from simulator.systems.indexed.log import Entry, entry

#: The number of log entries that are kept.
KEPT = 10_000

#: The most seconds that a product's event waits in the queue before its body is written.
QUEUED = 3


class Indexed(SingleEntitySystem[IndexedEntity]):
    dialect: ClassVar[str] = "indexed"
    #: Times are written in whole seconds (Indexed docs, section "Example shape").
    resolution: ClassVar[timedelta] = timedelta(seconds=1)
    #: Each message is sent once (Indexed docs, section "Operational limitation to know").
    retries: ClassVar[RetryPolicy] = RetryPolicy((), lambda status: False)  # noqa: ARG005 (nothing is retried)
    verifier: Verifier = HmacSha256(header="X-Webhook-Signature")

    def __init__(self, source: str, *, seed: int, clock: Clock, size: int = 120) -> None:
        super().__init__(source, seed=seed, clock=clock, size=size)
        self.entities: Families[IndexedEntity] = Families()
        self.account = {"external_id": f"acc_{self.wire.hexadecimal(8)}", "name": "Example Company"}
        #: The token for the webhook screens. The vendor does not publish how users log in there.
        self.admin_token = self.wire.token(24)
        self.log: deque[Entry] = deque(maxlen=KEPT)
        self._logged = 0
        #: The app of each record, by the record's id, including deleted records.
        self._apps: dict[str, str] = {}
        self._next_id = 40

    @property
    def families(self) -> Families[IndexedEntity]:
        return self.entities

    def subscribe(self, url: str) -> None:
        """Make a record for each event, and a second one for product.updated, whose changes then arrive twice."""
        names = [f"{kind}.{verb}" for kind in KINDS for verb in VERBS]
        self.subscriptions += [self.record(name, url, app="app_products") for name in [*names, "product.updated"]]

    def record(self, event_type: str, url: str, *, app: str, active: bool = True) -> Subscription:
        """Make a record. External id and secret are generated (Indexed docs, section "Setup flow", step 2)."""
        name = f"web_{self.wire.hexadecimal(12)}"
        self._apps[name] = app
        secret = self.wire.hexadecimal(40)
        return Subscription(id=name, url=url, secret=secret, events=(event_type,), active=active, app=app)

    def renewed(self, subscription: Subscription) -> Subscription:
        """Return another record for the same event and URL, because a record's secret never changes."""
        event_type = (subscription.events or ("",))[0]
        return self.record(event_type, subscription.url, app=subscription.app, active=subscription.active)

    def settings(self, *, api_url: str | None) -> dict[str, Any]:  # noqa: ARG002 (it has no read API)
        secrets = {record.id: record.secret for record in (*self.upcoming, *self.subscriptions)}
        return {"dialect": self.dialect, "webhook_secrets": secrets}

    def access(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.admin_token}"}

    def key(self, family: str) -> Key:
        return self.entities[family].key

    def logged(self, attempt: Attempt) -> None:
        """Record an attempt, except for forgeries, in the log (Indexed docs, section "Detailed logs")."""
        if not attempt.message.forged:
            self._logged += 1
            app = self._apps[attempt.message.subscription]
            self.log.append(entry(attempt, number=self._logged, at=self.clock.now(), app=app))

    def edits(self) -> Mapping[Edit, int]:
        return {self.update: 70, self.bulk_update: 4, self.delete: 8, self.come_back: 8}

    def body(self, change: Change, subscription: Subscription) -> bytes:
        """Write a body. The entity's key is the part of the event name before the dot (Indexed docs, "Example shape").

        If a revision has the time of the change, `timestamp` is the later time of dispatch (docs/sources.md).
        """
        queued = timedelta(seconds=self.wire.randrange(QUEUED + 1) if change.extras else 0)
        return codec.encode(
            {
                "event": change.event_type,
                "timestamp": iso_seconds(change.at + queued),
                "account": self.account,
                "app": {"external_id": subscription.app, "name": APPS[subscription.app]},
                "webhook": {"external_id": subscription.id},
                change.event_type.partition(".")[0]: change.data,
                **change.extras,
            }
        )

    # Edits of the history.

    def create(self, at: datetime, **attributes: Any) -> list[Change]:
        """Create an entity of this `kind`. The other attributes are its properties."""
        kind = attributes.pop("kind", None) or self.rng.weighted(KINDS)
        invented = scalars(self.rng, kind, at)
        only(attributes, [*invented])
        self._next_id += 1
        entity = IndexedEntity(
            kind=kind,
            external_id=f"{kind[:4]}_{self.rng.hexadecimal(6)}_{self._next_id}",
            id=self._next_id,
            scalars={**invented, **attributes},
            relation=self._relation(kind),
        )
        self.entities.add(entity.family, entity, at=at)
        return [self._announce(entity, "created", at)]

    def alter(self, family: str, at: datetime, **attributes: Any) -> list[Change]:
        entity = self.entities[family]
        only(attributes, [*entity.scalars])
        self.entities.edited(family, at=at)
        return [self._updated(entity, at, {**attributes, "updatedAt": iso_seconds(at)})]

    def come_back(self, at: datetime) -> list[Change]:
        entity = self._pick(is_gone, at)
        if entity is None:
            return []
        self._next_id += 1
        entity.id = self._next_id
        entity.alive = True
        entity.scalars |= scalars(self.rng, entity.kind, at)
        return [self._announce(entity, "created", at)]

    # Parts of several edits.

    @property
    def _families(self) -> Families[IndexedEntity]:
        return self.entities

    def _relation(self, kind: str) -> str | None:
        """Choose the category of a product or the parent of a category. With None, the body does not have the key."""
        if kind not in ("product", "category") or self.rng.happens(0.2):
            return None
        categories = [entity.external_id for entity in self.entities if entity.kind == "category"]
        return self.rng.choice(categories) if categories else None

    def _deleted(self, entity: IndexedEntity, at: datetime) -> Change:
        """Delete an entity. Its event has null as the numeric id (docs/sources.md, Indexed PIM)."""
        entity.alive = False
        change = self._event(entity, "deleted", at, {**reflect(entity), "id": None}, [])
        self.remove(entity.key, change)
        return change

    def _revised(self, entity: IndexedEntity, at: datetime) -> Change:
        return self._updated(entity, at, reinvented(self.rng, entity.scalars, at))

    def _updated(self, entity: IndexedEntity, at: datetime, news: Mapping[str, Any]) -> Change:
        before = dict(entity.scalars)
        entity.scalars |= news
        changes = [
            {"field": name, "old": before[name], "new": value}
            for name, value in entity.scalars.items()
            if value != before[name] and name != "updatedAt"
        ]
        return self._announce(entity, "updated", at, changes)

    def _announce(
        self, entity: IndexedEntity, verb: str, at: datetime, changes: list[dict[str, Any]] | None = None
    ) -> Change:
        change = self._event(entity, verb, at, self.reflection(entity), changes or [])
        self.put(entity.key, change, **columns(entity, change.data))
        return change

    def _event(
        self, entity: IndexedEntity, verb: str, at: datetime, data: dict[str, Any], changes: list[dict[str, Any]]
    ) -> Change:
        extras = {"revision": revision(verb, at, changes)} if entity.kind == "product" else {}
        return self.change(f"{entity.kind}.{verb}", at, entity.family, data, **extras)

    def reflection(self, entity: IndexedEntity) -> dict[str, Any]:
        """Return the entity's scalars, and its relation as ids (Indexed docs, section "Entity section")."""
        related = self.entities.get(f"category:{entity.relation}") if entity.relation else None
        name = "category" if entity.kind == "product" else "parent"
        relation = {name: {"id": related.id, "externalId": related.external_id}} if related else {}
        return {**reflect(entity), **relation}


def is_gone(entity: IndexedEntity) -> bool:
    return not entity.alive


def revision(verb: str, at: datetime, changes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a product's latest revision. The members of `changes` are ours, since the docs show only an empty list."""
    return {"action": verb, "user_name": "Import", "timestamp": iso_seconds(at), "changes": changes}


def columns(entity: IndexedEntity, data: dict[str, Any]) -> dict[str, Any]:
    """Return the mirror's columns that the body names. A column whose key is missing keeps its value."""
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
