"""Finds statements that read a whole table or a whole index, from the query plans of the database.

Each plan is asked for in the transaction of its statement, just before the statement runs. `strict` makes PostgreSQL
read a whole table only if no index serves, so that its plan does not depend on the size of the test's tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, event

from receiver.database.database import Database

#: Partial indexes over the few rows in one state. Reading one of them from end to end is fine.
OF_FEW = {"ix_deliveries_due", "ix_deliveries_processing", "ix_deliveries_dead"}

#: Options against the plans that PostgreSQL prefers for small tables: reading all rows, merge joins and hash joins. A
#: row costs a hundred times as much as usual, because it might also read all rows along an index of other columns.
ONLY_IF_NO_INDEX_SERVES = "-c enable_seqscan=off -c enable_mergejoin=off -c enable_hashjoin=off -c cpu_tuple_cost=1"


def strict(url: str) -> str:
    """Return the URL of the same database with options that make PostgreSQL use an index if one serves."""
    return f"{url}?options={quote(ONLY_IF_NO_INDEX_SERVES)}" if url.startswith("postgresql") else url


class Plans:
    """Collects the scans of whole tables and indexes in all statements since `forget`."""

    def __init__(self, database: Database, growing: Collection[str]) -> None:
        """Watch the tables named in `growing`, which includes the aliases that statements give them."""
        self.scans: list[str] = []
        #: The names of the indexes that the statements used.
        self.indexes: set[str] = set()
        self.statements = 0
        self._growing = growing
        self._scans_of = self._scans_on_postgresql if database.is_postgresql else self._scans_on_sqlite
        event.listen(database.engine, "before_cursor_execute", self._explain)

    def forget(self) -> None:
        self.scans, self.statements, self.indexes = [], 0, set()

    def _explain(self, connection: Connection, _cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        if sql.lstrip().split(maxsplit=1)[0] in ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE"):
            self.statements += 1
            scans = self._scans_of(connection.connection.driver_connection, sql, parameters)
            self.scans.extend(f"{scan}: {sql}" for scan in scans)

    def _scans_on_sqlite(self, driver: Any, sql: str, parameters: Any) -> Iterator[str]:
        parameters = parameters[0] if isinstance(parameters, list) else parameters
        for *_, line in driver.execute(f"EXPLAIN QUERY PLAN {sql}", parameters):
            self.indexes.update(re.findall(r"INDEX (\w+)", line))
            scan = re.match(rf"SCAN ({'|'.join(self._growing)})\b(?: USING (?:COVERING )?INDEX (\w+))?", line)
            if scan is not None and scan[2] not in OF_FEW:
                yield line

    def _scans_on_postgresql(self, driver: Any, sql: str, parameters: Any) -> Iterator[str]:
        parameters = parameters[0] if isinstance(parameters, list) else parameters
        (plan,) = driver.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters).fetchone()[0]
        yield from self._scans_in(plan["Plan"])

    def _scans_in(self, node: dict[str, Any]) -> Iterator[str]:
        kind, index = node["Node Type"], node.get("Index Name")
        if index is not None:
            self.indexes.add(index)
        if "Seq Scan" in kind and node["Relation Name"] in self._growing:
            yield f"{kind} on {node['Relation Name']}"
        if index is not None and "Index Cond" not in node and index not in OF_FEW and not _is_empty(node):
            yield f"{kind} through all of {index}"
        for inner in node.get("Plans", []):
            yield from self._scans_in(inner)


def _is_empty(node: dict[str, Any]) -> bool:
    """Whether the planner expects no row in the whole index, which is one row in its figures.

    Before PostgreSQL 16 it reads such an index as a whole to find the least value, because both ways cost the same.
    """
    return node["Plan Rows"] <= 1 and "Filter" not in node
