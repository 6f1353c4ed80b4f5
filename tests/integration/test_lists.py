"""Lists of deliveries, rows and changes with any filter: each item once, in order, and in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Boolean, event, func
from stocked import BEGAN, EVENT_TYPES, MINUTE, SOURCES, Stock, stocked
from waiting import TIMEOUT

from examples import examples
from handlers.catalog import Product
from receiver.codec import decode
from receiver.inbox.tables import DELIVERIES, State
from receiver.mirror.versions import Outcome
from receiver.search import windows
from receiver.search.changes import follow_changes, newest_changes
from receiver.search.deliveries import count_deliveries, list_deliveries
from receiver.search.filters import ChangeFilter, DeliveryFilter, RowFilter
from receiver.search.pages import FoundPage, PageBounds
from receiver.search.rows import count_rows, list_rows
from receiver.search.windows import FIRST_WINDOW, Look, Path, SortKey, find

DELIVERIES_MADE, ROWS_MADE = 2_000, 1_500

List = Callable[[PageBounds], FoundPage]


@pytest.fixture(scope="module")
def stock(lend_database, tmp_path_factory) -> Iterator[Stock]:
    with lend_database(tmp_path_factory.mktemp("lists")) as url:
        made = stocked(url, deliveries=DELIVERIES_MADE, rows=ROWS_MADE)
        yield made
        made.close()


def everything(listed: List, **bounds: Any) -> list[Any]:
    """Return all items, page after page, however few rows each page has examined."""
    found, behind, pages = [], None, 0
    while True:
        page = listed(PageBounds(behind=behind, **bounds))
        found += [decode(bytes(item)) for item in page.items]
        behind, pages = page.next, pages + 1
        assert pages < 5_000, "the pages do not end"
        if behind is None:
            return found


some = examples(8)

# ── any filter ────────────────────────────────────────────────────────────────────────────────────────────────

maybe = lambda values: st.none() | values  # noqa: E731 (reads as the others do)

DELIVERY_FILTERS = st.builds(
    DeliveryFilter,
    source=maybe(st.sampled_from(SOURCES)),
    state=maybe(st.sampled_from(State)),
    outcome=maybe(st.sampled_from(Outcome)),
    event_type=maybe(st.sampled_from(EVENT_TYPES)),
    entity=maybe(st.sampled_from(["P1", "product:P1", "variant:P31", "P99", "product:P31"])),
    reason=maybe(st.sampled_from(["price", "%", "_", "PRICE", "'"])),
    conflict=maybe(st.booleans()),
    begin=maybe(st.just(BEGAN + 300 * MINUTE)),
    end=maybe(st.just(BEGAN + 1_500 * MINUTE)),
)


def fits(delivery: dict[str, Any], wanted: DeliveryFilter) -> bool:
    """Whether the delivery matches the filter, computed in Python."""
    names = ("source", "state", "outcome", "event_type", "conflict")
    if any(getattr(wanted, name) not in (None, delivery[name]) for name in names):
        return False
    entities = (delivery["entity_id"], f"{delivery['entity_kind']}:{delivery['entity_id']}")
    if wanted.entity is not None and wanted.entity not in entities:
        return False
    if wanted.reason is not None and wanted.reason not in (delivery["reason"] or ""):
        return False
    moment = delivery["received_at"]
    return not (wanted.begin and moment < wanted.begin) and not (wanted.end and moment >= wanted.end)


@some
@given(wanted=DELIVERY_FILTERS, limit=st.sampled_from([60, 300]), seconds=st.sampled_from([0.0, 5.0]))
def test_any_filter_of_deliveries_gives_each_match_once_newest_first(stock, wanted, limit, seconds):
    def listed(bounds: PageBounds) -> FoundPage:
        return list_deliveries(stock.database, wanted, lambda row: row["id"], bounds)

    fitting = sorted((each["id"] for each in stock.deliveries if fits(each, wanted)), reverse=True)
    assert everything(listed, limit=limit, seconds=seconds) == fitting
    counted = count_deliveries(stock.database, wanted, seconds=TIMEOUT)
    assert (counted.number, counted.more, counted.horizon) == (len(fitting), False, None)


@some
@given(
    wanted=st.builds(
        RowFilter,
        source=maybe(st.sampled_from(SOURCES)),
        active=maybe(st.booleans()),
        tie=maybe(st.booleans()),
        sku=maybe(st.sampled_from(["SKU-7", "SKU-", "sku-7"])),
    ),
    seconds=st.sampled_from([0.0, 5.0]),
)
def test_any_filter_of_rows_gives_each_match_once_in_the_order_of_keys(stock, wanted, seconds):
    def listed(bounds: PageBounds) -> FoundPage:
        return list_rows(stock.database, Product, wanted, lambda row: [row["source"], row["external_id"]], bounds)

    names = ("source", "active", "tie", "sku")
    fitting = sorted(
        [row["source"], row["external_id"]]
        for row in stock.rows
        if all(getattr(wanted, name) in (None, row[name]) for name in names)
    )
    assert everything(listed, limit=200, seconds=seconds) == fitting
    assert count_rows(stock.database, Product, wanted, seconds=TIMEOUT).number == len(fitting)


@some
@given(
    wanted=st.builds(
        ChangeFilter,
        table=maybe(st.sampled_from(["products", "variants", "moons"])),
        source=maybe(st.sampled_from(SOURCES)),
        since=maybe(st.sampled_from([BEGAN, BEGAN + 1_000 * MINUTE, BEGAN + 9_999 * MINUTE])),
    ),
    seconds=st.sampled_from([0.0, 5.0]),
)
def test_any_filter_of_changes_gives_each_match_once_in_either_direction(stock, wanted, seconds):
    fitting = [
        number
        for number, change in enumerate(stock.changes, 1)
        if wanted.table in (None, change["table"])
        and wanted.source in (None, change["source"])
        and (wanted.since is None or change["recorded_at"] >= wanted.since)
    ]

    def newest(bounds: PageBounds) -> FoundPage:
        return newest_changes(stock.database, wanted, lambda row: row["seq"], bounds)

    assert everything(newest, limit=500, seconds=seconds) == fitting[::-1]
    seen, after = [], 0
    while True:
        page = follow_changes(
            stock.database, wanted, lambda row: row["seq"], PageBounds(behind=(after,), limit=500, seconds=seconds)
        )
        seen += [decode(bytes(item)) for item in page.listing.items]
        if page.next == after:
            break
        after = page.next
    assert (seen, after) == (fitting, len(stock.changes))


def test_the_changes_of_a_delivery_can_be_listed(stock):
    delivery = stock.changes[1]["delivery_id"]
    brought = [number for number, each in enumerate(stock.changes, 1) if each["delivery_id"] == delivery]
    page = newest_changes(stock.database, ChangeFilter(delivery=delivery), lambda row: row["seq"], PageBounds())
    assert [decode(bytes(item)) for item in page.items] == brought[::-1]


# ── bounds ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_list_that_runs_out_of_time_returns_its_horizon(stock):
    nowhere = DeliveryFilter(event_type="sun.set")
    page = list_deliveries(stock.database, nowhere, lambda row: row["id"], PageBounds(seconds=0.0))
    newest_first = sorted((each["id"] for each in stock.deliveries), reverse=True)
    assert page.items == []
    assert page.horizon == ((newest_first[FIRST_WINDOW - 1],), FIRST_WINDOW)
    assert page.next == page.horizon.key


def test_the_last_page_has_no_horizon_although_it_is_empty(stock):
    with_time = PageBounds(seconds=TIMEOUT)
    page = list_deliveries(stock.database, DeliveryFilter(event_type="sun.set"), lambda row: row["id"], with_time)
    assert page == ([], None, None)


def test_a_count_stops_at_its_bound_and_says_so(stock, monkeypatch):
    monkeypatch.setattr("receiver.search.pages.MOST_COUNTED", 100)
    assert count_deliveries(stock.database, DeliveryFilter()) == (100, True, None)
    assert count_deliveries(stock.database, DeliveryFilter(state=State.PROCESSED))[:2] == (100, True)


def test_very_many_pending_deliveries_are_found_among_all(stock, monkeypatch):
    monkeypatch.setattr("receiver.search.deliveries.MOST_SORTED_PENDING", 10)
    pending = sorted((each["id"] for each in stock.deliveries if each["state"] == "pending"), reverse=True)
    wanted = DeliveryFilter(state=State.PENDING)
    assert everything(lambda bounds: list_deliveries(stock.database, wanted, lambda row: row["id"], bounds)) == pending


def test_a_statement_beyond_its_time_is_ended_and_earlier_results_are_kept(stock, monkeypatch):
    monkeypatch.setattr(windows, "FIRST_WINDOW", 20)
    monkeypatch.setattr(windows, "LARGEST_WINDOW", 2_000)
    path = Path(table=DELIVERIES, key=("id",), looks=(Look(("id",), _slow(stock)),), descending=True)
    with stock.database.read() as connection:
        # All of them would take more than ten seconds.
        found = find(connection, path, behind=None, limit=10_000, seconds=0.2)
        # The transaction continues.
        assert find(connection, Path(table=DELIVERIES, key=("id",)), behind=None, limit=1).keys
    assert found.horizon is not None
    assert found.keys[-1] == found.horizon
    assert found.looked_at < len(stock.deliveries)


def _slow(stock: Stock) -> Callable[[Any], Any]:
    """Make a condition that always holds and takes some milliseconds for each row."""
    if stock.database.is_postgresql:
        return lambda column: func.pg_sleep(column * 0 + 0.006).is_not(None)
    event.listen(stock.database.engine, "checkout", _add_busy)
    return lambda column: func.busy(column, type_=Boolean) == 1


def _add_busy(driver: Any, *_: object) -> None:
    # SQLite checks the time only between its own steps, so the condition needs many of them.
    driver.create_function("busy", 1, lambda _: time.sleep(0.006) or 1)


def test_a_page_after_any_key_begins_with_the_next_one(stock):
    newest_first = sorted((each["id"] for each in stock.deliveries), reverse=True)
    for place in (0, 500, len(newest_first) - 1):
        behind: SortKey = (newest_first[place],)
        page = list_deliveries(
            stock.database, DeliveryFilter(), lambda row: row["id"], PageBounds(behind=behind, limit=3)
        )
        assert [decode(bytes(item)) for item in page.items] == newest_first[place + 1 : place + 4]
