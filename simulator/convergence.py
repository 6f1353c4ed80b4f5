"""The convergence check, which compares the rows of a mirror, read over its API, with the simulator's oracle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import httpx

from receiver import codec
from simulator.oracle import COLUMNS, Key, Oracle, Row

COMPARED_TABLES = ("products", "variants", "categories", "groups", "options", "records")

#: Rows in one request: the largest page that the API gives.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """One column of one row in which the mirror is wrong. If a whole row is wrong, `column` is "row"."""

    table: str
    external_id: str
    column: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        expected, found = (str(value) if isinstance(value, Decimal) else value for value in (self.expected, self.found))
        return f"{self.table} {self.external_id}: {self.column} is {found!r}, must be {expected!r}"


@dataclass(slots=True)
class Comparison:
    """The result of the check for one source."""

    rows: int = 0
    differences: list[Difference] = field(default_factory=list)
    #: Differences that only a reconcile can repair: the row's last event was lost for good, or tied with another event.
    only_reconcile: list[Difference] = field(default_factory=list)
    #: The tables that the source's own API lists, which a reconcile can walk.
    listed: frozenset[str] = frozenset(COMPARED_TABLES)

    @property
    def equal(self) -> bool:
        """Whether the mirror has all the news of the events that arrived."""
        return not self.differences

    @property
    def rows_to_reconcile(self) -> list[str]:
        """The rows that a reconcile repairs."""
        return self._rows(True)

    @property
    def rows_beyond(self) -> list[str]:
        """The rows that only their next event can repair, because the source has no list of them."""
        return self._rows(False)

    def _rows(self, listed: bool) -> list[str]:
        chosen = [each for each in self.only_reconcile if (each.table in self.listed) == listed]
        return sorted({f"{difference.table} {difference.external_id}" for difference in chosen})


def compare(
    oracle: Oracle,
    mirror: Mapping[Key, Mapping[str, Any]],
    *,
    arrived: Collection[int] | None,
    listed: frozenset[str] = frozenset(COMPARED_TABLES),
) -> Comparison:
    """Compare the oracle with the mirror. `arrived` holds the numbers of the acked events; None if all were acked."""
    comparison = Comparison(rows=len(oracle.rows), listed=listed)
    for key, row in oracle:
        lost = row.tied or (arrived is not None and row.event not in arrived)
        found = compare_row(key, row, mirror.get(key))
        (comparison.only_reconcile if lost else comparison.differences).extend(found)
    for key, found_row in mirror.items():
        if key not in oracle.rows and found_row["active"]:
            comparison.differences.append(Difference(*key, "row", None, "an active row that the source never had"))
    return comparison


def compare_row(key: Key, row: Row, found: Mapping[str, Any] | None) -> list[Difference]:
    """Compare one row: a deactivated row must be inactive or absent, an active row must have all its columns."""
    if not row.active:
        return [Difference(*key, "active", False, True)] if found is not None and found["active"] else []
    if found is None:
        return [Difference(*key, "row", "an active row", None)]
    if not found["active"]:
        return [Difference(*key, "active", True, False)]
    expected = {**dict.fromkeys(COLUMNS), **row.columns}
    return [
        Difference(*key, column, value, found.get(column))
        for column, value in expected.items()
        if not same(column, value, found.get(column))
    ]


def same(column: str, expected: Any, found: Any) -> bool:
    """Whether a column has the expected value: a price with the same digits, trailing zeros too; `data` by value."""
    if column == "price" and expected is not None:
        return isinstance(found, str) and found == str(expected)
    if column == "data":
        return codec.is_equal(decimals(expected), decimals(found))
    return bool(expected == found)


def decimals(value: Any) -> Any:
    """Encode the value to JSON and decode it again, so that its numbers are Decimal."""
    return codec.decode(codec.encode(value))


async def read_mirror(client: httpx.AsyncClient, source: str) -> dict[Key, dict[str, Any]]:
    """Read all rows of a source from `GET /api/v1/catalog/{table}` of the receiver that the client points at."""
    return {
        (table, row["external_id"]): row for table in COMPARED_TABLES async for row in read_table(client, table, source)
    }


async def read_table(client: httpx.AsyncClient, table: str, source: str) -> AsyncIterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        query = {"source": source, "limit": str(PAGE), **({"cursor": cursor} if cursor else {})}
        answer = await client.get(f"/api/v1/catalog/{table}", params=query)
        answer.raise_for_status()
        page = codec.decode(answer.content)
        for row in page["items"]:
            yield row
        cursor = page["next"]
        if cursor is None:
            return


def readable(value: Any) -> Any:
    """Return a difference's value in a form that JSON can hold."""
    return str(value) if isinstance(value, Decimal) else value
