"""The base of the four systems: an edit changes the catalog, and its events go to the subscriptions."""

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

#: A forgery's time is this much later than the event's, so that the mirror of a receiver that accepts it is wrong.
AHEAD = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event, before it is addressed to a subscription."""

    #: The number of the event, which counts the source's events from 1.
    number: int
    event_type: str
    at: datetime
    #: The family of entities that the event is about. Events of one family are sent in the order of their times.
    family: str
    #: The part of the body that depends on the event type, as the system documents it.
    data: Any
    #: Further values for the body, such as a correlation id or a revision.
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Subscription:
    """A URL that a system sends events to: a webhook in Sigma, a webhook record in Indexed, the one URL in IIMMPACT
    and sticky.io."""

    id: str
    url: str
    secret: str | None = field(default=None, repr=False)
    #: The event types to send; None for all.
    events: tuple[str, ...] | None = None
    active: bool = True
    #: The name that a person gave it (Sigma).
    name: str = ""
    description: str | None = None
    #: The external id of the app it belongs to (Indexed).
    app: str = ""

    def wants(self, event_type: str) -> bool:
        return self.active and (self.events is None or event_type in self.events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event on its way to one subscription, as it goes over the wire."""

    #: The number of the event; 0 for a test event or a forgery.
    number: int
    event_type: str
    at: datetime
    family: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    #: The id of the subscription that the message goes to.
    subscription: str = ""
    #: Whether the receiver can notice a changed body, by a signature or a cipher.
    sealed: bool = True
    #: Whether a stranger without a secret made it. A forgery is never retried, and the receiver must not ack it.
    forged: bool = False
    #: The part of the event that the system's own log records.
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request with its answer, for the log of a system."""

    message: Message
    #: The status of the answer; None without an answer.
    status: int | None
    answer: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A system's rules for retries."""

    #: Seconds to wait after the first failure, the second, and so on. After one more failure the message is given up.
    delays: tuple[float, ...]
    #: Whether the system retries after an answer with this status; None stands for no answer.
    retried: Callable[[int | None], bool]

    def delay(self, failures: int, status: int | None) -> float | None:
        """Return the seconds until the next attempt, after this many failures; None if there is no next attempt."""
        if failures > len(self.delays) or not self.retried(status):
            return None
        return self.delays[failures - 1]


#: An edit of a history at a time. It returns its events, or an empty list if it found no entity to edit.
Edit = Callable[[datetime], list[Change]]


class System(ABC):
    """One account of one of the four systems: its catalog, its oracle and its subscriptions."""

    dialect: ClassVar[str]
    #: The smallest step of time that the system's events can tell apart.
    resolution: ClassVar[timedelta]
    retries: ClassVar[RetryPolicy]
    #: The path of its API below the source's name.
    api_path: ClassVar[str] = ""
    #: The mirror's tables that its API can list, so that a reconcile can repair them.
    listed: ClassVar[frozenset[str]] = frozenset()
    verifier: Verifier

    def __init__(self, source: str, *, seed: int, clock: Clock, size: int = 60) -> None:
        self.source = source
        self.clock = clock
        #: Two random generators, `rng` for the history and `wire` for bodies and secrets, so that neither changes the
        #: values of the other.
        self.rng = Rng(f"{seed} {source}")
        self.wire = Rng(f"{seed} {source} wire")
        #: About the number of living families up to which the catalog grows.
        self.size = size
        self.oracle = Oracle()
        self.subscriptions: list[Subscription] = []
        #: The subscriptions after the next rotation, if one is prepared.
        self.upcoming: list[Subscription] = []
        #: Messages that belong to no event, such as a test event, waiting to be sent.
        self.outbox: deque[Message] = deque()
        self.events = 0

    # The parts that differ between systems.

    @property
    @abstractmethod
    def families(self) -> Families[Any]:
        """The catalog."""

    @abstractmethod
    def subscribe(self, url: str) -> None:
        """Subscribe this URL to all events, with secrets made from the seed."""

    @abstractmethod
    def edits(self) -> Mapping[Edit, int]:
        """Return the edits of a random history, with their weights."""

    @abstractmethod
    def create(self, at: datetime, **attributes: Any) -> list[Change]:
        """Create an entity, with invented values for other attributes. Raises ValueError for an unknown attribute."""

    @abstractmethod
    def alter(self, family: str, at: datetime, **attributes: Any) -> list[Change]:
        """Edit one entity. Raises ValueError for an unknown attribute."""

    @abstractmethod
    def erase(self, family: str, at: datetime) -> list[Change]:
        """Delete one entity."""

    @abstractmethod
    def key(self, family: str) -> Key:
        """Return the key of the family's row in the mirror."""

    @abstractmethod
    def body(self, change: Change, subscription: Subscription) -> bytes:
        """Write the event's body as this system does, before signing or encryption."""

    @abstractmethod
    def settings(self, *, api_url: str | None) -> dict[str, Any]:
        """Return the settings of a receiver's `[sources.…]` table for this account."""

    @abstractmethod
    def access(self) -> dict[str, str]:
        """Return the credentials for the system's API: names of headers or members, with their values."""

    def headers(self, change: Change, body: bytes) -> dict[str, str]:  # noqa: ARG002 (only Sigma has any)
        """Return headers in addition to those of the signature."""
        return {}

    def logged(self, attempt: Attempt) -> None:  # noqa: B027 (only Indexed keeps a log)
        """Record an attempt to deliver a message."""

    def is_sealed(self, subscription: Subscription) -> bool:
        """Whether the receiver can notice a changed body."""
        return subscription.secret is not None

    def renewed(self, subscription: Subscription) -> Subscription:
        """Return the subscription with a new secret."""
        return replace(subscription, secret=None if subscription.secret is None else self.wire.hexadecimal(40))

    # The parts that all systems share.

    def living(self) -> int:
        """Count the families that are not deleted."""
        return sum(member.alive for member in self.families)

    def step(self, at: datetime, *, tie: bool = False) -> list[Change]:
        """Make one random edit at this time. If it finds no entity to edit in this tick, create an entity instead.

        With `tie`, edit the family that was edited last, even in the same tick. The two times then give no order.
        """
        tick = floor(at, self.resolution)
        if tie:
            with self.families.again():
                return self.rng.weighted(self.edits())(tick)
        growing = self.living() < self.size and self.rng.happens(0.6)
        edit = self.create if growing else self.rng.weighted(self.edits())
        return edit(tick) or self.create(tick)

    def messages(self, change: Change) -> list[Message]:
        """Make a message for each subscription that wants the event."""
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
        """Forge a message about an event: a delete with a later time, signed with another secret or not signed.

        With a `size` in bytes, blanks fill up the body to it.
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
        """Return all secrets that a receiver must know, newest first, with those of a prepared rotation."""
        known = [each.secret for each in (*self.upcoming, *self.subscriptions) if each.secret is not None]
        return list(dict.fromkeys(known))

    def prepare_rotation(self) -> None:
        """Make the next secrets, so that a receiver's settings can have them before they are used."""
        self.upcoming = [self.renewed(subscription) for subscription in self.subscriptions]

    def rotate(self) -> None:
        """Replace the secrets by the next ones. Messages that are already on their way keep their signatures."""
        if not self.upcoming:
            self.prepare_rotation()
        self.subscriptions, self.upcoming = self.upcoming, []

    def change(self, event_type: str, at: datetime, family: str, data: Any, **extras: Any) -> Change:
        """Make the next event of this source."""
        self.events += 1
        return Change(number=self.events, event_type=event_type, at=at, family=family, data=data, extras=extras)

    def put(self, key: Key, change: Change, *, active: bool = True, **columns: Any) -> None:
        self.oracle.put(key, event=change.number, at=change.at, active=active, **columns)

    def remove(self, key: Key, change: Change) -> None:
        self.oracle.remove(key, event=change.number, at=change.at)


def refused(status: int | None) -> bool:
    """Whether the receiver did not ack: a status other than 2xx, or no answer."""
    return status is None or not 200 <= status < 300


def only(attributes: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raise ValueError if one of the attributes is not allowed."""
    for name in attributes:
        if name not in allowed:
            raise ValueError(f"there is no attribute {name!r}: choose from {', '.join(allowed)}")


def floor(moment: datetime, resolution: timedelta) -> datetime:
    """Cut the time down to whole steps of the resolution, which is a second or divides one."""
    step = resolution // timedelta(microseconds=1)
    return moment.replace(microsecond=moment.microsecond // step * step)


def iso_milliseconds(moment: datetime) -> str:
    """Write a time as Sigma and IIMMPACT do: `2026-03-08T10:05:30.000Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def iso_seconds(moment: datetime) -> str:
    """Write a time as Indexed does: `2026-04-21T12:00:00+00:00`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S+00:00")
