"""Turns: admits a bounded number of reads at once, in an order that favours clients with few and cheap reads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from typing import NamedTuple

from receiver.api.read_budget import ReadBudget

#: Seconds between two checks whether the budget allows the next read.
BUDGET_POLL = 0.05


class Turn(NamedTuple):
    """The permission to read, until it is given back."""

    key: Hashable
    #: Its place in the order: the CPU time, in seconds, that its key had used when it began.
    place: float
    #: The charge to the budget in advance, in seconds.
    advance: float
    #: Whether it began while webhooks took much of the time.
    is_tight: bool


class _Waiting(NamedTuple):
    key: Hashable
    client: Hashable
    turn: asyncio.Future[Turn]


class Turns:
    """Gives turns to waiting reads in one event loop.

    The next turn goes to the key that has used the least CPU time recently (start-time fair queueing), so that repeated
    long lists do not delay short ones.
    """

    def __init__(self, at_once: int, budget: ReadBudget | None = None) -> None:
        """Without a budget, only the number is bounded."""
        self._at_once = at_once
        self._budget = budget
        self._running = 0
        self._waiting: list[_Waiting] = []
        #: By key, the place after its last read; and the place of the read that began last.
        self._places: dict[Hashable, float] = {}
        self._reached = 0.0
        self._poll: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """The number of reads that wait for a turn."""
        return len(self._waiting)

    def make_room(self, client: Hashable) -> bool:
        """Refuse the newest waiting read of the client with the most, so that one of `client` may wait in its place.

        Returns False if that would leave `client` with as many waiting reads as that client has now.
        """
        by_client = Counter(each.client for each in self._waiting)
        largest, number = by_client.most_common(1)[0]
        if by_client[client] + 1 >= number:
            return False
        newest = next(each for each in reversed(self._waiting) if each.client == largest)
        self._waiting.remove(newest)
        if not newest.turn.done():
            newest.turn.set_exception(TimeoutError())
        return True

    async def take(self, key: Hashable, *, seconds: float, client: Hashable = None) -> Turn:
        """Wait for a turn for a read of this key. Raises `TimeoutError` after `seconds`, or if it must make room."""
        waiting = _Waiting(key, client, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._give()
        try:
            async with asyncio.timeout(seconds):
                return await waiting.turn
        except BaseException:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif waiting.turn.done() and not waiting.turn.cancelled() and waiting.turn.exception() is None:
                # The turn was given at the moment at which the wait ended.
                self.give_back(waiting.turn.result(), used=0.0)
            raise

    def give_back(self, turn: Turn, *, used: float) -> None:
        """End a turn whose read has used `used` seconds of CPU time."""
        self._running -= 1
        if self._budget is not None:
            self._budget.end(turn.key, advance=turn.advance, used=used)
        self._places[turn.key] = max(self._places.get(turn.key, 0.0), turn.place + used)
        if not self._running and not self._waiting:
            self._places.clear()
        self._give()

    def _give(self) -> None:
        """Give turns to waiting reads while the number and the budget allow."""
        while self._waiting and self._running < self._at_once:
            ready = [each for each in self._waiting if self._wait_of(each.key) <= 0]
            if not ready:
                self._give_later()
                return
            self._begin(min(ready, key=lambda each: self._place(each.key)))

    def _begin(self, waiting: _Waiting) -> None:
        self._waiting.remove(waiting)
        if waiting.turn.done():
            return
        place = self._reached = self._place(waiting.key)
        advance, is_tight = 0.0, False
        if self._budget is not None:
            advance, is_tight = self._budget.begin(waiting.key), self._budget.is_tight()
        # Waiting reads of the same key move back at once, not only when this one has ended.
        self._places[waiting.key] = place + advance
        self._running += 1
        waiting.turn.set_result(Turn(waiting.key, place, advance, is_tight))

    def _place(self, key: Hashable) -> float:
        return max(self._places.get(key, 0.0), self._reached)

    def _wait_of(self, key: Hashable) -> float:
        return 0.0 if self._budget is None else self._budget.wait(key)

    def _give_later(self) -> None:
        if self._poll is None:
            wait = min(self._wait_of(each.key) for each in self._waiting)
            loop = asyncio.get_running_loop()
            self._poll = loop.call_later(min(max(wait, 0.001), BUDGET_POLL), self._give_again)

    def _give_again(self) -> None:
        self._poll = None
        self._give()
