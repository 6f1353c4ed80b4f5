"""The acceptor process as seen by the serving process: started, fed with requests, replaced, and stopped."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import NamedTuple

import structlog

from receiver.errors import ConfigurationError, Refused, Unavailable
from receiver.ingest.admission import Request
from receiver.ingest.channel import READ_BYTES, Channel
from receiver.ingest.frames import (
    SentAnswer,
    SentReply,
    SentRequest,
    SentRequests,
    Stored,
    Unframing,
    answers_of,
    framed,
)
from receiver.ingest.gathering import Gathering, Waiting
from receiver.ingest.group_commit import Submitted, keep_nothing
from receiver.logs.safe_text import told
from receiver.metrics import metrics, sharing
from receiver.metrics.few_names import count_unhandled
from receiver.server import acceptor
from receiver.server.supervisor import RestartPauses
from receiver.settings.environment import VITALS_VARIABLE
from receiver.settings.settings import Settings
from receiver.system_limits import explain_limit
from receiver.verify.secret_marks import mark_of

log = structlog.get_logger(__name__)

#: Frames of requests that are under way; the most requests of one frame, and the most bytes of their bodies, unless a
#: single body has more.
FRAMES_UNDER_WAY, LARGEST_FRAME, LARGEST_FRAME_BYTES = 4, 96, 1 << 20

#: Seconds that the process may take to start, and to end.
ACCEPTOR_START_SECONDS, ACCEPTOR_STOP_SECONDS = 60.0, 5.0

#: The most seconds before an ended process is replaced, since nothing is acked meanwhile.
LONGEST_PAUSE = 5.0

#: Seconds until a thread that the system did not start is tried again.
THREAD_PAUSE = 1.0


class Started(NamedTuple):
    """A process that is ready, and our end of its socket."""

    process: subprocess.Popen[bytes]
    socket: socket.socket


class AcceptorProcess:
    """Admits and accepts requests in another process, so that a crash there ends only that process."""

    def __init__(
        self,
        settings: Settings,
        *,
        beside: Path | None = None,
        keep: Callable[[Request, Refused], None] = keep_nothing,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        """`keep` is called with each request that is refused, and `accepted` after commits, to wake the workers."""
        self._settings, self._beside = settings, beside
        self._keep, self._accepted = keep, accepted
        self._gathering = Gathering[Request](
            self._send,
            at_once=FRAMES_UNDER_WAY,
            full_at_once=FRAMES_UNDER_WAY,
            largest=LARGEST_FRAME,
            fill=_how_many,
        )
        self._unframing = Unframing()
        self._started: Started | None = None
        self._channel: Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._began = 0.0
        self._pauses = RestartPauses(LONGEST_PAUSE)

    # ── start, reload and end ─────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the process, in the event loop. Raises `ConfigurationError` if it does not get ready."""
        self._loop = asyncio.get_running_loop()
        self._use(self._begin(self._settings))

    def prepare(self, settings: Settings) -> Callable[[], None]:
        """Start a process with new settings; the result, called in the event loop, lets it take over.

        To be called in another thread. Raises `ConfigurationError` if it does not get ready.
        """
        return partial(self._renew, settings, self._begin(settings))

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
            for _, answer in submitted:
                answer.set_exception(_gone())
            return
        self._gathering.add(submitted)

    def _send(self, batch: list[Waiting[Request]]) -> None:
        requests = [
            SentRequest(each.source.name, each.headers, each.body, each.target)  # type: ignore[arg-type]
            for each in (waiting.item for waiting in batch)
        ]
        assert self._channel is not None
        self._channel.send(framed(SentRequests(time.time(), requests)))

    def _receive(self, data: bytes) -> None:
        for content in self._unframing.feed(data):
            answers = answers_of(content)
            # Before any step that could fail, so that a failure never blocks the next batch.
            batch = self._gathering.end(failed=answers.failed)
            for waiting, sent in zip(batch, answers.answers, strict=True):
                self._answer(waiting, sent)
            self._accepted()
            _count(batch, answers.answers)

    def _answer(self, waiting: Waiting[Request], sent: SentAnswer) -> None:
        if waiting.answer.done():
            return
        if isinstance(sent, Stored):
            waiting.answer.set_result(sent.accepted)
        elif isinstance(sent, SentReply):
            waiting.answer.set_result(sent.reply)
        else:
            refusal = sent.refusal
            self._keep(waiting.item, refusal)
            waiting.answer.set_exception(refusal)

    def _lose(self) -> None:
        """Ask the senders to retry, since the process is gone, and start another one."""
        assert self._started is not None
        ended, self._started, self._channel = self._started, None, None
        self._gathering.give_up(_gone())
        self._replace_soon(ended)

    def _replace_soon(self, ended: Started) -> None:
        if self._stopping.is_set() or self._loop is None:
            return
        try:
            threading.Thread(target=self._replace, args=(ended,), name="acceptor-starter", daemon=True).start()
        except RuntimeError as error:
            log.error("cannot start the acceptor process; trying again", error=explain_limit(error) or told(error))
            self._loop.call_later(THREAD_PAUSE, self._replace_soon, ended)

    def _use(self, started: Started) -> None:
        assert self._loop is not None
        self._started, self._began = started, time.monotonic()
        self._unframing = Unframing()
        self._channel = Channel(started.socket, self._loop, received=self._receive, lost=self._lose)

    def _finish(self) -> None:
        """End the process after the answers that are under way, for which it has a bounded time."""
        if self._started is None or self._channel is None:
            return
        started, channel, self._started, self._channel = self._started, self._channel, None, None
        deadline = time.monotonic() + ACCEPTOR_STOP_SECONDS
        channel.finish(deadline)
        self._gathering.give_up_handed(_gone())
        _end(started.process, deadline)

    # ── in threads that start processes ───────────────────────────────────────────────────────────────────────

    def _replace(self, ended: Started) -> None:
        code = _end(ended.process, time.monotonic())
        while not self._stopping.is_set():
            pause = self._pauses.after(time.monotonic() - self._began)
            log.error("the acceptor process ended; starting another", code=code, seconds=pause)
            if self._stopping.wait(pause):
                return
            try:
                started = self._begin(self._settings)
            except Exception as error:
                # Every error is caught, such as that no further process may be started: nothing else starts one.
                log.error("cannot start the acceptor process; trying again", error=explain_limit(error) or told(error))
                continue
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(self._use_if_running, started)
            except RuntimeError:
                started.socket.close()
            return

    def _use_if_running(self, started: Started) -> None:
        if self._stopping.is_set() or self._started is not None:
            started.socket.close()
        else:
            self._use(started)

    def _begin(self, settings: Settings) -> Started:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = subprocess.Popen(  # noqa: S603 (the command is ours)
                    [sys.executable, "-P", "-m", acceptor.__name__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise ConfigurationError(f"The acceptor process cannot be started: {told(error)}") from error
        ours.settimeout(ACCEPTOR_START_SECONDS)
        try:
            ours.sendall(acceptor.settings_sent(settings, self._beside))
            unframing = Unframing()
            while data := ours.recv(READ_BYTES):
                if unframing.feed(data):
                    return Started(process, ours)
        except OSError as error:
            log.error("the acceptor process does not answer", error=told(error))
        ours.close()
        code = _end(process, time.monotonic() + ACCEPTOR_STOP_SECONDS)
        raise ConfigurationError(f"The acceptor process ended at its start with the code {code}: see the log before.")


def _how_many(waiting: Sequence[Waiting[Request]]) -> int:
    """The number of requests in the next frame."""
    sizes = accumulate(len(each.item.body) for each in waiting)
    return max(sum(size <= LARGEST_FRAME_BYTES for size in sizes), 1)


def _environment() -> Mapping[str, str]:
    """The environment of the process, which has no metrics of its own and is not one of those that register.

    It finds every module where this process finds it.
    """
    without = {VITALS_VARIABLE, sharing.SHARED_VARIABLE}
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return kept | {"PYTHONPATH": os.pathsep.join(str(Path(each).absolute()) for each in sys.path)}


def _end(process: subprocess.Popen[bytes], deadline: float) -> int:
    """Wait for the process to end, or kill it at the deadline; return its exit code. No acked webhook is lost."""
    try:
        return process.wait(max(deadline - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        log.error("the acceptor process did not end in time; killing it", pid=process.pid)
        process.kill()
        return process.wait()


def _count(batch: Sequence[Waiting[Request]], answers: Sequence[SentAnswer]) -> None:
    """Count the stored webhooks in the metrics, as `receiver.ingest.group_commit.count_answers` does."""
    pairs = zip(batch, answers, strict=True)
    stored = [(waiting.item.source, each) for waiting, each in pairs if isinstance(each, Stored)]
    metrics.count_accepted(
        (source.name, each.secret, mark_of(source.credentials, each.secret), (each.items or (each,))[0].status)
        for source, each in stored
    )
    for source, each in ((source.name, each) for source, each in stored):
        if each.items:
            metrics.count_items((source, item.status) for item in each.items[1:])
        for item in each.items or (each,):
            if item.ignored is not None:
                count_unhandled(source, item.ignored)


def _gone() -> Unavailable:
    return Unavailable("The process that stores webhooks has ended. Send this again later.")
