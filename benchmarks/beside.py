"""Acks of one server beside others who ask it, against its acks alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from benchmarks import load, scale
from benchmarks.rounds import Figure
from receiver.moments import EPOCH

#: Rounds, and the seconds of each part of a round.
ROUNDS, SECONDS = scale.either((10, 5), (4, 3))

#: Seconds at the beginning of a part that do not count: reads may use time in them that was saved before.
SETTLING = 1

#: Seconds that askers may take to end, and that a load may take to begin.
ENDING, LONGEST_START = 5, 60

#: Webhooks made for each second of load: more than are answered.
A_SECOND = 20_000

#: The name of the parts without askers.
ALONE = "acks alone"

#: Starts askers, who count their answers by status until the end of the block.
Askers = Callable[[], AbstractContextManager[Counter[int]]]

#: The beginning and the end of a part.
Span = tuple[datetime, datetime]


class Arrivals(Protocol):
    """What a round stores."""

    def count(self, since: datetime, until: datetime) -> int:
        """The number of deliveries that arrived between these times."""

    def remove(self) -> None:
        """Remove all of them from the database."""


def acks_beside(server: str, folder: Path, askers: Mapping[str, Askers], arrivals: Arrivals) -> Iterator[str]:
    """Yield a line about the acks a second alone, and one about those beside each kind of askers.

    A round is one load without a pause. It begins and ends with acks alone; the kinds of askers come in between, in
    every second round in reverse order. So the rates of a round are of the same minute, while those of two loads differ
    by more than askers can cost.
    """
    kinds: dict[str, Askers] = {ALONE: _no_askers, **askers}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    answers: dict[str, Counter[int]] = {name: Counter() for name in kinds}
    for number in range(ROUNDS):
        spans: dict[str, list[Span]] = {name: [] for name in kinds}
        between = list(askers) if number % 2 == 0 else list(reversed(askers))
        seconds = (2 + len(between)) * SECONDS + len(between) * ENDING
        with _acking(server, folder, number, seconds=seconds) as sending:
            _wait_for_acks(arrivals, sending)
            for name in (ALONE, *between, ALONE):
                with kinds[name]() as answered:
                    began = datetime.now(UTC) + timedelta(seconds=SETTLING)
                    time.sleep(SECONDS)
                    spans[name].append((began, datetime.now(UTC)))
                answers[name] += answered
        for name, some in spans.items():
            rates[name].append(_rate(arrivals, some))
        arrivals.remove()
    figures = {name: Figure(name, "acks/s", values) for name, values in rates.items()}
    alone = figures[ALONE].spread
    yield f"  {ALONE:<56}{alone.median:>8,.0f}/s ({alone.least:,.0f} to {alone.most:,.0f})"
    for name in askers:
        yield f"  {name + ' / alone':<56}{(figures[name] / figures[ALONE]).spread} {_told(answers[name])}"


@contextmanager
def _acking(server: str, folder: Path, number: int, *, seconds: int) -> Iterator[Future[load.Load]]:
    """Load the server with the `number`th load during the block, which must end within these seconds."""
    pool = folder / "pool.txt"
    load.write_pool(pool, number * seconds * A_SECOND, seconds * A_SECOND)
    with ThreadPoolExecutor(1) as executor:
        sending = executor.submit(load.send, server, pool, seconds=seconds)
        yield sending
        ended_early = sending.done()
        sent = sending.result()
    if ended_early:
        raise RuntimeError("the load ended before the last part: let the askers end sooner, or raise ENDING")
    if sent.failed or sent.answers > seconds * A_SECOND:
        raise RuntimeError(f"{sent.failed} answers failed, and {sent.answers} came: bodies repeated; raise A_SECOND")


def _wait_for_acks(arrivals: Arrivals, sending: Future[load.Load]) -> None:
    end = time.monotonic() + LONGEST_START
    while not arrivals.count(EPOCH, datetime.now(UTC)):
        if sending.done():
            sending.result()
        if time.monotonic() > end:
            raise RuntimeError(f"no ack came within {LONGEST_START} seconds")
        time.sleep(0.1)


def _rate(arrivals: Arrivals, spans: Sequence[Span]) -> float:
    seconds = sum((until - since).total_seconds() for since, until in spans)
    return sum(arrivals.count(*span) for span in spans) / seconds


def _no_askers() -> AbstractContextManager[Counter[int]]:
    return nullcontext(Counter())


def _told(answers: Counter[int]) -> str:
    refused = sum(number for status, number in answers.items() if status != 200)
    return f"({answers[200] / ROUNDS:.0f} answers in a round, {refused / ROUNDS:.0f} refusals)"
