"""Lists without an end: their walk is broken off with a sentence that says what to correct, and deactivates nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from in_turn import databases_in_turn
from paging import PagedSource, listened_to, mirrored
from running import Runs, asked, new_reconciler, reconciled
from shopping import NOON, tell_all

from handlers.catalog import Product
from receiver import Listed, ListPage
from receiver.codec import encode
from receiver.dialects.listing import ListPart
from receiver.errors import EndlessListError
from receiver.reconcile import endless
from receiver.reconcile.mark import Mark, new_mark
from receiver.reconcile.question import Asking
from receiver.reconcile.walk import Walk
from receiver.runs.leased_walk import read_so_far
from receiver.runs.tables import RunState

#: Steps after which a test gives up.
MOST_STEPS = 5_000


def row(number: int) -> Listed:
    return Listed(Product, f"A{number}", {"name": "Lamp"})


@pytest.fixture
def shop_of(kit, shop) -> Callable[[Callable[[Any], ListPage]], Runs]:
    """Give the shop a list whose pages a function makes of `start`; the mirror knows a row that the list lacks."""

    def make(page: Callable[[Any], ListPage]) -> Runs:
        source = PagedSource()
        source.speak(shop, lookup=False)
        shop.listing_of = None
        shop.pages(Product)(lambda api, start: (api.get("/"), page(start))[1])
        listened_to(kit)
        tell_all(kit, {"UNLISTED": "Lamp"}, at=NOON)
        runs = Runs(kit)
        runs.feeder = new_reconciler(kit)
        return runs

    return make


def planned(runs: Runs) -> int:
    """Plan a reconcile, and step it until it is broken off or planned."""
    request = asked("plan reconcile", source="shop", force=False)
    run = int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=runs.kit.now()).result["run"])
    stepped(runs, run, RunState.PLANNING)
    return run


def stepped(runs: Runs, run: int, state: RunState) -> None:
    for _ in range(MOST_STEPS):
        if runs.run(run)["state"] != state:
            return
        runs.feeder.step_all()
        runs.feeder._due.clear()
    raise AssertionError(runs.run(run))


def test_a_next_that_came_before_ends_the_plan_with_what_to_correct(shop_of):
    runs = shop_of(lambda start: ListPage([row((start or 0) % 5)], next=(start or 0) % 5 + 1))
    found = runs.run(planned(runs))
    assert found["state"] == RunState.CANCELLED
    assert "to a page that was read before, so it has no end, and nothing was deactivated" in found["trouble"]
    assert "correct its list function, which must give `next=None` with the last page" in found["trouble"]


@databases_in_turn("pages", [(0, 1), (0, 7), (13, 1), (20, 30), (3, 100)])
def test_a_circle_of_any_length_is_found_within_three_times_the_pages_up_to_its_end(shop_of, pages):
    before, circle = pages
    asked_for: list[Any] = []

    def page(start: Any) -> ListPage:
        asked_for.append(start)
        at = 0 if start is None else start["at"]
        return ListPage([], next={"at": at + 1 if at + 1 < before + circle else before})

    runs = shop_of(page)
    assert "read before" in runs.run(planned(runs))["trouble"]
    assert len(asked_for) <= 3 * (before + circle) + 2


def test_new_cursors_with_rows_that_came_before_end_the_run_and_deactivate_nothing(kit, shop_of, monkeypatch):
    monkeypatch.setattr(endless, "MOST_REPEATED_PAGES", 20)
    runs = shop_of(lambda start: ListPage([row(number) for number in range(10)], next=(start or 0) + 1))
    with pytest.raises(EndlessListError, match="repeated only rows of earlier pages in its last 20 pages"):
        reconciled(kit, kit.source("shop"), force=True)
    assert "UNLISTED" in mirrored(kit)
    (found,) = [runs.run(1)]
    assert found["state"] == RunState.PAUSED
    assert "must ask for the page that `start` names" in found["trouble"]


def test_empty_pages_without_an_end_end_the_run(kit, shop_of, monkeypatch):
    monkeypatch.setattr(endless, "MOST_EMPTY_PAGES", 50)
    shop_of(lambda start: ListPage([], next=(start or 0) + 1))
    with pytest.raises(EndlessListError, match="had no row in 50 pages, and no end, so nothing was deactivated"):
        reconciled(kit, kit.source("shop"), force=True)
    assert "UNLISTED" in mirrored(kit)


def test_a_list_with_more_empty_pages_than_the_bound_but_never_in_a_row_is_read_to_its_end(kit, shop_of, monkeypatch):
    monkeypatch.setattr(endless, "MOST_EMPTY_PAGES", 20)

    def page(start: Any) -> ListPage:
        number = start or 0
        rows = [row(number // 15)] if number % 15 == 0 else []
        return ListPage(rows, next=number + 1 if number < 100 else None)

    shop_of(page)
    assert reconciled(kit, kit.source("shop"), force=True).listed == 7
    assert "UNLISTED" not in mirrored(kit)


def test_a_run_that_goes_on_after_the_function_was_mended_reads_the_list_from_its_beginning(kit, shop_of):
    starts: list[Any] = []
    mended: list[bool] = []

    def page(start: Any) -> ListPage:
        starts.append(start)
        number = start or 0
        if mended:
            return ListPage([row(number)], next=number + 1 if number < 3 else None)
        return ListPage([row(number)], next=2 if number == 2 else number + 1)

    runs = shop_of(page)
    with pytest.raises(EndlessListError):
        reconciled(kit, kit.source("shop"), force=True)
    starts.clear()
    mended.append(True)
    runs.verbs.resume(asked("resume run"), 1, now=kit.now())
    stepped(runs, 1, RunState.RUNNING)
    assert starts == [None, 1, 2, 3]
    assert runs.run(1)["state"] == RunState.DONE
    assert sorted(mirrored(kit)) == ["A0", "A1", "A2", "A3"]


def test_a_stream_that_repeats_its_rows_for_ever_is_broken_off(kit, shop, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.listing.LISTED_AT_ONCE", 5)
    monkeypatch.setattr(endless, "MOST_ROUNDS_OF_STREAM", 10)
    monkeypatch.setattr(endless, "MOST_REPEATED_PAGES", 20)

    def walk(api: httpx.Client) -> Iterator[Listed]:
        api.get("/")
        return (row(number % 8) for number in count())

    PagedSource().speak(shop, lookup=False)
    shop.listing_of = None
    shop.listing(Product)(walk)
    listened_to(kit)
    with pytest.raises(EndlessListError, match=r"its last 100 rows, so .* must end after the last row"):
        reconciled(kit, kit.source("shop"))


def test_a_stream_that_names_its_rows_once_for_each_category_is_read_to_its_end(kit, shop, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.listing.LISTED_AT_ONCE", 5)
    monkeypatch.setattr(endless, "MOST_ROUNDS_OF_STREAM", 10)
    monkeypatch.setattr(endless, "MOST_REPEATED_PAGES", 20)
    PagedSource().speak(shop, lookup=False)
    shop.listing_of = None
    # More pages than the bound repeat only rows, and in fewer rounds than the other bound.
    shop.listing(Product)(lambda api: (api.get("/"), (row(number % 25) for number in range(25 * 8)))[1])
    listened_to(kit)
    assert reconciled(kit, kit.source("shop")).listed == 25


def test_a_list_by_days_from_1970_may_be_empty_until_today():
    mark, part = new_mark("shop", now=NOON), ListPart((Product,), read=lambda _, start: ListPage([], next=start))
    day = date(1970, 1, 1)
    while day < date(2060, 1, 1):
        day += timedelta(days=1)
        endless.note_page(mark, part, ListPage([], next=day.isoformat()), new=())
        mark.start = day.isoformat()
    assert mark.pages_of_walk == mark.empty_pages > 30_000


def test_a_stream_may_name_all_its_rows_once_for_each_of_forty_categories():
    mark, part = new_mark("shop", now=NOON), ListPart((Product,), walk=lambda client: iter(()))
    rows = [row(number) for number in range(5)]
    for page in range(40 * 10):
        endless.note_page(mark, part, ListPage(rows, next=page + 1), new=rows if page < 10 else ())
    assert (mark.repeated_pages, mark.rows_of_walk) == (390, 50)


def test_a_list_may_repeat_rows_of_earlier_pages_on_ninety_pages():
    mark, part = new_mark("shop", now=NOON), ListPart((Product,), read=lambda _, start: ListPage([], next=start))
    for page in range(91):
        endless.note_page(mark, part, ListPage([row(1)], next=page + 1), new=() if page else [row(1)])
        mark.start = page + 1
    assert mark.repeated_pages == 90


def test_a_mark_of_a_release_that_counted_no_pages_says_nothing_about_them_and_its_walk_goes_on(kit, shop_of):
    shop_of(lambda start: ListPage([row(start or 0)], next=(start or 0) + 1 if (start or 0) < 5 else None))
    with closing(Asking(kit.source("shop"), kit.now)) as asking:
        walk = Walk(kit.database, kit.source("shop"), asking, clock=kit.now)
        mark = new_mark("shop", now=kit.now())
        while mark.read < 3:
            mark = walk.step(mark).mark
        document = mark.to_json()
        for added in ("pages", "pages_of_walk", "rows_of_walk", "repeated_pages", "repeated_rows", "empty_pages"):
            del document[added]
        del document["earlier_next"]
        assert read_so_far({"walk": document}) is None
        mark = Mark.from_json(document)
        while not mark.is_done:
            mark = walk.step(mark).mark
    assert mark.listed == 6


@pytest.mark.parametrize("database_system", ["sqlite"], indirect=True, scope="module")
def test_a_list_of_ever_new_rows_says_how_much_was_read_and_its_mark_stays_small(kit, shop_of, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", 0.0)
    runs = shop_of(lambda start: ListPage([row((start or 0) * 2), row((start or 0) * 2 + 1)], next=(start or 0) + 1))
    request = asked("plan reconcile", source="shop", force=False)
    run = int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=kit.now()).result["run"])
    for _ in range(200):
        runs.feeder.step_all()
        runs.feeder._due.clear()
    with kit.database.read() as connection:
        shown = runs.whole(connection, run)
    assert shown["state"] == RunState.PLANNING
    assert shown["read"]["pages"] > 100
    assert shown["read"]["rows"] == 2 * shown["read"]["pages"]
    assert len(encode(runs.run(run)["mark"])) < 2_000
