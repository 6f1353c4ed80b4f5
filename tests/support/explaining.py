"""What the databases' own plans say of statements: which read a whole table, or a whole index of one.

Each plan is asked for in the transaction that runs the statement, before it does. PostgreSQL is to be told to read a
whole table only where no index serves, so that what it says does not depend on how small the tables of a test are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, event

from receiver.database.database import Database

#: Indexes over the few rows in one state, which may be read from end to end.
OF_FEW = {"ix_deliveries_due", "ix_deliveries_processing", "ix_deliveries_dead"}

#: For PostgreSQL, which in a small table finds it cheaper to read everything, at once or side by side with another.
ONLY_IF_NO_INDEX_SERVES = "-c enable_seqscan=off -c enable_mergejoin=off -c enable_hashjoin=off"


def strict(url: str) -> str:
    """The URL of the same database, where PostgreSQL reads a whole table only if no index serves."""
    return f"{url}?options={quote(ONLY_IF_NO_INDEX_SERVES)}" if url.startswith("postgresql") else url


class Plans:
    """What reads a whole table or a whole index of one, of all that the database was asked since `forget`."""

    def __init__(self, database: Database, growing: Collection[str]) -> None:
        """`growing` are the tables, also under the names that a statement gives them."""
        self.scans: list[str] = []
        #: The names of the indexes that were used.
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
        if index is not None and "Index Cond" not in node and index not in OF_FEW:
            yield f"{kind} through all of {index}"
        for inner in node.get("Plans", []):
            yield from self._scans_in(inner)
