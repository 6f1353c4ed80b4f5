"""The answers of an acceptor process: what they say about the database, and to whom they go."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from io import BytesIO
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from loop_turns import turns

from receiver.dialects.replies import SenderReply
from receiver.errors import NotVerified, Refused, Unavailable
from receiver.inbox.arrival import Accepted
from receiver.ingest.admission import Request
from receiver.ingest.frames import SentAnswer, SentAnswers, SentRefusal, SentReply, Stored, framed, with_length
from receiver.ingest.gathering import not_stored
from receiver.metrics import metrics
from receiver.server import acceptor_process
from receiver.server.acceptor_process import AcceptorProcess
from receiver.server.acceptor_starts import Started
from receiver.settings.settings import Settings

SHOP: Any = SimpleNamespace(name="shop", credentials=SimpleNamespace(marks=("mark of the older",)))

FORGED = SentRefusal.of(NotVerified("signature_wrong", "It is."))


class Process:
    """An acceptor process that has ended."""

    def wait(self, _seconds: float) -> int:
        return 0

    def kill(self) -> None:
        pass


class Scene(NamedTuple):
    """A server's side, and the end of the socket that its acceptor process has."""

    accepting: AcceptorProcess
    theirs: socket.socket
    #: A call for each time that the workers were woken.
    woken: list[None]

    def send(self) -> asyncio.Future[Accepted]:
        """Send a frame with one request."""
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        self.accepting.take([(Request(SHOP, [], b"{}"), answer)])
        return answer

    async def answer(self, sent: SentAnswer, *, failed: bool | None) -> None:
        self.theirs.sendall(framed(SentAnswers([sent], failed)))
        await turns()


def play(scene: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def played() -> None:
        ours, theirs = socket.socketpair()
        woken: list[None] = []
        accepting = AcceptorProcess(Settings(database_url="sqlite://"), accepted=lambda: woken.append(None))
        accepting._loop = asyncio.get_running_loop()
        started: Any = Started(Process(), ours, BytesIO())  # type: ignore[arg-type]
        accepting._use(started)
        # As while the server stops, so that no other process is started.
        accepting._stopping.set()
        with theirs:
            await asyncio.wait_for(scene(Scene(accepting, theirs, woken)), 20)
        if accepting._channel is not None:
            accepting._channel.close()

    asyncio.run(played())


async def refusal(answer: asyncio.Future[Accepted]) -> type[Refused]:
    with pytest.raises(Refused) as refused:
        await answer
    return type(refused.value)


def test_a_refused_request_ends_no_trouble_of_the_database_and_wakes_no_worker():
    async def scene(here: Scene) -> None:
        stored = here.send()
        await turns()
        await here.answer(SentRefusal.of(not_stored()), failed=True)
        assert await refusal(stored) is Unavailable
        forged = here.send()
        await turns()
        await here.answer(FORGED, failed=None)
        assert await refusal(forged) is NotVerified
        assert here.accepting.trouble() == "The last attempt to store deliveries failed."
        assert here.woken == []

    play(scene)


def test_a_webhook_is_counted_for_the_secret_with_which_the_process_verified_it(monkeypatch):
    monkeypatch.setattr(metrics, "uses_of_secrets", metrics.Tally())

    async def scene(here: Scene) -> None:
        waiting = here.send()
        await turns()
        # Since a reload, the process has another secret before the one of the request's source.
        await here.answer(Stored(True, 7, 0, mark="mark of the newest"), failed=False)
        assert (await waiting).status == "accepted"
        assert metrics.uses_of_secrets == {("shop", "mark of the newest"): 1}

    play(scene)


def test_a_challenge_that_the_process_answered_is_counted_here():
    counter = metrics.CHALLENGES.labels("shop", "answered")._value

    async def scene(here: Scene) -> None:
        waiting, before = here.send(), counter.get()
        await turns()
        reply = SentReply.of(SenderReply(200, "a word"))
        here.theirs.sendall(framed(SentAnswers([reply], None, [("shop", "answered", 1)])))
        await turns()
        assert (await waiting).body == "a word"
        assert counter.get() - before == 1

    play(scene)


def test_after_an_answer_that_cannot_be_read_no_answer_goes_to_another_request():
    async def scene(here: Scene) -> None:
        requests = []
        for _ in range(2):
            requests.append(here.send())
            await turns()
        here.theirs.sendall(with_length(b"not an answer"))
        await turns()
        with suppress(BrokenPipeError):
            await here.answer(Stored(True, 7, 0), failed=False)
        assert [await refusal(each) for each in requests] == [Unavailable, Unavailable]
        assert "has ended" in (here.accepting.trouble() or "")

    play(scene)


def test_a_lost_process_is_replaced_whatever_fails_while_its_requests_are_refused(monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    async def scene(here: Scene) -> None:
        replaced: list[Started] = []
        started = here.accepting._started
        monkeypatch.setattr(here.accepting, "_replace_soon", replaced.append)
        monkeypatch.setattr(here.accepting._gathering, "give_up", fail)
        with pytest.raises(MemoryError):
            here.accepting._lose()
        assert replaced == [started]

    play(scene)


def test_a_process_is_replaced_although_a_line_of_the_log_about_its_end_could_not_be_written(monkeypatch):
    ended: Any = Started(Process(), socket.socket(), BytesIO())  # type: ignore[arg-type]
    errors = [MemoryError(), MemoryError()]

    def fail_twice(*_: object, **__: object) -> None:
        if errors:
            raise errors.pop()

    async def scene(here: Scene) -> None:
        used = asyncio.Event()
        monkeypatch.setattr(acceptor_process, "THREAD_PAUSE", 0.01)
        monkeypatch.setattr(acceptor_process, "log", SimpleNamespace(error=fail_twice))
        monkeypatch.setattr(here.accepting._starts, "begin", lambda _: ended)
        monkeypatch.setattr(here.accepting, "_use_if_running", lambda *_: used.set())
        here.accepting._stopping.clear()
        await asyncio.to_thread(here.accepting._replace, ended)
        await used.wait()
        here.accepting._stopping.set()
        assert errors == []

    with ended.socket:
        play(scene)
