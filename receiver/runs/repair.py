"""The repair of one row on behalf of a person: a run of one, with its action, in the transaction that repairs."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, insert, update

from receiver.dialects.sources import Source
from receiver.mirror.rows import MirrorRow, sql_table
from receiver.reconcile.ask import SourceAnswer, repair_row
from receiver.runs.actions import Asked, By, Effect, record
from receiver.runs.runs import Verbs, new_run
from receiver.runs.tables import RUNS, RunState

REPAIR = "repair"


def repair(
    verbs: Verbs, source: Source, table: type[MirrorRow], external_id: str, *, by: By, reason: str
) -> SourceAnswer:
    """Ask the source for one row, let its answer in, and record who wanted that. Raises as `repair_row` does."""
    arguments = {"table": str(sql_table(table).name), "source": source.name, "external_id": external_id}
    asked = Asked(by=by, what=REPAIR, arguments=arguments, reason=reason.strip())
    begun: list[int] = []

    def begin(connection: Connection) -> int:
        begun[:] = [_insert_run(connection, verbs, asked, source.name)]
        return begun[0]

    def note(connection: Connection, answer: SourceAnswer) -> None:
        changed = len(answer.repaired or ())
        tally = {answer.left or "repaired": 1} if changed or answer.left else {}
        connection.execute(update(RUNS).where(RUNS.c.id == begun[0]).values(tally=tally))
        result = {"rows": changed, "left": answer.left}
        effect = Effect(changed, result, run=begun[0], thing="row", wants_reason=False)
        record(connection, asked, effect, now=datetime.now(UTC))

    return repair_row(verbs.database, source, table, external_id, reason=reason, run=begin, record=note)


def _insert_run(connection: Connection, verbs: Verbs, asked: Asked, source: str) -> int:
    """A run of one row, over as soon as it is there."""
    now = datetime.now(UTC)
    values = new_run(REPAIR, asked, [source], verbs.wiring, now) | {
        "state": RunState.DONE.value,
        "total": 1,
        "done": 1,
        "started_by": asked.by.who,
        "started_at": now,
        "ended_at": now,
        "reason": asked.reason,
    }
    return int(connection.execute(insert(RUNS).values(**values).returning(RUNS.c.id)).scalar_one())
