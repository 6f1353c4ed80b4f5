"""Reconcile as a run: a walk through a source's own list, page by page, behind live work.

Each transaction of the walk is one of the run: it keeps the mark from which any process goes on, and the run's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic

from sqlalchemy import select

from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError
from receiver.inbox.inbox import Inbox
from receiver.loading import foreign_code
from receiver.reconcile.mark import Mark, new_mark
from receiver.reconcile.question import Asking
from receiver.reconcile.reconciling import check_listing
from receiver.reconcile.seen import drop, drop_older
from receiver.runs.leased_walk import LeasedWalk, kept_at, mark_of
from receiver.runs.run_kind import Progress, RunLease
from receiver.runs.runs import has_worker
from receiver.runs.tables import OVER, RUNS, RunState

#: How long a process may be silent in a step: a page with many questions takes its time.
RECONCILE_LEASE = timedelta(minutes=15)

#: A page waits while a delivery has been due for so many seconds; it waits for so many at most, and looks as often.
LIVE_WORK_WAITS, LONGEST_WAY, LIVE_WORK_POLL = 1.0, 30.0, 0.2

#: How long after its last page a walk is gone on with; later, too much has changed behind it, and it begins anew.
RESUMED_WITHIN = timedelta(hours=1)

#: What walks have left behind that nobody goes on with is dropped after this.
LEFT_BEHIND = timedelta(days=2)

#: The kinds of runs that walk.
RECONCILE, DATE_BACK = "reconcile", "date_back"

#: What is said of a run whose page waits.
WAITS = "It waits for live deliveries."


class Reconcile:
    """The kind of run that compares a source with its own list, and repairs what differs."""

    lease = RECONCILE_LEASE

    def __init__(
        self,
        inbox: Inbox,
        sources: Mapping[str, Source],
        clock: Callable[[], datetime],
        *,
        only_misdated: bool = False,
    ) -> None:
        """With `only_misdated` it does what comes before the list, and needs none: a kind of its own."""
        self.name = DATE_BACK if only_misdated else RECONCILE
        self._only_misdated = only_misdated
        self._inbox, self._sources, self._clock = inbox, sources, clock
        self._walks: dict[int, LeasedWalk] = {}
        #: By run whose page waits for live deliveries, since when.
        self._waiting: dict[int, float] = {}

    @property
    def _database(self) -> Database:
        return self._inbox.database

    def can_take(self, sources: Sequence[str]) -> bool:
        return all(source in self._sources for source in sources)

    def forget(self, run: int) -> None:
        """Let go of the walk; the next step goes on from the mark that was kept last."""
        self._waiting.pop(run, None)
        walk = self._walks.pop(run, None)
        if walk is not None:
            walk.close()

    def plan(self, held: RunLease) -> Progress:
        """Do one page of a walk that only tells what it would do."""
        return self._make_way(held) or self._walk(held)

    def step(self, held: RunLease) -> Progress:
        """Do one page. Raises `ApiError` if the list breaks off."""
        return self._make_way(held) or self._walk(held)

    def _make_way(self, held: RunLease) -> Progress | None:
        """Wait while live work waits, if somebody is there to do it."""
        run = held.run.id
        due = self._inbox.oldest_due_seconds(sorted(self._sources), now=held.now)
        if due >= LIVE_WORK_WAITS and has_worker(self._database, now=held.now):
            since = self._waiting.setdefault(run, monotonic())
            if monotonic() - since < LONGEST_WAY:
                waiting = Progress(held.run.mark, wait=LIVE_WORK_POLL, trouble=WAITS)
                return held.commit(lambda _: waiting) if held.must_show_life else waiting
        self._waiting.pop(run, None)
        return None

    def _walk(self, held: RunLease) -> Progress:
        run = held.run.id
        try:
            walk = self._walks.get(run) or self._begin(held)
            with foreign_code(f"The list of {held.run.sources[0]}"):
                progress = walk.step()
        except BaseException:
            # Its memory may be ahead of the mark that was kept last.
            self.forget(run)
            raise
        if progress.is_last:
            self.forget(run)
            walk.finish()
        return progress

    def _begin(self, held: RunLease) -> LeasedWalk:
        (name,) = held.run.sources
        source = self._sources[name]
        mark = self._mark(held, name)
        walk = LeasedWalk(self._database, source, self._asking(source), mark, held, self._clock)
        self._walks[held.run.id] = walk
        return walk

    def _asking(self, source: Source) -> Asking | None:
        if self._only_misdated:
            return None
        check_listing(source)
        return Asking(source, self._clock)

    def _mark(self, held: RunLease, source: str) -> Mark:
        """The stored mark of the run, or a new one. Drops abandoned walks."""
        now, plan = self._clock(), held.run.state is RunState.PLANNING
        drop_older(self._database, new_mark(source, now=now - LEFT_BEHIND).run, keep=self._gone_on_with())
        if held.run.mark is not None:
            mark = mark_of(held.run.mark)
            if abs(now - kept_at(held.run.mark)) < RESUMED_WITHIN:
                return mark
            drop(self._database, mark.run)
        force = bool(held.run.arguments.get("force"))
        return new_mark(source, now=now, plan=plan, force=force, only_misdated=self._only_misdated)

    def _gone_on_with(self) -> set[str]:
        """The names of the walks of runs that are not over, whose keys must stay."""
        open_walks = select(RUNS.c.mark).where(
            RUNS.c.state.not_in([state.value for state in OVER]), RUNS.c.kind == self.name, RUNS.c.mark.is_not(None)
        )

        def read() -> set[str]:
            with self._database.read() as connection:
                return {mark_of(mark).run for mark in connection.execute(open_walks).scalars() if mark is not None}

        return retry_transaction(read)


def check_reconcilable(source: Source) -> None:
    """Raises `ConfigurationError` for a source without a list or an API."""
    check_listing(source)
    if source.settings.api_url is None:
        raise ConfigurationError(f"The source {source.name} has no `api_url`: set it, and the keys that its API wants.")
