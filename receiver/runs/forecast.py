"""Forecasts: finds the effects of a replay by running the handlers against the current rows, without writing.

Handlers run in the order of ids, as in a worker, and each sees the changes of those before it. All reads come from one
snapshot of the database. If nothing arrives before the run ends, the run has exactly the forecast effects.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import BigInteger, Connection, bindparam, literal_column, select

from receiver.codec import changed_members
from receiver.database.columns import Many, among
from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.errors import DamagedRow
from receiver.inbox.bodies import bodies_of
from receiver.inbox.ids import DeliveryIds
from receiver.inbox.leases import Claimed
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import BODY_ID, DELIVERIES, HAS_ENDED
from receiver.mirror.changes import RowChange
from receiver.mirror.rows import Key, MirrorRow, Write
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.worker.isolation import HANG_SECONDS, MOST_LEFT_BEHIND, IsolatedRun, is_left_behind
from receiver.worker.trial import Obstacle, Trial, run_trial

#: Bounds of one forecast: deliveries, writes by handlers, bytes of bodies, and seconds.
MOST_DELIVERIES, MOST_FORECAST_WRITES, MOST_BYTES, MOST_SECONDS = 5_000, 50_000, 64 * 1024 * 1024, 20.0

#: The most deliveries whose bodies one query reads.
WINDOW = 16

#: The most rows and reasons that are stored one by one; the totals count all of them.
MOST_ROWS, MOST_REASONS = 5_000, 20

#: Forecasts for a delivery in addition to the outcomes of the mirror.
DEAD, IGNORED, FAILING, UNKNOWN, SKIPPED = "dead", "ignored", "failing", "unknown", "skipped"


class DeliveryForecast(NamedTuple):
    """The forecast for one delivery."""

    delivery_id: int
    #: applied, tie, unchanged, stale; dead, ignored; failing (its attempts would fail); skipped (not replayable);
    #: unknown, if a forecast cannot decide.
    outcome: str
    reason: str | None = None


@dataclass(slots=True)
class Forecast:
    """The forecast for a replay."""

    made_at: datetime
    #: The number of deliveries of the set; below, the deliveries that were tried.
    of: int
    deliveries: list[DeliveryForecast] = field(default_factory=list)
    #: By row, its change from its present state to the forecast one.
    rows: dict[tuple[str, str, str], RowChange] = field(default_factory=dict)
    #: The reason for which some deliveries were not tried; None if all were.
    partial: str | None = None

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(each.outcome for each in self.deliveries)

    def changed_rows(self) -> list[RowChange]:
        """The rows that would differ after the whole replay, in key order."""
        return [change for _, change in sorted(self.rows.items()) if change.operation == "insert" or change.after]

    def summary(self) -> dict[str, Any]:
        """The totals as stored on a run and shown by the API and commands."""
        reasons = Counter(f"{each.outcome}: {each.reason}" for each in self.deliveries if each.reason)
        rows: dict[str, Counter[str]] = defaultdict(Counter)
        for change in self.changed_rows():
            rows[change.table][change.operation] += 1
        common = reasons.most_common(MOST_REASONS)
        return {
            "made_at": self.made_at.isoformat(),
            "deliveries": self.of,
            "tried": len(self.deliveries),
            "partial": self.partial,
            "outcomes": dict(self.outcomes),
            "reasons": [{"reason": reason, "deliveries": number} for reason, number in common],
            "rows": {table: dict(operations) for table, operations in sorted(rows.items())},
        }


def forecast(
    database: Database,
    sources: Mapping[str, Source],
    ids: Iterable[int],
    *,
    of: int,
    retries: RetrySchedule,
    clock: Callable[[], datetime],
    elapsed: Callable[[], float] = time.monotonic,
) -> Forecast:
    """Forecast a replay of the deliveries with these ascending ids, out of a set of `of`. Writes nothing.

    Stops at the bounds above, and then gives the reason in `partial`.
    """
    made = Forecast(clock(), of)
    with database.read() as connection:
        _Trial(connection, sources, made, retries, clock).run(ids, until=elapsed() + MOST_SECONDS, elapsed=elapsed)
    if made.partial is None and len(made.deliveries) < of:
        made.partial = f"Only one delivery in {_ratio(of, made)} was tried: the numbers count these alone."
    return made


def _ratio(of: int, made: Forecast) -> int:
    return max(round(of / max(len(made.deliveries), 1)), 2)


class ForecastOver(Exception):
    """Raised in a handler that calls the mirror after its forecast was abandoned."""


class _Trial:
    """Runs handlers over an overlay of the mirror that is never saved."""

    def __init__(
        self,
        connection: Connection,
        sources: Mapping[str, Source],
        made: Forecast,
        retries: RetrySchedule,
        clock: Callable[[], datetime],
    ) -> None:
        self._connection = connection
        self._sources = sources
        self._made = made
        self._retries = retries
        self._clock = clock
        self._overlay = UnitOfWork(connection)
        #: The writes so far, by source and table, for handlers that read a row.
        self._said: dict[tuple[str, type[MirrorRow]], list[Write]] = defaultdict(list)
        self._writes = self._bytes = 0
        #: The further events of bundles that are still single deliveries, as the deliveries that they will become.
        self._further: list[Claimed] = []
        self._ids, self._drawn = DeliveryIds(), set[int]()
        #: Guards the connection, because an abandoned handler may still use it.
        self._reading = threading.Lock()

    def run(self, ids: Iterable[int], *, until: float, elapsed: Callable[[], float]) -> None:
        isolated = IsolatedRun(self._try, self._take, until=inf)
        for window in _windows(ids):
            found = list(self._claimed(window))
            self._made.deliveries += (each for each in found if isinstance(each, DeliveryForecast))
            trying = [each for each in found if isinstance(each, Claimed)]
            while trying:
                isolated.run(trying)
                bound = self._bound_reached(elapsed() > until, isolated.left_behind)
                trying, self._further = self._further[:WINDOW], self._further[WINDOW:]
                if bound is not None and (trying or len(self._made.deliveries) < self._made.of):
                    self._made.partial = (
                        f"{len(self._made.deliveries)} of {self._made.of} deliveries were tried, until {bound}: the "
                        "numbers count these alone."
                    )
                    return

    def _bound_reached(self, is_late: bool, left_behind: int) -> str | None:
        if left_behind >= MOST_LEFT_BEHIND:
            return f"the handlers of {left_behind} had not returned within {HANG_SECONDS:g} second"
        if is_late:
            return f"{MOST_SECONDS:g} seconds had passed"
        if self._writes > MOST_FORECAST_WRITES:
            return f"they had written more than {MOST_FORECAST_WRITES} times"
        if self._bytes > MOST_BYTES:
            return f"their bodies had more than {MOST_BYTES} bytes"
        return None

    def _claimed(self, ids: Sequence[int]) -> Iterator[Claimed | DeliveryForecast]:
        """Yield each delivery as a worker would claim it, or the reason why it cannot be replayed."""
        rows = {row.id: row for row in self._connection.execute(_ROWS, {"ids": list(ids)})}
        bodies = bodies_of(self._connection, [row.body_id for row in rows.values()])
        self._bytes += sum(map(len, bodies.values()))
        for delivery_id in ids:
            row = rows.get(delivery_id)
            plain = bodies.get(row.body_id) if row is not None else None
            if row is None or not row.has_ended or plain is None:
                yield DeliveryForecast(delivery_id, SKIPPED, why_skipped(row))
                continue
            entity = (row.entity_kind, row.entity_id) if row.entity_kind and row.entity_id else None
            yield Claimed(
                id=row.id,
                source=row.source,
                round=row.round + 1,
                attempt=1,
                received_at=row.received_at,
                plain=plain,
                entity=entity,
                event_type=row.event_type,
                occurred_at=row.occurred_at,
                item=row.item,
                body_id=row.body_id,
            )

    def _try(self, claimed: Claimed) -> Trial:
        reader = self._reader(claimed.source)
        return run_trial(claimed, self._sources, self._retries, read_row=reader, now=self._clock())

    def _take(self, claimed: Claimed, trial: Trial) -> None:
        with self._reading:
            result = self._result(claimed, trial)
            if claimed.id not in self._drawn:
                self._made.deliveries.append(self._with_others(claimed, trial, result))

    def _with_others(self, claimed: Claimed, trial: Trial, result: DeliveryForecast) -> DeliveryForecast:
        """Queue the other events of the delivery's bundle for their trial, and return the result of the first."""
        for place in range(1, trial.further + 1):
            drawn = self._ids.draw()
            self._drawn.add(drawn)
            self._further.append(replace(claimed, id=drawn, item=place))
        if not trial.further or result.reason is not None:
            return result
        return result._replace(reason=f"It is the first of {trial.further + 1} events, each of which gets a delivery.")

    def _result(self, claimed: Claimed, trial: Trial) -> DeliveryForecast:
        if trial.obstacle is None:
            return self._apply(claimed.id, trial.writes)
        if trial.obstacle in _TOLD_BY_CODE:
            return DeliveryForecast(claimed.id, _TOLD_BY_CODE[trial.obstacle], trial.reason)
        reason = _UNKNOWN[trial.obstacle].format(source=claimed.source, handler=trial.reason)
        return DeliveryForecast(claimed.id, UNKNOWN, reason)

    def _apply(self, delivery_id: int, writes: Sequence[Write]) -> DeliveryForecast:
        try:
            self._overlay.load(writes)
        except DamagedRow as error:
            return DeliveryForecast(delivery_id, FAILING, str(error))
        outcome, changed = self._overlay.apply(writes, delivery_id=delivery_id)
        for write in writes:
            self._said[write.key.source, write.key.table].append(write)
        self._writes += len(writes)
        for change in changed:
            key = change.table, change.source, change.external_id
            earlier = self._made.rows.get(key)
            self._made.rows[key] = change if earlier is None else joined(earlier, change)
        return DeliveryForecast(delivery_id, outcome.value)

    def _reader(self, source: str) -> Callable[[Key, list[Write]], MirrorRow | None]:
        def read_row(key: Key, writes: list[Write]) -> MirrorRow | None:
            tables = [table for table in (key.table, key.table.parent_table) if table is not None]
            earlier = [write for table in tables for write in self._said[source, table]]
            # A row that one delivery changes and others read is rebuilt for each: correctness matters more than speed.
            order = sorted(earlier, key=lambda write: write.version.arrival)
            with self._reading:
                if is_left_behind():
                    raise ForecastOver("The forecast continued without this handler, which took too long.")
                # After a statement that fails, PostgreSQL takes no further one outside its savepoint.
                with self._connection.begin_nested():
                    return UnitOfWork(self._connection).read(key, [*order, *writes])

        return read_row


#: The forecast for a delivery whose reading or handler raised this.
_TOLD_BY_CODE = {Obstacle.DEAD: DEAD, Obstacle.IGNORED: IGNORED, Obstacle.FAILED: FAILING}

#: The reasons for which a forecast cannot decide about a delivery.
_UNKNOWN = {
    Obstacle.NO_SOURCE: "The settings here have no source {source}.",
    Obstacle.THIN: "Its event is thin: the source's API is asked when it runs, and a forecast does not ask it.",
    Obstacle.HANGS: "The outcome is unknown: {handler}.",
    Obstacle.SESSION: "{handler} takes mirror.session, whose SQL only a run can show: it has no forecast.",
}


def why_skipped(row: Any) -> str:
    """The reason why a delivery cannot be replayed, by whether `row` `has_ended`; `row` is None if it is not kept."""
    if row is None:
        return "The delivery is not kept."
    return "Its body has expired." if row.has_ended else "It is unfinished."


def joined(earlier: RowChange, later: RowChange) -> RowChange:
    """Join two consecutive changes of a row."""
    if earlier.operation == "insert":
        return later._replace(operation="insert", before={}, after=earlier.after | later.after)
    before, after = later.before | earlier.before, earlier.after | later.after
    differing = changed_members(before, after)
    operation = "update"
    if "active" in differing:
        operation = "reactivate" if after["active"] else "deactivate"
    return later._replace(
        operation=operation,
        before={name: before[name] for name in differing},
        after={name: after[name] for name in differing},
    )


def _windows(ids: Iterable[int]) -> Iterator[list[int]]:
    window: list[int] = []
    for delivery_id in ids:
        window.append(delivery_id)
        if len(window) == WINDOW:
            yield window
            window = []
    if window:
        yield window


_ROWS = select(
    *DELIVERIES.c["id", "source", "round", "received_at", "entity_kind", "entity_id", "item"],
    *DELIVERIES.c["event_type", "occurred_at"],
    BODY_ID.label("body_id"),
    literal_column(str(HAS_ENDED)).label("has_ended"),
).where(among(DELIVERIES.c.id, bindparam("ids", type_=Many(BigInteger))))
