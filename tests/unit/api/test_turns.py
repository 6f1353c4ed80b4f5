"""Turns of reads: their order, and that none is lost."""

from __future__ import annotations

import asyncio

import pytest

from receiver.api import read_budget
from receiver.api.read_budget import ReadBudget
from receiver.api.turns import Turns

#: Seconds that nothing takes unless it is broken.
BOUND = 20.0


async def queue(turns: Turns, key: str, order: list[str], used: float) -> None:
    turn = await turns.take(key, seconds=BOUND)
    order.append(key)
    await asyncio.sleep(0)
    turns.give_back(turn, used=used)


def test_a_short_list_goes_before_long_ones_that_asked_earlier() -> None:
    async def ask() -> list[str]:
        turns, order = Turns(1), list[str]()
        long = [asyncio.create_task(queue(turns, "long", order, used=1.0)) for _ in range(8)]
        short = [asyncio.create_task(queue(turns, "short", order, used=0.01)) for _ in range(3)]
        await asyncio.gather(*long, *short)
        return order

    order = asyncio.run(ask())
    assert order[1:4] == ["short"] * 3, "behind the one that had begun already"


def test_turns_of_one_key_are_given_in_the_order_of_asking() -> None:
    async def ask() -> list[int]:
        turns, order = Turns(1), list[int]()

        async def take(number: int) -> None:
            turn = await turns.take("list", seconds=BOUND)
            order.append(number)
            turns.give_back(turn, used=0.01)

        await asyncio.gather(*(take(number) for number in range(8)))
        return order

    assert asyncio.run(ask()) == list(range(8))


def test_the_turn_of_a_cancelled_read_goes_to_the_next() -> None:
    async def ask() -> None:
        turns = Turns(1)
        first = await turns.take("list", seconds=BOUND)
        left = asyncio.create_task(turns.take("list", seconds=BOUND))
        await asyncio.sleep(0)
        turns.give_back(first, used=0.0)
        # The read has been given a turn, and is cancelled before it takes it.
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        turns.give_back(await turns.take("list", seconds=BOUND), used=0.0)
        assert turns.waiting == 0

    asyncio.run(ask())


def test_a_turn_that_does_not_come_in_time_is_refused_and_not_given_later() -> None:
    async def ask() -> None:
        turns = Turns(1)
        first = await turns.take("list", seconds=BOUND)
        with pytest.raises(TimeoutError):
            await turns.take("list", seconds=0.01)
        turns.give_back(first, used=0.0)
        turns.give_back(await turns.take("list", seconds=BOUND), used=0.0)

    asyncio.run(ask())


def test_a_newcomer_takes_the_place_of_the_newest_read_of_the_client_with_the_most() -> None:
    async def ask() -> list[str]:
        turns, order = Turns(1), list[str]()
        first = await turns.take("list", seconds=BOUND, client="many")

        async def take(client: str, number: int) -> None:
            try:
                turn = await turns.take("list", seconds=BOUND, client=client)
            except TimeoutError:
                order.append(f"{client} {number} refused")
            else:
                order.append(f"{client} {number}")
                turns.give_back(turn, used=0.0)

        many = [asyncio.create_task(take("many", number)) for number in range(3)]
        await asyncio.sleep(0)
        assert turns.make_room("few")
        few = asyncio.create_task(take("few", 0))
        await asyncio.sleep(0)
        turns.give_back(first, used=0.0)
        await asyncio.gather(*many, few)
        return order

    assert asyncio.run(ask()) == ["many 2 refused", "many 0", "many 1", "few 0"]


@pytest.mark.parametrize(("waiting", "newcomer"), [("a", "a"), ("ab", "a"), ("ab", "c"), ("aab", "b"), ("aaa", "a")])
def test_no_read_makes_room_for_a_client_that_would_have_as_many(waiting: str, newcomer: str) -> None:
    async def ask() -> None:
        turns = Turns(1)
        await turns.take("list", seconds=BOUND)
        tasks = [asyncio.create_task(turns.take("list", seconds=BOUND, client=client)) for client in waiting]
        await asyncio.sleep(0)
        assert not turns.make_room(newcomer)
        assert turns.waiting == len(waiting)
        for task in tasks:
            task.cancel()

    asyncio.run(ask())


def test_a_read_that_waits_for_the_budget_gets_a_turn_when_the_webhooks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_budget, "LONGEST_KEY_REST", 2 * BOUND)

    async def ask() -> None:
        acking = True
        turns = Turns(4, ReadBudget(is_busy=lambda: acking))
        turns.give_back(await turns.take("list", seconds=BOUND), used=2.0)
        waiting = asyncio.create_task(turns.take("list", seconds=BOUND))
        await asyncio.sleep(0)
        assert not waiting.done()
        acking = False
        turns.give_back(await waiting, used=0.0)

    asyncio.run(ask())
