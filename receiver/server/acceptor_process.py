"""The acceptor process as seen by the serving process: started, fed with requests, replaced, and stopped."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import accumulate
from math import inf
from pathlib import Path

import structlog

from receiver.errors import Unavailable
from receiver.ingest.admission import Request
from receiver.ingest.channel import Channel
from receiver.ingest.frames import (
    SentAnswer,
    SentAnswers,
    SentReply,
    SentRequest,
    SentRequests,
    Stored,
    Unframing,
    answers_of,
    framed,
)
from receiver.ingest.gathering import Gathering, Waiting, not_answered, refuse_open, send_away
from receiver.ingest.group_commit import KeepRefused, Submitted, keep_nothing, refuse
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told_with_limit
from receiver.metrics import metrics
from receiver.metrics.few_names import count_ended_on_arrival
from receiver.server.acceptor_starts import AcceptorStarts, Started, end, end_deadline
from receiver.server.supervisor import RestartPauses
from receiver.settings.settings import Settings

log = structlog.get_logger(__name__)

#: For lines that a stranger may cause.
_repeated = Repeats(log)

#: Frames of requests that are under way; the most requests of one frame, and the most bytes of their bodies, unless a
#: single body has more. Smaller frames would need more commits. Eight full ones are two of the largest batches, so that
#: one can be sent while the other is stored.
FRAMES_UNDER_WAY, LARGEST_FRAME, LARGEST_FRAME_BYTES = 8, 32, 1 << 20

#: The most seconds before an ended process is replaced, since nothing is acked meanwhile.
LONGEST_PAUSE = 5.0

#: Seconds until a thread that the system did not start is tried again.
THREAD_PAUSE = 1.0


class AcceptorProcess:
    """Admits and accepts requests in another process, so that a crash there ends only that process."""

    #: The number of requests that are not left waiting for the end of a turn of the event loop: those of a frame.
    hand_in_at = LARGEST_FRAME

    def __init__(
        self,
        settings: Settings,
        *,
        beside: Callable[[], Path | None] = lambda: None,
        keep: KeepRefused = keep_nothing,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        """`beside` finds the folder of the settings file at each start of a process.

        `keep` is called with each request that is refused, and `accepted` after commits, to wake the workers.
        """
        self._settings, self._starts = settings, AcceptorStarts(beside=beside)
        self._keep, self._accepted = keep, accepted
        self._gathering = Gathering[Request](
            self._send,
            at_once=FRAMES_UNDER_WAY,
            full_at_once=FRAMES_UNDER_WAY,
            largest=LARGEST_FRAME,
            fill=_how_many,
            end_hanging=self._kill,
        )
        self._unframing = Unframing()
        self._started: Started | None = None
        #: The last process that was killed because its commit hung, which is the database's fault.
        self._killed: Started | None = None
        self._starter: threading.Thread | None = None
        self._channel: Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._began = 0.0
        self._pauses = RestartPauses(LONGEST_PAUSE)

    # ── start, reload and end ─────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the process, in the event loop. Raises `ConfigurationError` if it does not get ready."""
        self._loop = asyncio.get_running_loop()
        self._use(self._starts.begin(self._settings))

    @contextmanager
    def prepared(self, settings: Settings) -> Iterator[Callable[[], None]]:
        """Start a process with new settings. The function, called in the event loop, lets it take over.

        A process that has not taken over ends with the block, because the reload was refused. To be entered in another
        thread. Raises `ConfigurationError` if the process does not get ready.
        """
        started = self._starts.begin(settings)
        try:
            yield partial(self._renew, settings, started)
        finally:
            if self._starts.is_waiting(started):
                self._starts.discard(started)

    def _renew(self, settings: Settings, started: Started) -> None:
        self._settings = settings
        self._finish()
        self._use(started)

    def stop(self) -> None:
        """End the process after the requests that it has."""
        self._stopping.set()
        if self._channel is not None:
            self._gathering.hand_rest()
        self._finish()
        self._starts.stop(self._starter)

    # ── from any thread ───────────────────────────────────────────────────────────────────────────────────────

    def is_busy(self) -> bool:
        """Whether requests come in right now, or wait for a commit."""
        return self._gathering.is_busy()

    def trouble(self, *, since: float = -inf) -> str | None:
        """The reason why no delivery can be stored, or None; failures before `since` are ignored."""
        if self._started is None and self._loop is not None:
            return "The acceptor process has ended, and another one starts."
        return self._gathering.trouble(since=since)

    # ── in the event loop ─────────────────────────────────────────────────────────────────────────────────────

    def take(self, submitted: Sequence[Submitted]) -> None:
        """Answer each request after the commit of its arrival, or with its refusal."""
        if self._channel is None:
            refuse_open([answer for _, answer in submitted], _gone())
            return
        self._gathering.add(submitted)

    def _send(self, batch: list[Waiting[Request]]) -> None:
        assert self._channel is not None
        try:
            self._channel.send(_frame_of(batch))
        except Exception:
            # First, because without this frame each later answer would be taken for that of the frame before its own.
            self._channel.close()
            self._lose()
            _repeated.exception("cannot send requests to the acceptor process; replacing it", about={})

    def _receive(self, data: bytes) -> None:
        """Answer requests. An error here ends the process, because each later answer would go to another request."""
        for content in self._unframing.feed(data):
            answers = answers_of(content)
            # Before any step that could fail, so that a failure never blocks the next batch.
            batch = self._gathering.end(failed=answers.failed)
            try:
                for waiting, sent in zip(batch, answers.answers, strict=True):
                    self._answer(waiting, sent)
                if any(isinstance(each, Stored) for each in answers.answers):
                    self._accepted()
                _count(batch, answers)
            except Exception:
                _repeated.exception("cannot end a batch; the senders without an answer are asked to retry", about={})
                send_away(batch, not_answered())

    def _answer(self, waiting: Waiting[Request], sent: SentAnswer) -> None:
        try:
            self._try_to_answer(waiting, sent)
        except Exception:
            _repeated.exception("cannot answer a webhook", about={"source": waiting.item.source.name})
            send_away([waiting], not_answered())

    def _try_to_answer(self, waiting: Waiting[Request], sent: SentAnswer) -> None:
        if waiting.answer.done():
            return
        if isinstance(sent, Stored):
            waiting.answer.set_result(sent.accepted)
        elif isinstance(sent, SentReply):
            waiting.answer.set_result(sent.reply)
        else:
            refuse(waiting.item, waiting.answer, sent.refusal, keep=self._keep)

    def _kill(self) -> None:
        """Kill the process, because its commit hangs; then another one is started."""
        if self._started is not None and self._channel is not None:
            self._killed = self._started
            self._started.process.kill()
            # Not left to the end of its socket, which a process that a dialect's code has forked may hold open.
            self._channel.close()
            self._lose()

    def _lose(self) -> None:
        """Ask the senders to retry, since the process is gone, and start another one."""
        assert self._started is not None
        ended, self._started, self._channel = self._started, None, None
        if ended is not self._killed:
            metrics.ACCEPTOR_ENDED.inc()
        try:
            self._gathering.give_up(_gone())
        finally:
            # Whatever fails there, such as without memory: nothing else starts another process.
            self._replace_soon(ended)

    def _replace_soon(self, ended: Started) -> None:
        if self._stopping.is_set() or self._loop is None:
            end(ended, time.monotonic())
            return
        try:
            starter = threading.Thread(target=self._replace, args=(ended,), name="acceptor-starter", daemon=True)
            starter.start()
        except (RuntimeError, MemoryError) as error:
            self._loop.call_later(THREAD_PAUSE, self._replace_soon, ended)
            metrics.ACCEPTOR_ENDED.inc()
            log.error("cannot start the acceptor process; trying again", error=told_with_limit(error))
        else:
            self._starter = starter

    def _use(self, started: Started) -> None:
        assert self._loop is not None
        self._starts.serves(started)
        self._started, self._began = started, time.monotonic()
        self._unframing = Unframing()
        self._channel = Channel(started.socket, self._loop, received=self._receive, lost=self._lose)

    def _finish(self) -> None:
        """End the process after the answers that are under way, for which it has a bounded time."""
        if self._started is None or self._channel is None:
            return
        started, channel, self._started, self._channel = self._started, self._channel, None, None
        deadline = end_deadline()
        channel.finish(deadline)
        self._gathering.give_up_handed(_gone())
        end(started, deadline)

    # ── in threads that start processes ───────────────────────────────────────────────────────────────────────

    def _replace(self, ended: Started) -> None:
        code = None
        with suppress(MemoryError):
            code = end(ended, time.monotonic())
        while not self._stopping.is_set():
            try:
                if self._is_replaced(code):
                    return
            except Exception:
                # Such as that there is no memory for a line of the log: nothing else starts another process.
                self._stopping.wait(THREAD_PAUSE)

    def _is_replaced(self, code: int | None) -> bool:
        """Start another process after a pause; return whether that has been done, or is not wanted any more."""
        pause = self._pauses.after(time.monotonic() - self._began)
        log.error("the acceptor process ended; starting another", code=code, seconds=pause)
        if self._stopping.wait(pause):
            return True
        settings, self._began = self._settings, time.monotonic()
        try:
            started = self._starts.begin(settings)
        except Exception as error:
            # Every error is caught, such as that no further process may be started.
            if not self._stopping.is_set():
                metrics.ACCEPTOR_ENDED.inc()
                log.error("cannot start the acceptor process; trying again", error=told_with_limit(error))
            return False
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._use_if_running, started, settings)
        except (RuntimeError, MemoryError) as error:
            self._starts.discard(started)
            return isinstance(error, RuntimeError)
        return True

    def _use_if_running(self, started: Started, settings: Settings) -> None:
        if not self._starts.is_waiting(started):
            # It was discarded after a call of the event loop that failed and arrived all the same.
            return
        if self._stopping.is_set():
            self._starts.discard(started)
        elif self._started is not None or settings is not self._settings:
            # A reload has brought another one. This one may take a moment to end, and the event loop must not wait.
            threading.Thread(target=self._starts.discard, args=(started,), name="acceptor-ender", daemon=True).start()
        else:
            self._use(started)


def _frame_of(batch: Sequence[Waiting[Request]]) -> bytes:
    requests = [
        SentRequest(each.source.name, each.headers, each.body, each.target)  # type: ignore[arg-type]
        for each in (waiting.item for waiting in batch)
    ]
    return framed(SentRequests(time.time(), requests))


def _how_many(waiting: Sequence[Waiting[Request]]) -> int:
    """The number of requests in the next frame."""
    sizes = accumulate(len(each.item.body) for each in waiting)
    return max(sum(size <= LARGEST_FRAME_BYTES for size in sizes), 1)


def _count(batch: Sequence[Waiting[Request]], sent: SentAnswers) -> None:
    """Count the stored webhooks in the metrics, as `receiver.ingest.counting.count_answers` does, and challenges."""
    for challenged in sent.challenges:
        metrics.count_challenge(*challenged)
    pairs = zip(batch, sent.answers, strict=True)
    stored = [(waiting.item.source.name, each) for waiting, each in pairs if isinstance(each, Stored)]
    metrics.count_accepted(
        (source, each.secret, each.mark, (each.items or (each,))[0].status) for source, each in stored
    )
    for source, each in stored:
        if each.items:
            metrics.count_items((source, item.status) for item in each.items[1:])
        for item in each.items or (each,):
            if item.ended is not None:
                count_ended_on_arrival(source, item.ended, item.unhandled)


def _gone() -> Unavailable:
    return Unavailable("The process that stores webhooks has ended. Send this again later.")
