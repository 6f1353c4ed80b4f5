"""Hookmirror compared with dj-stripe and with Supabase's sync engine, each on the same PostgreSQL and the same events.

Each mirror first gets every product once. In its turn it has a copy of that database and gets new events: for a second
to warm up, for two seconds over one connection, then single webhooks whose rows are awaited, and at last the load. Its
figure counts only if every event that it acked is in its table of products, each row with the newest values.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx
import psycopg

from benchmarks import cores, load, postgresql, processor, rounds, scale
from benchmarks.environments import NotInstalled
from benchmarks.peers import stripe_api
from benchmarks.peers.dj_stripe import DjStripe
from benchmarks.peers.mirror import Address, Mirror
from benchmarks.peers.ours import Hookmirror
from benchmarks.peers.stripe_api import StripeApi
from benchmarks.peers.stripe_events import STRIPE, edition, outdated, product_id
from benchmarks.peers.sync_engine import SyncEngine
from benchmarks.rounds import Figure, Report
from benchmarks.senders import PRODUCTS

ROUNDS, SECONDS = scale.rounds(usual=3, quick=1), scale.seconds(usual=4, quick=2)

#: Connections for the parts that are not measured: the first events, and the seconds of warming up.
CONNECTIONS, WARM = 8, 1

#: Seconds over one connection.
ALONE = 2

#: More events than any mirror takes over one connection in a second.
MOST_EACH = 2_500

#: Single webhooks whose rows are awaited, and seconds between two checks for a row.
WATCHED, LOOK = 30, 0.0005

#: Most seconds for a backlog, and for one row.
TIMEOUT = 120

#: The numbers of the events of each part of a turn, far enough apart.
APART = 1_000 * PRODUCTS

Reader = psycopg.Connection[tuple[Any, ...]]


class Seen(NamedTuple):
    """The results of one turn of a mirror."""

    #: Each second: events received and mirrored, and answers during the load.
    mirrored: float
    acks: float
    #: Milliseconds to an answer over one connection, and until the row of a single webhook shows.
    p50: float
    p99: float
    visible: float
    #: MB of all its processes at the end of the load.
    memory: float


SHOWN = {
    "mirrored": ("events received and mirrored", "events/s"),
    "acks": ("acks meanwhile", "requests/s"),
    "p50": ("answer over one connection", "ms"),
    "p99": ("answer over one connection, p99", "ms"),
    "visible": ("until the row shows", "ms"),
    "memory": ("memory of its processes", "MB"),
}


def report() -> Report:
    mirrors, left_out = _installed()
    seen: dict[str, list[Seen]] = {mirror.name: [] for mirror in mirrors}
    there: dict[str, list[float]] = {mirror.name: [] for mirror in mirrors}
    with ExitStack() as stack:
        api = stack.enter_context(stripe_api.answering())
        originals = {mirror.name: stack.enter_context(postgresql.copied_database()) for mirror in mirrors}
        for mirror in mirrors:
            _fill(mirror, originals[mirror.name], api)
        for number in range(ROUNDS):
            for mirror in mirrors if number % 2 == 0 else reversed(mirrors):
                turn, found = cores.checked(partial(_turn, mirror, originals[mirror.name], api))
                seen[mirror.name].append(turn)
                there[mirror.name].append(found)
    assert not api.unknown, f"the stand-in for Stripe's API does not know {', '.join(sorted(api.unknown))}"
    figures = {
        (name, field): Figure(f"{name}: {what}", unit, [getattr(turn, field) for turn in seen[name]], there[name])
        for field, (what, unit) in SHOWN.items()
        for name in seen
    }
    told = rounds.report(list(figures.values()), list(_ratios(figures, [mirror.name for mirror in mirrors])))
    return told._replace(lines=[*told.lines, *left_out])


def _installed() -> tuple[list[Mirror], list[str]]:
    """The mirrors that can run, and a line for each of the others."""
    mirrors: list[Mirror] = []
    left_out = []
    for mirror in (Hookmirror(), DjStripe(), SyncEngine()):
        try:
            mirror.install()
            mirrors.append(mirror)
        except NotInstalled as missing:
            left_out.append(f"{mirror.name} is left out: {missing}")
    return mirrors, left_out


def _ratios(figures: Mapping[tuple[str, str], Figure], names: Sequence[str]) -> Iterator[Figure]:
    ours, *others = names
    for field, (what, _) in SHOWN.items():
        for other in others:
            ratio = figures[ours, field] / figures[other, field]
            yield ratio._replace(name=f"{what}: {ours} / {other}")


def _fill(mirror: Mirror, database: str, api: StripeApi) -> None:
    """Make the tables, and mirror each product once."""
    mirror.prepare(database, api)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(mirror.serving(database, folder, api))
        reader = stack.enter_context(psycopg.connect(database, autocommit=True))
        post = stack.enter_context(_sender(address))
        api.newest = PRODUCTS - 1
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            list(threads.map(post, range(PRODUCTS)))
        _drain(mirror, reader)
        assert len(_names(mirror, reader)) == PRODUCTS, f"{mirror.name} has not mirrored each product"


# ── one turn ──────────────────────────────────────────────────────────────────────────────────────────────────


def _turn(mirror: Mirror, original: str, api: StripeApi) -> Seen:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgresql.copied_database(original))
        address = stack.enter_context(mirror.serving(database, folder, api))
        reader = stack.enter_context(psycopg.connect(database, autocommit=True))
        send = partial(_load, mirror, address, folder / "pool.txt", api)
        send(APART, seconds=WARM, connections=CONNECTIONS)
        alone = send(2 * APART, seconds=ALONE, connections=1)
        _drain(mirror, reader)
        visible = median(_visible(mirror, address, reader, api))
        mirrored, loaded = _mirrored(mirror, reader, send)
        memory = processor.memory(address.process)
        return Seen(mirrored, loaded.answers / loaded.seconds, alone.p50, alone.p99, visible, memory)


def _load(
    mirror: Mirror, address: Address, pool: Path, api: StripeApi, first: int, *, seconds: int, connections: int
) -> load.Load:
    """Send new events, beginning with number `first`. Stripe's API knows the newest of each product."""
    count = min(mirror.most, MOST_EACH * connections) * seconds
    load.write_pool(pool, first, count, sender=STRIPE)
    api.newest = first + count - 1
    seen = load.send(address.url, pool, seconds=seconds, sender=STRIPE, connections=connections, path=address.path)
    assert seen.failed == 0, f"{mirror.name} refused {seen.failed} requests"
    assert seen.answers < count - connections, f"{mirror.name} took all bodies, and then duplicates: raise `most`"
    return seen


def _mirrored(mirror: Mirror, reader: Reader, send: Callable[..., load.Load]) -> tuple[float, load.Load]:
    """Return events a second from the first request of a load until the last of them is mirrored, and the load."""
    first = 4 * APART
    before = _count(reader, mirror.effects)
    seen = send(first, seconds=SECONDS, connections=load.CONNECTIONS)
    took = seen.seconds + _drain(mirror, reader)
    if mirror.effects:
        effects = _count(reader, mirror.effects) - before
        assert effects >= seen.answers, f"{mirror.name} acked {seen.answers} events, and {effects} had an effect"
    # The answers to the last requests never arrived, and wrk does not send the first body of its list.
    unknown = load.CONNECTIONS + 1
    old = outdated(_names(mirror, reader), first, seen.answers)
    assert old <= unknown, f"{old} rows of {mirror.name} do not have the newest values that it acked"
    return seen.answers / took, seen


def _visible(mirror: Mirror, address: Address, reader: Reader, api: StripeApi) -> Iterator[float]:
    """Yield the milliseconds from sending a single webhook until a reader sees its row."""
    question = f"SELECT name FROM ({mirror.products}) AS known (id, name) WHERE id = %s"
    with _sender(address) as post:
        for number in range(3 * APART, 3 * APART + WATCHED):
            api.newest = number
            began = time.perf_counter()
            post(number)
            while edition(reader.execute(question, [product_id(number)]).fetchone()[0]) < number:  # type: ignore[index,arg-type]
                assert time.perf_counter() - began < TIMEOUT, f"{mirror.name} has not mirrored event {number}"
                time.sleep(LOOK)
            yield (time.perf_counter() - began) * 1_000


@contextmanager
def _sender(address: Address) -> Iterator[Callable[[int], None]]:
    """Give a function that sends the event with a number, and returns when it is acked."""
    with httpx.Client(base_url=address.url, timeout=TIMEOUT) as client:

        def post(number: int) -> None:
            sent = STRIPE.sent(number)
            headers = {"Content-Type": "application/json", STRIPE.header: sent.signature}
            client.post(address.path, content=sent.body, headers=headers).raise_for_status()

        yield post


# ── what is in the database ───────────────────────────────────────────────────────────────────────────────────


def _drain(mirror: Mirror, reader: Reader) -> float:
    """Wait until no stored event waits for its effect, and return the seconds."""
    began = time.perf_counter()
    while _count(reader, mirror.waiting):
        assert time.perf_counter() - began < TIMEOUT, f"{mirror.name} did not drain its backlog within {TIMEOUT} s"
        time.sleep(0.02)
    return time.perf_counter() - began


def _count(reader: Reader, question: str) -> int:
    """The result of a counting statement; 0 without a statement."""
    return int(reader.execute(question).fetchone()[0]) if question else 0  # type: ignore[index,arg-type]


def _names(mirror: Mirror, reader: Reader) -> dict[str, str]:
    """The name in each row of a product."""
    return dict(reader.execute(mirror.products).fetchall())  # type: ignore[arg-type]
