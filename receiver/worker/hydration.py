"""Hydration: fetching the data of thin events from the sources' own APIs, several calls at once.

An API may be slow, hang, or answer without end. So a pass of the worker waits for it a few seconds at most. Longer
calls continue during the passes that follow, and their source gets no other call until they have ended. Answers are
counted: beyond `MOST_FETCHED` bytes, the other calls wait until the fetched data is settled.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter_ns

import httpx
import structlog
from msgspec.structs import replace

from receiver.dialects.handlers import Handler
from receiver.dialects.sources import Source
from receiver.errors import ApiError
from receiver.inbox.attempts import microseconds_since
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told_with_type
from receiver.metrics import metrics
from receiver.worker.attempt import Attempt, Guard
from receiver.worker.breaker import Breaker
from receiver.worker.liveness import Pulse

log = structlog.get_logger(__name__)

#: The most simultaneous calls to the API of one source.
HYDRATIONS_AT_ONCE = 8

#: Seconds that a pass waits for all its calls together.
BUDGET_SECONDS = 3.0

#: Seconds between two signs that a pass is still waiting.
SIGN_SECONDS = 0.5

#: Bytes of answers after which no further call is begun until these are settled.
MOST_FETCHED = 4 * 1024 * 1024


@dataclass(slots=True)
class Call:
    """The hydration of one attempt on a separate thread. Until it ends, only that thread may use the attempt."""

    attempt: Attempt
    hydrator: Handler
    client: httpx.Client
    answers: list[httpx.Response] = field(default_factory=list)
    #: Requests that were sent.
    asked: int = 0
    #: Whether the pass that began the call did not wait for its end.
    is_late: bool = False
    #: Whether its result is no longer needed, because its delivery was returned.
    is_forgotten: bool = False
    thread: threading.Thread | None = None

    @property
    def source(self) -> str:
        return self.attempt.delivery.source

    @property
    def bytes_fetched(self) -> int:
        return sum(map(_size, self.answers))

    @property
    def api_failed(self) -> bool:
        """Whether the API failed: no answer, a busy server, or an incomplete answer. A refusal is an answer."""
        if not self.asked:
            return False
        if len(self.answers) < self.asked or (self.is_late and self.attempt.result is not None):
            return True
        last = self.answers[-1]
        return last.status_code == 429 or last.status_code >= 500


class Hydration:
    """The clients of the sources' APIs, and their calls. Only the worker's thread calls its methods."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        pulse: Pulse,
        guarded: Guard,
        *,
        stopping: Callable[[], bool],
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called when a call has ended, on its thread."""
        self._sources = sources
        self._pulse = pulse
        self._guarded = guarded
        self._stopping = stopping
        self._clock = clock
        self._wake = wake
        self._clients: dict[str, httpx.Client | None] = {}
        #: The errors of clients that could not be made, kept for one batch, because each attempt may take long.
        self._broken: dict[str, str] = {}
        self._breaker = Breaker()
        self._repeats = Repeats(log)
        #: Calls in progress or with an unprocessed end; and a queue of those that have ended.
        self._calls: list[Call] = []
        self._ended: SimpleQueue[Call] = SimpleQueue()
        #: Calls of earlier passes that have ended while a pass waited for its own.
        self._ended_late: list[Call] = []
        self._ends_at = 0.0
        #: The entities of this pass with an attempt that a later pass must end, each with its source.
        self._held_up: set[object] = set()
        #: Bytes of the answers of this pass.
        self._fetched = 0
        #: The call that a thread is making.
        self._at_hand = threading.local()

    def begin_batch(self) -> None:
        """Reset the errors of clients, the time for calls, and the entities that are held up."""
        self._broken.clear()
        self._held_up.clear()
        self._ends_at = monotonic() + BUDGET_SECONDS

    def sort(self, attempts: Sequence[Attempt]) -> None:
        """Mark those without thin events as ready."""
        for attempt in attempts:
            if not attempt.is_ready:
                attempt.hydrated = not self._is_thin(attempt)

    def ready(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """The attempts that need no API and do not follow one of their source that waits for an API, in order."""
        waiting: set[str] = set()
        found = []
        for attempt in attempts:
            if not attempt.is_ready:
                waiting.add(attempt.delivery.source)
            elif attempt.delivery.source not in waiting and attempt.entity_of_source not in self._held_up:
                found.append(attempt)
        return found

    def apart(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """The ready attempts whose entity has no earlier attempt in this pass that is not ready, in order.

        Further attempts of this pass wait behind the others.
        """
        found = []
        for attempt in attempts:
            if attempt.is_ready and attempt.entity_of_source not in self._held_up:
                found.append(attempt)
            elif attempt.entity_of_source is not None:
                self._held_up.add(attempt.entity_of_source)
        return found

    def fetch(self, attempts: Sequence[Attempt]) -> Iterator[None]:
        """Hydrate the events of these attempts, yielding now and then; those beyond this pass stay unchanged."""
        self._fetched = 0
        waiting: dict[str, deque[Attempt]] = {}
        for attempt in attempts:
            if not attempt.is_ready and not attempt.under_way and attempt.entity_of_source not in self._held_up:
                waiting.setdefault(attempt.delivery.source, deque()).append(attempt)
        # The oldest attempt keeps its turn, even if many others arrive meanwhile.
        first = min((queue[0] for queue in waiting.values()), key=lambda attempt: attempt.delivery.id, default=None)
        while True:
            for source, queue in waiting.items():
                while queue and self._may_begin(source, is_first=queue[0] is first):
                    self._begin(queue.popleft())
            if all(call.is_late for call in self._calls):
                return
            left = self._ends_at - monotonic()
            if left <= 0 or self._stopping():
                self._leave_behind()
                return
            with suppress(Empty):
                self._take(self._ended.get(timeout=min(left, SIGN_SECONDS)))
            yield

    def late(self) -> list[Attempt]:
        """The attempts of calls that earlier passes left behind and that have ended; each is returned once."""
        with suppress(Empty):
            while True:
                self._ended_late.append(self._ended.get_nowait())
        found = []
        while self._ended_late:
            # One by one, so that an error leaves the others to the next pass.
            call = self._ended_late.pop(0)
            self._end(call)
            found += [] if call.is_forgotten else [call.attempt]
        return sorted(found, key=lambda attempt: attempt.delivery.id)

    @property
    def under_way(self) -> list[Attempt]:
        """The calls that have not ended and whose results are still needed."""
        return [call.attempt for call in self._calls if not call.is_forgotten]

    def resting(self) -> set[str]:
        """The sources whose deliveries must not be claimed: their APIs rest, or hold up calls of earlier passes."""
        return self._breaker.resting(now=self._clock()) | {call.source for call in self._calls if call.is_late}

    def end_pass(self) -> None:
        """Leave the calls in progress to later passes."""
        for call in self._calls:
            call.is_late = True

    def forget(self) -> None:
        """Abandon the calls in progress, because their deliveries are returned."""
        for call in self._calls:
            call.is_late = call.is_forgotten = True

    def linger(self) -> None:
        """Wait until no call is in progress, perhaps for ever."""
        for call in self._calls:
            if call.thread is not None:
                call.thread.join()

    def close(self) -> None:
        for client in self._clients.values():
            # The client is the dialect's own object, and closing it may raise anything.
            with suppress(BaseException):
                client.close() if client is not None else None
        self._clients.clear()

    def _is_thin(self, attempt: Attempt) -> bool:
        name = attempt.delivery.source
        if self._clients.get(name, self) is None:
            # Decided before: the source has no API.
            return False
        with self._guarded(attempt, f"the client of {name}'s API"):
            return self._hydrator(attempt) is not None
        return False

    def _hydrator(self, attempt: Attempt) -> Handler | None:
        if attempt.envelope is None or self._client(attempt.delivery.source) is None:
            return None
        return self._sources[attempt.delivery.source].dialect.hydrator_for(attempt.envelope.event_type)

    def _may_begin(self, source: str, *, is_first: bool) -> bool:
        if self._stopping() or monotonic() >= self._ends_at or source in self.resting():
            return False
        if self._fetched > MOST_FETCHED and not is_first:
            return False
        at_once = 1 if self._breaker.is_doubtful(source) else HYDRATIONS_AT_ONCE
        return sum(call.source == source for call in self._calls) < at_once

    def _begin(self, attempt: Attempt) -> None:
        hydrator, client = self._hydrator(attempt), self._client(attempt.delivery.source)
        assert hydrator is not None
        assert client is not None
        call = Call(attempt, hydrator, client)
        # Not an executor: the interpreter would wait for its threads at exit, and a hanging thread never ends.
        call.thread = threading.Thread(target=self._make, args=(call,), name="hydrate", daemon=True)
        # First, because a call whose thread cannot be started never ends.
        call.thread.start()
        attempt.under_way = True
        self._calls.append(call)

    def _make(self, call: Call) -> None:
        self._at_hand.call = call
        attempt = call.attempt
        began = perf_counter_ns()
        try:
            with self._guarded(attempt, call.hydrator.name):
                hydrated = call.hydrator.run(attempt.event, call.client)
                assert attempt.event is not None
                attempt.event = replace(attempt.event, hydrated=hydrated)
        finally:
            attempt.details.hydrate_us = microseconds_since(began)
            self._ended.put(call)
            self._wake()

    def _take(self, call: Call) -> None:
        """Record the result of a call that has ended; one of an earlier pass is left to `late`, which returns it."""
        if call.is_late:
            self._ended_late.append(call)
        else:
            self._end(call)

    def _end(self, call: Call) -> None:
        """Record the result of a call."""
        self._calls.remove(call)
        call.attempt.under_way, call.attempt.hydrated = False, True
        self._fetched += call.bytes_fetched
        if not call.api_failed:
            if call.answers and self._breaker.answered(call.source):
                self._repeats.info("a source's API answers again", about={"source": call.source})
            return
        rest = self._breaker.failed(call.source, now=self._clock())
        if rest is not None:
            metrics.API_RESTS.labels(call.source).inc()
            reason = "" if call.attempt.result is None else call.attempt.result.reason
            says, about = "a source's API fails; pausing calls to it", {"source": call.source}
            self._repeats.warning(says, about=about, seconds=rest.seconds, reason=reason)

    def _leave_behind(self) -> None:
        """Continue without the calls that have not ended."""
        for call in self._calls:
            if not call.is_late and not self._stopping():
                about = {"source": call.source}
                self._repeats.warning("a source's API is slow; its deliveries wait until it has answered", about=about)
        self.end_pass()

    def _client(self, name: str) -> httpx.Client | None:
        if name in self._broken:
            raise ApiError(self._broken[name])
        if name not in self._clients:
            try:
                self._clients[name] = self._new_client(name)
            except BaseException as error:
                self._broken[name] = f"It could not be made a moment ago: {told_with_type(error)}"
                raise
        return self._clients[name]

    def _new_client(self, name: str) -> httpx.Client | None:
        client = self._sources[name].client()
        if client is not None:
            client.event_hooks = {
                "request": [*client.event_hooks["request"], self._asked],
                "response": [*client.event_hooks["response"], self._answered],
            }
        return client

    def _asked(self, _: httpx.Request) -> None:
        # A hydrator that makes one call after another is not hanging.
        self._pulse.beat()
        with suppress(AttributeError):
            # On a thread that the dialect started, there is no call to count.
            self._at_hand.call.asked += 1

    def _answered(self, answer: httpx.Response) -> None:
        self._pulse.beat()
        with suppress(AttributeError):
            self._at_hand.call.answers.append(answer)


def _size(answer: httpx.Response) -> int:
    try:
        return len(answer.content)
    except (httpx.StreamError, AttributeError):
        return answer.num_bytes_downloaded
