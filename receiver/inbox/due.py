"""Due deliveries: whether there are any, whether others arrive, and those that a clock dated or leased ahead."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Row,
    Select,
    Text,
    bindparam,
    exists,
    false,
    literal,
    select,
    text,
    true,
    update,
)

from receiver.database.columns import UtcDateTime
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.inbox.ids import first_id_at
from receiver.inbox.locked import LONGEST_LOCKED_PAUSE
from receiver.inbox.tables import ATTEMPTS, DELIVERIES, IDS, OF_SOURCES, State, in_state

#: The time without arrivals after which larger batches delay no ack.
CALM = timedelta(seconds=0.5)

#: The most deliveries, of each kind, that one transaction changes after the clock was set back.
CHANGED_AT_ONCE = 1_000

#: The number of deliveries whose sources are examined: those that have been due for longest.
LONGEST_DUE = 1_000


class Due(NamedTuple):
    """Whether ordinary deliveries and suspects are due."""

    ordinary: bool
    suspect: bool
    #: Whether no delivery has arrived for `CALM`.
    is_calm: bool


class FirstDue(NamedTuple):
    """The times at which the first ordinary pending delivery and the first suspect are due; None without one."""

    ordinary: datetime | None
    suspect: datetime | None
    #: Whether a delivery, pending or not, arrived in the last moment.
    arrives: bool


def first_due(connection: Connection, sources: Collection[str], *, now: datetime) -> FirstDue:
    """Read what is due first of these sources, and whether any delivery has arrived in the last `CALM`."""
    if connection.dialect.name == "postgresql":
        connection.execute(_BY_INDEX)
    parameters = {"sources": sorted(sources), "since": first_id_at(now - CALM)}
    return FirstDue(*connection.execute(_FIRST_DUE, parameters).one())


def make_due(connection: Connection, *, now: datetime, lease: timedelta) -> int:
    """Make some deliveries due that are not due yet only because the clock was set back; return their number.

    A delivery that was never attempted is due when it arrives, or after a short pause if it needed another session's
    lock. A suspect is due after a part of the lease.
    """
    ids = list(connection.execute(_DATED_AHEAD, {"then": now + LONGEST_LOCKED_PAUSE}).scalars())
    ids += connection.execute(_SUSPECTS_DATED_AHEAD, {"then": now + lease}).scalars()
    if ids:
        connection.execute(_MAKE_DUE, {"ids": ids, "now": now})
    return len(ids)


def bring_retries_forward(database: Database, *, now: datetime, lease: timedelta) -> int:
    """Let retries whose attempt failed before the clock was set back wait from now on; return their number.

    Only attempts later than a lease from now count, because the clocks of two machines differ a little. A retry whose
    wait is longer than the clock was ahead keeps its time, so it waits for at most twice as long as it should. Each
    worker that sees the clock set back would shorten that wait again, while the attempt's end is still to come.
    """
    total = after = 0
    while True:
        with database.read() as connection:
            retries = connection.execute(_RETRIES_AHEAD, {"after": after, "then": now + lease}).all()
        if not retries:
            return total
        total += retry_transaction(partial(_bring_forward, database, retries, now))
        after = retries[-1].id


def _bring_forward(database: Database, retries: Sequence[Row[int, datetime, datetime]], now: datetime) -> int:
    """Give each of these retries the wait that it had after its attempt, unless it has changed meanwhile."""
    waits = [(each, each.due_at - each.ended_at) for each in retries]
    moved = [
        {"of": each.id, "was": each.due_at, "due": now + wait} for each, wait in waits if now + wait < each.ended_at
    ]
    with database.write() as connection:
        return sum(connection.execute(_BRING_FORWARD, one).rowcount for one in moved)


def leased_ahead(connection: Connection, *, now: datetime, lease: timedelta) -> set[str]:
    """The workers with leases that `shorten_leases` would find, read without a lock."""
    return set(connection.execute(_HOLDERS_AHEAD, {"then": now + 2 * lease}).scalars()) - {None}


def shorten_leases(connection: Connection, workers: Collection[str], *, now: datetime, lease: timedelta) -> int:
    """Let leases of these workers that end later than any granted now end after `lease`; return the number.

    They were granted before the clock was set back. Their worker may still live, so it gets another whole lease. Only
    those later than two leases count, because the clocks of two machines differ a little.
    """
    held = {"then": now + 2 * lease, "workers": sorted(workers)}
    ids = connection.execute(_LEASED_AHEAD, held).scalars().all()
    if ids:
        connection.execute(_SHORTEN, {"ids": ids, "then": now + lease})
    return len(ids)


_NOW = bindparam("now", type_=UtcDateTime())


def _first_due_at(suspect: bool) -> Any:
    pending = select(DELIVERIES.c.due_at).where(in_state(State.PENDING), DELIVERIES.c.suspect == suspect, OF_SOURCES)
    return pending.order_by(DELIVERIES.c.due_at).limit(1).scalar_subquery()


#: Makes PostgreSQL use the index of due deliveries for the rest of the transaction. Its statistics may date from a time
#: with few pending deliveries, and it would then sort the whole backlog each time.
BY_INDEX = (
    "set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true), "
    "set_config('enable_seqscan', 'off', true)"
)

_BY_INDEX = text(f"SELECT {BY_INDEX}")

_THEN = bindparam("then", type_=UtcDateTime())


def _unlocked(*conditions: Any) -> Select[Any]:
    found = select(DELIVERIES.c.id).where(*conditions).limit(CHANGED_AT_ONCE)
    return found.with_for_update(skip_locked=True)


_DATED_AHEAD = _unlocked(
    in_state(State.PENDING), DELIVERIES.c.suspect == false(), DELIVERIES.c.due_at > _THEN, DELIVERIES.c.attempts == 0
).order_by(DELIVERIES.c.due_at)

_SUSPECTS_DATED_AHEAD = _unlocked(
    in_state(State.PENDING), DELIVERIES.c.suspect == true(), DELIVERIES.c.due_at > _THEN
).order_by(DELIVERIES.c.due_at)

_RETRIES_AHEAD = (
    select(DELIVERIES.c.id, DELIVERIES.c.due_at, ATTEMPTS.c.ended_at)
    .join_from(DELIVERIES, ATTEMPTS, ATTEMPTS.c.delivery_id == DELIVERIES.c.id)
    .where(in_state(State.PENDING), DELIVERIES.c.suspect == false(), DELIVERIES.c.due_at > _THEN)
    .where(ATTEMPTS.c.round == DELIVERIES.c.round, ATTEMPTS.c.number == DELIVERIES.c.attempts)
    .where(ATTEMPTS.c.ended_at > _THEN, ATTEMPTS.c.ended_at <= DELIVERIES.c.due_at)
    # Expressions, because in the order of the plain column databases would read the whole history.
    .where(DELIVERIES.c.id + 0 > bindparam("after", type_=BigInteger()))
    .order_by(DELIVERIES.c.id + 0)
    .limit(CHANGED_AT_ONCE)
)

_BRING_FORWARD = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id == bindparam("of", type_=BigInteger()), in_state(State.PENDING))
    .where(DELIVERIES.c.due_at == bindparam("was", type_=UtcDateTime()))
    .values(due_at=bindparam("due", type_=UtcDateTime()))
)

_IS_LEASED_AHEAD = in_state(State.PROCESSING), DELIVERIES.c.lease_until > _THEN

_HOLDERS_AHEAD = select(DELIVERIES.c.claimed_by).where(*_IS_LEASED_AHEAD).distinct()

_LEASED_AHEAD = _unlocked(
    *_IS_LEASED_AHEAD, DELIVERIES.c.claimed_by.in_(bindparam("workers", expanding=True, type_=Text()))
)

_SHORTEN = update(DELIVERIES).where(IDS, in_state(State.PROCESSING)).values(lease_until=_THEN)

_MAKE_DUE = update(DELIVERIES).where(IDS).values(due_at=_NOW)

_ARRIVES = exists().where(DELIVERIES.c.id >= bindparam("since", type_=BigInteger()))

_FIRST_DUE = select(_first_due_at(False), _first_due_at(True), _ARRIVES)


def pending_sources(database: Database) -> list[str]:
    """The sources of the deliveries that have been due for longest.

    Deliveries of sources that no worker knows are among these, because no worker claims them.
    """
    ordinary = select(DELIVERIES.c.source).where(in_state(State.PENDING), DELIVERIES.c.suspect == literal(False))
    longest_due = ordinary.order_by(DELIVERIES.c.due_at).limit(LONGEST_DUE).subquery()
    with database.read() as connection:
        return sorted(connection.execute(select(longest_due.c.source).distinct()).scalars())
