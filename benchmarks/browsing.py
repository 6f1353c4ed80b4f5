"""Every page of the console over a long history, on both databases, and acks beside ten people who browse."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import httpx

from benchmarks import ended, load
from benchmarks.askers import asking
from benchmarks.inboxes import SOURCE
from benchmarks.long_history import MIDDLE, filled
from benchmarks.servers import SECRET_KEY, running
from receiver.inbox.ids import MOST_PROCESSES
from receiver.sessions.links import Links
from receiver.sessions.roles import Role

ROUNDS = 20

#: People who browse, and the seconds that each looks at a page before opening the next.
PEOPLE, PAUSE = 10, 1.0
ACK_SECONDS, ACK_ROUNDS = 8, 4
POOL = 160_000

_DELIVERY = ended.FIRST * MOST_PROCESSES
_MINUTE = f"from={MIDDLE:%Y-%m-%dT%H:%M:%SZ}&to={MIDDLE:%Y-%m-%dT%H:%M:59Z}"

#: Paths below the console, with every filter of every list, by a name.
PAGES: Mapping[str, str] = {
    "overview, an hour": "/",
    "overview, a day": "/?period=day",
    "overview, a week": "/?period=week",
    "findings": "/findings",
    "faults": "/faults",
    "deliveries": "/deliveries",
    "deliveries of a source": f"/deliveries?source={SOURCE}",
    "deliveries of a rare source": "/deliveries?source=rare",
    "deliveries, pending": "/deliveries?state=pending",
    "deliveries, dead": "/deliveries?state=dead",
    "deliveries, ignored": "/deliveries?state=ignored",
    "deliveries of an unknown type": "/deliveries?event_type=moon.eclipsed",
    "deliveries, stale": "/deliveries?outcome=stale",
    "deliveries in conflict": "/deliveries?conflict=true",
    "deliveries by reason": "/deliveries?reason=not+a+number",
    "deliveries of a minute": f"/deliveries?{_MINUTE}",
    "deliveries about an entity": "/deliveries?entity=product:P00042",
    "a delivery": f"/deliveries/{_DELIVERY}",
    "refused": "/refused",
    "tables": "/mirror",
    "rows": "/mirror/products",
    "rows of a source": f"/mirror/products?source={SOURCE}",
    "rows that are gone": "/mirror/products?active=false",
    "rows with a tie": "/mirror/products?tie=true",
    "rows with a SKU": "/mirror/products?sku=SKU-4711",
    "a row": f"/mirror/products/{SOURCE}/P04711",
    "a row with hundreds of deliveries": f"/mirror/products/{SOURCE}/P00042",
    "sources": "/sources",
    "a source, an hour": f"/sources/{SOURCE}",
    "a source, a week": f"/sources/{SOURCE}?period=week",
    "changes": "/changes",
    "changes of a table": "/changes?table=variants",
    "followers": "/followers",
    "search: a SKU": "/search?q=SKU-4711",
    "search: an external id": "/search?q=P04711",
    "search: nothing": "/search?q=nothing",
    "runs": "/runs",
    "actions": "/actions",
    "system": "/system",
}


def report() -> list[str]:
    lines = []
    for name, url, seconds in filled():
        lines.append(f"{name}, filled in {seconds:.0f} s{'median':>28}{'worst':>12}{'size':>12}")
        lines += [
            f"  {page:<38}{middle:>9.1f} ms{worst:>9.1f} ms{size / 1000:>9.1f} kB"
            for page, middle, worst, size in _times(url)
        ]
        lines += _acks(url)
    return lines


def _times(url: str) -> Iterator[tuple[str, float, float, int]]:
    """Yield for each page its median and its longest time in milliseconds, and the bytes of its markup."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, _ = stack.enter_context(running("hookmirror", folder, "--no-worker", "--console", database_url=url))
        person = stack.enter_context(closing(_signed_in(server)))
        for name, path in PAGES.items():
            took = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                answer = person.get(path, follow_redirects=True)
                took.append((time.perf_counter() - began) * 1_000)
                if answer.status_code != 200:
                    raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:400]}")
            yield name, median(took), max(took), len(answer.content)


def _signed_in(server: str) -> httpx.Client:
    person = httpx.Client(base_url=f"{server}/console", timeout=30)
    link = Links([SECRET_KEY]).issue("ops-1", Role.OPERATOR, now=datetime.now(UTC))
    entered = person.post("/sign-in", data={"link": link}, headers={"Sec-Fetch-Site": "same-origin"})
    if entered.status_code != 303:
        raise RuntimeError(f"the console answered {entered.status_code} to a link: {entered.text[:400]}")
    return person


# ── acks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _acks(url: str) -> Iterator[str]:
    """Yield the acks a second alone, and beside people at the console in the same process and in its own, in turns."""
    acks: dict[str, list[float]] = {"": [], "the console in serve": [], "the console as a process": []}
    answers: dict[str, Counter[int]] = {where: Counter() for where in acks}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, _ = stack.enter_context(running("hookmirror", folder, "--no-worker", "--console", database_url=url))
        apart, _ = stack.enter_context(running("hookmirror", folder, database_url=url, command="console"))
        consoles = {"": None, "the console in serve": server, "the console as a process": apart}
        for number in range(ACK_ROUNDS * len(acks)):
            where = list(acks)[number % len(acks)]
            pool = folder / "pool.txt"
            load.write_pool(pool, number * POOL, POOL)
            with _browsing(consoles[where]) as answered:
                acks[where].append(load.send(server, pool, seconds=ACK_SECONDS).requests_per_second)
                answers[where] += answered
    alone = acks.pop("")
    yield f"  acks alone{median(alone):>31.0f}/s ({min(alone):.0f} to {max(alone):.0f})"
    for where, found in acks.items():
        # The rates of one round were measured shortly after each other.
        ratios = [beside / before for beside, before in zip(found, alone, strict=True)]
        pages = answers[where][200] / (ACK_SECONDS * ACK_ROUNDS)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        others = {status: number for status, number in answers[where].items() if status != 200}
        yield f"  beside {PEOPLE} people, {where}, / alone{median(ratios):>8.2f} ({spread}; {pages:.0f} pages/s)"
        if others:
            yield f"  other answers: {others}"


def _browsing(console: str | None) -> AbstractContextManager[Counter[int]]:
    """Run people who open one page after the other; no people for None. They count their answers by status."""
    people = [] if console is None else [_signed_in(console) for _ in range(PEOPLE)]
    return asking(people, list(PAGES.values()), pause=PAUSE, apart=3)
