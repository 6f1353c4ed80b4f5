"""The repair of one row on behalf of a person: with its action, in the transaction that repairs."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.mirror.rows import MirrorRow, sql_table
from receiver.reconcile.ask import SourceAnswer, repair_row
from receiver.runs.actions import Asked, By, Effect, record


def repair(
    database: Database, source: Source, table: type[MirrorRow], external_id: str, *, by: By, reason: str
) -> SourceAnswer:
    """Ask the source for one row, let its answer in, and record who wanted that. Raises as `repair_row` does."""
    arguments = {"table": str(sql_table(table).name), "source": source.name, "external_id": external_id}
    asked = Asked(by=by, what="repair", arguments=arguments, reason=reason.strip())

    def note(connection: Connection, answer: SourceAnswer) -> None:
        changed = len(answer.repaired or ())
        record(connection, asked, Effect(0, {"rows": changed, "left": answer.left}), now=datetime.now(UTC))

    return repair_row(database, source, table, external_id, reason=reason, record=note)
