"""Results: how an attempt ended, as it is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Update, bindparam, update

from receiver.database.bulk import insert_mappings
from receiver.inbox.tables import ATTEMPTS, DELIVERIES, IDS, State, kept_reason


class AttemptResult(NamedTuple):
    """How an attempt ended, to be recorded in the transaction that holds its effect."""

    delivery_id: int
    state: State
    outcome: str | None = None
    reason: str | None = None
    #: When to try again, if the state is pending.
    due_at: datetime | None = None
    #: Whether the attempt failed, and is to be kept as such; `number` is which one it was.
    failed: bool = False
    number: int = 0
    round: int = 1
    #: What the worker read in the body, where that differs from what was known when it was accepted.
    event_type: str | None = None
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None


def lost(delivery_id: int, *, round_number: int, number: int, due_at: datetime, over: bool) -> AttemptResult:
    """The result of an attempt whose worker did not end it; with `over`, it was the last."""
    return AttemptResult(
        delivery_id=delivery_id,
        state=State.DEAD if over else State.PENDING,
        reason="The worker stopped or hung during this attempt.",
        due_at=due_at,
        failed=True,
        round=round_number,
        number=number,
    )


def record(connection: Connection, worker: str, results: Sequence[AttemptResult], *, now: datetime) -> None:
    """Record how these attempts of the worker ended."""
    alike: dict[tuple[Any, ...], list[AttemptResult]] = {}
    for result in results:
        alike.setdefault(result[1:], []).append(result)
    for group in alike.values():
        values = _values(group[0], now)
        ids = [result.delivery_id for result in group]
        connection.execute(_settling(tuple(values)), {"ids": ids, **values})
    insert_mappings(connection, ATTEMPTS, [_attempt_row(result, worker, now) for result in results if result.failed])


@cache
def _settling(names: tuple[str, ...]) -> Update:
    """The UPDATE of deliveries whose attempt has ended. The names are those of `_values`."""
    news: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in names}
    return update(DELIVERIES).where(IDS).values(claimed_by=None, lease_until=None, suspect=False, **news)


def _values(result: AttemptResult, now: datetime) -> dict[str, Any]:
    """The columns to set, each as `new_…`: SQLAlchemy keeps the plain names of an UPDATE's parameters to itself."""
    values: dict[str, Any] = {
        "new_state": result.state.value,
        "new_outcome": result.outcome,
        "new_reason": kept_reason(result.reason),
        "new_ended_at": None if result.state is State.PENDING else now,
    }
    if result.due_at is not None:
        values["new_due_at"] = result.due_at
    if result.event_type is not None:
        kind, entity_id = result.entity or (None, None)
        values |= {
            "new_event_type": result.event_type,
            "new_entity_kind": kind,
            "new_entity_id": entity_id,
            "new_occurred_at": result.occurred_at,
        }
    return values


def _attempt_row(result: AttemptResult, worker: str, now: datetime) -> dict[str, Any]:
    return {
        "delivery_id": result.delivery_id,
        "ended_at": now,
        "round": result.round,
        "number": result.number,
        "worker": worker,
        "reason": kept_reason(result.reason) or "no reason was given",
    }
