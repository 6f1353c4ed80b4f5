"""The inbox: the durable truth about every delivery, and the verbs that move it from state to state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Text,
    Update,
    and_,
    bindparam,
    exists,
    func,
    literal,
    select,
    text,
    update,
)

from receiver.arrivals import ArrivalIds
from receiver.bulk import insert_mappings
from receiver.columns import Many, UtcDateTime, among
from receiver.database import Database
from receiver.deliveries import ATTEMPTS, BODIES, DELIVERIES, HAS_ENDED, State, in_state, kept_reason
from receiver.filing import Accepted, file
from receiver.intake import Arrival
from receiver.trouble import insist

#: The key of the advisory lock under which deliveries are claimed on PostgreSQL.
CLAIM_LOCK = 0x686F6F6B0002


class Claimed(NamedTuple):
    """A delivery that this worker may work on until its lease ends."""

    id: int
    source: str
    #: From 1.
    attempt: int
    received_at: datetime
    #: The verified body; None if it expired before the delivery was replayed.
    plain: bytes | None
    #: What it is about, as known when it was accepted.
    entity: tuple[str, str] | None


class Due(NamedTuple):
    """Whether there is something to claim, among the ordinary deliveries and among the suspects."""

    ordinary: bool
    suspect: bool


class Ending(NamedTuple):
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
    #: What the worker read in the body, where that differs from what was known when it was accepted.
    event_type: str | None = None
    entity: tuple[str, str] | None = None
    occurred_at: datetime | None = None


class Inbox:
    """The verbs of the delivery tables. Those that take a connection are part of the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._ids = ArrivalIds()

    # ── accept ────────────────────────────────────────────────────────────────────────────────────────────────

    def accept(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Keep the arrivals durably; the answers stand in the same order. The same arrivals may be accepted again.

        Returns only after the commit. Raises SQLAlchemy's error if it is not certain that all were kept.
        """
        for arrival in arrivals:
            arrival.id = arrival.id or self._ids.draw()
        return file(self.database, arrivals)

    # ── claim and settle ──────────────────────────────────────────────────────────────────────────────────────

    def claim(
        self,
        worker: str,
        sources: Collection[str],
        *,
        limit: int,
        now: datetime,
        lease: timedelta,
        suspect: bool = False,
    ) -> list[Claimed]:
        """Take up to `limit` due deliveries, oldest first, and count the attempt; an entity being worked on waits.

        Only those of the `sources` that this worker knows: others are left, with all their attempts, to whoever does.
        A suspect, whose last attempt never ended, is claimed only with `suspect=True`: alone, so ask for one.
        """
        parameters = {"sources": sorted(sources), "now": now, "suspect": suspect, "limit": limit}
        # Without a flush: a machine that loses its power forgets the attempt along with whatever it did.
        with self.database.write(flush=False) as connection:
            if self.database.is_postgresql:
                # One claim at a time: two that do not see each other could both take deliveries of one entity.
                connection.execute(_CLAIM_ALONE, {"key": CLAIM_LOCK})
                connection.execute(_BY_INDEX)
            claimed = [_claimed(*row) for row in connection.execute(_DUE, parameters).all()]
            if claimed:
                ids = [delivery.id for delivery in claimed]
                connection.execute(_TAKE, {"ids": ids, "worker": worker, "until": now + lease})
        return sorted(claimed, key=lambda delivery: delivery.id)

    def extend(self, worker: str, ids: Sequence[int], *, until: datetime) -> None:
        """Keep the leases of deliveries that are still being worked on."""
        statement = update(DELIVERIES).where(_HELD_BY_WORKER).values(lease_until=until)
        insist(lambda: self._write(statement, {"ids": ids, "worker": worker}))

    def held(self, connection: Connection, worker: str, ids: Sequence[int]) -> set[int]:
        """Which of these the worker still holds; they stay so until the transaction ends."""
        return set(connection.execute(_HELD, {"ids": ids, "worker": worker}).scalars())

    def settle(self, connection: Connection, worker: str, endings: Sequence[Ending], *, now: datetime) -> None:
        """Record how these attempts ended."""
        alike: dict[tuple[Any, ...], list[Ending]] = {}
        for ending in endings:
            alike.setdefault(ending[1:], []).append(ending)
        for group in alike.values():
            values = _ending_values(group[0], now)
            ids = [ending.delivery_id for ending in group]
            connection.execute(_settling(tuple(values)), {"ids": ids, **values})
        insert_mappings(
            connection, ATTEMPTS, [_attempt_row(ending, worker, now) for ending in endings if ending.failed]
        )

    def release(self, worker: str) -> None:
        """Give back what the worker claimed and has not begun, as if it had not been claimed."""
        claimed = update(DELIVERIES).where(in_state(State.PROCESSING), DELIVERIES.c.claimed_by == worker)
        given_back = claimed.values(
            state=State.PENDING.value, attempts=DELIVERIES.c.attempts - 1, claimed_by=None, lease_until=None
        )
        insist(lambda: self._write(given_back, {}))

    def _write(self, statement: Update, parameters: dict[str, Any]) -> None:
        with self.database.write() as connection:
            connection.execute(statement, parameters)

    def take_over(
        self, *, now: datetime, gone: Sequence[str], max_attempts: int, pause: timedelta = timedelta()
    ) -> int:
        """Make claimable again what workers left behind: those named in `gone`, and all whose lease has ended.

        Their attempt counts: who used up the last one is dead. One that was alone and ended its worker all the same is
        due after `pause`, so that the others get their turn. Returns how many deliveries were taken over.
        """
        left = and_(
            in_state(State.PROCESSING), (DELIVERIES.c.lease_until < now) | DELIVERIES.c.claimed_by.in_(list(gone))
        )
        found = select(DELIVERIES.c.id, DELIVERIES.c.attempts, DELIVERIES.c.claimed_by, DELIVERIES.c.suspect).where(
            left
        )
        with self.database.read() as connection:
            if connection.execute(found.limit(1)).first() is None:
                return 0
        with self.database.write() as connection:
            # Not ordered by the plain column, since SQLite would go through the whole table in that order.
            rows = connection.execute(found.order_by(DELIVERIES.c.id + 0).with_for_update(skip_locked=True)).all()
            # Only an attempt made alone convicts: in a batch, any of them may have ended the worker.
            lost: dict[str, list[Ending]] = defaultdict(list)
            for row in rows:
                ending = _lost(
                    row.id,
                    row.attempts,
                    due_at=now + pause if row.suspect else now,
                    over=row.suspect and row.attempts >= max_attempts,
                )
                lost[row.claimed_by].append(ending)
            for worker, endings in lost.items():
                self.settle(connection, worker, endings, now=now)
            statement = update(DELIVERIES).where(DELIVERIES.c.id.in_([row.id for row in rows]))
            connection.execute(statement.values(suspect=True))
        return len(rows)

    def workers(self) -> list[str]:
        """The workers that hold a lease."""
        statement = select(DELIVERIES.c.claimed_by).where(in_state(State.PROCESSING)).distinct()
        with self.database.read() as connection:
            return [worker for worker in connection.execute(statement).scalars() if worker is not None]

    def replay(self, ids: Iterable[int], *, now: datetime) -> int:
        """Send deliveries that have ended through again, with all their attempts. Returns how many there were.

        Those whose body has expired are left as they are.
        """
        wanted = list(ids)
        return insist(lambda: self._replay(wanted, now))

    def _replay(self, ids: Sequence[int], now: datetime) -> int:
        has_body = exists().where(BODIES.c.delivery_id == DELIVERIES.c.id)
        again = update(DELIVERIES).where(_IDS, HAS_ENDED, has_body)
        pending = {"state": State.PENDING.value, "attempts": 0, "due_at": now}
        with self.database.write() as connection:
            statement = again.values(**pending, reason=None, outcome=None, ended_at=None)
            return connection.execute(statement, {"ids": ids}).rowcount

    def due(self, sources: Collection[str], *, now: datetime) -> Due:
        """What a claim would find, asked without holding anybody up."""
        ordinary, suspect = self._first_due(sources)
        return Due(ordinary is not None and ordinary <= now, suspect is not None and suspect <= now)

    def oldest_due_seconds(self, sources: Collection[str], *, now: datetime) -> float:
        """How long the delivery of these sources has waited that has been due for longest; 0 if none is due."""
        due = min((first for first in self._first_due(sources) if first is not None), default=now)
        return max((now - due).total_seconds(), 0.0)

    def _first_due(self, sources: Collection[str]) -> tuple[datetime | None, datetime | None]:
        """When the first ordinary one and the first suspect of what is pending are due."""
        with self.database.read() as connection:
            if self.database.is_postgresql:
                connection.execute(_BY_INDEX)
            ordinary, suspect = connection.execute(_FIRST_DUE, {"sources": sorted(sources)}).one()
        return ordinary, suspect


def pending_sources(database: Database) -> list[str]:
    """The sources that deliveries are pending of."""
    # Not by the plain column, for the reason that `_OF_SOURCES` gives.
    statement = select(DELIVERIES.c.source + "").where(in_state(State.PENDING)).distinct()
    with database.read() as connection:
        return sorted(connection.execute(statement).scalars())


def pending_entities(database: Database, source: str) -> set[str]:
    """The ids of the entities of one source that deliveries are still to be worked on about."""
    # One by one, because each of the two states has an index of the few rows in it.
    waiting = [
        select(DELIVERIES.c.entity_id).where(in_state(state), _OF_SOURCES).distinct()
        for state in (State.PENDING, State.PROCESSING)
    ]
    with database.read() as connection:
        found = [each for one in waiting for each in connection.execute(one, {"sources": [source]}).scalars()]
    return {entity_id for entity_id in found if entity_id is not None}


#: Not a plain column: the index of what is due is the one to go by, and not that of a source's whole history.
_OF_SOURCES = among(DELIVERIES.c.source + "", bindparam("sources", type_=Many(Text)))


def _first_due(suspect: bool) -> Any:
    pending = select(DELIVERIES.c.due_at).where(in_state(State.PENDING), DELIVERIES.c.suspect == suspect, _OF_SOURCES)
    return pending.order_by(DELIVERIES.c.due_at).limit(1).scalar_subquery()


_FIRST_DUE = select(_first_due(False), _first_due(True))

_IDS = among(DELIVERIES.c.id, bindparam("ids", type_=Many(BigInteger)))

_HELD_BY_WORKER = and_(_IDS, in_state(State.PROCESSING), DELIVERIES.c.claimed_by == bindparam("worker"))

_BUSY = DELIVERIES.alias("busy")

#: The offset keeps PostgreSQL from making a join of it, which it would do without the index.
_ENTITY_IS_BUSY = (
    select(literal(1))
    .select_from(_BUSY)
    .where(
        text("busy.state = 'processing'"),
        _BUSY.c.source == DELIVERIES.c.source,
        _BUSY.c.entity_kind == DELIVERIES.c.entity_kind,
        _BUSY.c.entity_id == DELIVERIES.c.entity_id,
    )
    .offset(0)
    .correlate(DELIVERIES)
    .exists()
)

#: Has PostgreSQL walk along the index of what is due for the rest of the transaction: its statistics are of a time when
#: little was pending, so that it would rather sort the whole backlog each time.
_BY_INDEX = text(
    "SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true), "
    "set_config('enable_seqscan', 'off', true)"
)

_CLAIM_ALONE = text("SELECT pg_advisory_xact_lock(:key)")

#: What is worked on: the body, or what it decrypted to. Looked up for each delivery, so that no join changes the order
#: in which the index is walked.
_PLAIN = (
    select(func.coalesce(BODIES.c.plain, BODIES.c.body))
    .where(BODIES.c.delivery_id == DELIVERIES.c.id)
    .correlate(DELIVERIES)
    .scalar_subquery()
)

#: Built once: putting a statement together costs as much as running it.
_DUE = (
    select(
        DELIVERIES.c.id,
        DELIVERIES.c.source,
        DELIVERIES.c.attempts + 1,
        DELIVERIES.c.received_at,
        _PLAIN,
        DELIVERIES.c.entity_kind,
        DELIVERIES.c.entity_id,
    )
    .where(in_state(State.PENDING), DELIVERIES.c.suspect == bindparam("suspect"), _OF_SOURCES)
    .where(DELIVERIES.c.due_at <= bindparam("now", type_=UtcDateTime()), ~_ENTITY_IS_BUSY)
    .order_by(DELIVERIES.c.due_at, DELIVERIES.c.id)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)

_TAKE = (
    update(DELIVERIES)
    .where(_IDS)
    .values(
        state=State.PROCESSING.value,
        attempts=DELIVERIES.c.attempts + 1,
        claimed_by=bindparam("worker"),
        lease_until=bindparam("until"),
    )
)

_HELD = select(DELIVERIES.c.id).where(_HELD_BY_WORKER).order_by(DELIVERIES.c.id).with_for_update()


def _claimed(
    delivery_id: int,
    source: str,
    attempt: int,
    received_at: datetime,
    plain: bytes | None,
    kind: str | None,
    entity_id: str | None,
) -> Claimed:
    entity = (kind, entity_id) if kind is not None and entity_id is not None else None
    return Claimed(delivery_id, source, attempt, received_at, plain, entity)


@cache
def _settling(names: tuple[str, ...]) -> Update:
    """The UPDATE of deliveries whose attempt has ended. The names are those of `_ending_values`."""
    news: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in names}
    return update(DELIVERIES).where(_IDS).values(claimed_by=None, lease_until=None, suspect=False, **news)


def _ending_values(ending: Ending, now: datetime) -> dict[str, Any]:
    """The columns to set, each as `new_…`: SQLAlchemy keeps the plain names of an UPDATE's parameters to itself."""
    values: dict[str, Any] = {
        "new_state": ending.state.value,
        "new_outcome": ending.outcome,
        "new_reason": kept_reason(ending.reason),
        "new_ended_at": None if ending.state is State.PENDING else now,
    }
    if ending.due_at is not None:
        values["new_due_at"] = ending.due_at
    if ending.event_type is not None:
        kind, entity_id = ending.entity or (None, None)
        values |= {
            "new_event_type": ending.event_type,
            "new_entity_kind": kind,
            "new_entity_id": entity_id,
            "new_occurred_at": ending.occurred_at,
        }
    return values


def _lost(delivery_id: int, number: int, *, due_at: datetime, over: bool) -> Ending:
    return Ending(
        delivery_id=delivery_id,
        state=State.DEAD if over else State.PENDING,
        reason="The worker stopped or hung during this attempt.",
        due_at=due_at,
        failed=True,
        number=number,
    )


def _attempt_row(ending: Ending, worker: str, now: datetime) -> dict[str, Any]:
    return {
        "delivery_id": ending.delivery_id,
        "ended_at": now,
        "number": ending.number,
        "worker": worker,
        "reason": kept_reason(ending.reason) or "no reason was given",
    }
