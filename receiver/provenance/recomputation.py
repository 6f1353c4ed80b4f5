"""Recomputation: runs the kept deliveries about one row into empty registers, in the order of arrival.

The result is the row as these deliveries and today's code alone would make it. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from sqlalchemy import Row

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.inbox.bodies import bodies_of
from receiver.inbox.leases import Claimed
from receiver.inbox.retries import RetrySchedule
from receiver.mirror.rows import Key, MirrorRow, Write, table_name
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.mirror.versions import Registers, Version
from receiver.provenance.stored import StoredRow, parent_of, row_of
from receiver.provenance.traces import Trace
from receiver.worker.isolation import IsolatedRun
from receiver.worker.trial import Obstacle, Trial, run_trial

#: The most deliveries, and the most bytes of bodies, that one query reads.
RUN_AT_ONCE, BYTES_RUN_AT_ONCE = 200, 1024 * 1024

#: The time limit for the deliveries of one row, in seconds.
RECOMPUTATION_SECONDS = 4.0


#: The reasons for which a delivery gives no news, worded to follow "because".
OBSTACLES = {
    Obstacle.EXPIRED: "its body has expired",
    Obstacle.NO_SOURCE: "the settings have no source {source}",
    Obstacle.THIN: "its event was hydrated, and the answer of the source's API is not kept",
    Obstacle.SESSION: "its handler {reason} takes mirror.session, whose SQL only a worker may run",
    Obstacle.DEAD: "with today's code it is dead: {reason}",
    Obstacle.IGNORED: "with today's code it is ignored: {reason}",
    Obstacle.FAILED: "with today's code it fails: {reason}",
    Obstacle.HANGS: "{reason}",
    Obstacle.NOT_REACHED: "the time for one explanation, {reason:g} seconds, was over",
}


@dataclass(slots=True)
class Recomputation:
    """The result of running the deliveries."""

    trace: Trace = field(default_factory=Trace)
    #: The deliveries that were run.
    ran: set[int] = field(default_factory=set)
    #: The reason for each delivery that was not run.
    obstacles: dict[int, tuple[Obstacle, str]] = field(default_factory=dict)
    #: Deliveries whose handlers read rows outside the recomputation, in their present state.
    looked_around: set[int] = field(default_factory=set)
    #: The deliveries whose handlers read rows, so that a replay of them corrects nothing.
    have_read: set[int] = field(default_factory=set)
    #: The recomputed registers of each parent.
    parents: dict[Key, Trace] = field(default_factory=dict)
    seconds: float = 0.0


def recompute(
    database: Database,
    sources: Mapping[str, Source],
    row: StoredRow,
    deliveries: Sequence[Row[Any]],
    *,
    retries: RetrySchedule,
    seconds: float = RECOMPUTATION_SECONDS,
) -> Recomputation:
    """Run these deliveries, given in the order of arrival, for at most `seconds`.

    Raises `Unavailable` if too many abandoned handlers still hang in this process.
    """
    began = monotonic()
    recomputing = _Recomputing(database, sources, row, retries)
    isolated = IsolatedRun(recomputing.try_one, recomputing.take, until=began + seconds)
    for window in _windows(deliveries):
        claimed = _claimed(database, window)
        recomputing.ends = {each.id: each.ended_at or each.received_at for each in window}
        done = isolated.run(claimed)
        if done < len(claimed):
            break
    told = recomputing.told
    for each in deliveries:
        if each.id not in told.ran and each.id not in told.obstacles:
            told.obstacles[each.id] = Obstacle.NOT_REACHED, OBSTACLES[Obstacle.NOT_REACHED].format(reason=seconds)
    told.seconds = monotonic() - began
    return told


class _Recomputing:
    """Runs deliveries and merges their news of the row and its parents. `take` is never called concurrently."""

    def __init__(
        self, database: Database, sources: Mapping[str, Source], row: StoredRow, retries: RetrySchedule
    ) -> None:
        self.told = Recomputation()
        #: By id, the time at which the attempt of each current delivery ended.
        self.ends: Mapping[int, datetime] = {}
        self._database = database
        self._sources = sources
        self._key = row.key
        self._retries = retries

    def try_one(self, claimed: Claimed) -> Trial:
        def read_row(key: Key, writes: list[Write]) -> MirrorRow | None:
            return self._read(claimed, key, writes)

        now = self.ends.get(claimed.id, datetime.now(UTC))
        return run_trial(claimed, self._sources, self._retries, read_row=read_row, now=now)

    def take(self, claimed: Claimed, trial: Trial) -> None:
        if trial.obstacle is not None:
            reason = OBSTACLES[trial.obstacle].format(source=claimed.source, reason=trial.reason)
            self.told.obstacles[claimed.id] = trial.obstacle, reason
            return
        self.told.ran.add(claimed.id)
        for write in trial.writes:
            if write.key == self._key:
                self.told.trace.take(write)
            elif write.key.table is self._key.table.parent_table and write.key.source == self._key.source:
                self.told.parents.setdefault(write.key, Trace()).take(write)

    def _read(self, claimed: Claimed, key: Key, writes: list[Write]) -> MirrorRow | None:
        """Answer `mirror.get`: the row and its parents as recomputed so far, any other row as it is now."""
        self.told.have_read.add(claimed.id)
        if key != self._key:
            self.told.looked_around.add(claimed.id)
            # Closed at once, because the calling code may never return.
            with self._database.read() as connection:
                return UnitOfWork(connection).read(key, writes)
        trace = self.told.trace.copied()
        for write in writes:
            if write.key == key:
                trace.take(write)
        return row_of(key, trace.registers, self._children_gone(trace.registers))

    def _children_gone(self, registers: Registers) -> Version | None:
        parent = parent_of(self._key, registers)
        above = self.told.parents.get(parent) if parent is not None else None
        return None if above is None else above.registers.children_gone.get(table_name(self._key.table))


def _windows(deliveries: Sequence[Row[Any]]) -> Iterator[list[Row[Any]]]:
    window: list[Row[Any]] = []
    size = 0
    for each in deliveries:
        if window and (len(window) >= RUN_AT_ONCE or size + (each.size or 0) > BYTES_RUN_AT_ONCE):
            yield window
            window, size = [], 0
        window.append(each)
        size += each.size or 0
    if window:
        yield window


def _claimed(database: Database, window: Sequence[Row[Any]]) -> list[Claimed]:
    """Read the deliveries as a worker claimed them for their last attempt."""
    with database.read() as connection:
        bodies = bodies_of(connection, [each.body_id for each in window])
    return [
        Claimed(
            id=each.id,
            source=each.source,
            round=each.round,
            attempt=max(each.attempts, 1),
            received_at=each.received_at,
            plain=bodies.get(each.body_id),
            entity=(each.entity_kind, each.entity_id) if each.entity_kind and each.entity_id else None,
            event_type=each.event_type,
            occurred_at=each.occurred_at,
            item=each.item,
            body_id=each.body_id,
        )
        for each in window
    ]
