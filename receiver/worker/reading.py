"""Reading: parses the bodies of claimed deliveries into the events that handlers take."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

import structlog

from receiver.database.damage import damage_of
from receiver.dialects.sources import Source
from receiver.envelope import Bundle, Envelope, Event, ReadBody
from receiver.errors import Discard, Unreadable
from receiver.inbox.bundles import NO_EVENTS
from receiver.inbox.leases import Claimed
from receiver.inbox.retries import RetrySchedule
from receiver.likeness import no_handler_takes
from receiver.logs.repeats import Repeats
from receiver.metrics import metrics
from receiver.mirror.versions import AHEAD
from receiver.worker.attempt import Attempt

log = Repeats(structlog.get_logger(__name__))

#: The most bytes of bodies in one portion of several, since parsed data may be a hundred times as large.
PORTION_BYTES = 1024 * 1024


def portions(attempts: Sequence[Attempt]) -> Iterator[Sequence[Attempt]]:
    """Divide attempts into portions by the bytes of their bodies, to bound the memory of parsed data.

    A body that several attempts share counts once.
    """
    portion: list[Attempt] = []
    size, before = 0, 0
    for attempt in attempts:
        delivery = attempt.delivery
        bytes_of_body = 0 if delivery.body_id == before else len(delivery.plain or b"")
        if portion and size + bytes_of_body > PORTION_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(attempt)
        size += bytes_of_body
        before = delivery.body_id
    yield portion
    _last.forget()


def read(attempt: Attempt, sources: Mapping[str, Source], retries: RetrySchedule, *, now: datetime) -> None:
    """Parse the body again: a body that was unreadable before may be readable with the present code.

    Raises `Unreadable`, `Discard` for an event type without a handler, and every exception of the dialect's code.
    """
    parse(attempt, sources, retries, now=now)
    assert attempt.envelope is not None
    _warn_of_the_future(attempt.delivery, attempt.envelope)


def parse(attempt: Attempt, sources: Mapping[str, Source], retries: RetrySchedule, *, now: datetime) -> None:
    """Parse the body as `read` does, but without log lines, for trials."""
    delivery = attempt.delivery
    if delivery.plain is None:
        raise Unreadable("The body has expired, so the delivery cannot be processed.")
    if (damage := damage_of(delivery.received_at)) is not None:
        # The arrival dates an event that has no time, and bounds one from the future: news must get no invented time.
        raise Unreadable(damage)
    source = sources[delivery.source]
    envelope = attempt.envelope = _envelope(attempt, source, delivery.plain)
    attempt.handler = source.dialect.handler_for(envelope.event_type)
    if attempt.handler is None:
        raise Discard(no_handler_takes(envelope.event_type, source.dialect.event_types))
    attempt.details.handler = attempt.handler.name
    kind, entity_id = envelope.entity or ("", "")
    attempt.event = Event(
        source=delivery.source,
        event_type=envelope.event_type,
        entity_kind=kind,
        entity_id=entity_id,
        occurred_at=envelope.dated(delivery.received_at),
        data=attempt.handler.parse(envelope.data),
        delivery_id=str(delivery.id),
        attempt=delivery.attempt,
        received_at=delivery.received_at,
        waited=now - delivery.received_at,
        is_last=retries.exhausted(delivery.attempt),
        api_lag=_seconds(source.settings.api_lag_seconds),
    )


@lru_cache(maxsize=64)
def _seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def _envelope(attempt: Attempt, source: Source, plain: bytes) -> Envelope:
    """Read the envelope of the delivery: that of the body, or that of the delivery's item in a bundle.

    Raises `Unreadable`, and `Discard` for a body without events.
    """
    item = attempt.delivery.item
    if item is not None:
        found = _last.read(source, plain)
        return (Bundle((found,)) if isinstance(found, Envelope) else found).item(item)
    found = source.read(plain)
    if isinstance(found, Envelope):
        return found
    if not found.items:
        raise Discard(NO_EVENTS)
    attempt.unfolds = found
    return found.item(0)


class _LastBundle(threading.local):
    """A cache of the last parsed body per thread: the items of a bundle follow each other, so it is parsed once."""

    plain: bytes | None = None
    source: Source | None = None
    found: ReadBody | None = None

    def read(self, source: Source, plain: bytes) -> ReadBody:
        if self.found is None or self.plain is not plain or self.source is not source:
            self.forget()
            self.found = source.read(plain)
            self.plain, self.source = plain, source
        return self.found

    def forget(self) -> None:
        """Drop the parsed body, which may be a hundred times as large as its bytes."""
        self.plain = self.source = self.found = None


_last = _LastBundle()


def _warn_of_the_future(delivery: Claimed, envelope: Envelope) -> None:
    if envelope.occurred_at > delivery.received_at + AHEAD:
        metrics.MISDATED.labels(delivery.source).inc()
        log.warning(
            "an event is dated in the future: later news counts as older until then, or until a reconcile",
            about={"source": delivery.source},
            delivery=delivery.id,
            occurred_at=envelope.occurred_at.isoformat(),
        )
