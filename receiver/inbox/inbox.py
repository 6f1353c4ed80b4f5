"""The inbox: the durable truth about every delivery, and the verbs that move it from state to state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Update, func, select

from receiver.database.database import Database
from receiver.database.errors import (
    is_fault_of_values,
    is_infrastructure_error,
    is_lock_timeout,
    retry_transaction,
)
from receiver.database.lock_timeouts import limit_lock_waits
from receiver.envelope import Bundle
from receiver.inbox import due, leases, reclaim, results, rounds
from receiver.inbox.arrival import Accepted, Arrival
from receiver.inbox.attempts import AttemptResult
from receiver.inbox.bundles import draw_ids, gathered, resolve_one_by_one, unfolded
from receiver.inbox.claims import CHANGE_HELD, PUT_BACK, change_held, held_ids
from receiver.inbox.due import Due, FirstDue
from receiver.inbox.duplicates import LONGEST_HELD, ResolveArrivals, resolve_duplicates
from receiver.inbox.ids import DeliveryIds
from receiver.inbox.insert import insert_all, prepare
from receiver.inbox.leases import Claimed
from receiver.inbox.older_keys import OlderKeys
from receiver.inbox.reclaim import LostAttempt
from receiver.inbox.rounds import Beginning, Cause
from receiver.inbox.tables import DELIVERIES, IDS, State, in_state
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told
from receiver.metrics.few_names import count_ended_on_arrival
from receiver.metrics.metrics import ended

log = structlog.get_logger(__name__)

#: For lines that a sender may cause with each webhook.
_repeated = Repeats(log)

#: Seconds for which unfolding a bundle waits for a lock once others have waited in vain.
HASTY_SECONDS = 0.01


class Inbox:
    """The verbs of the delivery tables. Those that take a connection are part of the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._ids = DeliveryIds()
        self._older_keys = OlderKeys(database)
        #: By verb, the error of its last failure.
        self._told: dict[str, str] = {}

    # ── accept ────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self, arrivals: Sequence[Arrival]) -> None:
        """Draw the ids of these arrivals, and make their rows ready for `accept`, which may run in another thread."""
        prepare(draw_ids(arrivals, self._ids), is_postgresql=self.database.is_postgresql)

    def accept(self, arrivals: Sequence[Arrival]) -> list[Accepted]:
        """Store the arrivals durably, and return answers in the same order. Repeating the call is safe.

        A bundle is stored with all its events, or not at all. If all arrivals are new, the usual case, one statement
        suffices. Returns only after the commit. Raises SQLAlchemy's error if it is not certain that all were stored.
        """
        items = draw_ids(arrivals, self._ids)
        self._older_keys.recognise(items)
        try:
            accepted = self._accept_together(arrivals, items)
        except Exception as error:
            is_one_bundle = len(arrivals) == 1 and bool(arrivals[0].others)
            if not is_one_bundle or not is_fault_of_values(error):
                raise
            # The database refuses an item of a bundle: the other items are stored, still in one transaction.
            with self.database.write() as connection:
                accepted = gathered(arrivals, resolve_one_by_one(connection, items))
        self.database.announce()
        return accepted

    def _accept_together(self, arrivals: Sequence[Arrival], items: Sequence[Arrival]) -> list[Accepted]:
        if insert_all(self.database, items):
            return gathered(arrivals, [Accepted("accepted", each.id) for each in items])
        with self.database.write() as connection:
            return gathered(arrivals, resolve_duplicates(connection, items))

    def unfold(self, delivery: Claimed, bundle: Bundle, *, hastily: bool = False) -> None:
        """Turn the delivery of a whole body into that of its first item, and add a delivery for each other item.

        Raises an error that `is_lock_timeout` recognises, and changes nothing, if another transaction holds a row that
        this needs, such as the dead delivery of one of the items. With `hastily`, it waits for `HASTY_SECONDS` only.
        """
        added = self._unfold_in_any_way(delivery, bundle, HASTY_SECONDS if hastily else LONGEST_HELD)
        delivery.item = 0
        self.database.announce()
        for item in added:
            if item.state is not State.PENDING:
                count_ended_on_arrival(item.source, item.state, item.unhandled)

    def _unfold_in_any_way(self, delivery: Claimed, bundle: Bundle, seconds: float) -> list[Arrival]:
        tried: list[list[Arrival]] = []
        try:
            return retry_transaction(lambda: self._unfold(delivery, bundle, resolve_duplicates, seconds, tried))
        except Exception as error:
            if not is_fault_of_values(error):
                raise
            return retry_transaction(lambda: self._unfold(delivery, bundle, resolve_one_by_one, seconds, tried))

    def _unfold(
        self, delivery: Claimed, bundle: Bundle, resolve: ResolveArrivals, seconds: float, tried: list[list[Arrival]]
    ) -> list[Arrival]:
        """Unfold in one transaction; return the items that are new deliveries. `tried` receives those of each try."""
        with self.database.write() as connection:
            limit_lock_waits(connection, seconds)
            first = unfolded(connection, delivery, bundle)
            if first is None:
                # The connection was lost after the commit of the last try, before its answer.
                return tried[-1] if tried else []
            others = draw_ids([first], self._ids)[1:]
            answers = resolve(connection, others) if others else []
            tried.append([item for item, answer in zip(others, answers, strict=True) if answer.status == "accepted"])
            return tried[-1]

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
        max_bytes: int | None = None,
    ) -> list[Claimed]:
        """Claim up to `limit` due deliveries, oldest first, and count their attempts.

        A delivery waits while an earlier one of its entity is being processed. The bodies have at most `max_bytes`
        together; a larger body is claimed alone. Only deliveries of `sources` are claimed: the others keep their
        attempts for workers that know their sources. Suspects are claimed only with `suspect=True`, and must be alone,
        so `limit` must then be 1. A row that cannot be claimed blocks no other: it becomes dead, or stays as it is.
        """
        what: dict[str, Any] = {"limit": limit, "now": now, "lease": lease, "suspect": suspect, "max_bytes": max_bytes}
        try:
            with self.database.write() as connection:
                return leases.claim(connection, worker, sources, **what)
        except Exception as error:
            if is_infrastructure_error(error) or is_lock_timeout(error):
                raise
            self._tell("a claim failed; claiming without the rows at fault", told(error))
        with self.database.write() as connection:
            found = leases.claim_around(connection, worker, sources, **what)
        for each in found.dead:
            _repeated.warning("a delivery is dead", about={"source": each.source}, delivery=each.id, reason=each.reason)
            ended(each.source, State.DEAD.value, "").inc()
        return found.claimed

    def _tell(self, what: str, error: str) -> None:
        """Log this error once, because a delivery that can be neither claimed nor ended fails each time."""
        if error != self._told.get(what):
            log.warning(what, error=error)
        self._told[what] = error

    def extend(self, worker: str, ids: Sequence[int], *, until: datetime) -> None:
        """Extend the leases of deliveries that the worker is still processing.

        One that is locked, or that the database refuses to change, keeps its lease.
        """
        self._change_held(worker, ids, CHANGE_HELD.values(lease_until=until))

    def _change_held(self, worker: str, ids: Sequence[int], change: Update) -> None:
        refusal = change_held(self.database, worker, ids, change)
        if refusal is not None:
            self._tell("cannot change claimed deliveries together; changing each by itself", told(refusal))

    def holds_all(self, connection: Connection, worker: str, ids: Sequence[int]) -> bool:
        """Whether the worker still holds all these deliveries. Those that it holds are locked as by `held`."""
        number = connection.execute(_NUMBER_HELD, {"ids": ids, "worker": worker}).scalar()
        return number == len(ids)

    def held(self, connection: Connection, worker: str, ids: Sequence[int]) -> set[int]:
        """Select the deliveries that the worker still holds, and lock them until the transaction ends."""
        return set(connection.execute(_HELD, {"ids": ids, "worker": worker}).scalars().all())

    def settle(
        self,
        connection: Connection,
        worker: str,
        ended: Sequence[AttemptResult],
        *,
        now: datetime,
        settle_us: int = 0,
    ) -> None:
        """Record the results of these attempts. `settle_us` are the microseconds that settling has taken so far."""
        results.record(connection, worker, ended, now=now, settle_us=settle_us)

    def release(self, worker: str, *, excluding: Collection[int] = (), aside_until: datetime | None = None) -> None:
        """Return the worker's deliveries, except those in `excluding`, as if they had not been claimed.

        With `aside_until`, return them as suspects due at that time, so that others are claimed first. Those that
        another session has locked, or that the database refuses to change, stay claimed until their leases end.
        """
        ids = [each for each in held_ids(self.database, worker) if each not in excluding]
        if ids:
            aside = {} if aside_until is None else {"suspect": True, "due_at": aside_until}
            self._change_held(worker, ids, PUT_BACK.values(**aside))

    def put_back(self, worker: str, ids: Sequence[int]) -> None:
        """Return some of the worker's claimed deliveries, as `release` does."""
        self._change_held(worker, ids, PUT_BACK)

    def postpone(self, worker: str, ids: Sequence[int], lock: str, *, now: datetime, due_at: datetime) -> None:
        """Return some of the worker's claimed deliveries, due at a later time, because they need a lock.

        Their attempts do not count. `lock` says which lock another session holds, and how to find that session. One
        that the database refuses to change stays claimed until its lease ends.
        """
        self._change_held(worker, ids, results.postponed(lock, now=now, due_at=due_at))

    def reclaim(
        self, *, now: datetime, dead: Sequence[str], max_attempts: int, pause: timedelta = timedelta()
    ) -> list[LostAttempt]:
        """Make the deliveries of `dead` workers, and all with an expired lease, claimable again; return them.

        The interrupted attempt counts, and a delivery without attempts left is dead. One that was claimed alone is due
        after `pause`, behind others. A row that the database refuses to change becomes dead, or stays as it is.
        """
        with self.database.read() as connection:
            if not reclaim.has_lost(connection, dead, now=now):
                return []
        terms: dict[str, Any] = {"now": now, "max_attempts": max_attempts, "pause": pause}
        try:
            with self.database.write() as connection:
                return reclaim.end_attempts(connection, dead, **terms)
        except Exception as error:
            if is_infrastructure_error(error) or is_lock_timeout(error):
                raise
            self._tell("cannot reclaim deliveries together; reclaiming without the rows at fault", told(error))
        with self.database.write() as connection:
            return reclaim.end_attempts_around(connection, dead, **terms)

    def workers(self) -> list[str]:
        """The workers that hold a lease."""
        statement = select(DELIVERIES.c.claimed_by).where(in_state(State.PROCESSING)).distinct()
        with self.database.read() as connection:
            return [worker for worker in connection.execute(statement).scalars() if worker is not None]

    # ── replay ────────────────────────────────────────────────────────────────────────────────────────────────

    def replay(
        self,
        ids: Iterable[int],
        *,
        now: datetime,
        cause: str = Cause.REPLAY,
        run: int | None = None,
        action: int | None = None,
    ) -> int:
        """Replay finished deliveries in a transaction of its own, and return their number."""
        wanted = list(ids)

        def again() -> int:
            with self.database.write() as connection:
                return self.begin_round(connection, wanted, cause=cause, run=run, action=action, now=now)

        return retry_transaction(again)

    def begin_round(
        self,
        connection: Connection,
        ids: Sequence[int],
        *,
        cause: str,
        run: int | None = None,
        action: int | None = None,
        now: datetime,
    ) -> int:
        """Begin another round, with all attempts, for those deliveries that have ended, and return their number.

        `run` and `action` are recorded with the round, and the end of the previous round is kept. Deliveries that have
        not ended, or whose body has expired, stay as they are.
        """
        return rounds.begin(connection, ids, Beginning(cause, run, action), now=now)

    def try_now(self, connection: Connection, ids: Sequence[int], *, now: datetime) -> int:
        """Make the next attempt of pending deliveries due, without a new round, and return their number.

        Other deliveries, such as those being processed, stay as they are.
        """
        return rounds.try_now(connection, ids, now=now)

    def make_due(self, *, now: datetime, lease: timedelta) -> int:
        """Make the deliveries due that a clock dated ahead before it was set back, and return their number."""
        total = 0

        def some() -> int:
            with self.database.write() as connection:
                return due.make_due(connection, now=now, lease=lease)

        while made := retry_transaction(some):
            total += made
        return total

    def shorten_leases(self, workers: Collection[str], *, now: datetime, lease: timedelta) -> int:
        """Let leases of these workers from before the clock was set back end after `lease`; return their number."""

        def some() -> int:
            with self.database.write() as connection:
                return due.shorten_leases(connection, workers, now=now, lease=lease)

        return retry_transaction(some)

    # ── what is due ───────────────────────────────────────────────────────────────────────────────────────────

    def due(self, sources: Collection[str], *, now: datetime) -> Due:
        """Whether a claim would find deliveries, read without a lock."""
        ordinary, suspect, arrives = self._first_due(sources, now)
        return Due(ordinary is not None and ordinary <= now, suspect is not None and suspect <= now, not arrives)

    def oldest_due_seconds(self, sources: Collection[str], *, now: datetime) -> float:
        """The seconds since the first due delivery of these sources became due; 0 if none is due."""
        ordinary, suspect, _ = self._first_due(sources, now)
        first = min((each for each in (ordinary, suspect) if each is not None), default=now)
        return max((now - first).total_seconds(), 0.0)

    def _first_due(self, sources: Collection[str], now: datetime) -> FirstDue:
        with self.database.read() as connection:
            return due.first_due(connection, sources, now=now)


_HELD = select(DELIVERIES.c.id).where(IDS, *leases.OF_WORKER).order_by(DELIVERIES.c.id).with_for_update()

_NUMBER_HELD = select(func.count()).select_from(_HELD.subquery())
