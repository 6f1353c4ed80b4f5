"""Every list and every search over a long history, on both databases, and acks beside ten readers."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks import ended
from benchmarks.askers import asking
from benchmarks.beside import acks_beside
from benchmarks.inboxes import SOURCE
from benchmarks.long_history import MIDDLE, LaterArrivals, filled
from benchmarks.servers import SECRET_KEY, running
from handlers.catalog import Product
from receiver.api.tokens import Scope, Tokens
from receiver.database.database import Database
from receiver.inbox.ids import MOST_PROCESSES
from receiver.inbox.tables import State
from receiver.mirror.rows import tables_by_name
from receiver.search.changes import follow_changes, newest_changes
from receiver.search.deliveries import count_deliveries, delivery, list_deliveries
from receiver.search.filters import ChangeFilter, DeliveryFilter, RowFilter
from receiver.search.hits import search
from receiver.search.pages import PageBounds
from receiver.search.rows import count_rows, list_rows, row

ROUNDS = 20
PAGE = PageBounds(limit=50)

#: Readers, and the seconds that each pauses between two questions: like a person, and not at all.
READERS, PAUSES = 10, (1.0, 0.0)

TABLES = tables_by_name()


def questions(database: Database) -> Mapping[str, Callable[[], Any]]:
    """Return every list with every filter, and every search, by name."""

    def deliveries(**wanted: Any) -> Callable[[], Any]:
        return lambda: list_deliveries(database, DeliveryFilter(**wanted), lambda row: row["id"], PAGE)

    def count(**wanted: Any) -> Callable[[], Any]:
        return lambda: count_deliveries(database, DeliveryFilter(**wanted))

    def rows(**wanted: Any) -> Callable[[], Any]:
        return lambda: list_rows(database, Product, RowFilter(**wanted), lambda row: row["name"], PAGE)

    def newest(**wanted: Any) -> Callable[[], Any]:
        return lambda: newest_changes(database, ChangeFilter(**wanted), lambda row: row["seq"], PAGE)

    def following(**wanted: Any) -> Callable[[], Any]:
        return lambda: follow_changes(database, ChangeFilter(**wanted), lambda row: row["seq"], PAGE)

    first = ended.FIRST * MOST_PROCESSES
    return {
        "deliveries": deliveries(),
        "deliveries of a source": deliveries(source=SOURCE),
        "deliveries of a rare source": deliveries(source="rare"),
        "deliveries, pending": deliveries(state=State.PENDING),
        "deliveries, processed": deliveries(state=State.PROCESSED),
        "deliveries, ignored": deliveries(state=State.IGNORED),
        "deliveries, dead": deliveries(state=State.DEAD),
        "deliveries, dead of a rare source": deliveries(state=State.DEAD, source="rare"),
        "deliveries of an unknown type": deliveries(event_type="moon.eclipsed"),
        "deliveries, stale": deliveries(outcome="stale"),
        "deliveries in conflict": deliveries(conflict=True),
        "deliveries by reason": deliveries(reason="not a number"),
        "deliveries of a minute": deliveries(begin=MIDDLE, end=MIDDLE + timedelta(minutes=1)),
        "deliveries about an entity": deliveries(entity="product:P00042"),
        "deliveries about an entity, dead": deliveries(entity="product:P00042", state=State.DEAD),
        "one delivery": lambda: delivery(database, first),
        "count of deliveries": count(),
        "count of those of a source": count(source=SOURCE),
        "count of the ignored": count(state=State.IGNORED),
        "rows": rows(),
        "rows of a source": rows(source=SOURCE),
        "rows that are gone": rows(active=False),
        "rows with a tie": rows(tie=True),
        "rows with a SKU": rows(sku="SKU-4711"),
        "count of rows": lambda: count_rows(database, Product, RowFilter()),
        "one row": lambda: row(database, Product, SOURCE, "P04711"),
        "changes": following(),
        "newest changes": newest(),
        "changes of another table": newest(table="variants"),
        "changes since a moment": newest(since=MIDDLE),
        "changes of a delivery": newest(delivery=(ended.FIRST + 4711 * ended.BETWEEN) * MOST_PROCESSES),
        "search: a SKU": lambda: search(database, TABLES, "SKU-4711"),
        "search: an external id": lambda: search(database, TABLES, "P04711"),
        "search: an entity": lambda: search(database, TABLES, "product:P00042"),
        "search: a delivery": lambda: search(database, TABLES, str(first)),
        "search: a dedup key": lambda: search(database, TABLES, f"{ended.FIRST}-{0:064x}"),
        "search: nothing": lambda: search(database, TABLES, "nothing"),
    }


def report() -> list[str]:
    lines = []
    for name, url, seconds in filled():
        lines.append(f"{name}, filled in {seconds:.0f} s{'median':>28}{'worst':>12}")
        lines += [f"  {asked:<38}{middle:>9.1f} ms{worst:>9.1f} ms" for asked, middle, worst in _times(url)]
        lines += _acks(url)
    return lines


def _times(url: str) -> Iterator[tuple[str, float, float]]:
    """Yield the name of each question with its median and its longest time, in milliseconds."""
    with closing(Database(url)) as database:
        for name, ask in questions(database).items():
            took = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                ask()
                took.append((time.perf_counter() - began) * 1_000)
            yield name, median(took), max(took)


# ── acks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _acks(url: str) -> Iterator[str]:
    """Yield the acks a second of one server alone and beside readers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, _ = stack.enter_context(running("hookmirror", folder, "--no-worker", database_url=url))
        readers = {
            f"beside {READERS} readers, pausing {pause:g} s": partial(_reading, server, pause) for pause in PAUSES
        }
        yield from acks_beside(server, folder, readers, LaterArrivals(url))


def _reading(server: str, pause: float) -> AbstractContextManager[Counter[int]]:
    """Run readers that ask for one list after the other, with a pause in seconds, and count their answers by status."""
    token = Tokens([SECRET_KEY]).issue(Scope.READ, now=datetime.now(UTC), lifetime=timedelta(hours=1))
    paths = ("deliveries", "deliveries?state=ignored", "catalog/products", "changes?newest=true", "search?q=SKU-4711")
    headers = {"Authorization": f"Bearer {token}"}
    readers = [httpx.Client(base_url=f"{server}/api/v1", headers=headers, timeout=30) for _ in range(READERS)]
    return asking(readers, paths, pause=pause)
