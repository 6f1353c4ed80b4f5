"""Every page of the console over a long history, on both databases, and acks beside ten people who browse.

`BENCHMARK_QUICK=1` takes a tenth of the history and fewer rounds, and `BENCHMARK_DATABASE` one of the databases.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import mean, median

import httpx

from benchmarks import ended, processor, scale
from benchmarks.askers import asking
from benchmarks.beside import acks_beside
from benchmarks.inboxes import SOURCE
from benchmarks.long_history import MIDDLE, LaterArrivals, filled
from benchmarks.servers import SECRET_KEY, running
from receiver.inbox.ids import MOST_PROCESSES
from receiver.sessions.links import Links
from receiver.sessions.roles import Role

ROUNDS = scale.either(20, 5)

#: People who browse, and the seconds that each looks at a page before opening the next.
PEOPLE, PAUSE = 10, 1.0

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
        lines.append(f"{name}, filled in {seconds:.0f} s{'median':>28}{'worst':>12}{'processor':>13}{'size':>12}")
        used = []
        for page, middle, worst, busy, size in _times(url):
            lines.append(f"  {page:<38}{middle:>9.1f} ms{worst:>9.1f} ms{busy:>10.1f} ms{size / 1000:>9.1f} kB")
            used.append(busy)
        lines.append(f"  {'the mean of all pages':<62}{mean(used):>10.1f} ms")
        lines += _acks(url)
    return lines


def _times(url: str) -> Iterator[tuple[str, float, float, float, int]]:
    """Yield for each page its median, its longest and its mean processor time in milliseconds, and its bytes.

    The processor time is that of the server and the database.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, _ = stack.enter_context(running("hookmirror", folder, "--no-worker", "--console", database_url=url))
        person = stack.enter_context(closing(signed_in(server)))
        for name, path in PAGES.items():
            took, busy = [], _others_busy()
            for _ in range(ROUNDS):
                began = time.perf_counter()
                answer = person.get(path, follow_redirects=True)
                took.append((time.perf_counter() - began) * 1_000)
                if answer.status_code != 200:
                    raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:400]}")
            busy = (_others_busy() - busy) / ROUNDS * 1_000
            yield name, median(took), max(took), busy, len(answer.content)


def _others_busy() -> float:
    """Return the seconds of processor time that the processes which this one has started have used."""
    return processor.seconds() - time.process_time()


def signed_in(server: str) -> httpx.Client:
    person = httpx.Client(base_url=f"{server}/console", timeout=30)
    link = Links([SECRET_KEY]).issue("ops-1", Role.OPERATOR, now=datetime.now(UTC))
    entered = person.post("/sign-in", data={"link": link}, headers={"Sec-Fetch-Site": "same-origin"})
    if entered.status_code != 303:
        raise RuntimeError(f"the console answered {entered.status_code} to a link: {entered.text[:400]}")
    return person


# ── acks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _acks(url: str) -> Iterator[str]:
    """Yield the acks a second alone, and beside people at the console in the same process and in its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, _ = stack.enter_context(running("hookmirror", folder, "--no-worker", "--console", database_url=url))
        apart, _ = stack.enter_context(running("hookmirror", folder, database_url=url, command="console"))
        people = {
            f"beside {PEOPLE} people, the console in serve": partial(_browsing, server),
            f"beside {PEOPLE} people, the console apart": partial(_browsing, apart),
        }
        yield from acks_beside(server, folder, people, LaterArrivals(url))


def _browsing(console: str) -> AbstractContextManager[Counter[int]]:
    """Run people who open one page after the other, and count their answers by status."""
    people = [signed_in(console) for _ in range(PEOPLE)]
    return asking(people, list(PAGES.values()), pause=PAUSE, apart=3)
