"""Trials: runs a delivery through today's code without claiming, settling, counting or writing.

A trial ends without news if its event is thin, because the source's answer is not kept, or if its handler uses SQL of
its own, because only a worker may cause its effects.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from receiver.database.errors import is_failed_read, is_overdue
from receiver.dialects.forks import FORKS, end_fork
from receiver.dialects.sources import Source
from receiver.errors import Discard, Retry, Unreadable
from receiver.inbox.leases import Claimed
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import kept_reason
from receiver.logs.safe_text import told, told_with_type
from receiver.mirror.news import Mirror, ReadRow, SessionRequested, news_of
from receiver.mirror.rows import Key, MirrorRow, Write
from receiver.worker.attempt import Attempt
from receiver.worker.reading import parse


class Obstacle(StrEnum):
    """The reason why a trial has no news."""

    EXPIRED = "expired"
    #: The settings have no such source.
    NO_SOURCE = "no_source"
    #: The event was thin: only the source's API had its data.
    THIN = "thin"
    #: The handler takes `mirror.session`.
    SESSION = "session"
    #: The delivery is unreadable; it has no handler, or is discarded; its attempt fails. Each with the reason.
    DEAD = "dead"
    IGNORED = "ignored"
    FAILED = "failed"
    #: The code did not return.
    HANGS = "hangs"
    #: A bound was reached before the delivery's turn.
    NOT_REACHED = "not_reached"


class Trial(NamedTuple):
    """The news of one delivery, or the reason why there is none."""

    writes: list[Write]
    obstacle: Obstacle | None = None
    #: The reason given by the code, if that is the obstacle; for a session, the handler's name.
    reason: str | None = None
    #: The number of events behind the first, if the body is a bundle that is still a single delivery.
    further: int = 0


def run_trial(
    claimed: Claimed, sources: Mapping[str, Source], retries: RetrySchedule, *, read_row: ReadRow, now: datetime
) -> Trial:
    """Run the present code over one delivery, as if it were `now`; `read_row` answers `mirror.get`.

    Raises nothing that the code raises, but SQLAlchemy's error if `read_row` could not read because the database itself
    failed. The caller must bound a handler that does not return.
    """
    attempt = Attempt(claimed)
    guard = _TrialGuard(attempt)
    read = _TrialReader(read_row)
    if claimed.plain is None:
        return Trial([], Obstacle.EXPIRED)
    source = sources.get(claimed.source)
    if source is None:
        return Trial([], Obstacle.NO_SOURCE)
    ended = None
    with guard:
        parse(attempt, sources, retries, now=now)
        ended = Trial([], Obstacle.THIN) if _is_thin(source, attempt) else _handle(attempt, read)
    if read.failed is not None:
        # The handler is not at fault, whatever it made of the error.
        raise read.failed
    ended = ended or guard.ended
    assert ended is not None
    return ended._replace(further=_further(attempt))


def _further(attempt: Attempt) -> int:
    return 0 if attempt.unfolds is None else len(attempt.unfolds.items) - 1


def _is_thin(source: Source, attempt: Attempt) -> bool:
    """Whether the event is thin, so that only the source's API has its data."""
    assert attempt.envelope is not None
    return source.settings.api_url is not None and source.dialect.hydrator_for(attempt.envelope.event_type) is not None


def _handle(attempt: Attempt, read_row: ReadRow) -> Trial:
    assert attempt.handler is not None
    assert attempt.event is not None
    mirror = Mirror(
        source=attempt.delivery.source,
        occurred_at=attempt.event.occurred_at,
        arrival=attempt.delivery.id,
        earlier=[],
        read=read_row,
    )
    try:
        attempt.handler.run(attempt.event, mirror)
    except SessionRequested:
        return Trial([], Obstacle.SESSION, attempt.handler.name)
    return Trial(news_of(mirror, attempt.delivery.round))


@dataclass(slots=True)
class _TrialReader:
    """Answers `mirror.get`, and notes the error of a database that could not be read."""

    read_row: ReadRow
    failed: SQLAlchemyError | None = None

    def __call__(self, key: Key, writes: list[Write]) -> MirrorRow | None:
        try:
            return self.read_row(key, writes)
        except SQLAlchemyError as error:
            if is_overdue(error) or is_failed_read(error):
                self.failed = error
            raise


@dataclass(slots=True)
class _TrialGuard(AbstractContextManager[None]):
    """A context manager around a dialect's code, whose exceptions become the trial's result."""

    attempt: Attempt
    ended: Trial | None = None
    forks: int = field(default_factory=lambda: FORKS.number)

    def __enter__(self) -> None:
        """Do nothing: a trial gives no signs of life."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if self.forks != FORKS.number:
            end_fork()
        if error is None or (isinstance(error, KeyboardInterrupt) and _is_main_thread()):
            return False
        handler = self.attempt.handler
        obstacle, reason = _verdict("the dialect's envelope" if handler is None else handler.name, error)
        self.ended = Trial([], obstacle, kept_reason(reason))
        return True


def _verdict(code: str, error: BaseException) -> tuple[Obstacle, str]:
    try:
        if isinstance(error, Unreadable):
            return Obstacle.DEAD, told(error)
        if isinstance(error, Discard):
            return Obstacle.IGNORED, told(error)
        if isinstance(error, Retry):
            return Obstacle.FAILED, told(error)
        return Obstacle.FAILED, f"{code} raised {told_with_type(error)}"
    except BaseException as odd:
        # The error is a foreign object, whose text may raise in turn.
        return Obstacle.FAILED, f"{code} raised an error whose text raised {told_with_type(odd)}"


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
