"""Asks a source for one row on behalf of a person, or repairs the row, and records either as an action.

A question changes nothing here. It is recorded because it costs a call of the source's API. A repair is a run of one
row, recorded in the same transaction. A request that carries an idempotency key is carried out once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update
from sqlalchemy.exc import IntegrityError

from receiver import codec
from receiver.dialects.sources import Source
from receiver.mirror.rows import MirrorRow, table_name
from receiver.reconcile.ask import SourceAnswer, ask_source, repair_row
from receiver.runs.actions import Asked, By, Effect, earlier_action, record
from receiver.runs.runs import Verbs, new_run
from receiver.runs.tables import RUNS, RunState

ASK, REPAIR = "ask", "repair"

#: The most characters of a value as JSON, and the most columns, that are kept with an action.
LONGEST_ANSWERED_VALUE, MOST_ANSWERED_COLUMNS = 300, 30


def ask(
    verbs: Verbs, source: Source, table: type[MirrorRow], external_id: str, *, by: By, key: str | None = None
) -> SourceAnswer:
    """Ask the source for one row, and record the question and its answer. Raises the same errors as `ask_source`.

    Raises `AnsweredBefore` if a request with this idempotency key was answered.
    """
    asked = _asked(ASK, source, table, external_id, by=by, key=key)
    with _once(verbs, asked):
        return _ask(verbs, asked, source, table, external_id)


def _ask(verbs: Verbs, asked: Asked, source: Source, table: type[MirrorRow], external_id: str) -> SourceAnswer:
    answer = ask_source(verbs.database, source, table, external_id)

    with verbs.database.write() as connection:
        effect = Effect(1, answered(answer), thing="row")
        answer.action = record(connection, asked, effect, now=datetime.now(UTC))
    return answer


def repair(
    verbs: Verbs,
    source: Source,
    table: type[MirrorRow],
    external_id: str,
    *,
    by: By,
    reason: str,
    key: str | None = None,
) -> SourceAnswer:
    """Ask the source for one row, apply the answer, and record the repair. Raises the same errors as `repair_row`.

    Raises `AnsweredBefore` if a request with this idempotency key was answered.
    """
    asked = _asked(REPAIR, source, table, external_id, by=by, reason=reason.strip(), key=key)
    with _once(verbs, asked):
        return _repair(verbs, asked, source, table, external_id)


def _repair(verbs: Verbs, asked: Asked, source: Source, table: type[MirrorRow], external_id: str) -> SourceAnswer:
    begun: list[int] = []
    noted: list[SourceAnswer] = []

    def begin(connection: Connection) -> int:
        if begun and connection.execute(select(RUNS.c.id).where(RUNS.c.id == begun[0])).first() is not None:
            raise _AlreadyRepaired
        begun[:] = [_insert_run(connection, verbs, asked, source.name)]
        return begun[0]

    def note(connection: Connection, answer: SourceAnswer) -> None:
        noted[:] = [answer]
        changed = len(answer.repaired or ())
        tally = {answer.left or "repaired": 1} if changed or answer.left or answer.mended else {}
        connection.execute(update(RUNS).where(RUNS.c.id == begun[0]).values(tally=tally))
        _record_repair(connection, asked, answer, run=begun[0])

    try:
        reason = asked.reason or ""
        answer = repair_row(verbs.database, source, table, external_id, reason=reason, run=begin, record=note)
    except _AlreadyRepaired:
        return noted[0]
    if answer.action is None:
        # Nothing was to be written, as after a double click. The call of the source's API is recorded all the same.
        with verbs.database.write() as connection:
            _record_repair(connection, asked, answer, run=None)
    return answer


def _record_repair(connection: Connection, asked: Asked, answer: SourceAnswer, *, run: int | None) -> None:
    changed = len(answer.repaired or ())
    result = answered(answer) | {"rows": changed, "left": answer.left, "mended": answer.mended}
    effect = Effect(changed, result, run=run, thing="row", wants_reason=False)
    answer.action = record(connection, asked, effect, now=datetime.now(UTC))


class AnsweredBefore(Exception):
    """An identical request was carried out before. `action` is its action, with the recorded part of the answer."""

    def __init__(self, action: RowMapping) -> None:
        super().__init__()
        self.action = action


@contextmanager
def _once(verbs: Verbs, asked: Asked) -> Iterator[None]:
    """Raise `AnsweredBefore` for a repetition of an answered request, also of one that ends at the same time."""
    _refuse_repetition(verbs, asked)
    try:
        yield
    except IntegrityError:
        _refuse_repetition(verbs, asked)
        raise


def _refuse_repetition(verbs: Verbs, asked: Asked) -> None:
    with verbs.database.read() as connection:
        action = earlier_action(connection, asked)
    if action is not None:
        raise AnsweredBefore(action)


class _AlreadyRepaired(Exception):
    """The connection was lost after the commit of an earlier try, before its answer."""


def answered(answer: SourceAnswer) -> dict[str, Any]:
    """Shorten an answer for its action: the columns that differ, with their values as JSON text."""
    differing = [each for each in answer.columns if not each.equal]
    return {
        "milliseconds": round(answer.seconds * 1_000),
        "known_here": answer.known_here,
        "known_there": answer.known_there,
        "changed_here": _as_text(answer.changed_here),
        "changed_there": _as_text(answer.changed_there),
        "damaged": answer.damaged,
        "differ": [
            {"column": each.name, "here": shortened_answer(each.here), "there": shortened_answer(each.there)}
            for each in differing[:MOST_ANSWERED_COLUMNS]
        ],
    }


def _asked(
    what: str,
    source: Source,
    table: type[MirrorRow],
    external_id: str,
    *,
    by: By,
    reason: str | None = None,
    key: str | None,
) -> Asked:
    arguments = {"table": table_name(table), "source": source.name, "external_id": external_id}
    return Asked(by=by, what=what, arguments=arguments, reason=reason, key=key)


def shortened_answer(value: Any) -> str:
    """A value as JSON text, as far as an action keeps it."""
    return codec.encode(value).decode()[:LONGEST_ANSWERED_VALUE]


def _as_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _insert_run(connection: Connection, verbs: Verbs, asked: Asked, source: str) -> int:
    """Insert a finished run of one row."""
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
