"""Acks of one server beside others who ask it, against its acks alone, in turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks import load, scale
from benchmarks.rounds import take_turns

#: Rounds, and the seconds of each. The rate swings with the checkpoints of the database, so it takes many. Reads may
#: use time that was saved before the webhooks came, so a short round would show a greater share of reads.
ROUNDS, SECONDS = scale.either((10, 10), (4, 5))

#: Webhooks made for each round: more than are answered.
POOL = 20_000 * SECONDS

#: The name of the rounds without askers.
ALONE = "acks alone"

#: Starts askers, who count their answers by status until the end of the block.
Askers = Callable[[], AbstractContextManager[Counter[int]]]


def acks_beside(
    server: str, folder: Path, askers: Mapping[str, Askers], *, restore: Callable[[], None]
) -> Iterator[str]:
    """Yield a line about the acks a second alone, and one about those beside each kind of askers.

    `restore` is called after each round, and removes from the database what the round has stored.
    """
    numbers = count()
    answers: dict[str, Counter[int]] = {name: Counter() for name in (ALONE, *askers)}

    def acks(name: str, asking: Askers) -> float:
        pool = folder / "pool.txt"
        load.write_pool(pool, next(numbers) * POOL, POOL)
        with asking() as answered:
            rate = load.send(server, pool, seconds=SECONDS).requests_per_second
            answers[name] += answered
        restore()
        return rate

    cells = {name: partial(acks, name, asking) for name, asking in {ALONE: _no_askers, **askers}.items()}
    figures = take_turns(cells, rounds=ROUNDS, unit="acks/s")
    alone = figures[ALONE]
    yield f"  {ALONE:<56}{alone.spread.median:>8,.0f}/s ({alone.spread.least:,.0f} to {alone.spread.most:,.0f})"
    for name in askers:
        yield f"  {name + ' / alone':<56}{(figures[name] / alone).spread} {_told(answers[name])}"


def _no_askers() -> AbstractContextManager[Counter[int]]:
    return nullcontext(Counter())


def _told(answers: Counter[int]) -> str:
    """The answers of a round, of which those count, too, that came before the load generator began to send."""
    refused = sum(number for status, number in answers.items() if status != 200)
    return f"({answers[200] / ROUNDS:.0f} answers in a round, {refused / ROUNDS:.0f} refusals)"
