"""Where the time of an applied event goes: the parts of a worker, each timed without the parts inside it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from benchmarks import postgresql, scale, sqlite
from benchmarks.acks import DATABASES, POSTGRESQL
from benchmarks.rounds import Figure, Report
from benchmarks.senders import SENDERS, Sender
from receiver.database.database import Database
from receiver.inbox.arrival import Arrival
from receiver.inbox.inbox import Inbox
from receiver.ingest.admission import Request, admit
from receiver.mirror import changes
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.worker import settlement, worker
from receiver.worker.handling import Handling
from receiver.worker.settlement import Settlement
from receiver.worker.worker import Worker

#: Events of one run, of which the first are not counted.
EVENTS, WARM, ACCEPTED = scale.either(10_000, 4_000), 1_000, 200

ROUNDS = scale.rounds(usual=3, quick=1)

#: The parts in the order of a batch: the place of the function, its name, and its work.
PARTS: Sequence[tuple[Any, str, str]] = (
    (Inbox, "due", "look for due deliveries"),
    (Inbox, "claim", "claim"),
    (worker, "read", "parse the body"),
    (Handling, "handle", "run handlers"),
    (Settlement, "_commit", "begin, commit and sync"),
    (Inbox, "holds_all", "check what is still held"),
    (UnitOfWork, "load", "load rows"),
    (UnitOfWork, "apply", "version guard"),
    (UnitOfWork, "saves", "prepare the rows' statements"),
    (changes, "recordings", "prepare the change feed's statements"),
    (settlement, "still_holds", "check that the loaded rows are the newest"),
    (settlement, "execute_all", "write rows"),
    (Inbox, "settle", "write states"),
    (changes, "append", "write the change feed"),
    (settlement, "count", "count in the metrics"),
    (Worker, "work", "the rest"),
)

#: PostgreSQL's rows are locked when they are loaded.
_ON_SQLITE_ALONE = {"check that the loaded rows are the newest"}


class _Clock:
    """Adds up the seconds of each part, without those of the parts that it calls."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                took = time.perf_counter() - began
                self.seconds[part] += took - self._inner.pop()
                if self._inner:
                    self._inner[-1] += took

        return run


@contextmanager
def _parts_timed() -> Iterator[dict[str, float]]:
    """Time every part during the block, and give the seconds."""
    clock = _Clock()
    with ExitStack() as stack:
        for owner, name, part in PARTS:
            function = getattr(owner, name)
            setattr(owner, name, clock.timed(function, part))
            stack.callback(setattr, owner, name, function)
        yield clock.seconds


def apply(database: str, sender: Sender) -> dict[str, float]:
    """Drain an inbox of this sender's events, and return microseconds for each by part."""
    with (
        postgresql.fresh_database() if database == POSTGRESQL else sqlite.fresh_file() as url,
        closing(Database(url)) as opened,
    ):
        opened.look_after()
        inbox = Inbox(opened)
        with closing(Worker(inbox, {sender.name: sender.source})) as draining:
            _fill(inbox, sender, 0, WARM)
            while draining.work():
                pass
            _fill(inbox, sender, WARM, EVENTS)
            with _parts_timed() as seconds:
                while draining.work():
                    pass
    uncalled = {part for _, _, part in PARTS} - seconds.keys() - _ON_SQLITE_ALONE
    assert not uncalled, f"the worker no longer calls the functions that are timed as {uncalled}"
    return {part: 1e6 * seconds[part] / EVENTS for _, _, part in PARTS}


def _fill(inbox: Inbox, sender: Sender, first: int, count: int) -> None:
    for start in range(first, first + count, ACCEPTED):
        requests = [_request(sender, number) for number in range(start, start + ACCEPTED)]
        arrivals = admit(requests, now=datetime.now(UTC))
        inbox.accept([each for each in arrivals if isinstance(each, Arrival)])


def _request(sender: Sender, number: int) -> Request:
    sent = sender.sent(number)
    return Request(sender.source, [(sender.header.lower().encode(), sent.signature.encode())], sent.body)


def report() -> Report:
    figures = [figure for database in DATABASES for sender in SENDERS.values() for figure in _figures(database, sender)]
    return Report(list(_table(figures)), figures)


def _figures(database: str, sender: Sender) -> list[Figure]:
    seen = [apply(database, sender) for _ in range(ROUNDS)]
    return [Figure(f"{sender.name} on {database}: {part}", "µs", [each[part] for each in seen]) for part in seen[0]]


def _table(figures: Sequence[Figure]) -> Iterator[str]:
    """A row for each part, and a column for each kind of system and database."""
    columns = list(dict.fromkeys(figure.name.partition(": ")[0] for figure in figures))
    by_name = {figure.name: figure.spread.median for figure in figures}
    yield f"| µs of an applied event | {' | '.join(columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    for _, _, part in PARTS:
        cells = [f"{by_name[f'{column}: {part}']:.1f}" for column in columns]
        yield f"| {part} | {' | '.join(cells)} |"
    totals = [sum(by_name[f"{column}: {part}"] for _, _, part in PARTS) for column in columns]
    yield f"| all | {' | '.join(f'{total:.0f}' for total in totals)} |"
