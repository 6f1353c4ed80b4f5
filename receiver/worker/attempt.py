"""Attempts: one claimed delivery on its way through a pass of the worker, and how its attempt ends."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

import httpx
import structlog
from msgspec import Struct, field
from sqlalchemy.exc import DBAPIError

from receiver.database.errors import RUNS_AGAIN, is_lock_timeout, is_transient
from receiver.dialects.forks import FORKS, end_fork
from receiver.dialects.handlers import Handler
from receiver.envelope import Bundle, Envelope, Event
from receiver.errors import ApiError, Discard, Retry, Unreadable
from receiver.inbox.attempts import AttemptDetails, AttemptResult, shortened
from receiver.inbox.leases import Claimed
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import State
from receiver.loading import is_of_the_code
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import name_of, told, told_with_type, traced
from receiver.metrics import few_names, metrics
from receiver.mirror.rows import Write
from receiver.mirror.versions import Outcome
from receiver.worker.liveness import AtHand, Pulse

log = structlog.get_logger(__name__)

#: For lines that a sender may cause with each webhook.
_repeated = Repeats(log)

#: The longest delay that a handler may request: a year.
LONGEST_RETRY_WAIT = timedelta(days=365)

#: The line about an attempt that failed because a source's own API did.
API_FAILED = "a call of a source's API failed"


class Attempt(Struct):
    """One claimed delivery on its way through a pass of the worker."""

    delivery: Claimed
    envelope: Envelope | None = None
    #: The events of the body, if it is a bundle that is still a single delivery; None otherwise.
    unfolds: Bundle | None = None
    handler: Handler | None = None
    event: Event[object] | None = None
    writes: list[Write] = field(default_factory=list)
    #: Whether the handler may run: its event is complete, or was hydrated.
    hydrated: bool = False
    #: Whether a call of its hydrator is in progress; until it ends, all other fields belong to that thread.
    under_way: bool = False
    #: Whether its handler ran, or asked for a session and so runs in the settling transaction.
    handled: bool = False
    wants_session: bool = False
    #: Whether its handler read a row, with the news of those before it in its batch.
    has_read: bool = False
    #: The number of interruptions of its SQL, after each of which the whole transaction was run again.
    interruptions: int = 0
    #: The handler and durations, to be recorded.
    details: AttemptDetails = field(default_factory=AttemptDetails)
    #: The result, once certain; None before.
    result: AttemptResult | None = None
    #: The database's error if another session holds a lock that was needed before the settlement; None otherwise.
    lock: Exception | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it needs no data any more, so that it may be handled and settled."""
        return not self.under_way and (self.hydrated or self.is_certain)

    @property
    def is_certain(self) -> bool:
        """Whether its handler needs not run, because its result is certain, or because it waits for a lock."""
        return self.result is not None or self.lock is not None

    @property
    def entity(self) -> tuple[str, str] | None:
        """The entity, if it is known."""
        read = self.envelope.entity if self.envelope is not None else None
        return read or self.delivery.entity

    @property
    def entity_of_source(self) -> tuple[str, tuple[str, str]] | None:
        """The source and the entity, if it is known."""
        return None if self.entity is None else (self.delivery.source, self.entity)

    def run_inside(self) -> None:
        """Let its handler run again, inside the settling transaction, however it ended before."""
        self.wants_session = True
        self.result = self.details.traceback = None

    def forget(self) -> None:
        """Drop all large fields, after the attempt was settled."""
        self.delivery.plain = None
        self.envelope = self.event = self.unfolds = self.lock = None
        self.writes = []

    def note(self, error: BaseException) -> str:
        """Record the shortened traceback of the attempt's error, and return the complete one."""
        trace = traced(error)
        self.details.traceback = shortened(trace)
        return trace


class AttemptResults:
    """Decides how attempts end."""

    def __init__(self, retries: RetrySchedule, *, clock: Callable[[], datetime], jitter: Callable[[], float]) -> None:
        self._retries = retries
        self._clock = clock
        self._jitter = jitter
        self.forks = FORKS.number
        self._repeats = Repeats(log)

    def on_error(self, attempt: Attempt, code: str, error: BaseException) -> bool:
        """Set the attempt's result by an error that `code` raised; False if the error does not concern the attempt."""
        if not is_of_the_code(error):
            return False
        try:
            attempt.result = self._verdict(attempt, code, error)
        except BaseException as odd:
            # The error is a foreign object: if its methods raise, that fails this attempt only.
            attempt.result = self.failure(
                attempt, f"{code} raised {told_with_type(error)}, whose methods raised {told_with_type(odd)}"
            )
        return True

    def _verdict(self, attempt: Attempt, code: str, error: BaseException) -> AttemptResult:
        if isinstance(error, Unreadable):
            return self._result(attempt, State.DEAD, reason=told(error), failed=True)
        if isinstance(error, Discard):
            return self._result(attempt, State.IGNORED, reason=told(error))
        if isinstance(error, Retry):
            return self.failure(attempt, told(error), after=error.after)
        self._log_failure(attempt, code, error, attempt.note(error))
        return self.failure(attempt, f"{code} raised {told_with_type(error)}")

    def _log_failure(self, attempt: Attempt, code: str, error: BaseException, trace: str) -> None:
        """Log an API's failure as one line, and any other with its traceback; of many alike, the first and a count."""
        about = {"source": attempt.delivery.source, "handler": code, "error": name_of(error)}
        if isinstance(error, (ApiError, httpx.HTTPError)):
            reason = told(error) if isinstance(error, ApiError) else told_with_type(error)
            self._repeats.warning(API_FAILED, about=about, delivery=attempt.delivery.id, reason=reason)
        else:
            self._repeats.warning("a handler failed", about=about, delivery=attempt.delivery.id, exception=trace)

    def failure(self, attempt: Attempt, reason: str, *, after: timedelta | None = None) -> AttemptResult:
        """Make the result of a failed attempt: pending again, or dead after the last attempt."""
        number = attempt.delivery.attempt
        if self._retries.exhausted(number):
            return self._result(attempt, State.DEAD, reason=reason, failed=True)
        wait = self._retries.delay(number, self._jitter()) if after is None else min(after, LONGEST_RETRY_WAIT)
        return self._result(attempt, State.PENDING, reason=reason, failed=True, due_at=self._clock() + wait)

    def success(self, attempt: Attempt, outcome: Outcome) -> AttemptResult:
        """Make the result of a successful attempt: processed, with its outcome."""
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
        envelope, recorded = attempt.envelope, attempt.delivery
        occurred_at = None if envelope is None else envelope.dated(recorded.received_at)
        learnt = (
            envelope
            if envelope is not None
            and (
                envelope.entity != recorded.entity
                or envelope.event_type != recorded.event_type
                or occurred_at != recorded.occurred_at
            )
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
            occurred_at=occurred_at if learnt else None,
        )


class Guard(Protocol):
    """Makes a context manager around a dialect's code, named `code`; an exception inside ends only this attempt."""

    def __call__(
        self, attempt: Attempt, code: str, *, in_transaction: bool = False
    ) -> AbstractContextManager[None]: ...


class DialectGuard(Struct):
    """A context manager around a dialect's code: reports it to the pulse, and turns exceptions into results.

    A class, because it is faster than a generator, and entered several times per delivery.
    """

    results: AttemptResults
    pulse: Pulse
    attempt: Attempt
    code: str
    in_transaction: bool
    #: The call, once it has begun.
    begun: AtHand | None = None

    def __enter__(self) -> None:
        self.begun = self.pulse.begin(self.attempt.delivery.id, self.code, in_transaction=self.in_transaction)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if self.results.forks != FORKS.number:
            end_fork()
        assert self.begun is not None
        try:
            if error is None or self._is_interruption(error):
                return False
            # Still watched, because the text of an exception comes from foreign code.
            return self.results.on_error(self.attempt, self.code, error)
        finally:
            self.pulse.end(self.begun)

    def _is_interruption(self, error: BaseException) -> bool:
        """Whether the error interrupts the transaction: it is then run again up to a bound, or once a lock is free."""
        # By its type, because a foreign error's `__class__` may raise.
        if not self.in_transaction or not issubclass(type(error), DBAPIError):
            return False
        if is_lock_timeout(error):
            return True
        if not is_transient(error):
            return False
        self.attempt.interruptions += 1
        return self.attempt.interruptions <= RUNS_AGAIN


def count(attempts: Sequence[Attempt], results: Iterable[AttemptResult], *, now: datetime) -> None:
    """Count and log the results of these attempts."""
    by_id = {attempt.delivery.id: attempt for attempt in attempts}
    ended: Tally[tuple[str, State, str]] = Tally()
    # First rounds only: a replay of last week's deliveries is not a lag of a week.
    first_rounds: dict[str, list[tuple[Attempt, AttemptResult]]] = defaultdict(list)
    for result in results:
        attempt = by_id[result.delivery_id]
        source = attempt.delivery.source
        state = result.state
        if state is not State.PROCESSED:
            _count_unprocessed(attempt, result)
        if state is not State.PENDING:
            ended[source, state, result.outcome or ""] += 1
            if result.round == 1:
                first_rounds[source].append((attempt, result))
    for (source, state, outcome), number in ended.items():
        metrics.ended(source, state.value, outcome).inc(number)
    for source, pairs in first_rounds.items():
        _observe_first_rounds(source, pairs, now)


def _count_unprocessed(attempt: Attempt, result: AttemptResult) -> None:
    source = attempt.delivery.source
    if result.failed:
        metrics.FAILED_ATTEMPTS.labels(source).inc()
    if result.state is State.DEAD:
        _repeated.warning(
            "a delivery is dead", about={"source": source}, delivery=attempt.delivery.id, reason=result.reason
        )
    if result.state is State.IGNORED and attempt.envelope is not None and attempt.handler is None:
        few_names.count_unhandled(source, attempt.envelope.event_type)


def _observe_first_rounds(source: str, pairs: Iterable[tuple[Attempt, AttemptResult]], now: datetime) -> None:
    """Observe the lag of these deliveries, and the freshness of the processed ones."""
    arrivals, changes = [], []
    for attempt, result in pairs:
        arrivals.append(attempt.delivery.received_at)
        if result.state is State.PROCESSED and attempt.event is not None:
            changes.append(attempt.event.occurred_at)
    for histogram, moments in ((metrics.applied(source), arrivals), (metrics.freshness(source), changes)):
        metrics.observe_all(histogram, _ages(moments, now))


def _ages(moments: Sequence[datetime], now: datetime) -> Sequence[float]:
    """Seconds since these moments; 0 for a moment in the future, given by a clock ahead of ours."""
    ages = [(now - moment).total_seconds() for moment in moments]
    return ages if min(ages, default=0.0) >= 0.0 else [max(age, 0.0) for age in ages]
