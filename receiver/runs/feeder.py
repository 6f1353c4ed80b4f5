"""The feeder: steps the runs that are planned or at work, on a thread beside the worker, one process at a time.

A run is taken by a lease in the database, so it goes on in another process, or after a restart, wherever it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.database import Database
from receiver.errors import ConfigurationError, HookmirrorError, RunTaken, UnsteadyListError
from receiver.logs.safe_text import told, told_with_type
from receiver.metrics import metrics
from receiver.moments import time_text
from receiver.runs import runs
from receiver.runs.leases import LeasedRun, lease_run, open_runs
from receiver.runs.retention import drop_old
from receiver.runs.run_kind import RunKind
from receiver.runs.tables import OVER, RunState
from receiver.worker.liveness import deregister, new_name

log = structlog.get_logger(__name__)

#: Seconds between two looks for runs.
RUNS_POLL_INTERVAL = 1.0

#: Seconds until a run whose step failed is tried again; doubled up to the longest.
FIRST_RETRY_DELAY, LONGEST_RETRY_DELAY = 1.0, 60.0

#: Seconds after which a run whose steps fail one after the other is paused.
GIVEN_UP_AFTER = 1_800.0

#: What is not mended by trying again.
HOPELESS = (ConfigurationError, UnsteadyListError)

#: Between two batches of what is too old to be kept, and between two looks for it.
RETENTION_PAUSE, RETENTION_INTERVAL = 1.0, 3_600.0

#: Seconds that a feeder gets to end the step at hand when the process stops.
FEEDER_STOP_TIMEOUT = 5.0


class Feeder:
    """Steps runs of the kinds that it knows. `run` is for a thread of its own."""

    def __init__(
        self,
        database: Database,
        kinds: Iterable[RunKind],
        *,
        keep: timedelta | None = None,
        look: Callable[[], object] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`keep` is how long runs that are over, and actions, are kept; None for ever.

        `look` is called before each look for runs: what it begins is fed at once.
        """
        self.name = new_name()
        self._database = database
        self._kinds: Mapping[str, RunKind] = {kind.name: kind for kind in kinds}
        self._look, self._clock = look, clock
        self._keep, self._drop_at = keep, 0.0
        self._held: dict[int, LeasedRun] = {}
        #: By run, when its next step is, by the monotonic clock; and the pause after a failure.
        self._due: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        #: By run whose last step failed, since when.
        self._failing: dict[int, tuple[float, datetime]] = {}
        self._stopping, self._turn = threading.Event(), threading.Event()

    def run(self) -> None:
        """Step until `stop`."""
        while not self._stopping.is_set():
            try:
                wait = self.step_all()
            except Exception as error:
                # A feeder that ended would leave every run where it is, in silence.
                log.error("runs cannot be fed; trying again", error=told(error), seconds=LONGEST_RETRY_DELAY)
                wait = LONGEST_RETRY_DELAY
            self._turn.wait(wait)
            self._turn.clear()
        self.close()

    def wake(self) -> None:
        """Say that a run was planned, started or resumed. Safe to call from any thread."""
        self._turn.set()

    def stop(self) -> None:
        """End after the step at hand. Safe to call from any thread."""
        self._stopping.set()
        self._turn.set()

    def close(self) -> None:
        """Let others have the runs at once."""
        deregister(self.name)
        for held in self._held.values():
            self._kinds[held.kind].forget(held.run.id)
            try:
                held.release()
            except SQLAlchemyError as error:
                log.debug("a run could not be given back; its lease will end", run=held.run.id, error=told(error))

    def step_all(self) -> float:
        """Step every run whose turn it is, once. Returns the seconds until the next one is due."""
        self._look()
        wanted = open_runs(self._database)
        self._forget(set(self._held) - set(wanted))
        for run in wanted:
            if self._due.get(run, 0.0) <= monotonic() and not self._stopping.is_set():
                self._due[run] = monotonic() + self._step(run)
        self._drop_old()
        self._measure()
        now = monotonic()
        return min((max(self._due[run] - now, 0.0) for run in wanted), default=RUNS_POLL_INTERVAL)

    def step(self, run: int) -> bool:
        """Step this one run, if it is free. Returns whether there is more to do for it. Raises what the step raises."""
        held = self._take(run)
        if held is None:
            return False
        stage = held.run.state
        kind = self._kinds[held.kind]
        progress = kind.plan(held) if stage is RunState.PLANNING else kind.step(held)
        self._due[run] = monotonic() + progress.wait
        if progress.is_last:
            # What comes next is another stage, and may be another process's.
            self._forget({run})
        return not progress.is_last

    def steps(self, run: int) -> Iterator[int]:
        """Step this one run until there is no more to do for it; after each step, what is done so far."""
        while self.step(run):
            yield self._held[run].run.done
            self._turn.wait(max(self._due[run] - monotonic(), 0.0))

    def break_off(self, run: int, trouble: str) -> None:
        """Pause a run that this feeder steps, and say why."""
        held = self._held.get(run)
        try:
            if held is not None:
                held.break_off(trouble)
        except (RunTaken, SQLAlchemyError) as error:
            log.debug("a run could not be paused; its lease will end", run=run, error=told(error))
        self._forget({run})

    def _step(self, run: int) -> float:
        """Step it, and say in how many seconds again; what fails is told on the run, and tried again later."""
        try:
            more = self.step(run)
        except RunTaken:
            self._forget({run})
            return 0.0
        except SQLAlchemyError:
            raise
        except Exception as error:
            return self._pause(run, error)
        self._pauses.pop(run, None)
        self._failing.pop(run, None)
        return max(self._due.get(run, 0.0) - monotonic(), 0.0) if more else RUNS_POLL_INTERVAL

    def _pause(self, run: int, error: Exception) -> float:
        """Let the run wait, longer each time, and say why on it; in the end it waits for a person."""
        trouble = told(error) if isinstance(error, HookmirrorError) else told_with_type(error)
        pause = self._pauses[run] = min(self._pauses.get(run, FIRST_RETRY_DELAY / 2) * 2, LONGEST_RETRY_DELAY)
        since, began_at = self._failing.setdefault(run, (monotonic(), self._clock()))
        is_given_up = isinstance(error, HOPELESS) or monotonic() - since >= GIVEN_UP_AFTER
        then = "pausing it" if is_given_up else "trying again"
        log.warning(f"a step of a run failed; {then}", run=run, error=trouble, seconds=pause)
        held = self._held.get(run)
        if held is None:
            return pause
        try:
            if is_given_up:
                held.break_off(trouble)
                self._forget({run})
            else:
                held.note(f"{trouble} It is tried again, since {time_text(began_at)}, next in {pause:.0f} s.")
        except RunTaken:
            self._forget({run})
        return pause

    def _take(self, run: int) -> LeasedRun | None:
        held = self._held.get(run)
        if held is None:
            held = lease_run(self._database, self.name, run, lease_for=self._lease_for, clock=self._clock)
            if held is None:
                return None
            self._held[run] = held
        return held

    def _lease_for(self, kind: str, sources: Sequence[str]) -> timedelta | None:
        """How long a run is held here; None for one that this process cannot step."""
        known = self._kinds.get(kind)
        return known.lease if known is not None and known.can_take(sources) else None

    def _forget(self, over: Iterable[int]) -> None:
        for run in set(over):
            if run in self._held:
                self._kinds[self._held[run].kind].forget(run)
            memories: tuple[dict[int, Any], ...] = (self._held, self._due, self._pauses, self._failing)
            for known in memories:
                known.pop(run, None)

    def _drop_old(self) -> None:
        if self._keep is None or monotonic() < self._drop_at:
            return
        dropped = drop_old(self._database, before=self._clock() - self._keep)
        self._drop_at = monotonic() + (RETENTION_PAUSE if dropped else RETENTION_INTERVAL)

    def _measure(self) -> None:
        with self._database.read() as connection:
            open_now = runs.counts(connection)
            left = runs.left(connection)
        for state in RunState:
            if state not in OVER:
                metrics.OPEN_RUNS.labels(state.value).set(open_now.get(state.value, 0))
        metrics.RUNS_LEFT.set(left)


class FeederThread:
    """Keeps one feeder going beside the worker of a process."""

    def __init__(self, feeder: Callable[[], Feeder], *, name: str = "feeder") -> None:
        self._new_feeder, self._name = feeder, name
        self._begin()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Say that a run was planned, started or resumed."""
        self._feeder.wake()

    def renew(self) -> None:
        """Go on with other settings, after the step at hand."""
        self._feeder.stop()
        self._begin()
        self._thread.start()

    def stop(self) -> None:
        """End after the step at hand; after `FEEDER_STOP_TIMEOUT` its lease is left to end by itself."""
        self._feeder.stop()
        self._thread.join(FEEDER_STOP_TIMEOUT)

    def _begin(self) -> None:
        self._feeder = self._new_feeder()
        self._thread = threading.Thread(target=self._feeder.run, name=self._name, daemon=True)
