"""When the endpoint hands its requests in, and when a full batch goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from loop_turns import turns

from receiver.errors import Unavailable
from receiver.inbox.arrival import Accepted
from receiver.ingest.admission import Request
from receiver.ingest.endpoint import Endpoint
from receiver.ingest.gathering import Gathering
from receiver.ingest.group_commit import Submitted
from receiver.ingest.incoming import Incoming
from receiver.settings.settings import Limits

SHOP: Any = SimpleNamespace(name="shop", dialect=SimpleNamespace(challenges=(), on_accept=None, on_refusal=None))


@pytest.fixture
def taken() -> list[bytes]:
    """The bodies of each take, joined."""
    return []


@pytest.fixture
def new_endpoint(taken: list[bytes]) -> Callable[..., Endpoint]:
    def make(take: Callable[[Sequence[Submitted]], None] = lambda _: None, **bound: int) -> Endpoint:
        def note(submitted: Sequence[Submitted]) -> None:
            taken.append(b"".join(request.body for request, _ in submitted))
            take(submitted)

        limits = Limits()
        return Endpoint({"shop": SHOP}, note, limits=limits, incoming=Incoming(limits), **bound)

    return make


def submit(endpoint: Endpoint, bodies: str) -> list[asyncio.Future[Accepted]]:
    answers: list[asyncio.Future[Accepted]] = []
    for body in bodies:
        answers.append(asyncio.get_running_loop().create_future())
        endpoint.submit(Request(SHOP, [], body.encode()), answers[-1])
    return answers


def test_the_requests_of_one_turn_are_taken_together_at_its_end(new_endpoint, taken):
    async def play() -> None:
        submit(new_endpoint(), "abcde")
        assert taken == []
        await asyncio.sleep(0)
        assert taken == [b"abcde"]

    asyncio.run(play())


def test_as_many_requests_as_are_taken_at_once_do_not_wait_for_the_end_of_the_turn(new_endpoint, taken):
    async def play() -> None:
        submit(new_endpoint(hand_in_at=2), "abcde")
        assert taken == [b"ab", b"cd"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert taken == [b"ab", b"cd", b"e"]

    asyncio.run(play())


def test_a_request_is_not_answered_while_it_is_being_submitted(new_endpoint):
    def refuse(submitted: Sequence[Submitted]) -> None:
        for _, answer in submitted:
            answer.set_exception(Unavailable("Not now."))

    async def play() -> None:
        endpoint = new_endpoint(refuse, hand_in_at=2)
        answers = []
        for body in "abc":
            answers += submit(endpoint, body)
            assert not answers[-1].done()
        await asyncio.sleep(0)
        assert all(isinstance(each.exception(), Unavailable) for each in answers)

    asyncio.run(play())


def test_an_error_in_the_middle_of_a_turn_refuses_only_the_requests_that_were_taken(new_endpoint):
    def fail_once(submitted: Sequence[Submitted]) -> None:
        if submitted[0][0].body == b"a":
            raise RuntimeError("nobody foresaw this")
        for _, answer in submitted:
            answer.set_result(Accepted("accepted", 1))

    async def play() -> None:
        answers = submit(new_endpoint(fail_once, hand_in_at=2), "abc")
        await asyncio.sleep(0)
        assert [type(each.exception()) for each in answers] == [Unavailable, Unavailable, type(None)]

    asyncio.run(play())


def test_an_error_of_the_event_loop_leaves_no_later_request_waiting(new_endpoint, taken, monkeypatch):
    async def play() -> None:
        endpoint, loop = new_endpoint(), asyncio.get_running_loop()

        def fail(*_: object) -> None:
            raise MemoryError

        with monkeypatch.context() as broken:
            broken.setattr(loop, "call_soon", fail)
            with pytest.raises(MemoryError):
                submit(endpoint, "a")
        submit(endpoint, "b")
        await asyncio.sleep(0)
        assert taken == [b"b"]

    asyncio.run(play())


@pytest.mark.parametrize("turn", [0, 1])
def test_an_error_of_the_event_loop_leaves_no_later_batch_waiting(turn, monkeypatch):
    async def play() -> None:
        batches, loop = Batches(at_once=1, quiet_turns=3), asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        call_soon, calls = loop.call_soon, 0

        def fail_once(callback: Any, *args: Any, **named: Any) -> asyncio.Handle:
            nonlocal calls
            if callback == batches.gathering._poll:
                calls += 1
                if calls == turn + 1:
                    raise MemoryError
            return call_soon(callback, *args, **named)

        monkeypatch.setattr(loop, "call_soon", fail_once)
        with nullcontext() if turn else pytest.raises(MemoryError):
            batches.add("a")
        await turns()
        assert batches.handed == []
        batches.add("b")
        await turns()
        assert batches.handed == ["ab"]

    asyncio.run(play())


class Batches:
    """A gathering of letters, and the batches that it has handed over."""

    def __init__(self, *, at_once: int, quiet_turns: int = 0) -> None:
        self.handed: list[str] = []
        self.gathering = Gathering[str](
            lambda batch: self.handed.append("".join(each.item for each in batch)),
            at_once=at_once,
            full_at_once=at_once,
            largest=2,
            quiet_turns=quiet_turns,
        )

    def add(self, letters: str) -> list[asyncio.Future[Accepted]]:
        answers = [asyncio.get_running_loop().create_future() for _ in letters]
        self.gathering.add(zip(letters, answers, strict=True))
        return answers


def test_without_quiet_turns_a_full_batch_is_handed_over_at_once():
    async def play() -> None:
        batches = Batches(at_once=4)
        batches.add("abcde")
        assert batches.handed == ["ab", "cd"]
        await turns()
        assert batches.handed == ["ab", "cd", "e"]

    asyncio.run(play())


def test_with_quiet_turns_a_full_batch_waits_for_the_end_of_the_turn():
    async def play() -> None:
        batches = Batches(at_once=1, quiet_turns=3)
        batches.add("abc")
        assert batches.handed == []
        await turns()
        assert batches.handed == ["ab"]

    asyncio.run(play())


@pytest.mark.parametrize(("at_once", "quiet_turns"), [(2, 0), (1, 3)])
def test_what_comes_between_two_polls_does_not_raise_the_number_of_batches_under_way(at_once, quiet_turns):
    async def play() -> None:
        batches = Batches(at_once=at_once, quiet_turns=quiet_turns)
        batches.add("a")
        batches.add("bcdef")
        await turns()
        assert batches.handed == ["ab", "cd"][:at_once]
        batches.gathering.end()
        await turns()
        assert batches.handed == ["ab", "cd", "ef"][: at_once + 1]

    asyncio.run(play())


def test_a_request_that_is_answered_already_is_not_handed_over():
    async def play() -> None:
        batches = Batches(at_once=1)
        batches.add("ab")
        answers = batches.add("cdef")
        answers[0].cancel()
        answers[2].cancel()
        answers[3].cancel()
        batches.gathering.end()
        await turns()
        assert batches.handed == ["ab", "d"]
        batches.gathering.end()
        await turns()
        assert batches.handed == ["ab", "d"]

    asyncio.run(play())


def test_the_rest_is_handed_over_in_batches_of_the_usual_size():
    async def play() -> None:
        batches = Batches(at_once=1)
        batches.add("abcdefg")
        batches.gathering.hand_rest()
        assert batches.handed == ["ab", "cd", "ef", "g"]

    asyncio.run(play())


def test_giving_up_asks_nothing_of_the_event_loop_so_that_every_request_is_refused(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    async def play() -> None:
        batches = Batches(at_once=1)
        answers = batches.add("abcd")
        await turns()
        with monkeypatch.context() as broken:
            broken.setattr(asyncio.get_running_loop(), "call_soon", fail)
            batches.gathering.give_up(Unavailable("It is gone."))
        assert [type(each.exception()) for each in answers] == [Unavailable] * 4

    asyncio.run(play())


def test_the_end_of_a_batch_is_told_whatever_the_event_loop_does_and_the_next_one_needs_no_arrival(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    async def play() -> None:
        monkeypatch.setattr("receiver.ingest.gathering.TIMEOUT_POLL", 0.02)
        batches = Batches(at_once=1)
        batches.add("abcd")
        await turns()
        with monkeypatch.context() as broken:
            broken.setattr(asyncio.get_running_loop(), "call_soon", fail)
            assert [each.item for each in batches.gathering.end()] == ["a", "b"]
        await turns()
        assert batches.handed == ["ab"]
        await asyncio.sleep(0.1)
        assert batches.handed == ["ab", "cd"]

    asyncio.run(play())


def test_the_time_limits_are_checked_again_after_the_event_loop_had_no_memory_for_them(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    async def play() -> None:
        for limit, seconds in {"TIMEOUT_POLL": 0.02, "COMMIT_TIMEOUT": 0.05}.items():
            monkeypatch.setattr(f"receiver.ingest.gathering.{limit}", seconds)
        batches = Batches(at_once=1)
        with monkeypatch.context() as broken:
            broken.setattr(asyncio.get_running_loop(), "call_later", fail)
            with pytest.raises(MemoryError):
                batches.add("a")
        answers = batches.add("b")
        await asyncio.sleep(0.2)
        assert [type(each.exception()) for each in answers] == [Unavailable]

    asyncio.run(play())


def test_a_batch_that_cannot_be_handed_over_is_refused_and_holds_up_no_later_one():
    async def play() -> None:
        batches = Batches(at_once=1)
        hand, batches.gathering._hand = batches.gathering._hand, lambda _: (_ for _ in ()).throw(MemoryError)
        answers = batches.add("ab")
        assert [type(each.exception()) for each in answers] == [Unavailable, Unavailable]
        batches.gathering._hand = hand
        batches.add("cd")
        assert batches.handed == ["cd"]

    asyncio.run(play())
