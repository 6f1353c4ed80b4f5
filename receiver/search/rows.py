"""Lists of the rows of a mirror table, in the order of source and external id, and single rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, RowMapping, Table, Text, func, literal, or_, select

from receiver.database.columns import Many, among, raw_columns
from receiver.database.database import Database
from receiver.mirror.rows import MirrorRow, sql_table
from receiver.search.filters import RowFilter
from receiver.search.pages import Count, FoundPage, Items, PageBounds, count, read_found_page
from receiver.search.windows import SECONDS, Few, Look, Path, SortKey, equals

#: Columns of a mirror row that only the version guard needs.
HIDDEN = frozenset({"versions"})

#: The most rows with one SKU that are sorted; if there are more, the list examines all rows instead.
MOST_SORTED_BY_SKU = 10_000

ROW_SORT_KEY = ("source", "external_id")


def shown_columns(table: type[MirrorRow]) -> list[Column[Any]]:
    """The columns of a mirror table that are shown, in the order in which its rows are selected."""
    return [column for column in sql_table(table).columns if column.name not in HIDDEN]


def list_rows(
    database: Database,
    table: type[MirrorRow],
    wanted: RowFilter,
    show: Callable[[RowMapping], Any],
    bounds: PageBounds,
) -> FoundPage:
    """List rows of the table, each formatted by `show`."""
    sql = sql_table(table)
    items = Items(columns=raw_columns(sql, but=HIDDEN), with_keys=lambda keys: with_keys(sql, keys), show=show)
    with database.read() as connection:
        return read_found_page(connection, [_way_to(connection, sql, wanted)], items, bounds)


def count_rows(database: Database, table: type[MirrorRow], wanted: RowFilter, *, seconds: float = SECONDS) -> Count:
    """Count the rows, within `seconds` and up to `MOST_COUNTED`."""
    with database.read() as connection:
        return count(connection, [_way_to(connection, sql_table(table), wanted)], seconds=seconds)


def row(database: Database, table: type[MirrorRow], source: str, external_id: str) -> RowMapping | None:
    """One row of a mirror table; None if no news of it has arrived."""
    sql = sql_table(table)
    statement = select(*raw_columns(sql, but=HIDDEN)).where(sql.c.source == source, sql.c.external_id == external_id)
    with database.read() as connection:
        return connection.execute(statement).mappings().first()


def with_keys(table: Table, keys: list[SortKey]) -> ColumnElement[bool]:
    """The condition that finds the rows with these keys, each a source and an external id."""
    ids_by_source = defaultdict(list)
    for source, external_id in keys:
        ids_by_source[source].append(external_id)
    # Grouped by source, because SQLite reads the whole table for a list of pairs.
    return or_(
        *((table.c.source == source) & among_texts(table.c.external_id, ids) for source, ids in ids_by_source.items())
    )


def among_texts(column: ColumnElement[Any], texts: list[str]) -> Any:
    """The condition that the column has one of these texts."""
    return among(column, literal(texts, Many(Text)))


def has_indexed_sku(table: Table) -> bool:
    """Whether the table has an index on a SKU."""
    return "sku" in table.c and any(next(iter(index.columns)).name == "sku" for index in table.indexes)


def _way_to(connection: Connection, table: Table, wanted: RowFilter) -> Path | Few:
    named = {name: value for name, value in asdict(wanted).items() if value is not None}
    if wanted.sku is not None and has_indexed_sku(table):
        with_sku = table.c.sku == named.pop("sku")
        some = select(literal(1)).select_from(table).where(with_sku).limit(MOST_SORTED_BY_SKU + 1).subquery()
        if connection.execute(select(func.count()).select_from(some)).scalar_one() <= MOST_SORTED_BY_SKU:
            return Few(table=table, key=ROW_SORT_KEY, conditions=(with_sku,), looks=_looks(named))
        named["sku"] = wanted.sku
    source = (table.c.source == named.pop("source"),) if "source" in named else ()
    return Path(table=table, key=ROW_SORT_KEY, conditions=source, looks=_looks(named))


def _looks(named: Mapping[str, Any]) -> tuple[Look, ...]:
    return tuple(Look((name,), equals(value)) for name, value in named.items())
