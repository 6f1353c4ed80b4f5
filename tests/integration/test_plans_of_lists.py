"""No list and no search reads the whole history: each uses an index, or examines windows of a known number of rows."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from explaining import Plans, strict
from sqlalchemy import event
from stocked import BEGAN, MINUTE, Stock, stocked

from handlers.catalog import Product
from receiver.inbox.tables import State
from receiver.mirror.rows import tables_by_name
from receiver.mirror.versions import Outcome
from receiver.search.changes import follow_changes, newest_changes
from receiver.search.deliveries import count_deliveries, delivery, list_deliveries
from receiver.search.filters import ChangeFilter, DeliveryFilter, RowFilter
from receiver.search.hits import search
from receiver.search.pages import PageBounds
from receiver.search.rows import count_rows, list_rows

GROWING = ("deliveries", "bodies", "dedup_keys", "attempts", "changes", "products", "variants")

TABLES = tables_by_name()

#: A page in the middle, which a statement without an index could only reach from one of the ends.
MIDDLE = PageBounds(limit=5)

#: The index that finds the deliveries on SQLite, by filter.
DELIVERY_FILTERS = {
    "": DeliveryFilter(),
    "ix_deliveries_source": DeliveryFilter(source="kiosk"),
    "ix_deliveries_source and windows": DeliveryFilter(source="kiosk", event_type="moon.eclipsed"),
    "ix_deliveries_dead": DeliveryFilter(state=State.DEAD),
    "ix_deliveries_dead and windows": DeliveryFilter(state=State.DEAD, source="kiosk", reason="%"),
    "ix_deliveries_due": DeliveryFilter(state=State.PENDING),
    "ix_deliveries_due of a source": DeliveryFilter(state=State.PENDING, source="shop"),
    "ix_deliveries_due and windows": DeliveryFilter(state=State.PENDING, event_type="moon.eclipsed"),
    "ix_deliveries_processing": DeliveryFilter(state=State.PROCESSING, source="shop"),
    "ix_deliveries_entity": DeliveryFilter(entity="P1"),
    "ix_deliveries_entity and windows": DeliveryFilter(entity="product:P1", outcome=Outcome.STALE, source="shop"),
    " and windows": DeliveryFilter(state=State.IGNORED, conflict=True),
    " and windows for a key": DeliveryFilter(dedup_key="key-7"),
    " and times": DeliveryFilter(begin=BEGAN + 50 * MINUTE, end=BEGAN + 60 * MINUTE, event_type="moon.eclipsed"),
}


@pytest.fixture(scope="module")
def stock(lend_database, tmp_path_factory) -> Iterator[Stock]:
    with lend_database(tmp_path_factory.mktemp("plans")) as url:
        made = stocked(strict(url), deliveries=1_000, rows=500)
        yield made
        made.close()


@pytest.fixture
def plans(stock) -> Iterator[Plans]:
    made = Plans(stock.database, GROWING)
    yield made
    event.remove(stock.database.engine, "before_cursor_execute", made._explain)


def unbounded(plans: Plans) -> list[str]:
    """Return the scans without an end. A walk along an index ends with its LIMIT."""
    return [scan for scan in plans.scans if not _is_a_walk(scan)]


def _is_a_walk(scan: str) -> bool:
    plan, _, sql = scan.partition(": ")
    through_primary_key = re.fullmatch(r"SCAN (deliveries|changes)|SCAN products USING .*autoindex.*", plan)
    along_an_index = through_primary_key or re.search(r"Index (Only )?Scan through all of \w+_pkey", plan)
    return bool(along_an_index) and "LIMIT" in sql and "ORDER BY" in sql


@pytest.mark.parametrize("index", DELIVERY_FILTERS)
def test_each_list_of_deliveries_uses_its_index(stock, plans, index):
    wanted = DELIVERY_FILTERS[index]
    list_deliveries(stock.database, wanted, lambda row: row["id"], MIDDLE)
    count_deliveries(stock.database, wanted)
    assert plans.statements
    assert unbounded(plans) == []
    assert plans.indexes >= {index.partition(" ")[0]} - {""}


@pytest.mark.parametrize(
    "wanted", [RowFilter(), RowFilter(source="shop"), RowFilter(active=False), RowFilter(source="mall", tie=True)]
)
def test_each_list_of_rows_follows_the_order_of_keys(stock, plans, wanted):
    list_rows(stock.database, Product, wanted, lambda row: row["name"], MIDDLE)
    count_rows(stock.database, Product, wanted)
    assert unbounded(plans) == []


def test_rows_with_a_sku_are_found_by_its_index(stock, plans):
    list_rows(stock.database, Product, RowFilter(sku="SKU-7", active=True), lambda row: row["name"], MIDDLE)
    assert (plans.scans, "ix_products_sku" in plans.indexes) == ([], True)


@pytest.mark.parametrize(
    "wanted",
    [
        ChangeFilter(),
        ChangeFilter(table="products", source="shop"),
        ChangeFilter(since=BEGAN + 400 * MINUTE),
        ChangeFilter(since=BEGAN + 400 * MINUTE, table="variants"),
    ],
)
def test_each_list_of_changes_follows_the_order_of_the_feed(stock, plans, wanted):
    newest_changes(stock.database, wanted, lambda row: row["seq"], MIDDLE)
    follow_changes(stock.database, wanted, lambda row: row["seq"], MIDDLE)
    assert unbounded(plans) == []


def test_the_changes_of_a_delivery_are_found_by_their_index(stock, plans):
    brought = ChangeFilter(delivery=stock.changes[1]["delivery_id"])
    newest_changes(stock.database, brought, lambda row: row["seq"], MIDDLE)
    assert (plans.scans, "ix_changes_delivery" in plans.indexes) == ([], True)


@pytest.mark.parametrize(
    "sought", ["SKU-7", "P0007", "product:P7", "key-7", "nothing", "1820000000000000000", " P0007 ", "nothing\n"]
)
def test_a_search_uses_indexes_only(stock, plans, sought):
    search(stock.database, TABLES, sought)
    assert plans.statements
    assert unbounded(plans) == []


def test_one_delivery_is_read_by_its_key(stock, plans):
    assert delivery(stock.database, stock.deliveries[7]["id"]) is not None
    assert plans.scans == []
