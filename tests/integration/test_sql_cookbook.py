"""The statements of docs/sql-cookbook.md run on both databases, with the results that the page gives."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from shopping import NOON

from handlers.catalog import Product, Variant
from receiver import Dialect, Event, Mirror
from receiver.testing import Webhooks

PAGE = (Path(__file__).parents[2] / "docs" / "sql-cookbook.md").read_text("utf-8")
STATEMENTS = dict(re.findall(r"<!-- file: (\S+)\.sql -->\n```sql\n(.*?)```", PAGE, re.DOTALL))

MINUTE = timedelta(minutes=1)
PRODUCTS = {
    "A1": {"name": "Lamp", "sku": "L-1", "price": "19.90", "currency": "EUR", "data": {"color": "red"}},
    "A2": {"name": "Desk", "sku": "D-1", "price": "9.90", "currency": "EUR", "data": {"color": "blue"}},
    "A3": {"name": "Chair", "sku": "C-1", "price": "100", "currency": "USD", "data": {"odd": "a\u0000b"}},
}


@pytest.fixture
def catalog(kit: Webhooks, shop: Dialect) -> Webhooks:
    """Make three products, one of them deleted; a variant of the first; and one whose product was never announced."""

    @shop.on("product.listed")
    def list_product(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, **event.data | {"price": Decimal(event.data["price"])})

    @shop.on("variant.listed")
    def list_variant(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Variant, event.entity_id, **event.data)

    for minutes, (name, columns) in enumerate(PRODUCTS.items()):
        kit.send("shop", "product.listed", id=name, at=NOON + minutes * MINUTE, data=columns)
    kit.send("shop", "variant.listed", id="V1", at=NOON, data={"name": "Lamp, red", "sku": "L-1-R", "parent": "A1"})
    kit.send("shop", "variant.listed", id="V2", at=NOON, data={"name": "Lost", "parent": "A9"})
    kit.send("shop", "product.updated", id="A1", at=NOON + 5 * MINUTE, data={"name": "Better lamp"})
    kit.send("shop", "product.deleted", id="A2", at=NOON + 6 * MINUTE)
    kit.send("shop", "product.updated", id="A4", at=NOON, data={"title": "of another shape"})
    kit.drain()
    return kit


def ask(kit: Webhooks, name: str) -> list[tuple[Any, ...]]:
    """Run the statement with this name, and return its rows."""
    system = "postgresql" if kit.database.is_postgresql else "sqlite"
    with kit.database.read() as connection:
        rows = connection.exec_driver_sql(STATEMENTS.get(name) or STATEMENTS[f"{name}.{system}"])
        return [tuple(row) for row in rows]


def test_active_rows_leave_out_deleted_ones(catalog: Webhooks) -> None:
    assert [row[1] for row in ask(catalog, "active_products")] == ["A1", "A3"]


def test_tombstones_are_the_deleted_rows(catalog: Webhooks) -> None:
    assert [row[:2] for row in ask(catalog, "tombstones")] == [("A2", "Desk")]


def test_variants_are_joined_with_their_product(catalog: Webhooks) -> None:
    assert ask(catalog, "variants_with_products") == [("Better lamp", "Lamp, red", "L-1-R")]


def test_a_variant_whose_product_was_never_announced_is_found(catalog: Webhooks) -> None:
    assert ask(catalog, "orphans") == [("V2", "A9")]


def test_prices_sort_as_numbers(catalog: Webhooks) -> None:
    assert [row[0] for row in ask(catalog, "cheapest")] == ["A1", "A3"]


def test_prices_are_summed_in_cents(catalog: Webhooks) -> None:
    assert ask(catalog, "sum_in_cents") == [("EUR", 1990), ("USD", 10000)]


def test_a_member_of_data_can_be_read_beside_a_row_with_a_null_character(catalog: Webhooks) -> None:
    assert ask(catalog, "members") == [("A1", "red")]


def test_no_statement_for_sqlite_needs_a_later_release_than_the_receiver() -> None:
    # The operators `->` and `->>` came with 3.38.
    assert [name for name, statement in STATEMENTS.items() if "postgresql" not in name and "->" in statement] == []


def test_rows_that_changed_since_a_time_are_found(catalog: Webhooks) -> None:
    assert [row[0] for row in ask(catalog, "since")] == ["A3", "A1", "A2"]


def test_a_row_that_changed_exactly_at_that_time_is_found(catalog: Webhooks) -> None:
    catalog.send("shop", "product.listed", id="A0", at=NOON, data=PRODUCTS["A1"])
    catalog.drain()
    assert ask(catalog, "since")[0][0] == "A0"


def test_the_history_of_a_row_shows_its_newest_change_first(catalog: Webhooks) -> None:
    assert [row[1] for row in ask(catalog, "history")] == ["update", "insert"]


def test_open_deliveries_are_counted(catalog: Webhooks) -> None:
    assert [row[:3] for row in ask(catalog, "waiting")] == [("shop", "dead", 1)]


def test_reasons_of_dead_deliveries_are_counted(catalog: Webhooks) -> None:
    [(source, event_type, reason, count)] = ask(catalog, "reasons")
    assert (source, event_type, count) == ("shop", "product.updated", 1)
    assert "name: Field required" in reason


def test_every_statement_of_the_page_is_run_here() -> None:
    here = Path(__file__).read_text("utf-8")
    assert [name for name in STATEMENTS if f'"{name.partition(".")[0]}"' not in here] == []
