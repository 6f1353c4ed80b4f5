"""The forecast of a walk: the rows that it would change, kept page by page with the marks of its plan."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Text, bindparam, delete, func, select, update

from receiver.database.bulk import insert_mappings
from receiver.database.columns import Many, among
from receiver.mirror.changes import RowChange
from receiver.reconcile.mark import Mark
from receiver.reconcile.report import BRAKE
from receiver.runs.forecast import MOST_ROWS, joined
from receiver.runs.tables import RUN_ROWS, RUNS

#: The key of a row: table and external id.
Keys = dict[tuple[str, str], RowChange]


class ForeseenRows:
    """The rows that the plan of one run would change, collected since its last mark."""

    def __init__(self, run: int, document: Mapping[str, Any] | None) -> None:
        """`document` is the run's mark, which holds the counts of rows foreseen earlier."""
        self._run = run
        self._waiting: list[RowChange] = []
        self._counted: dict[str, dict[str, int]] = dict((document or {}).get("rows") or {})
        #: The name of the walk that foresaw the stored rows; None if there are none.
        self._walk: str | None = None if document is None else document["walk"]["run"]

    def add(self, changes: Sequence[RowChange]) -> None:
        self._waiting.extend(changes)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Count the foreseen rows by table and operation, including those not yet written."""
        counted = defaultdict(Counter, {table: Counter(numbers) for table, numbers in self._counted.items()})
        for change in self._waiting:
            counted[change.table][change.operation] += 1
        return {table: dict(numbers) for table, numbers in counted.items()}

    def keep(self, connection: Connection, mark: Mark, *, now: datetime) -> None:
        """Write the collected rows within the caller's transaction, and after the last page the whole forecast.

        A forecast that began anew drops the rows of the walk before.
        """
        if self._walk not in (None, mark.run):
            connection.execute(delete(RUN_ROWS).where(RUN_ROWS.c.run == self._run))
            self._counted = {}
        rows: Keys = {}
        for change in self._waiting:
            key = change.table, change.external_id
            rows[key] = joined(rows[key], change) if key in rows else change
        before = self._kept_before(connection, rows)
        room = MOST_ROWS - _count(connection, self._run)
        new = [key for key in rows if key not in before][: max(room, 0)]
        self._replace(connection, [joined(before[key], rows[key]) for key in before] + [rows[key] for key in new])
        if mark.is_done:
            self._conclude(connection, mark, now)

    def kept(self, mark: Mark) -> None:
        """Drop the collected rows from memory, after the transaction of `keep` has committed."""
        self._walk = mark.run
        self._counted = self.counts
        self._waiting.clear()

    def _kept_before(self, connection: Connection, rows: Keys) -> Keys:
        found: Keys = {}
        for table in {table for table, _ in rows}:
            ids = sorted(external_id for name, external_id in rows if name == table)
            given = {"run": self._run, "table": table, "ids": ids}
            for row in connection.execute(_KEPT, given).mappings():
                change = rows[table, row["external_id"]]
                named = {name: row[name] for name in ("operation", "before", "after")}
                found[table, row["external_id"]] = change._replace(**named)
        return found

    def _replace(self, connection: Connection, changes: Sequence[RowChange]) -> None:
        for table in {change.table for change in changes}:
            ids = sorted(change.external_id for change in changes if change.table == table)
            connection.execute(_DROP, {"run": self._run, "table": table, "ids": ids})
        names = ("table", "source", "external_id", "operation", "before", "after")
        rows = [{"run": self._run} | {name: getattr(each, name) for name in names} for each in changes]
        insert_mappings(connection, RUN_ROWS, rows)

    def _conclude(self, connection: Connection, mark: Mark, now: datetime) -> None:
        """Store the totals, without rows whose foreseen changes cancel each other."""
        same = (RUN_ROWS.c.run == self._run, RUN_ROWS.c.operation != "insert", RUN_ROWS.c.after == {})
        connection.execute(delete(RUN_ROWS).where(*same))
        shown = _count(connection, self._run)
        rows = self.counts if shown >= MOST_ROWS else _by_operation(connection, self._run)
        outcomes = {"repaired": sum(sum(numbers.values()) for numbers in rows.values())}
        others = ("newer", "tied", "unanswered", "unstorable", "misdated")
        outcomes |= {name: number for name in others if (number := getattr(mark, name))}
        summary = {
            "made_at": now.isoformat(),
            "listed": mark.listed,
            "partial": None,
            "outcomes": outcomes,
            "reasons": [{"reason": _braked(table), "rows": number} for table, number in mark.braked.items()],
            "rows": rows,
            "rows_shown": shown,
        }
        connection.execute(update(RUNS).where(RUNS.c.id == self._run).values(forecast=summary))


def _braked(table: str) -> str:
    return f"missing from the list of {table}, more than {BRAKE:.0%}: they would stay active, unless it is forced"


def _count(connection: Connection, run: int) -> int:
    found = select(func.count()).select_from(RUN_ROWS).where(RUN_ROWS.c.run == run)
    return int(connection.execute(found).scalar_one())


def _by_operation(connection: Connection, run: int) -> dict[str, dict[str, int]]:
    found = select(RUN_ROWS.c.table, RUN_ROWS.c.operation, func.count().label("rows")).where(RUN_ROWS.c.run == run)
    counted: dict[str, dict[str, int]] = {}
    for row in connection.execute(found.group_by(RUN_ROWS.c.table, RUN_ROWS.c.operation).order_by(RUN_ROWS.c.table)):
        counted.setdefault(row.table, {})[row.operation] = row.rows
    return counted


_OF_TABLE = (
    RUN_ROWS.c.run == bindparam("run"),
    RUN_ROWS.c.table == bindparam("table"),
    among(RUN_ROWS.c.external_id, bindparam("ids", type_=Many(Text))),
)

_KEPT = select(RUN_ROWS).where(*_OF_TABLE)

_DROP = delete(RUN_ROWS).where(*_OF_TABLE)
