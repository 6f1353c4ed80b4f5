"""On SQLite, a row is written without its indexed texts if none of them changes: the statement would write to their
indexes, even to the same value."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

import handlers.catalog  # noqa: F401 (its tables are part of the mirror)
from handlers.catalog import Product
from receiver.mirror.rows import Key, Write, indexed_texts, sql_table
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.mirror.versions import Rank, Version, microseconds

NOON = microseconds(datetime(2026, 6, 1, 12, tzinfo=UTC))

KEY = Key(Product, "shop", "A1")


def news(second, **columns):
    version = Version(NOON + second * 1_000_000, int(Rank.UPDATE), second)
    return Write(KEY, version, {"active": True, **columns})


def save(database, *batches):
    """Save these batches by one unit of work, and return the text of the last statement."""
    with database.write() as connection:
        rows = UnitOfWork(connection)
        for batch in batches:
            rows.load([batch], lock=True)
            rows.apply([batch], delivery_id=batch.version.arrival)
            saves = rows.saves()
            for statement in saves:
                connection.exec_driver_sql(*statement)
    return saves[-1].sql


def stored(database, *names):
    products = sql_table(Product)
    with database.read() as connection:
        return tuple(connection.execute(select(*(products.c[name] for name in names))).one())


def test_the_indexed_texts_of_a_table_are_those_of_its_indexes():
    assert indexed_texts(Product) == ("sku", "parent")


def test_an_unchanged_indexed_text_is_not_set_again_on_sqlite(database, database_system):
    first = save(database, news(1, sku="L-1", name="Lamp"))
    second = save(database, news(2, sku="L-1", name="Lantern"))
    third = save(database, news(3, name="Lamp"))
    assert '"sku" = excluded' in first
    assert {'"sku" = excluded' in later for later in (second, third)} == {database_system == "postgresql"}
    assert stored(database, "sku", "name") == ("L-1", "Lamp")


@pytest.mark.parametrize("column", ["sku", "parent"])
def test_a_changed_indexed_text_is_set_with_its_index(database, column):
    save(database, news(1, **{column: "old"}, name="Lamp"))
    save(database, news(2, **{column: "new"}, name="Lantern"))
    products = sql_table(Product)
    with database.read() as connection:
        found = [
            connection.execute(select(products.c.name).where(products.c[column] == value)).scalars().all()
            for value in ("old", "new")
        ]
    assert found == [[], ["Lantern"]]


def test_a_text_that_changes_and_changes_back_in_one_unit_of_work_is_set_each_time(database):
    save(database, news(1, sku="L-1"))
    save(database, news(2, sku="L-2"), news(3, sku="L-1"))
    assert stored(database, "sku") == ("L-1",)
    save(database, news(4, sku=None), news(5, name="Lamp"))
    assert stored(database, "sku", "name") == (None, "Lamp")
