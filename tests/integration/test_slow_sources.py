"""A source that takes minutes for each row: each step of a reconcile ends long before its lease does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from paging import PagedSource, listened_to, mirrored
from running import Runs, asked, new_reconciler
from shopping import named, tell_all

from handlers.catalog import Product
from receiver import Listed, ListPage
from receiver.runs.leases import with_expired_lease
from receiver.runs.reconcile import RECONCILE, RECONCILE_LEASE
from receiver.runs.unplanned_run import UnplannedRun, begin_run
from receiver.worker.liveness import deregister

EARLIER = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
LATER = EARLIER + timedelta(minutes=1)


@pytest.fixture
def lamps(kit) -> PagedSource:
    """Make forty lamps, A00 to A39, that the mirror knows."""
    source = PagedSource(size=20)
    listened_to(kit)
    source.hold(f"A{number:02}" for number in range(40))
    tell_all(kit, source.names, at=EARLIER)
    return source


class SlowRun:
    """A run whose questions take four minutes each, by the clock of the test, and the expired leases seen meanwhile."""

    def __init__(self, kit, monkeypatch) -> None:
        self.kit, self.expired = kit, []
        self.questions = 0
        monkeypatch.setattr("receiver.reconcile.listing.monotonic", lambda: kit.now().timestamp())
        self.runs = Runs(kit)
        self.runs.feeder = new_reconciler(kit)
        wanted = UnplannedRun(kind=RECONCILE, source="shop", lease=RECONCILE_LEASE, held_by=self.runs.feeder.name)
        request = asked("reconcile", source="shop", force=False, reason="a test")
        self.number = int(begin_run(self.runs.verbs, request, wanted, now=kit.now()).result["run"])

    def wait(self) -> None:
        """Let four minutes pass while the source is asked."""
        self.questions += 1
        self.kit.advance(minutes=4)
        with self.kit.database.read() as connection:
            self.expired += with_expired_lease(connection, self.kit.now())

    def finish(self) -> None:
        for _ in self.runs.feeder.steps(self.number):
            pass


@pytest.fixture
def slow(kit, lamps, monkeypatch) -> SlowRun:
    return SlowRun(kit, monkeypatch)


def missing_rows(shop, lamps: PagedSource, slow: SlowRun) -> None:
    """Each missing row is looked up."""
    lamps.speak(shop)
    for number in range(8):
        del lamps.names[f"A{number:02}"]
    lamps.before = lambda _: slow.wait() if isinstance(lamps.requests[-1], str) else None


def rows_with_deliveries(shop, lamps: PagedSource, slow: SlowRun) -> None:
    """Each row is looked up again, because a delivery about it arrived while the page was read."""
    lamps.speak(shop)
    lamps.hold([f"A{number:02}" for number in range(8)], "Lantern")

    def tell(number: int) -> None:
        for each in range(8) if number == 1 else ():
            slow.kit.send("shop", "product.updated", id=f"A{each:02}", at=LATER, data=named())

    lamps.after = tell
    lamps.before = lambda _: slow.wait() if isinstance(lamps.requests[-1], str) else None


def rows_that_are_only_named(shop, lamps: PagedSource, slow: SlowRun) -> None:
    """Each row is looked up after the list has named it."""
    lamps.speak(shop)
    shop.listing_of = None

    @shop.pages(Product, names_only=True)
    def read(api, start) -> ListPage:
        return ListPage([Listed(Product, each, {}) for each in lamps.names])

    lamps.hold(lamps.names, "Lantern")
    lamps.before = lambda _: slow.wait()


def rows_of_a_stream(shop, lamps: PagedSource, slow: SlowRun) -> None:
    """The list is one stream, which takes long for each row."""
    lamps.speak(shop)
    lamps.hold(lamps.names, "Lantern")

    @shop.listing(Product, override=True)
    def walk(api):
        for each in lamps.names.items():
            slow.wait()
            yield lamps.row(each)


@pytest.mark.parametrize(
    ("speak", "questions"),
    [(missing_rows, 8), (rows_with_deliveries, 8), (rows_that_are_only_named, 40), (rows_of_a_stream, 40)],
)
def test_no_other_process_can_take_a_run_whose_source_is_slow(
    kit, shop, lamps, slow, speak: Callable[..., None], questions: int
):
    speak(shop, lamps, slow)
    slow.finish()
    kit.drain()
    assert (slow.expired, slow.questions) == ([], questions), "each row is asked for once"
    assert mirrored(kit) == lamps.names


def test_a_group_of_lookups_that_ended_early_is_continued_by_another_process(kit, shop, lamps, slow):
    missing_rows(shop, lamps, slow)
    while slow.questions < 3:
        slow.runs.feeder.step(slow.number)
    deregister(slow.runs.feeder.name)
    slow.runs.feeder = new_reconciler(kit)
    slow.finish()
    assert [each for each in lamps.requests if isinstance(each, str)] == [f"A{number:02}" for number in range(8)]
    assert mirrored(kit) == lamps.names
