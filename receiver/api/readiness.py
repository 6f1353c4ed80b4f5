"""Readiness: whether deliveries can be stored and are worked on in time. The answer never takes longer than a second.

One thread with a separate connection queries the database, so that neither reads nor locks delay the answer.
Concurrent requests share its result. Without a result in time, the answer says so.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from sqlalchemy import delete, false
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.errors import describe_for_all
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import BODIES, DEDUP_KEYS, DELIVERIES
from receiver.system_limits import explain_limit

#: The time limits of one statement, locks included, and of the whole answer, in seconds.
READINESS_STATEMENT_SECONDS, ANSWER_SECONDS = 0.5, 0.8

#: Seconds for which a result is reused, and seconds for which it is used if no newer result is found in time.
REUSE, STILL_GOOD = 0.25, 3.0

#: The tables that accepting a delivery writes to.
WRITTEN = (DELIVERIES, BODIES, DEDUP_KEYS)


class Readiness:
    """Checks whether this process can store deliveries and keep up with them."""

    def __init__(
        self,
        inbox: Inbox,
        sources: Sequence[str],
        *,
        max_backlog_seconds: float,
        accepting: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`inbox` must have a separate connection. `accepting` returns the reason why no delivery can be stored."""
        self._inbox = inbox
        self._sources = sources
        self._max_backlog_seconds = max_backlog_seconds
        self._accepting = accepting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._look: Future[None] | None = None
        self._reason: str | None = None
        self._looked_at = -math.inf
        # The server has just checked its database.
        self._good_at = time.monotonic()

    def renew(self, sources: Sequence[str], *, max_backlog_seconds: float) -> None:
        """Replace the sources and the age, from the next check on."""
        self._sources, self._max_backlog_seconds = sources, max_backlog_seconds

    async def reason(self) -> str | None:
        """Return the reason why the process is not ready; None if it is ready."""
        known = self._accepting() or self._inbox.database.trouble
        if known is not None:
            return known
        if time.monotonic() - self._looked_at < REUSE:
            return self._reason
        try:
            if self._look is None or self._look.done():
                self._look = self._thread.submit(self._find_out)
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._look)), ANSWER_SECONDS)
        except TimeoutError:
            if time.monotonic() - self._good_at < STILL_GOOD:
                return None
            return "The database does not answer within a second."
        except RuntimeError as error:
            # The system gives this process no thread for the check.
            return explain_limit(error) or _told(error)
        return self._reason

    def close(self) -> None:
        """Stop checking, without waiting for a check in progress."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _find_out(self) -> None:
        try:
            self._try_to_write()
            age = self._inbox.oldest_due_seconds(self._sources, now=datetime.now(UTC))
        except Exception as error:
            self._reason = _told(error)
        else:
            self._reason = None
            self._good_at = time.monotonic()
            if age > self._max_backlog_seconds:
                self._reason = f"The oldest due delivery has waited {age:.0f} s: is a worker running, and fast enough?"
        self._looked_at = time.monotonic()

    def _try_to_write(self) -> None:
        """Take the locks of a write, and change nothing. Raises SQLAlchemy's error if the database refuses writes."""
        with self._inbox.database.write() as connection:
            for table in WRITTEN:
                connection.execute(delete(table).where(false()))


def _told(error: Exception) -> str:
    """Describe an error to the public, without names of hosts and users."""
    if isinstance(error, SQLAlchemyError):
        return describe_for_all(error)
    return "An error in this process prevented the check of the database."
