"""Duplicates: arrivals whose dedup key is in the inbox already, with the same body or with another one.

The primary key decides which arrival is first: the dedup key is inserted without a check before, and may fail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, case, delete, or_, select, update

from receiver.database.bulk import insert_rows
from receiver.database.columns import UtcDateTime
from receiver.database.lock_timeouts import limit_lock_waits
from receiver.envelope import content_of
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.insert import insert_new
from receiver.inbox.rounds import Beginning, Cause, supersede
from receiver.inbox.tables import BODIES, DEDUP_KEYS, DELIVERIES, HAS_BODY, IDS, State, dedup_keys_in, in_state

BODY_COLUMNS = ("delivery_id", "body", "plain", "headers")

#: The separator between a dedup key and the fingerprint that distinguishes two bodies with one key.
CONFLICT_MARK = "#"

#: Bytes of a key and the digits behind it. An index of PostgreSQL takes 2,704 with the source's name and the lead.
LONGEST_MARKED_KEY = 2_200

#: The most seconds that a duplicate waits for a transaction that holds its dead delivery, such as another duplicate's.
LONGEST_HELD = 0.5

#: The rounds of a delivery up to which any duplicate makes it pending again when it is dead, and the time for which it
#: stays dead afterwards: a stranger who has seen one webhook can repeat it without end, and each round leaves rows. The
#: time is shorter than a person needs to mend a handler and let the sender repeat the webhook.
FREE_ROUNDS, STAYS_DEAD = 10, timedelta(seconds=10)

#: A function that inserts the new arrivals among several, and returns answers in the same order.
ResolveArrivals = Callable[[Connection, Sequence[Arrival]], list[Accepted]]


def resolve_duplicates(connection: Connection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Insert the new arrivals, and count the others as duplicates. Returns answers in the same order.

    An arrival that is stored under its own id already, as after a commit with an unknown result, is not a duplicate.
    A duplicate waits for no transaction that holds its delivery: it is answered without being counted. For a dead
    delivery it waits a moment, and then raises an error that `is_overdue` recognises.
    """
    matches = [_Match(arrival) for arrival in arrivals]
    _find_holders(connection, matches)
    _insert(connection, matches)
    duplicates = [match for match in matches if not match.is_new]
    states = _states_of(connection, duplicates)
    while orphans := [match for match in duplicates if match.delivery_id not in states]:
        _replace_holders(connection, orphans)
        duplicates = [match for match in matches if not match.is_new]
        states = _states_of(connection, duplicates)
    _keep_shared_bodies(connection, matches)
    locked = [match for match in duplicates if states.get(match.delivery_id) is not None]
    if locked:
        _note_duplicates(connection, locked, states)
    return [match.answer() for match in matches]


@dataclass(slots=True)
class _Match:
    """An arrival with the row that holds its dedup key, which may belong to an earlier delivery."""

    arrival: Arrival
    holder: RowMapping | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.arrival.unique_key

    @property
    def delivery_id(self) -> int:
        assert self.holder is not None, "its key was looked up"
        return int(self.holder["delivery_id"])

    @property
    def is_new(self) -> bool:
        return self.delivery_id == self.arrival.id

    @property
    def conflicts(self) -> bool:
        return self.holder is not None and self.holder["fingerprint"] != self.arrival.fingerprint

    def mark_conflict(self) -> None:
        key, content = self.arrival.dedup_key, content_of(self.arrival.fingerprint)
        if len(key.encode()) + len(content) > LONGEST_MARKED_KEY:
            content = hashlib.sha256(content.encode()).hexdigest()
        self.arrival.dedup_key = key + CONFLICT_MARK + content
        self.arrival.conflict, self.arrival.row = True, None

    def answer(self) -> Accepted:
        return Accepted("accepted" if self.is_new else "duplicate", self.delivery_id)


def _insert(connection: Connection, matches: Sequence[_Match]) -> None:
    """Insert the arrivals whose keys are free, and, marked as conflicts, those whose keys another body holds."""
    _insert_under_key(connection, [match for match in matches if match.holder is None])
    conflicting = [match for match in matches if match.conflicts]
    for match in conflicting:
        match.mark_conflict()
    _insert_under_key(connection, conflicting)


def _insert_under_key(connection: Connection, matches: Sequence[_Match]) -> None:
    if matches:
        insert_new(connection, [match.arrival for match in matches])
        _find_holders(connection, matches)


def _find_holders(connection: Connection, matches: Sequence[_Match]) -> None:
    holders: dict[tuple[str, str], RowMapping] = {}
    for condition in dedup_keys_in(match.key for match in matches):
        found = connection.execute(select(DEDUP_KEYS).where(condition)).mappings()
        holders |= {(row["source"], row["dedup_key"]): row for row in found}
    for match in matches:
        match.holder = holders.get(match.key)


def _states_of(connection: Connection, duplicates: Sequence[_Match]) -> dict[int, str | None]:
    """Lock the deliveries that hold these keys, and return the state of each by its id. Deleted deliveries are missing.

    The state is None if another transaction holds the delivery, such as a settlement, which may last. A dead one must
    be locked, because only then is it certain that it gets another round.
    """
    ids = sorted({match.delivery_id for match in duplicates})
    states: dict[int, str | None] = _select_states(connection, _FREE, ids)
    held = _select_states(connection, _STATES, [each for each in ids if each not in states])
    states |= dict.fromkeys(held)
    dead = [each for each in held if held[each] == State.DEAD]
    if dead:
        limit_lock_waits(connection, LONGEST_HELD)
    return states | _select_states(connection, _ALL, dead)


def _select_states(connection: Connection, statement: Select[Any], ids: Sequence[int]) -> dict[int, Any]:
    return {row.id: row.state for row in connection.execute(statement, {"ids": ids})} if ids else {}


def _replace_holders(connection: Connection, orphans: Sequence[_Match]) -> None:
    """Insert arrivals whose keys belong to deleted deliveries, since an answer must not name such a delivery.

    Another endpoint may have replaced the holder meanwhile, with the same body or with another one.
    """
    # In sorted order, so that two endpoints with the same keys wait for each other instead of deadlocking.
    held = sorted((*match.key, match.delivery_id) for match in orphans)
    gone = [{"of": source, "key": dedup_key, "gone": delivery_id} for source, dedup_key, delivery_id in held]
    connection.execute(_DROP_KEY, gone)
    for match in orphans:
        match.holder = None
    _insert(connection, orphans)


_DROP_KEY = delete(DEDUP_KEYS).where(
    DEDUP_KEYS.c.source == bindparam("of"),
    DEDUP_KEYS.c.dedup_key == bindparam("key"),
    DEDUP_KEYS.c.delivery_id == bindparam("gone"),
)


def _note_duplicates(connection: Connection, duplicates: Sequence[_Match], states: Mapping[int, str | None]) -> None:
    """Count the duplicates. One of a dead delivery that may be revived begins a round with one more attempt."""
    dead = [each for each, state in states.items() if state == State.DEAD]
    if dead:
        _revive(connection, duplicates, dead)
    connection.execute(_COUNT, [{"known": each} for each in sorted(match.delivery_id for match in duplicates)])


def _revive(connection: Connection, duplicates: Sequence[_Match], dead: Sequence[int]) -> None:
    came = max(match.arrival.received_at for match in duplicates)
    bounds = {"ended_before": came - STAYS_DEAD, "ended_after": came + STAYS_DEAD}
    again = list(connection.execute(_REVIVABLE, {"ids": dead, **bounds}).scalars())
    if again:
        _restore_bodies(connection, [match for match in duplicates if match.delivery_id in again])
        supersede(connection, again, Beginning(Cause.DUPLICATE), now=came)
        connection.execute(_REVIVE, {"ids": again, "now": came})


_STATES = select(DELIVERIES.c.id, DELIVERIES.c.state).where(IDS).order_by(DELIVERIES.c.id)

#: The queries that lock deliveries until the transaction ends: those that no other transaction holds, or all of them.
_FREE, _ALL = _STATES.with_for_update(skip_locked=True), _STATES.with_for_update()

#: An end far ahead dates from before the clock was set back.
_IS_RESTED = or_(
    DELIVERIES.c.ended_at.is_(None),
    DELIVERIES.c.ended_at <= bindparam("ended_before", type_=UtcDateTime()),
    DELIVERIES.c.ended_at > bindparam("ended_after", type_=UtcDateTime()),
)

_REVIVABLE = select(DELIVERIES.c.id).where(
    IDS, in_state(State.DEAD), or_(DELIVERIES.c.round <= FREE_ROUNDS, _IS_RESTED)
)

_REVIVE = (
    update(DELIVERIES)
    .where(IDS)
    .values(
        due_at=bindparam("now", type_=UtcDateTime()),
        attempts=case((DELIVERIES.c.attempts > 0, DELIVERIES.c.attempts - 1), else_=DELIVERIES.c.attempts),
        round=DELIVERIES.c.round + 1,
        ended_at=None,
        state=State.PENDING.value,
    )
)

_COUNT = update(DELIVERIES).where(DELIVERIES.c.id == bindparam("known")).values(duplicates=DELIVERIES.c.duplicates + 1)


def _keep_shared_bodies(connection: Connection, matches: Sequence[_Match]) -> None:
    """Keep the body of each bundle that has a new item but a known first item."""
    shared = {match.arrival.body_id: match.arrival for match in matches if match.arrival.body_id and match.is_new}
    _keep_bodies(connection, shared)


def _restore_bodies(connection: Connection, revived: Sequence[_Match]) -> None:
    """Store expired bodies of dead deliveries again.

    An item may arrive again in another bundle, or alone: its delivery then refers to the new body.
    """
    again = {match.delivery_id: match.arrival for match in revived}
    expired = set(connection.execute(_WITHOUT_BODY, {"ids": sorted(again)}).scalars()) if again else set()
    bodies: dict[int, Arrival] = {}
    for each in sorted(expired):
        found = again[each]
        # A body with one event is kept under the delivery's own id.
        other = None if found.item is None else found.body_id or found.id
        connection.execute(_MOVE, {"moved": each, "to": other, "place": found.item})
        bodies[other or each] = found
    _keep_bodies(connection, bodies)


def _keep_bodies(connection: Connection, bodies: Mapping[int, Arrival]) -> None:
    rows = [(body_id, found.body, found.plain, found.headers) for body_id, found in bodies.items()]
    insert_rows(connection, BODIES, BODY_COLUMNS, rows, conflict="ON CONFLICT DO NOTHING")


_WITHOUT_BODY = select(DELIVERIES.c.id).where(IDS, ~HAS_BODY)

_MOVE = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id == bindparam("moved"))
    .values(body_id=bindparam("to"), item=bindparam("place"))
)
