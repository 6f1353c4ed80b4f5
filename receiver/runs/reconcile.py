"""Reconcile as a run: walks through a source's list, page by page, and gives way to live deliveries.

Each transaction of the walk also stores the mark, from which any process can continue, and the run's progress.
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
from receiver.runs.leased_walk import LeasedWalk, kept_at, mark_of, walk_name
from receiver.runs.run_kind import Progress, RunLease
from receiver.runs.runs import has_worker
from receiver.runs.tables import OVER, RUNS, RunState

#: The lease of a step, long because one page may need many requests to the source.
RECONCILE_LEASE = timedelta(minutes=15)

#: Seconds for which a delivery must have been due to make a page wait, the longest wait, and the time between polls.
LIVE_WORK_WAITS, LONGEST_WAY, LIVE_WORK_POLL = 1.0, 30.0, 0.2

#: A walk that stood still for longer starts from the beginning, because too much may have changed on earlier pages.
RESUMED_WITHIN = timedelta(hours=1)

#: The age at which the keys of an abandoned walk are dropped, and of a walk without a run, which may still be at work.
LEFT_BEHIND, LEFT_BEHIND_ALONE = timedelta(days=2), timedelta(days=30)

#: The kinds of runs that walk through a source's list.
RECONCILE, DATE_BACK = "reconcile", "date_back"

#: The reason that is shown for a run whose page waits.
WAITS = "It waits for live deliveries."


class Reconcile:
    """The kind of run that compares the mirror with a source's own list, and repairs rows that differ."""

    lease = RECONCILE_LEASE

    def __init__(
        self,
        inbox: Inbox,
        sources: Mapping[str, Source],
        clock: Callable[[], datetime],
        *,
        only_misdated: bool = False,
        waits: bool = True,
    ) -> None:
        """With `only_misdated`, the kind only dates back rows with future dates, and needs no list.

        `waits` says whether a step that fails is tried again.
        """
        self._waits = waits
        self.name = DATE_BACK if only_misdated else RECONCILE
        self._only_misdated = only_misdated
        self._inbox, self._sources, self._clock = inbox, sources, clock
        self._walks: dict[int, LeasedWalk] = {}
        #: By run, the time since which its page waits for live deliveries.
        self._waiting: dict[int, float] = {}

    @property
    def _database(self) -> Database:
        return self._inbox.database

    def can_take(self, sources: Sequence[str]) -> bool:
        return all(source in self._sources for source in sources)

    def forget(self, run: int) -> None:
        """Drop the walk from memory; the next step continues from the last stored mark."""
        self._waiting.pop(run, None)
        walk = self._walks.pop(run, None)
        if walk is not None:
            walk.close()

    def plan(self, held: RunLease) -> Progress:
        """Process one page without changing the mirror, and store the foreseen rows."""
        return self._make_way(held) or self._walk(held)

    def step(self, held: RunLease) -> Progress:
        """Process one page. Raises `ApiError` if the list cannot be read."""
        return self._make_way(held) or self._walk(held)

    def _make_way(self, held: RunLease) -> Progress | None:
        """Postpone the page while live deliveries wait, if a worker is alive to handle them."""
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
            with foreign_code(f"The list of {held.run.sources[0]}"):
                walk = self._walks.get(run) or self._begin(held)
                progress = walk.step()
        except BaseException:
            # The walk in memory may be ahead of the last stored mark.
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
        walk = LeasedWalk(self._database, source, self._asking(source), mark, held, self._clock, waits=self._waits)
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
        oldest, oldest_alone = (new_mark(source, now=now - age).run for age in (LEFT_BEHIND, LEFT_BEHIND_ALONE))
        drop_older(self._database, oldest, oldest_alone=oldest_alone, keep=self._unfinished_walks())
        if held.run.mark is not None:
            mark = mark_of(held.run.mark)
            if abs(now - kept_at(held.run.mark)) < RESUMED_WITHIN:
                return mark
            drop(self._database, mark.run)
        force = bool(held.run.arguments.get("force"))
        return new_mark(source, now=now, plan=plan, force=force, only_misdated=self._only_misdated)

    def _unfinished_walks(self) -> set[str]:
        """The names of walks of unfinished runs of both kinds, whose keys must be kept."""
        walks = RUNS.c.kind.in_([RECONCILE, DATE_BACK])
        is_open = RUNS.c.state.not_in([state.value for state in OVER])
        open_walks = select(RUNS.c.mark).where(is_open, walks, RUNS.c.mark.is_not(None))

        def read() -> set[str]:
            with self._database.read() as connection:
                names = {walk_name(mark) for mark in connection.execute(open_walks).scalars()}
                return {name for name in names if name is not None}

        return retry_transaction(read)


def check_reconcilable(source: Source) -> None:
    """Raise `ConfigurationError` for a source without a list or an API."""
    check_listing(source)
    if source.settings.api_url is None:
        raise ConfigurationError(f"The source {source.name} has no `api_url`: set it, and the keys that its API wants.")
