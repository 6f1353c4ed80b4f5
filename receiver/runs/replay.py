"""Replay as a run: feeds a frozen set of deliveries in slices, giving way to live deliveries.

At most one batch of the set is pending or processing at any time. It is fed in two halves, so that a worker never waits
for the next half, and a live delivery waits for one batch at most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import BigInteger, Connection, Text, bindparam, exists, func, select, update

from receiver.database.bulk import insert_mappings
from receiver.database.columns import Many, UtcDateTime, among
from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.inbox.inbox import Inbox
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import DELIVERIES, HAS_BODY, HAS_ENDED, State, in_state
from receiver.logs.repeats import Repeats
from receiver.logs.wording import counted
from receiver.mirror.versions import Outcome
from receiver.runs.forecast import MOST_DELIVERIES, MOST_ROWS, SKIPPED, Forecast, forecast, why_skipped
from receiver.runs.immediate_actions import begin_rounds, lock_replayable
from receiver.runs.run_kind import OnDatabase, Progress, RunLease
from receiver.runs.runs import be_alone
from receiver.runs.tables import RUN_DELIVERIES, RUN_ROWS, RUNS, ItemState, in_item_state
from receiver.search.deliveries import conditions_of
from receiver.search.filters import DeliveryFilter

log = Repeats(structlog.get_logger(__name__))

#: The name of the kind in commands and the API.
REPLAY = "replay"

#: The most deliveries of one transaction that freezes a part of the set, or records ends.
FREEZE, NOTE = 1_000, 1_000

#: Seconds between polls: while a slice is processed, and while all remaining deliveries wait for later attempts.
LOOK, LONG_LOOK = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Replay(OnDatabase):
    """The kind of run that replays finished deliveries."""

    database: Database
    inbox: Inbox
    sources: Mapping[str, Source]
    retries: RetrySchedule
    batch_size: int
    clock: Callable[[], datetime]
    #: A function that returns the sources whose deliveries the worker of this process claims at present.
    claimable: Callable[[], Collection[str]] = field(default=lambda: ())
    #: Whether a plan includes a forecast.
    forecasts: bool = True

    @property
    def name(self) -> str:
        return REPLAY

    # ── the plan ──────────────────────────────────────────────────────────────────────────────────────────────

    def plan(self, held: RunLease) -> Progress:
        """Freeze a part of the set; once the set is complete, make the forecast."""
        mark = held.run.mark or {"after": 0, "until": None, "frozen": held.run.total > 0}
        if not mark["frozen"]:
            with held.renewing():
                until, ids = self._next_meant(held.run.arguments, mark)
            return held.commit(lambda connection: self._freeze(connection, held.run.id, until, ids, mark))
        with held.renewing():
            made = self._forecast(held.run.id, held.run.total) if self.forecasts else None
        return held.commit(lambda connection: self._keep(connection, held.run.id, mark, made))

    def _next_meant(self, arguments: Mapping[str, Any], mark: Mapping[str, Any]) -> tuple[int, list[int]]:
        """The next matching deliveries that can be replayed and arrived before the plan began, and the next mark."""
        meant = select(DELIVERIES.c.id).where(*conditions_of(wanted(arguments)), HAS_ENDED, HAS_BODY)
        with self.database.read() as connection:
            until = mark["until"] or connection.execute(select(func.max(DELIVERIES.c.id))).scalar() or 0
            meant = meant.where(DELIVERIES.c.id > mark["after"], DELIVERIES.c.id <= until)
            return until, list(connection.execute(meant.order_by(DELIVERIES.c.id).limit(FREEZE)).scalars())

    def _freeze(
        self, connection: Connection, run: int, until: int, ids: Sequence[int], mark: Mapping[str, Any]
    ) -> Progress:
        """Add these deliveries to the run's set."""
        insert_mappings(
            connection,
            RUN_DELIVERIES,
            [{"run": run, "delivery_id": each, "state": ItemState.WAITING.value} for each in ids],
        )
        frozen = len(ids) < FREEZE
        total = _count_items(connection, run) if frozen else None
        last = ids[-1] if ids else mark["after"]
        return Progress({"after": last, "until": until, "frozen": frozen}, total=total)

    def _forecast(self, run: int, total: int) -> Forecast:
        every = -(-total // MOST_DELIVERIES) if total else 1
        ids = self._sample(run, every)
        return forecast(self.database, self.sources, ids, of=total, retries=self.retries, clock=self.clock)

    def _sample(self, run: int, every: int) -> Iterator[int]:
        """Every `every`-th delivery of the set, in ascending order."""
        last, seen = 0, 0
        page = select(RUN_DELIVERIES.c.delivery_id).where(RUN_DELIVERIES.c.run == run).limit(FREEZE)
        page = page.where(RUN_DELIVERIES.c.delivery_id > bindparam("last")).order_by(RUN_DELIVERIES.c.delivery_id)
        while True:
            with self.database.read() as connection:
                ids = list(connection.execute(page, {"last": last}).scalars())
            if not ids:
                return
            yield from (each for number, each in enumerate(ids, start=seen) if number % every == 0)
            last, seen = ids[-1], seen + len(ids)

    def _keep(self, connection: Connection, run: int, mark: Any, made: Forecast | None) -> Progress:
        sources = connection.execute(_SOURCES, {"run": run}).scalars().all()
        if made is not None:
            keep_forecast(connection, run, made)
        return Progress(mark, sources=list(sources), is_last=True)

    # ── the run ───────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, held: RunLease) -> Progress:
        """Record the deliveries that have ended; feed the next slice if there is room and no live delivery is due."""
        if not held.must_show_life and self._is_idle(held):
            return Progress(held.run.mark, wait=LOOK)
        return held.commit(lambda connection: self._step(connection, held))

    def _is_idle(self, held: RunLease) -> bool:
        """Whether a step would change only the run's sign of life, read without a lock."""
        run, now, mark = held.run, held.now, held.run.mark
        if mark is None:
            return False
        with self.database.read() as connection:
            if connection.execute(_FED_STANDING, {"run": run.id, "limit": 1, "now": now}).first() is not None:
                return False
            working, retrying = self._under_way(connection, run.id)
            if mark["fed"]:
                return working and not retrying
            room, live = self._room(connection, now)
            return working and (live or not room)

    def _step(self, connection: Connection, held: RunLease) -> Progress:
        be_alone(connection)
        run, now = held.run, held.now
        mark = run.mark or {"after": 0, "fed": False}
        ended = self._note_ended(connection, run.id, now)
        room, live = self._room(connection, now)
        tally = Counter(ended)
        if room and not live and not mark["fed"]:
            ids = self._next(connection, run.id, mark["after"], room)
            skipped, refused = self._feed(connection, run.id, ids, now)
            tally.update(skipped)
            after = ids[-1] if ids else mark["after"]
            mark = {"after": after, "fed": len(ids) < room, "refused": mark.get("refused", 0) + refused}
        working, retrying = self._under_way(connection, run.id)
        over = mark["fed"] and not (working or retrying)
        wait = LONG_LOOK if mark["fed"] and not working else LOOK
        return Progress(mark, done=tally.total(), tally=tally, is_last=over, wait=wait, trouble=_trouble(live, mark))

    def _room(self, connection: Connection, now: datetime) -> tuple[int, bool]:
        """The number of deliveries that may be fed now, and whether a live delivery is due."""
        parameters = {"sources": sorted(self.claimable() or self.sources), "now": now}
        out = connection.execute(_OUT, parameters).scalar_one()
        live = connection.execute(_LIVE, parameters).first() is not None
        half = max(self.batch_size // 2, 1)
        return (half if out + half <= max(self.batch_size, 1) else 0), live

    def _next(self, connection: Connection, run: int, after: int, limit: int) -> list[int]:
        return list(connection.execute(_NEXT, {"run": run, "after": after, "limit": limit}).scalars())

    def _feed(self, connection: Connection, run: int, ids: Sequence[int], now: datetime) -> tuple[Counter[str], int]:
        """Begin a round of each delivery that can be replayed, and record the reason for each of the others.

        Return the tally of the others, and how many of them the database refused to change.
        """
        if not ids:
            return Counter(), 0
        can = lock_replayable(connection, ids)
        others = sorted(set(ids) - set(can))
        kept = {row.id: row for row in connection.execute(_STANDING, {"ids": others})}
        refused = begin_rounds(self.inbox, connection, can, run=run, now=now)
        why = {each: why_skipped(kept.get(each)) for each in others} | refused
        _set_items(connection, run, [each for each in can if each not in why], ItemState.FED)
        for each, reason in why.items():
            _set_items(connection, run, [each], ItemState.SKIPPED, outcome=SKIPPED, reason=reason)
        if refused:
            says = "a replay skips deliveries that the database refuses to change"
            log.warning(says, about={}, run=run, deliveries=len(refused), reason=next(iter(refused.values())))
        return Counter({SKIPPED: len(why)} if why else {}), len(refused)

    def _note_ended(self, connection: Connection, run: int, now: datetime) -> Counter[str]:
        """Record the ends of fed deliveries, and mark those whose next attempt is due later as retrying."""
        rows = connection.execute(_FED_STANDING, {"run": run, "limit": NOTE, "now": now}).all()
        if not rows:
            rows = connection.execute(_RETRIED, {"run": run, "limit": NOTE}).all()
        ended = [row for row in rows if row.state != State.PENDING]
        groups: dict[tuple[str, str | None], list[int]] = {}
        for row in ended:
            outcome = row.outcome or row.state or SKIPPED
            reason = row.reason if row.state is not None else "The delivery is not kept."
            groups.setdefault((outcome, reason), []).append(row.delivery_id)
        for (outcome, reason), ids in groups.items():
            _set_items(connection, run, ids, ItemState.ENDED, outcome=outcome, reason=reason)
        later = [row.delivery_id for row in rows if row.state == State.PENDING]
        _set_items(connection, run, later, ItemState.RETRYING)
        return Counter(outcome for (outcome, _), ids in groups.items() for _ in ids)

    def _under_way(self, connection: Connection, run: int) -> tuple[bool, bool]:
        """Whether deliveries of the run are being processed, and whether some wait for a later attempt."""
        working, retrying = (
            connection.execute(_ANY[state], {"run": run}).first() is not None
            for state in (ItemState.FED, ItemState.RETRYING)
        )
        return working, retrying


def wanted(arguments: Mapping[str, Any]) -> DeliveryFilter:
    """Parse the filter in a plan's arguments; the inverse of `receiver.search.filters.as_text`."""
    named: dict[str, Any] = {name: value for name, value in arguments.items() if name in _FILTERS and value is not None}
    for name, kind in (("state", State), ("outcome", Outcome), ("begin", _moment), ("end", _moment)):
        if name in named:
            named[name] = kind(named[name])
    return DeliveryFilter(**named)


def keep_forecast(connection: Connection, run: int, made: Forecast) -> None:
    """Store the forecast on its run: complete totals, and at most `MOST_ROWS` rows."""
    summary = made.summary()
    changes = made.changed_rows()[:MOST_ROWS]
    summary["rows_shown"] = len(changes)
    connection.execute(update(RUNS).where(RUNS.c.id == run).values(forecast=summary))
    names = ("table", "source", "external_id", "operation", "before", "after")
    insert_mappings(
        connection, RUN_ROWS, [{"run": run} | {name: getattr(each, name) for name in names} for each in changes]
    )
    groups: dict[tuple[str, str | None], list[int]] = {}
    for each in made.deliveries:
        groups.setdefault((each.outcome, each.reason), []).append(each.delivery_id)
    for (outcome, reason), ids in groups.items():
        connection.execute(_FORESEE, {"of": run, "ids": ids, "becomes": outcome, "why": reason})


def _trouble(live: bool, mark: Mapping[str, Any]) -> str | None:
    says = []
    if refused := mark.get("refused", 0):
        says.append(
            f"The database refused to change {counted(refused, 'delivery')}, which it skipped for the reasons that are "
            "shown with them: mend these, and replay them again."
        )
    if live and not mark["fed"]:
        says.append("It waits for live deliveries.")
    return " ".join(says) or None


def _count_items(connection: Connection, run: int) -> int:
    found = select(func.count()).select_from(RUN_DELIVERIES).where(RUN_DELIVERIES.c.run == run)
    return int(connection.execute(found).scalar_one())


def _set_items(connection: Connection, run: int, ids: Sequence[int], state: ItemState, **values: Any) -> None:
    if ids:
        connection.execute(_OF_RUN.values(state=state.value, **values), {"of": run, "ids": list(ids)})


_FILTERS = {each.name for each in fields(DeliveryFilter)}

_moment = datetime.fromisoformat

_IDS = bindparam("ids", type_=Many(BigInteger))

_OF_RUN = update(RUN_DELIVERIES).where(
    RUN_DELIVERIES.c.run == bindparam("of"), among(RUN_DELIVERIES.c.delivery_id, _IDS)
)

_FORESEE = _OF_RUN.values(forecast=bindparam("becomes"), forecast_reason=bindparam("why"))

_SOURCES = (
    select(DELIVERIES.c.source)
    .join(RUN_DELIVERIES, RUN_DELIVERIES.c.delivery_id == DELIVERIES.c.id)
    .where(RUN_DELIVERIES.c.run == bindparam("run"))
    .distinct()
)

_NEXT = (
    select(RUN_DELIVERIES.c.delivery_id)
    .where(RUN_DELIVERIES.c.run == bindparam("run"), RUN_DELIVERIES.c.delivery_id > bindparam("after"))
    .order_by(RUN_DELIVERIES.c.delivery_id)
    .limit(bindparam("limit"))
)

_STANDING = select(DELIVERIES.c.id, DELIVERIES.c.ended_at.is_not(None).label("has_ended")).where(
    among(DELIVERIES.c.id, _IDS)
)

_FED = in_item_state(ItemState.FED)

_OF_CLAIMABLE = among(DELIVERIES.c.source + "", bindparam("sources", type_=Many(Text)))

_NOW = bindparam("now", type_=UtcDateTime())

_IS_DUE = DELIVERIES.c.due_at <= _NOW

#: The number of deliveries of runs that are pending or processing.
_OUT = (
    select(func.count())
    .select_from(RUN_DELIVERIES)
    .join(DELIVERIES, DELIVERIES.c.id == RUN_DELIVERIES.c.delivery_id)
    .where(_FED, _OF_CLAIMABLE)
    .where((DELIVERIES.c.state == State.PROCESSING.value) | ((DELIVERIES.c.state == State.PENDING.value) & _IS_DUE))
)

#: Finds a due delivery that no run has fed.
_LIVE = (
    select(DELIVERIES.c.id)
    .where(in_state(State.PENDING), DELIVERIES.c.suspect.in_([False, True]), _IS_DUE, _OF_CLAIMABLE)
    .where(~exists().where(RUN_DELIVERIES.c.delivery_id == DELIVERIES.c.id, _FED))
    .limit(1)
)

_ITEM_STANDING = (
    select(RUN_DELIVERIES.c.delivery_id, DELIVERIES.c.state, DELIVERIES.c.outcome, DELIVERIES.c.reason)
    .outerjoin(DELIVERIES, DELIVERIES.c.id == RUN_DELIVERIES.c.delivery_id)
    .where(RUN_DELIVERIES.c.run == bindparam("run"))
    .order_by(RUN_DELIVERIES.c.delivery_id)
    .limit(bindparam("limit"))
)

_IS_OVER = DELIVERIES.c.state.not_in([State.PENDING.value, State.PROCESSING.value]) | DELIVERIES.c.id.is_(None)

#: Selects fed deliveries that have ended or wait for a later attempt.
_FED_STANDING = _ITEM_STANDING.where(
    _FED, _IS_OVER | ((DELIVERIES.c.state == State.PENDING.value) & (DELIVERIES.c.due_at > _NOW))
)

#: Selects retried deliveries that have ended.
_RETRIED = _ITEM_STANDING.where(in_item_state(ItemState.RETRYING), _IS_OVER)

_ANY = {
    state: select(RUN_DELIVERIES.c.run).where(RUN_DELIVERIES.c.run == bindparam("run"), in_item_state(state)).limit(1)
    for state in (ItemState.FED, ItemState.RETRYING)
}
