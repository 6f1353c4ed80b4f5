"""What the four systems have in common: an edit changes the catalog, and its events go to the subscriptions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from starlette.routing import BaseRoute

from receiver.signatures import Credentials, Secret, Verifier
from simulator.chance import Chance
from simulator.clock import Clock
from simulator.truth import Key, Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event, not yet addressed to anyone."""

    #: Counts the events of the source from 1.
    number: int
    event_type: str
    at: datetime
    #: Events of one family are sent in the order of their times.
    family: str
    #: The part of the body that the event type decides, as the system documents it.
    data: Any
    #: What else the system's envelope needs, such as a correlation id or a revision.
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Subscription:
    """Where a system sends events: Sigma's webhook, Indexed's webhook record, IIMMPACT's and sticky.io's one URL."""

    id: str
    url: str
    secret: str | None = field(default=None, repr=False)
    #: None for all events.
    events: frozenset[str] | None = None
    active: bool = True

    def wants(self, event_type: str) -> bool:
        return self.active and (self.events is None or event_type in self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event on its way to one subscription, as it goes over the wire."""

    number: int
    event_type: str
    at: datetime
    family: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What a system does when a delivery fails."""

    #: Seconds to wait after the first failure, the second, and so on; after the last, the event is dropped.
    delays: tuple[float, ...]
    #: Whether this answer is retried; None stands for no answer at all.
    retried: Callable[[int | None], bool]

    def delay(self, failures: int, status: int | None) -> float | None:
        """Seconds until the next try after so many failures; None if it was the last."""
        if failures > len(self.delays) or not self.retried(status):
            return None
        return self.delays[failures - 1]


#: An edit of the history. It returns the events it caused, none if it found nothing to edit.
Edit = Callable[[datetime], list[Change]]


class System(ABC):
    """One account of one of the four systems: its catalog, its truth and its subscriptions."""

    dialect: ClassVar[str]
    #: The smallest step of time that the system's events can tell apart.
    resolution: ClassVar[timedelta]
    retries: ClassVar[RetryPolicy]
    verifier: ClassVar[Verifier]
    #: Where its API is mounted, after the source's name.
    api_path: ClassVar[str] = ""

    def __init__(self, source: str, *, seed: int, clock: Clock, size: int = 60) -> None:
        self.source = source
        self.clock = clock
        self.chance = Chance(f"{seed} {source}")
        #: About how many families live in the catalog.
        self.size = size
        self.truth = Truth()
        self.subscriptions: list[Subscription] = []
        self.events = 0

    @abstractmethod
    def subscribe(self, url: str) -> None:
        """Have all events sent to this URL, with secrets made from the seed."""

    @abstractmethod
    def edits(self) -> Mapping[Edit, int]:
        """The edits of a random history with their weights."""

    @abstractmethod
    def create(self, at: datetime) -> list[Change]:
        """A new entity."""

    @abstractmethod
    def living(self) -> int:
        """How many families live in the catalog now."""

    @abstractmethod
    def body(self, change: Change, subscription: Subscription) -> bytes:
        """The event as this system writes it, before signing or encrypting."""

    @abstractmethod
    def settings(self, *, api_url: str | None) -> dict[str, Any]:
        """What a receiver's `[sources.…]` table must say about this account."""

    def routes(self) -> list[BaseRoute]:
        """The system's own API."""
        return []

    def step(self, at: datetime) -> list[Change]:
        """One random edit at this moment. An edit that finds no entity free in this tick becomes a new entity."""
        tick = floor(at, self.resolution)
        growing = self.living() < self.size and self.chance.happens(0.6)
        edit = self.create if growing else self.chance.weighted(self.edits())
        return edit(tick) or self.create(tick)

    def messages(self, change: Change) -> list[Message]:
        """The event for every subscription that wants it."""
        return [
            self.message(change, subscription)
            for subscription in self.subscriptions
            if subscription.wants(change.event_type)
        ]

    def message(self, change: Change, subscription: Subscription) -> Message:
        body, headers = self.verifier.sign(self.body(change, subscription), self.credentials(subscription))
        return Message(
            number=change.number,
            event_type=change.event_type,
            at=change.at,
            family=change.family,
            url=subscription.url,
            headers={"Content-Type": "application/json", **headers},
            body=body,
        )

    def credentials(self, subscription: Subscription) -> Credentials:
        secrets = () if subscription.secret is None else (Secret(subscription.secret.encode(), subscription.id),)
        return Credentials(secrets=secrets)

    def change(self, event_type: str, at: datetime, family: str, data: Any, **extras: Any) -> Change:
        """The next event of this source."""
        self.events += 1
        return Change(number=self.events, event_type=event_type, at=at, family=family, data=data, extras=extras)

    def put(self, key: Key, change: Change, *, active: bool = True, **columns: Any) -> None:
        self.truth.put(key, event=change.number, at=change.at, active=active, **columns)

    def remove(self, key: Key, change: Change) -> None:
        self.truth.remove(key, event=change.number, at=change.at)


def refused(status: int | None) -> bool:
    """Any answer but a 2xx, and no answer."""
    return status is None or not 200 <= status < 300


def floor(moment: datetime, resolution: timedelta) -> datetime:
    """The moment, cut to whole steps of the resolution (which divides a second, or is one)."""
    step = resolution // timedelta(microseconds=1)
    return moment.replace(microsecond=moment.microsecond // step * step)


def iso_milliseconds(moment: datetime) -> str:
    """`2026-03-08T10:05:30.000Z`, as Sigma and IIMMPACT write times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def iso_seconds(moment: datetime) -> str:
    """`2026-04-21T12:00:00+00:00`, as Indexed writes times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S+00:00")
