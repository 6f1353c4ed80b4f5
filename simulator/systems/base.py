"""The common part of the four systems: an edit changes the catalog, and its events go to the subscriptions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from receiver.verify.request import WebhookRequest
from receiver.verify.verifiers import Credentials, Secret, Verifier
from simulator.clock import Clock
from simulator.families import Families
from simulator.oracle import Key, Oracle
from simulator.rng import Rng

#: How far ahead of the event a stranger dates a forgery, so that a receiver that believes it is spoiled visibly.
AHEAD = timedelta(hours=1)


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
    events: tuple[str, ...] | None = None
    active: bool = True
    #: What people call it, where the system asks for that.
    name: str = ""
    description: str | None = None
    #: The external id of the app it belongs to (Indexed).
    app: str = ""

    def wants(self, event_type: str) -> bool:
        return self.active and (self.events is None or event_type in self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event on its way to one subscription, as it goes over the wire."""

    #: The event's; 0 for what announces none: a test event, a forgery.
    number: int
    event_type: str
    at: datetime
    family: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    #: The id of the subscription it is for.
    subscription: str = ""
    #: Whether a signature or a cipher shows the receiver that a body was changed.
    sealed: bool = True
    #: A stranger's, who knows no secret: never retried, and a receiver that acks it has believed a lie.
    forged: bool = False
    #: The part of the event that the system's own log records.
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request with its outcome, for a system's own log."""

    message: Message
    #: None for no answer.
    status: int | None
    answer: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A system's rules for a delivery that fails."""

    #: Seconds to wait after the first failure, the second, and so on; after the last, the event is dropped.
    delays: tuple[float, ...]
    #: Whether this answer is retried; None stands for no answer at all.
    retried: Callable[[int | None], bool]

    def delay(self, failures: int, status: int | None) -> float | None:
        """Seconds until the next attempt after this many failures; None after the last attempt."""
        if failures > len(self.delays) or not self.retried(status):
            return None
        return self.delays[failures - 1]


#: An edit of the history. It returns the events it caused, none if it found nothing to edit.
Edit = Callable[[datetime], list[Change]]


class System(ABC):
    """One account of one of the four systems: its catalog, its oracle and its subscriptions."""

    dialect: ClassVar[str]
    #: The smallest step of time that the system's events can tell apart.
    resolution: ClassVar[timedelta]
    retries: ClassVar[RetryPolicy]
    #: Where its API is mounted, after the source's name.
    api_path: ClassVar[str] = ""
    #: The mirror's tables of which its API has a list, so that a reconcile can walk them.
    listed: ClassVar[frozenset[str]] = frozenset()
    verifier: Verifier

    def __init__(self, source: str, *, seed: int, clock: Clock, size: int = 60) -> None:
        self.source = source
        self.clock = clock
        #: The random generators of the history, and of bodies and secrets: two, so that neither disturbs the other.
        self.rng = Rng(f"{seed} {source}")
        self.wire = Rng(f"{seed} {source} wire")
        #: About how many families live in the catalog.
        self.size = size
        self.oracle = Oracle()
        self.subscriptions: list[Subscription] = []
        #: The subscriptions after the next rotation, if one is prepared.
        self.upcoming: list[Subscription] = []
        #: Messages that belong to no event, such as a test event, waiting to be sent.
        self.outbox: deque[Message] = deque()
        self.events = 0

    # Each system does this in its own way.

    @property
    @abstractmethod
    def families(self) -> Families[Any]:
        """The catalog."""

    @abstractmethod
    def subscribe(self, url: str) -> None:
        """Have all events sent to this URL, with secrets made from the seed."""

    @abstractmethod
    def edits(self) -> Mapping[Edit, int]:
        """The edits of a random history with their weights."""

    @abstractmethod
    def create(self, at: datetime, **attributes: Any) -> list[Change]:
        """A new entity; attributes that are not given are invented. Raises ValueError for an unknown attribute."""

    @abstractmethod
    def alter(self, family: str, at: datetime, **attributes: Any) -> list[Change]:
        """Edit one entity. Raises ValueError for an unknown attribute."""

    @abstractmethod
    def erase(self, family: str, at: datetime) -> list[Change]:
        """Delete one entity."""

    @abstractmethod
    def key(self, family: str) -> Key:
        """The row of the mirror that a family stands for."""

    @abstractmethod
    def body(self, change: Change, subscription: Subscription) -> bytes:
        """The event as this system writes it, before signing or encrypting."""

    @abstractmethod
    def settings(self, *, api_url: str | None) -> dict[str, Any]:
        """A receiver's `[sources.…]` table for this account."""

    @abstractmethod
    def access(self) -> dict[str, str]:
        """The credentials for its API: names of headers or members, with their values."""

    def headers(self, change: Change, body: bytes) -> dict[str, str]:  # noqa: ARG002 (only Sigma has any)
        """Headers in addition to the signature's."""
        return {}

    def logged(self, attempt: Attempt) -> None:  # noqa: B027 (only Indexed keeps a log)
        """Called with every attempt to deliver a message."""

    def is_sealed(self, subscription: Subscription) -> bool:
        """Whether the receiver can notice that a body was changed."""
        return subscription.secret is not None

    def renewed(self, subscription: Subscription) -> Subscription:
        """The subscription with a new secret."""
        return replace(subscription, secret=None if subscription.secret is None else self.wire.hexadecimal(40))

    # All systems share this.

    def living(self) -> int:
        """How many families live in the catalog now."""
        return sum(member.alive for member in self.families)

    def step(self, at: datetime, *, tie: bool = False) -> list[Change]:
        """One random edit at this moment. An edit that finds no entity free in this tick becomes a new entity.

        With `tie` the edit is of the family edited last, even in the same tick: their times then give no order.
        """
        tick = floor(at, self.resolution)
        if tie:
            with self.families.again():
                return self.rng.weighted(self.edits())(tick)
        growing = self.living() < self.size and self.rng.happens(0.6)
        edit = self.create if growing else self.rng.weighted(self.edits())
        return edit(tick) or self.create(tick)

    def messages(self, change: Change) -> list[Message]:
        """The event for every subscription that wants it."""
        return [
            self.message(change, subscription)
            for subscription in self.subscriptions
            if subscription.wants(change.event_type)
        ]

    def message(self, change: Change, subscription: Subscription) -> Message:
        body = self.body(change, subscription)
        return self.post(
            change, subscription, body, *self.verifier.sign(WebhookRequest(body), self.credentials(subscription))
        )

    def forgery(self, change: Change, subscription: Subscription, *, signed: bool, size: int = 0) -> Message:
        """A stranger's forgery of an event: a delete dated ahead, signed with another secret or not at all.

        With a size (bytes), the body is filled up with blanks.
        """
        lie = replace(change, event_type=f"{change.event_type.rpartition('.')[0]}.deleted", at=change.at + AHEAD)
        body = self.body(lie, subscription).ljust(size)
        guessed = self.credentials(replace(subscription, secret=self.wire.token(32)))
        sealed, headers = self.verifier.sign(WebhookRequest(body), guessed) if signed else (body, {})
        return replace(self.post(lie, subscription, body, sealed, headers), number=0, forged=True)

    def post(
        self, change: Change, subscription: Subscription, body: bytes, sealed: bytes, signature: Mapping[str, str]
    ) -> Message:
        return Message(
            number=change.number,
            event_type=change.event_type,
            at=change.at,
            family=change.family,
            url=subscription.url,
            headers={"Content-Type": "application/json", **signature, **self.headers(change, body)},
            body=sealed,
            subscription=subscription.id,
            sealed=self.is_sealed(subscription),
            extras=change.extras,
        )

    def credentials(self, subscription: Subscription) -> Credentials:
        secrets = () if subscription.secret is None else (Secret(subscription.secret.encode(), subscription.id),)
        return Credentials(secrets=secrets)

    def secrets(self) -> list[str]:
        """All secrets that a receiver must know, newest first, those of a prepared rotation included."""
        known = [each.secret for each in (*self.upcoming, *self.subscriptions) if each.secret is not None]
        return list(dict.fromkeys(known))

    def prepare_rotation(self) -> None:
        """Draw the next secrets, so that a receiver can be told them before they are used."""
        self.upcoming = [self.renewed(subscription) for subscription in self.subscriptions]

    def rotate(self) -> None:
        """Use the next secrets from now on. Messages that are already on their way keep their signatures."""
        if not self.upcoming:
            self.prepare_rotation()
        self.subscriptions, self.upcoming = self.upcoming, []

    def change(self, event_type: str, at: datetime, family: str, data: Any, **extras: Any) -> Change:
        """The next event of this source."""
        self.events += 1
        return Change(number=self.events, event_type=event_type, at=at, family=family, data=data, extras=extras)

    def put(self, key: Key, change: Change, *, active: bool = True, **columns: Any) -> None:
        self.oracle.put(key, event=change.number, at=change.at, active=active, **columns)

    def remove(self, key: Key, change: Change) -> None:
        self.oracle.remove(key, event=change.number, at=change.at)


def refused(status: int | None) -> bool:
    """Any answer but a 2xx, and no answer."""
    return status is None or not 200 <= status < 300


def only(attributes: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raises ValueError if there are others."""
    for name in attributes:
        if name not in allowed:
            raise ValueError(f"there is no attribute {name!r}: choose from {', '.join(allowed)}")


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
