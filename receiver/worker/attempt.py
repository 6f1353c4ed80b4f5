"""Attempts: one claimed delivery on its way through a pass of the worker, and how its attempt ends."""

from __future__ import annotations

import threading
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.exc import DBAPIError

from receiver.database.errors import RUNS_AGAIN, is_transient
from receiver.dialects.dialect import Handler
from receiver.envelope import Bundle, Envelope, Event
from receiver.errors import Discard, Retry, Unreadable
from receiver.inbox.attempts import AttemptDetails, AttemptResult, shortened
from receiver.inbox.leases import Claimed
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import State
from receiver.logs.safe_text import told, told_with_type, traced
from receiver.metrics import few_names, metrics
from receiver.mirror.rows import Write
from receiver.mirror.versions import Outcome
from receiver.worker.liveness import Pulse

log = structlog.get_logger(__name__)

#: The longest that a handler may have its delivery wait: a year, as good as for ever.
LONGEST_RETRY_WAIT = timedelta(days=365)


@dataclass(slots=True)
class Attempt:
    """One claimed delivery on its way through a pass of the worker."""

    delivery: Claimed
    envelope: Envelope | None = None
    #: The body tells of several events, and the delivery has been all of it so far.
    unfolds: Bundle | None = None
    handler: Handler | None = None
    event: Event[object] | None = None
    writes: list[Write] = field(default_factory=list)
    #: Its event holds all that it will, or is not thin: the handler may run.
    hydrated: bool = False
    #: A call of its hydrator has not ended: until then, everything else here is that thread's.
    under_way: bool = False
    #: Its handler ran, or asked for a session and so runs in the settling transaction.
    handled: bool = False
    wants_session: bool = False
    #: How often SQL of its own met what running the whole transaction again may mend.
    interruptions: int = 0
    #: What it ran, to be kept.
    details: AttemptDetails = field(default_factory=AttemptDetails)
    #: How the attempt ended, as soon as that is certain; None while all is well.
    result: AttemptResult | None = None

    @property
    def is_ready(self) -> bool:
        """Whether nothing is left to be fetched for it."""
        return not self.under_way and (self.hydrated or self.result is not None)

    @property
    def entity(self) -> tuple[str, str] | None:
        """What it is about, as far as that is known."""
        read = self.envelope.entity if self.envelope is not None else None
        return read or self.delivery.entity

    def forget(self) -> None:
        """Let go of all that is large: it has been settled."""
        self.delivery = self.delivery._replace(plain=None)
        self.envelope = self.event = self.unfolds = None
        self.writes = []

    def note(self, error: BaseException) -> str:
        """Keep the traceback of the error that it fails with; returns all of it."""
        trace = traced(error)
        self.details.traceback = shortened(trace)
        return trace


class AttemptResults:
    """Decides how attempts end."""

    def __init__(self, retries: RetrySchedule, *, clock: Callable[[], datetime], jitter: Callable[[], float]) -> None:
        self._retries = retries
        self._clock = clock
        self._jitter = jitter

    def on_error(self, attempt: Attempt, code: str, error: BaseException) -> bool:
        """Let what `code` raised decide how the attempt ends; False if it is none of the attempt's."""
        if not _is_of_the_code(error):
            return False
        try:
            attempt.result = self._verdict(attempt, code, error)
        except BaseException as odd:
            # The error is a stranger's object, and so are its parts: whatever they do is this attempt's matter.
            attempt.result = self.failure(
                attempt, f"{code} raised {told_with_type(error)}; to ask it raised {told_with_type(odd)}"
            )
        return True

    def _verdict(self, attempt: Attempt, code: str, error: BaseException) -> AttemptResult:
        if isinstance(error, Unreadable):
            return self._result(attempt, State.DEAD, reason=told(error), failed=True)
        if isinstance(error, Discard):
            return self._result(attempt, State.IGNORED, reason=told(error))
        if isinstance(error, Retry):
            return self.failure(attempt, told(error), after=error.after)
        log.warning("a handler failed", handler=code, delivery=attempt.delivery.id, exception=attempt.note(error))
        return self.failure(attempt, f"{code} raised {told_with_type(error)}")

    def failure(self, attempt: Attempt, reason: str, *, after: timedelta | None = None) -> AttemptResult:
        """Pending again, later; or dead, if that was the last attempt."""
        number = attempt.delivery.attempt
        if self._retries.exhausted(number):
            return self._result(attempt, State.DEAD, reason=reason, failed=True)
        wait = self._retries.delay(number, self._jitter()) if after is None else min(after, LONGEST_RETRY_WAIT)
        return self._result(attempt, State.PENDING, reason=reason, failed=True, due_at=self._clock() + wait)

    def success(self, attempt: Attempt, outcome: Outcome) -> AttemptResult:
        """Processed, with what it did to the mirror."""
        return self._result(attempt, State.PROCESSED, outcome=outcome.value)

    def _result(
        self,
        attempt: Attempt,
        state: State,
        *,
        outcome: str | None = None,
        reason: str | None = None,
        failed: bool = False,
        due_at: datetime | None = None,
    ) -> AttemptResult:
        learnt = (
            attempt.envelope
            if attempt.envelope is not None and attempt.envelope.entity != attempt.delivery.entity
            else None
        )
        return AttemptResult(
            delivery_id=attempt.delivery.id,
            state=state,
            outcome=outcome,
            reason=reason,
            failed=failed,
            round=attempt.delivery.round,
            number=attempt.delivery.attempt,
            details=attempt.details,
            due_at=due_at,
            event_type=learnt.event_type if learnt else None,
            entity=learnt.entity if learnt else None,
            occurred_at=learnt.occurred_at if learnt else None,
        )


class Guard(Protocol):
    """Makes what stands around a dialect's code, which `code` names: whatever is raised inside ends that attempt."""

    def __call__(
        self, attempt: Attempt, code: str, *, in_transaction: bool = False
    ) -> AbstractContextManager[None]: ...


@dataclass(slots=True)
class DialectGuard(AbstractContextManager[None]):
    """Around a dialect's code: lets a pulse show what is run, and the results decide how it ended.

    A class, because it is entered many times for each delivery.
    """

    results: AttemptResults
    pulse: Pulse
    attempt: Attempt
    code: str
    in_transaction: bool

    def __enter__(self) -> None:
        self.pulse.begin(self.attempt.delivery.id, self.code, in_transaction=self.in_transaction)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        try:
            if error is None or self._is_interruption(error):
                return False
            # Still watched: to ask an exception for its text is to run a stranger's code.
            return self.results.on_error(self.attempt, self.code, error)
        finally:
            self.pulse.end(self.attempt.delivery.id)

    def _is_interruption(self, error: BaseException) -> bool:
        """Nothing that this code did: the transaction that it is a part of will be run again, with a bound."""
        # By its type alone: asked for its class, a stranger's error may raise.
        if not self.in_transaction or not issubclass(type(error), DBAPIError) or not is_transient(error):
            return False
        self.attempt.interruptions += 1
        return self.attempt.interruptions <= RUNS_AGAIN


def _is_of_the_code(error: BaseException) -> bool:
    """Whether the code at hand raised it, and not a person who interrupts what this process does in its main thread."""
    if isinstance(error, (Exception, SystemExit, GeneratorExit)):
        return True
    return threading.current_thread() is not threading.main_thread()


def count(attempts: Sequence[Attempt], results: Iterable[AttemptResult], *, now: datetime) -> None:
    """Tell metrics and log how these attempts ended."""
    by_id = {attempt.delivery.id: attempt for attempt in attempts}
    ended: Tally[tuple[str, str, str]] = Tally()
    # Not of later rounds: a replay of last week's deliveries is no lag of a week.
    first_rounds: dict[str, list[tuple[Attempt, AttemptResult]]] = defaultdict(list)
    for result in results:
        attempt = by_id[result.delivery_id]
        source = attempt.delivery.source
        if result.failed:
            metrics.FAILED_ATTEMPTS.labels(source).inc()
        if result.state is State.DEAD:
            log.warning("a delivery is dead", source=source, delivery=attempt.delivery.id, reason=result.reason)
        if result.state is State.IGNORED and attempt.envelope is not None and attempt.handler is None:
            few_names.count_unhandled(source, attempt.envelope.event_type)
        if result.state is not State.PENDING:
            ended[source, result.state.value, result.outcome or ""] += 1
            if result.round == 1:
                first_rounds[source].append((attempt, result))
    for labels, number in ended.items():
        metrics.ended(*labels).inc(number)
    for source, pairs in first_rounds.items():
        _observe_first_rounds(source, pairs, now)


def _observe_first_rounds(source: str, pairs: Iterable[tuple[Attempt, AttemptResult]], now: datetime) -> None:
    """Tell how long these took since their arrival, and the processed ones since their change."""
    arrivals, changes = [], []
    for attempt, result in pairs:
        arrivals.append(attempt.delivery.received_at)
        if result.state is State.PROCESSED and attempt.event is not None:
            changes.append(attempt.event.occurred_at)
    for histogram, moments in ((metrics.applied(source), arrivals), (metrics.freshness(source), changes)):
        metrics.observe_all(histogram, _ages(moments, now))


def _ages(moments: Sequence[datetime], now: datetime) -> Sequence[float]:
    """Seconds that have passed since these moments; 0 for one that a clock ahead of ours gave."""
    ages = [(now - moment).total_seconds() for moment in moments]
    return ages if min(ages, default=0.0) >= 0.0 else [max(age, 0.0) for age in ages]
