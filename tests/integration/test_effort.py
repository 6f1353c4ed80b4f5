"""What fixed pieces of work cost on both databases: counted, so that a noisy machine cannot hide a regression."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from effort import Effort, Meter, grown
from paging import PagedSource
from sqlalchemy import text
from uvicorn import Config
from uvicorn.server import ServerState
from wire import Wire

from benchmarks.senders import IIMMPACT, SENDERS, Sender, Sent
from receiver import Dialect, HmacSha256
from receiver.api.delivery_shapes import show_delivery
from receiver.database.announcements import Announcements
from receiver.database.database import Database
from receiver.dialects.sources import build_source
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.inbox import Inbox
from receiver.ingest.admission import Request, admit
from receiver.ingest.connections import Connections
from receiver.ingest.endpoint import Endpoint
from receiver.ingest.fast_path import FastPathProtocol
from receiver.ingest.group_commit import Submitted
from receiver.ingest.incoming import Incoming
from receiver.reconcile.mark import Stage, new_mark
from receiver.reconcile.question import Asking
from receiver.reconcile.reconciling import reconcile
from receiver.reconcile.walk import Walk
from receiver.search.deliveries import list_deliveries
from receiver.search.filters import DeliveryFilter
from receiver.search.pages import PageBounds
from receiver.settings.limits import Limits
from receiver.settings.settings import SourceSettings
from receiver.worker.worker import Worker

#: Deliveries of an accept, of a worker's batch, of a page of the API, and rows of a page of a source's list.
ACCEPTED, WORKED, LISTED, PAGE = 64, 200, 50, 100

#: The number of events after which each product is named again.
AGAIN = 2_000

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)

#: By how much a figure may exceed today's: some of it depends on the releases of libraries.
TOLERANCE = 0.03

#: Today's figures on SQLite and on PostgreSQL: statements, committed transactions, written rows, pages, and calls.
TODAY: dict[str, tuple[Effort, Effort]] = {
    "answer 64 of iimmpact": (Effort(0, 0, 0, 0, 10_276), Effort(0, 0, 0, 0, 10_276)),
    "answer 64 of sigma": (Effort(0, 0, 0, 0, 10_852), Effort(0, 0, 0, 0, 10_852)),
    "answer 64 of sticky": (Effort(0, 0, 0, 0, 11_682), Effort(0, 0, 0, 0, 11_682)),
    "accept 64 of iimmpact": (Effort(5, 1, 192, 45, 6_234), Effort(1, 1, 192, 0, 6_229)),
    "accept 64 of sigma": (Effort(5, 1, 192, 43, 6_810), Effort(1, 1, 192, 0, 6_805)),
    "accept 64 of sticky": (Effort(5, 1, 192, 59, 7_642), Effort(1, 1, 192, 0, 7_701)),
    "accept 64 again": (Effort(13, 1, 80, 16, 11_020), Effort(4, 2, 80, 0, 13_179)),
    "apply 200 of iimmpact": (Effort(25, 2, 801, 242, 64_344), Effort(12, 2, 801, 0, 67_325)),
    "apply 200 of sigma": (Effort(21, 2, 601, 102, 57_455), Effort(10, 2, 601, 0, 61_640)),
    "apply 200 of sticky": (Effort(25, 2, 801, 172, 70_541), Effort(12, 2, 801, 0, 73_300)),
    "poll without work": (Effort(2, 0, 0, 0, 437), Effort(2, 1, 0, 0, 664)),
    "list 50 deliveries": (Effort(2, 0, 0, 0, 1_979), Effort(1, 1, 0, 0, 1_716)),
    "reconcile 100 rows": (Effort(21, 1, 120, 15, 124_381), Effort(16, 4, 120, 0, 127_302)),
}


class Application:
    """An endpoint that answers without storing anything."""

    def __init__(self, sender: Sender, loop: asyncio.AbstractEventLoop) -> None:
        limits = Limits()
        incoming = Incoming(limits)
        self.connections = Connections(limits, incoming)
        self.endpoint = Endpoint({sender.name: sender.source}, _answer, limits=limits, incoming=incoming)
        self._loop = loop
        self._config = Config(self, log_config=None, proxy_headers=False, ws="none")
        self._config.load()

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        raise AssertionError("A webhook in one piece does not reach the application.")

    def connect(self) -> Wire:
        wire = Wire(self._loop)
        wire.protocol = FastPathProtocol(self._config, server_state=ServerState(), app_state={}, _loop=self._loop)
        wire.protocol.connection_made(wire)
        return wire


def _answer(submitted: Sequence[Submitted]) -> None:
    admit([request for request, _ in submitted])
    for _, answer in submitted:
        answer.set_result(Accepted("accepted", 1))


class Place:
    """A database, and the works that are counted on it."""

    def __init__(self, database: Database) -> None:
        self.meter = Meter(database)
        self.database, self._inbox = database, Inbox(database)
        # The transactions of another thread would be counted now and then.
        database._announcements = Announcements(lambda: None)

    def accept(self, sender: Sender) -> Effort:
        """Verify, read and store webhooks, of which none is known."""
        for number in range(3):
            self._inbox.accept(_admitted(sender, number * ACCEPTED, ACCEPTED))
        requests = _requests(sender, 3 * ACCEPTED, ACCEPTED)
        return self.meter.effort(lambda: self._inbox.accept(_arrivals(requests)))

    def answer(self, sender: Sender) -> Effort:
        """Receive webhooks over as many connections, verify and read them, and answer without storing them."""
        requests = [sender.sent(number) for number in range(ACCEPTED)]
        with closing(asyncio.new_event_loop()) as loop:
            application = Application(sender, loop)
            wires = [application.connect() for _ in requests]

            async def answer() -> None:
                for wire, sent in zip(wires, requests, strict=True):
                    wire.written = b""
                    wire.protocol.data_received(_post(sender, sent))
                await asyncio.sleep(0)
                assert all(wire.written.startswith(b"HTTP/1.1 200") for wire in wires)

            loop.run_until_complete(answer())
            return self.meter.effort(lambda: loop.run_until_complete(answer()))

    def accept_again(self, sender: Sender) -> Effort:
        """Store webhooks of which all but eight are known."""
        self._inbox.accept(_admitted(sender, 0, ACCEPTED))
        self._inbox.accept(_admitted(sender, 8, ACCEPTED))
        requests = _requests(sender, 16, ACCEPTED)
        return self.meter.effort(lambda: self._inbox.accept(_arrivals(requests)))

    def apply(self, sender: Sender) -> Effort:
        """Apply events to rows that exist."""
        with closing(self._worker(sender)) as worker:
            for number in range(3):
                self._inbox.accept(_admitted(sender, number * AGAIN, WORKED))
                assert worker.work() == WORKED
            self._inbox.accept(_admitted(sender, 3 * AGAIN, WORKED))
            return self.meter.effort(worker.work)

    def poll(self, sender: Sender) -> Effort:
        """Look for work when there is none."""
        with closing(self._worker(sender)) as worker:
            worker.work()
            return self.meter.effort(worker.work)

    def list_page(self, sender: Sender) -> Effort:
        """Read the newest deliveries, and encode them as the API does."""
        self._inbox.accept(_admitted(sender, 0, WORKED))

        def read() -> None:
            bounds = PageBounds(limit=LISTED)
            found = list_deliveries(self.database, DeliveryFilter(), show_delivery, bounds)
            msgspec.json.encode(found.items)
            assert len(found.items) == LISTED

        read()
        return self.meter.effort(read)

    def reconcile_page(self, _: Sender) -> Effort:
        """Compare a page of a source's list with the mirror, and repair one row in ten."""
        paged = PagedSource(size=PAGE)
        paged.hold(f"A{number:04d}" for number in range(3 * PAGE))
        shop = Dialect("shop", verify=HmacSha256(header="X-Signature"))
        paged.speak(shop)
        settings = SourceSettings(name="shop", secrets=["secret"], api_url="http://api.test")
        source = build_source(settings, {"shop": shop})
        reconcile(self.database, source, clock=lambda: NOON)
        paged.hold([f"A{number:04d}" for number in range(0, 3 * PAGE, 10)], "Lantern")
        later = NOON + timedelta(hours=1)
        with closing(Asking(source, lambda: later)) as asking:
            walk = Walk(self.database, source, asking, clock=lambda: later)
            mark = new_mark(source.name, now=later, force=False, plan=False)
            while mark.stage is not Stage.PAGES:
                mark = walk.step(mark).mark
            # The first page was read early.
            mark = walk.step(mark).mark
            return self.meter.effort(lambda: walk.step(mark))

    def _worker(self, sender: Sender) -> Worker:
        return Worker(
            self._inbox, {sender.name: sender.source}, batch_size=WORKED, clock=lambda: NOON + timedelta(minutes=1)
        )


def _post(sender: Sender, sent: Sent) -> bytes:
    lines = [
        f"POST /hooks/{sender.name} HTTP/1.1",
        "Host: hooks.example",
        "Content-Type: application/json",
        f"Content-Length: {len(sent.body)}",
        f"{sender.header}: {sent.signature}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + sent.body


def _requests(sender: Sender, first: int, count: int) -> list[Request]:
    requests = []
    for number in range(first, first + count):
        sent = sender.sent(number)
        headers = [(b"content-type", b"application/json"), (sender.header.lower().encode(), sent.signature.encode())]
        requests.append(Request(sender.source, headers, sent.body))
    return requests


def _arrivals(requests: list[Request]) -> list[Arrival]:
    arrivals = admit(requests, now=NOON)
    assert all(isinstance(each, Arrival) for each in arrivals)
    return arrivals  # type: ignore[return-value]


def _admitted(sender: Sender, first: int, count: int) -> list[Arrival]:
    return _arrivals(_requests(sender, first, count))


WORKS: dict[str, tuple[Callable[[Place, Sender], Effort], Sender]] = {
    **{f"answer {ACCEPTED} of {name}": (Place.answer, sender) for name, sender in SENDERS.items()},
    **{f"accept {ACCEPTED} of {name}": (Place.accept, sender) for name, sender in SENDERS.items()},
    f"accept {ACCEPTED} again": (Place.accept_again, IIMMPACT),
    **{f"apply {WORKED} of {name}": (Place.apply, sender) for name, sender in SENDERS.items()},
    "poll without work": (Place.poll, IIMMPACT),
    f"list {LISTED} deliveries": (Place.list_page, IIMMPACT),
    f"reconcile {PAGE} rows": (Place.reconcile_page, IIMMPACT),
}


@pytest.fixture
def place(mirror_url: str) -> Iterator[Place]:
    with closing(Database(mirror_url)) as database:
        yield Place(database)


@pytest.mark.parametrize("work", WORKS)
def test_no_work_costs_more_than_it_did(place, database_system, work):
    measure, sender = WORKS[work]
    seen, today = measure(place, sender), TODAY[work][database_system == "postgresql"]
    more = grown(today, seen, tolerance=TOLERANCE)
    assert not more, (
        f"To {work} costs more on {database_system}: {'; '.join(more)}. Find out why. If it is worth that, write "
        f"{seen} into TODAY in this file, and say in the commit what it is for."
    )


def test_every_row_page_transaction_and_statement_counts(place, database_system):
    """Two transactions, each with one statement that writes a row."""
    statement = "INSERT INTO runs_of_this_test VALUES (1)"
    with place.database.write() as connection:
        connection.execute(text("CREATE TABLE runs_of_this_test (number integer)"))

    def write() -> None:
        for _ in range(2):
            with place.database.write() as connection:
                connection.exec_driver_sql(statement)

    write()
    seen = place.meter.effort(write)
    begins = 0 if database_system == "postgresql" else 2
    assert (seen.statements - begins, seen.commits, seen.rows) == (2, 2, 2)
    assert seen.pages == begins


def test_a_figure_that_grew_is_named_with_its_unit():
    today, seen = Effort(100, 2, 10, 10, 1_000), Effort(104, 3, 9, 10, 1_000)
    assert grown(today, seen, tolerance=0.03) == [
        "104 statements, which were 100 (at most 103 are allowed)",
        "3 committed transactions, which were 2 (at most 2 are allowed)",
    ]
