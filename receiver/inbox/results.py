"""Results: writes the results of attempts into the rows of their deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, Update, bindparam, case, select, text, update

from receiver.envelope import content_of, lead_of
from receiver.inbox import attempts
from receiver.inbox.attempts import AttemptResult
from receiver.inbox.claims import PUT_BACK
from receiver.inbox.locked import locked_reason
from receiver.inbox.tables import DEDUP_KEYS, DELIVERIES, IDS, State, dedup_keys_in, kept_reason, possible_keys


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


def postponed(lock: str, *, now: datetime, due_at: datetime) -> Update:
    """The statement that returns some of a worker's claimed deliveries, due later, because they wait for a lock.

    One that has waited for this lock before keeps its reason, which says since when. A locked one stays claimed.
    """
    waits_already = DELIVERIES.c.reason.startswith(lock, autoescape=True)
    reason = case((waits_already, DELIVERIES.c.reason), else_=kept_reason(locked_reason(lock, now)))
    return PUT_BACK.values(suspect=False, due_at=due_at, reason=reason)


def _rename_keys(connection: Connection, dated: Mapping[int, datetime]) -> None:
    """Let the dedup keys of deliveries follow their new times of change, before these are recorded.

    So the present code recognises a repetition, and the key is found again when its delivery is dropped. A sender's own
    id without a lead stays as it is. If another delivery has the new key, the old one is dropped.
    """
    found = connection.execute(_TIMES, {"ids": sorted(dated)})
    rows = {row.id: row for row in found if row.occurred_at != dated[row.id]}
    renamed, shown = [], []
    for condition in dedup_keys_in(key for row in rows.values() for key in possible_keys(row)):
        for held in connection.execute(select(DEDUP_KEYS).where(condition, DEDUP_KEYS.c.delivery_id.in_(rows))):
            row = rows[held.delivery_id]
            new = _new_key(row, held, dated[row.id])
            if new is None or new == held.dedup_key:
                continue
            renamed.append({"source": row.source, "old": held.dedup_key, "new": new, "of": row.id})
            if row.dedup_key == held.dedup_key:
                shown.append({"known": row.id, "key": new})
    if renamed:
        # In sorted order, so that two transactions with the same keys wait for each other instead of deadlocking.
        renamed.sort(key=itemgetter("source", "new"))
        connection.execute(_ADD_KEY, renamed)
        connection.execute(_DROP_KEY, renamed)
    if shown:
        connection.execute(_SHOW_KEY, sorted(shown, key=itemgetter("known")))


def _new_key(row: Row[Any], held: Row[Any], time: datetime) -> str | None:
    """The key in `dedup_keys` for a new time of change; None for a sender's own id without a lead, which has no time.

    A change that its body does not date has the time of arrival, and its key has no lead.
    """
    lead = "" if time == row.received_at else lead_of(time)
    if held.dedup_key != row.dedup_key:
        return lead + str(row.dedup_key)
    content = held.dedup_key if row.occurred_at is None else held.dedup_key.removeprefix(lead_of(row.occurred_at))
    # A derived key consists of the fingerprint and, in a bundle, the place.
    derived = content_of(held.fingerprint)
    if content == held.fingerprint.hex():
        # An earlier release did not hash a long one.
        content = derived
    if content == derived and row.occurred_at is None and row.item is not None:
        # The body could not be read before, and turned out to be a bundle.
        return f"{lead}{derived}-{row.item}"
    return lead + content if content.partition("-")[0] == derived else None


_TIMES = select(*DELIVERIES.c["id", "source", "dedup_key", "occurred_at", "received_at", "item"]).where(IDS)

_OLD_KEY = "FROM dedup_keys WHERE source = :source AND dedup_key = :old AND delivery_id = :of"

_ADD_KEY = text(
    "INSERT INTO dedup_keys (source, dedup_key, fingerprint, delivery_id) "
    f"SELECT source, CAST(:new AS text), fingerprint, delivery_id {_OLD_KEY} ON CONFLICT DO NOTHING"
)

_DROP_KEY = text(f"DELETE {_OLD_KEY}")

_SHOW_KEY = update(DELIVERIES).where(DELIVERIES.c.id == bindparam("known")).values(dedup_key=bindparam("key"))


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
