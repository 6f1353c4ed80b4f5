"""Reconcile page by page: each page counts from its own request, and a walk continues where another one stopped."""

from __future__ import annotations

import random
import weakref
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import httpx
import pytest
from faults import Killed
from paging import PagedSource, listened_to, mirrored
from running import reconciled
from shopping import feed, named, tell_all
from sqlalchemy import event, func, select
from systems import ON_BOTH, database_system  # noqa: F401

from handlers.api import fetch
from handlers.catalog import Product, Variant
from receiver import ApiError, Listed, ListPage
from receiver.codec import decode, encode
from receiver.database.database import Database
from receiver.errors import EndlessListError, RunConflict
from receiver.reconcile import seen
from receiver.reconcile.mark import Mark, new_mark
from receiver.reconcile.question import Asking
from receiver.reconcile.tables import SEEN, transact_on
from receiver.reconcile.walk import Walk

EARLIER = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)

SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 6))]


@pytest.fixture
def source(shop, kit) -> PagedSource:
    """Make the source of the kit's shop, without rows."""
    paged = PagedSource()
    paged.speak(shop)
    listened_to(kit)
    return paged


@pytest.fixture
def lamps(kit, source) -> PagedSource:
    """Make ten lamps, A0 to A9, that the mirror knows."""
    source.hold(f"A{number}" for number in range(10))
    tell_all(kit, source.names, at=EARLIER)
    return source


def run(kit, **options):
    return reconciled(kit, kit.source("shop"), **options)


class History:
    """Edits at the source, with webhooks of which some are lost, some late and some repeated."""

    def __init__(self, kit, source: PagedSource, seed: int) -> None:
        self.kit, self.source, self.random = kit, source, random.Random(seed)
        self.late: list[tuple] = []
        #: Keys whose last change was announced.
        self.told: dict[str, bool] = {}

    def edit(self, at: datetime, *, lost: float = 0.3, late: float = 0.3) -> None:
        """Make one edit, and decide what happens to its webhook."""
        external_id = f"A{self.random.randrange(8)}"
        names = self.source.names
        if external_id in names and self.random.random() < 0.3:
            del names[external_id]
            webhook = ("product.deleted", external_id, at, None)
        else:
            names[external_id] = f"name {self.random.random()}"
            webhook = ("product.updated", external_id, at, named(names[external_id]))
        self.told[external_id] = False
        luck = self.random.random()
        if luck < late:
            self.late.append(webhook)
        elif luck >= late + lost:
            self.send(webhook)
            self.told[external_id] = True

    def send(self, webhook: tuple) -> None:
        event_type, external_id, at, data = webhook
        self.kit.send("shop", event_type, id=external_id, at=at, data=data)
        if self.random.random() < 0.5:
            self.kit.drain()

    def send_the_late(self) -> None:
        self.random.shuffle(self.late)
        while self.late:
            self.send(self.late.pop())


@ON_BOTH
@pytest.mark.parametrize("seed", SEEDS)
def test_any_history_with_losses_ends_as_the_source_and_a_second_reconcile_writes_nothing(kit, source, seed: int):
    history = History(kit, source, seed)
    for second in range(30):
        history.edit(EARLIER + timedelta(seconds=second))
    kit.drain()
    run(kit, force=True)
    assert mirrored(kit) == source.names
    before = feed(kit)
    assert (run(kit, force=True).repairs, feed(kit)) == (0, before)
    history.send_the_late()
    kit.drain()
    # A late webhook is older than the reconcile, and stale, unless it confirms the row.
    run(kit, force=True)
    assert mirrored(kit) == source.names


@ON_BOTH
@pytest.mark.parametrize("lookup", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_live_events_in_any_interleaving_are_never_overruled(kit, shop, seed: int, lookup: bool):
    source = PagedSource(size=2)
    source.speak(shop, lookup=lookup)
    listened_to(kit)
    history = History(kit, source, seed)
    for second in range(20):
        history.edit(EARLIER + timedelta(seconds=second))

    def live(_: int) -> None:
        while history.random.random() < 0.5:
            history.edit(kit.now(), lost=0.0, late=0.0)

    source.before = source.after = live
    source.tells_total = False
    with allowing_unsteady_lists():
        run(kit, force=True)
    source.before = source.after = lambda _: None
    kit.drain()
    live_keys = {key for key, told in history.told.items() if told}
    found = mirrored(kit)
    assert {key: found.get(key) for key in live_keys} == {key: source.names.get(key) for key in live_keys}
    run(kit, force=True)
    assert mirrored(kit) == source.names


def allowing_unsteady_lists():
    """Permit that a list which changes during the walk is refused. Rows read before that are repaired."""
    return suppress(ApiError)


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_live_value_is_lost_if_the_clocks_differ_by_an_hour(kit, source, seed: int, hours: int):
    """The source's clock, which dates its events and its answers, is ahead of ours or behind."""

    def clock() -> datetime:
        return datetime.now(UTC) + timedelta(hours=hours)

    source.clock, source.size = clock, 2
    history = History(kit, source, seed)
    for _ in range(10):
        history.edit(clock(), lost=0.0, late=0.0)
    source.before = source.after = lambda _: history.edit(clock(), lost=0.0, late=0.0)
    with allowing_unsteady_lists():
        run(kit, force=True)
    source.before = source.after = lambda _: None
    kit.drain()
    assert mirrored(kit) == source.names


# ── times of pages ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_late_webhook_from_the_walk_does_not_win_over_a_page_read_after_it(kit, lamps):
    """It would win if the whole list counted from the beginning of the walk."""
    began = kit.now()

    def change(number: int) -> None:
        if number == 2:
            # The webhook of the last change is lost, and that of the change before it is late.
            lamps.names["A7"] = "as listed"
            kit.advance(minutes=5)

    lamps.before = change
    run(kit)
    assert kit.row(Product, "A7").name == "as listed"
    kit.send("shop", "product.updated", id="A7", at=began + timedelta(minutes=1), data=named("late"))
    kit.drain()
    assert kit.row(Product, "A7").name == "as listed"


def test_a_page_counts_as_of_its_own_request(kit, lamps):
    moments = []

    def change(number: int) -> None:
        kit.advance(minutes=10)
        moments.append(kit.now())

    lamps.after = change
    lamps.names |= {"A0": "first page", "A9": "last page"}
    run(kit)
    first, last = kit.row(Product, "A0").changed_at, kit.row(Product, "A9").changed_at
    assert last - first >= timedelta(minutes=29)


@ON_BOTH
def test_a_row_with_a_delivery_during_the_page_is_asked_for_again(kit, lamps):
    lamps.names["A1"] = "as listed"

    def tell(number: int) -> None:
        if number == 1:
            # Dated by a clock that is behind, so that only its arrival shows that it is newer than the page.
            kit.send("shop", "product.updated", id="A1", at=EARLIER + timedelta(minutes=1), data=named("as announced"))
            lamps.names["A1"] = "as announced"

    lamps.after = tell
    report = run(kit)
    kit.drain()
    assert lamps.requests.count("A1") == 1
    assert (kit.row(Product, "A1").name, report.left) == ("as announced", 0)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_row_that_is_gone_when_it_is_asked_for_again_is_not_revived_by_its_delivery(kit, lamps, is_known):
    """The delivery is pending during the walk, and the delete after it was lost."""
    lamps.names["B1"] = "Lamp"
    if is_known:
        kit.send("shop", "product.deleted", id="B1", at=EARLIER)
        kit.drain()

    def tell(number: int) -> None:
        if "B1" in lamps.names and number == 4:
            kit.send("shop", "product.updated", id="B1", at=EARLIER + timedelta(minutes=1), data=named())
            del lamps.names["B1"]

    lamps.after = tell
    report = run(kit)
    kit.drain()
    assert lamps.requests.count("B1") == 1
    assert ("B1" in mirrored(kit), report.left) == (False, 0)


@ON_BOTH
def test_an_unknown_product_that_is_gone_when_it_is_asked_for_again_takes_its_variants_with_it(kit, lamps):
    lamps.names["B1"] = "Lamp"

    def tell(number: int) -> None:
        if "B1" in lamps.names and number == 4:
            # The variant has the id of its product, so the delivery may concern either.
            kit.send("shop", "variant.updated", id="B1", at=EARLIER, data={"parent": "B1"})
            kit.drain()
            del lamps.names["B1"]

    lamps.after = tell
    run(kit)
    assert lamps.requests.count("B1") == 1
    assert not kit.row(Variant, "B1").active


def test_without_a_lookup_the_row_is_left_to_its_delivery_and_reported(kit, shop):
    source = PagedSource()
    source.speak(shop, lookup=False)
    listened_to(kit)
    source.hold(["A1"], "as listed")
    source.after = lambda _: kit.send("shop", "product.updated", id="A1", at=EARLIER, data=named("as announced"))
    report = run(kit)
    assert (report.left, report.repairs) == (1, 0)
    assert "Rows left alone because a delivery about them arrived meanwhile: 1." in report.lines()


# ── inconsistent lists ────────────────────────────────────────────────────────────────────────────────────────


class Repeats(PagedSource):
    def page(self, start):
        rows, total, following = super().page(start)
        return (super().page(0)[0] if start else rows), total, following


class EndsEarly(PagedSource):
    def page(self, start):
        rows, total, _ = super().page(start)
        return rows, total, None


class Shrinks(PagedSource):
    def page(self, start):
        rows, total, following = super().page(start)
        return rows, total - start, following


class Shuffles(PagedSource):
    def page(self, start):
        _, total, following = super().page(start)
        found = sorted(self.names.items())
        random.Random(start + len(self.requests)).shuffle(found)
        return found[start : start + self.size], total, following


class Empties(PagedSource):
    def page(self, start):
        rows, total, _ = super().page(start)
        return ([], total, None) if start else (rows, total, start + self.size)


@pytest.mark.parametrize("kind", [Repeats, EndsEarly, Shrinks, Shuffles, Empties])
def test_a_list_that_is_not_read_to_its_end_deactivates_nothing(kit, shop, kind: type[PagedSource]):
    source = kind()
    source.speak(shop)
    listened_to(kit)
    source.hold(f"A{number}" for number in range(10))
    tell_all(kit, source.names, at=EARLIER)
    with pytest.raises(ApiError, match="changed while it was read, 3 times, so nothing was deactivated"):
        run(kit, force=True)
    assert len(mirrored(kit)) == 10


class CountsOtherRowsToo(PagedSource):
    def page(self, start):
        rows, total, following = super().page(start)
        return rows, 2 * total, following


class Grows(PagedSource):
    def page(self, start):
        rows, total, following = super().page(start)
        return rows, total + start, following


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            CountsOtherRowsToo,
            r"its `total` was 4, and the number of its rows of products was 2\. If that stays so, the",
        ),
        (Grows, "its pages gave the totals 2 and 3"),
        (Repeats, "two of its pages had the same row"),
    ],
)
def test_a_list_that_seems_to_change_is_refused_with_what_shows_the_change(kit, shop, kind: type[PagedSource], says):
    source = kind()
    source.size = 1
    source.speak(shop)
    listened_to(kit)
    source.hold(["A1", "A2"])
    with pytest.raises(ApiError, match=says):
        run(kit, force=True)


def test_a_page_that_leads_to_itself_ends_the_walk(kit, shop):
    class Circles(PagedSource):
        def page(self, start):
            rows, total, following = super().page(start)
            return rows, total, start or following

    source = Circles()
    source.speak(shop)
    listened_to(kit)
    source.hold(f"A{number}" for number in range(10))
    with pytest.raises(EndlessListError, match="leads from page 2 to a page that was read before, so it has no end"):
        run(kit)


@pytest.mark.parametrize("total", ["10", 10.0, True])
def test_a_total_that_is_no_whole_number_is_refused_with_the_reason(kit, shop, total):
    listed = PagedSource()
    listed.speak(shop)
    shop.listing_of = None
    shop.pages(Product)(lambda api, start: ListPage([], total=total))
    listened_to(kit)
    for plans in (True, False):
        with pytest.raises(ApiError, match=f"The list of shop gives the total {total!r}: its list function has to"):
            run(kit, dry_run=plans)


def test_a_row_that_moved_between_pages_is_found_by_another_walk(kit, lamps):
    lamps.before = lambda number: lamps.names.pop("A0", None) if number == 2 else None
    report = run(kit)
    assert (report.listed, lamps.requests) == (10, [0, 3, 6, 0, 3, 6])
    assert "A3" in mirrored(kit)


def test_a_row_that_moved_unnoticed_is_asked_for_before_it_counts_as_missing(kit, lamps):
    """One page has a row less and another has one more, so total and number of rows agree."""

    def move(number: int) -> None:
        if number == 2:
            del lamps.names["A0"]
            lamps.names["B"] = "new"

    lamps.before = move
    report = run(kit)
    assert lamps.requests == [0, 3, 6, 9, "A3"]
    assert (report.listed, mirrored(kit)) == (11, {**lamps.names, "A0": "Lamp"}), "A0 was listed, so it is left"
    assert [change.external_id for change in run(kit).repaired] == ["A0"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(302, headers={"location": "http://elsewhere.test/"}), r"answered 302"),
        (httpx.Response(200, text="<html>signed out</html>"), "something other than JSON: check api_url"),
        (httpx.Response(200, json={"items": None}), "gives None instead of a ListPage"),
    ],
    ids=["a redirect", "HTML", "another shape"],
)
def test_a_result_that_is_not_a_page_ends_the_walk_with_advice(kit, shop, answer, reason: str):
    shop.connect(lambda _: httpx.Client(transport=httpx.MockTransport(lambda _: answer), base_url="http://api.test"))
    shop.pages(Product)(lambda api, start: fetch(api, "/items")["items"])
    listened_to(kit)
    with pytest.raises(ApiError, match=reason):
        run(kit)


# ── stopped and continued walks ───────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_after_a_failure_of_the_api_repairs_stay_and_the_next_run_continues_there(kit, lamps):
    lamps.hold(lamps.names, "Lantern")
    del lamps.names["A9"]

    def away(number: int) -> None:
        if number == 3:
            raise httpx.ConnectError("connection refused")

    lamps.before = away
    with pytest.raises(ApiError, match=r"broke off after 6 rows .* nothing was deactivated"):
        run(kit)
    assert sorted(mirrored(kit).values()) == ["Lamp"] * 4 + ["Lantern"] * 6
    report = run(kit)
    assert lamps.requests == [0, 3, 6, 6, "A9"]
    assert (report.resumed is not None, report.repairs, mirrored(kit)) == (True, 10, lamps.names)
    assert report.lines()[-2].startswith("Resumed the walk that began at ")


def test_a_walk_that_stopped_hours_ago_begins_anew(kit, lamps):
    lamps.before = lambda _: (_ for _ in ()).throw(httpx.ConnectError("refused")) if len(lamps.requests) == 3 else None
    with pytest.raises(ApiError):
        run(kit)
    kit.advance(hours=2)
    assert run(kit).resumed is None
    assert lamps.requests == [0, 3, 6, 0, 3, 6, 9]


@contextmanager
def killed_at(database: Database, statement: int):
    """End the process at this statement and at every later one. Yields how many statements there were."""
    sent = [0]

    def count(*_):
        sent[0] += 1
        if sent[0] >= statement:
            raise Killed

    event.listen(database.engine, "before_cursor_execute", count)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", count)


@ON_BOTH
def test_a_walk_killed_between_any_two_statements_ends_like_one_that_was_not(kit, lamps):
    lamps.hold(["A1", "A4", "NEW"], "Lantern")
    del lamps.names["A8"]
    kit.send("shop", "product.updated", id="A2", at=datetime(2099, 1, 1, tzinfo=UTC), data=named("of the future"))
    kit.drain()
    before = feed(kit)
    wanted = [("update", "A2"), ("update", "A1"), ("update", "A4"), ("insert", "NEW"), ("deactivate", "A8")]
    killed = 0
    for statement in range(1, 200, 3):
        with killed_at(kit.database, statement) as sent:
            try:
                run(kit)
            except Killed:
                killed += 1
            else:
                break
        if statement % 2:
            run(kit)
            assert mirrored(kit) == lamps.names
    assert sent[0] < statement, "the last one ran to its end"
    assert killed > 5
    assert mirrored(kit) == lamps.names
    assert sorted(feed(kit)[len(before) :]) == sorted(wanted)


@ON_BOTH
def test_a_second_run_of_one_source_at_the_same_time_is_refused(kit, lamps):
    refused = []

    def again(number: int) -> None:
        if number == 2:
            with pytest.raises(RunConflict) as told:
                run(kit)
            refused.append(str(told.value))

    lamps.before = again
    run(kit)
    assert len(refused) == 1
    assert refused[0].startswith("shop is being reconciled already, by run ")
    assert run(kit).listed == 10


def test_a_mark_is_unchanged_by_its_way_through_json(kit, lamps):
    marks = []
    original = seen.SeenKeys.write

    def noted(self, connection, mark):
        marks.append(mark == Mark.from_json(decode(encode(mark.to_json()))))
        original(self, connection, mark)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen.SeenKeys, "write", noted)
        run(kit)
    assert len(marks) > 2
    assert all(marks)


# ── cost ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Counted(dict):
    """Columns of a row that count how many of them are referenced."""

    alive: ClassVar[weakref.WeakSet] = weakref.WeakSet()

    __hash__ = object.__hash__

    def __init__(self, columns):
        super().__init__(columns)
        Counted.alive.add(self)


def test_the_number_of_rows_in_memory_does_not_grow_with_the_list(kit, shop):
    class Long(PagedSource):
        most = 0

        def row(self, each):
            self.most = max(self.most, len(Counted.alive))
            return Listed(Product, each[0], Counted({"name": each[1]}))

    source = Long(size=50)
    source.speak(shop)
    listened_to(kit)
    source.hold(f"A{number:04}" for number in range(1_000))
    report = run(kit)
    assert (report.listed, report.repairs) == (1_000, 1_000)
    assert source.most <= 3 * source.size


@ON_BOTH
def test_the_keys_of_a_walk_are_dropped_at_its_end(kit, lamps):
    run(kit)
    run(kit, dry_run=True)
    with kit.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(SEEN)).scalar() == 0


@ON_BOTH
def test_an_equal_mirror_of_many_pages_is_written_to_only_a_few_times(kit, shop, monkeypatch):
    source = PagedSource(size=10)
    source.speak(shop)
    listened_to(kit)
    source.hold(f"A{number:03}" for number in range(300))
    run(kit)
    writes = []
    write = Database.write
    monkeypatch.setattr(Database, "write", lambda self: writes.append(1) or write(self))
    assert run(kit).repairs == 0
    assert len(source.requests) == 60
    assert len(writes) < 15


@ON_BOTH
def test_a_dry_run_by_pages_reports_what_the_run_does(kit, lamps):
    lamps.hold(["A1", "NEW"], "Lantern")
    del lamps.names["A8"]
    kit.send("shop", "product.deleted", id="A3", at=datetime(2099, 1, 1, tzinfo=UTC))
    kit.drain()
    before = feed(kit)
    planned = run(kit, dry_run=True)
    assert feed(kit) == before
    done = run(kit)
    assert [change[:6] for change in planned.repaired] == [change[:6] for change in done.repaired]
    assert (planned.misdated, planned.listed, planned.braked) == (done.misdated, done.listed, done.braked)


@ON_BOTH
def test_rows_that_a_listing_only_names_are_looked_up_one_by_one(kit, shop):
    source = PagedSource()
    source.speak(shop)
    part = shop.listing_of.parts[0]
    shop.listing_of = None

    @shop.pages(Product, names_only=True)
    def read(api, start):
        page = part.read(api, start)
        return ListPage([Listed(Product, row.external_id, {}) for row in page.rows], page.next, page.total)

    listened_to(kit)
    source.hold(["A1", "A2", "A3", "A4"])
    source.after = lambda number: source.names.pop("A3", None) if number == 2 else None
    kit.send("shop", "product.updated", id="A3", at=EARLIER, data=named())
    kit.drain()
    report = run(kit, force=True)
    assert source.requests == [0, 3, "A1", "A2", "A3", "A4", "A3"]
    assert (report.listed, mirrored(kit)) == (3, source.names)


@ON_BOTH
def test_a_run_makes_the_transactions_of_a_walk_and_can_stop_between_two_steps(kit, lamps):
    """Each step leads from one mark to the next, and is stored together with the run's other changes."""
    lamps.hold(lamps.names, "Lantern")
    kept, transactions = [], []
    transact = transact_on(kit.database)

    def counted(work):
        transactions.append(1)
        return transact(work)

    def new_walk() -> Walk:
        asking = Asking(kit.source("shop"), kit.now)
        keep = lambda _, mark: kept.append(mark.to_json())  # noqa: E731 (as long as what it does)
        return Walk(kit.database, kit.source("shop"), asking, clock=kit.now, keep=keep, transact=counted)

    mark = new_mark("shop", now=kit.now())
    while not mark.is_done:
        # Each step by another process, from the last stored mark.
        mark, _ = new_walk().step(mark)
        mark = Mark.from_json(kept[-1]) if kept else mark
    assert mirrored(kit) == lamps.names
    assert mark.repaired == 10
    assert len(kept) == len(transactions)
