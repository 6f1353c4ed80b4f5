"""Results: writes the results of attempts into the rows of their deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Update, bindparam, select, text, update

from receiver.envelope import lead_of
from receiver.inbox import attempts
from receiver.inbox.attempts import AttemptResult
from receiver.inbox.tables import DELIVERIES, IDS, State, kept_reason


def lost(delivery_id: int, *, round_number: int, number: int, due_at: datetime, over: bool) -> AttemptResult:
    """Make the result of an attempt that its worker never ended. `over` says that no attempt is left."""
    return AttemptResult(
        delivery_id=delivery_id,
        state=State.DEAD if over else State.PENDING,
        reason="The worker stopped or hung during this attempt.",
        due_at=due_at,
        failed=True,
        round=round_number,
        number=number,
    )


def record(
    connection: Connection, worker: str, results: Sequence[AttemptResult], *, now: datetime, settle_us: int = 0
) -> None:
    """Record the results of the worker's attempts. `settle_us` are the microseconds that settling has taken so far."""
    alike: dict[Any, list[AttemptResult]] = {}
    dated: dict[int, datetime] = {}
    for result in results:
        alike.setdefault(result.of_the_delivery, []).append(result)
        if result.occurred_at is not None:
            dated[result.delivery_id] = result.occurred_at
    if dated:
        _rename_keys(connection, dated)
    for group in alike.values():
        values = _values(group[0], now)
        ids = [result.delivery_id for result in group]
        connection.execute(_settling(tuple(values)), {"ids": ids, **values})
    attempts.keep(connection, worker, results, now=now, settle_us=settle_us)


def _rename_keys(connection: Connection, dated: Mapping[int, datetime]) -> None:
    """Let the dedup keys of deliveries follow their new times of change, before these are recorded.

    So a duplicate is recognised by the present code, and the key is found again when its delivery is dropped. A key
    without a lead stays as it is. If another delivery has the new key, the old one is dropped.
    """
    moved = [
        {
            "source": row.source,
            "old": lead_of(row.occurred_at) + row.dedup_key,
            "new": new + row.dedup_key,
            "of": row.id,
        }
        for row in connection.execute(_TIMES, {"ids": sorted(dated)})
        if row.occurred_at is not None and (new := lead_of(dated[row.id])) != lead_of(row.occurred_at)
    ]
    if moved:
        connection.execute(_ADD_KEY, moved)
        connection.execute(_DROP_KEY, moved)


_TIMES = select(*DELIVERIES.c["id", "source", "dedup_key", "occurred_at"]).where(IDS).order_by(DELIVERIES.c.id)

_OLD_KEY = "FROM dedup_keys WHERE source = :source AND dedup_key = :old AND delivery_id = :of"

_ADD_KEY = text(
    "INSERT INTO dedup_keys (source, dedup_key, fingerprint, delivery_id) "
    f"SELECT source, CAST(:new AS text), fingerprint, delivery_id {_OLD_KEY} ON CONFLICT DO NOTHING"
)

_DROP_KEY = text(f"DELETE {_OLD_KEY}")


@cache
def _settling(names: tuple[str, ...]) -> Update:
    """Build the UPDATE of deliveries whose attempt has ended, with the parameters of `_values`."""
    news: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in names}
    return update(DELIVERIES).where(IDS).values(claimed_by=None, lease_until=None, suspect=False, **news)


def _values(result: AttemptResult, now: datetime) -> dict[str, Any]:
    """The columns to set, each under the name `new_…`, because SQLAlchemy reserves the plain names in an UPDATE."""
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
