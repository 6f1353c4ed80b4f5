"""When the endpoint hands its requests in, and when a full batch goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

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
        submit(new_endpoint(largest_take=2), "abcde")
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
        answers = submit(new_endpoint(refuse, largest_take=2), "abc")
        assert [each.done() for each in answers] == [True, True, False]
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
        answers = submit(new_endpoint(fail_once, largest_take=2), "abc")
        await asyncio.sleep(0)
        assert [type(each.exception()) for each in answers] == [Unavailable, Unavailable, type(None)]

    asyncio.run(play())


def test_a_full_batch_is_handed_over_at_once_and_the_rest_when_the_loop_is_quiet():
    async def play() -> None:
        handed: list[str] = []
        gathering = Gathering[str](
            lambda batch: handed.append("".join(each.item for each in batch)), at_once=4, full_at_once=4, largest=2
        )
        gathering.add([(each, asyncio.get_running_loop().create_future()) for each in "abcde"])
        assert handed == ["ab", "cd"]
        await asyncio.sleep(0)
        assert handed == ["ab", "cd", "e"]

    asyncio.run(play())
