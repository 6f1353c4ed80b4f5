"""The feeder: steps the runs that are planned or at work, on a thread beside the worker, one process at a time.

A lease in the database assigns each run to one feeder, so any process can continue it after a restart.
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
from receiver.database.errors import explain_lock, is_fault_of_values, is_infrastructure_error, is_lock_timeout
from receiver.errors import (
    ConfigurationError,
    EndlessListError,
    HookmirrorError,
    NoAnswersError,
    RunTaken,
    UnsteadyListError,
)
from receiver.loading import is_of_the_code
from receiver.logs.safe_text import sentence, told, told_with_type
from receiver.metrics import metrics
from receiver.moments import time_text
from receiver.runs import runs
from receiver.runs.leases import LeasedRun, lease_run, open_runs
from receiver.runs.retention import drop_old
from receiver.runs.run_kind import RunKind, refuse_damaged
from receiver.runs.runs import Holder
from receiver.runs.tables import OVER, RunState
from receiver.worker.liveness import deregister, new_name

log = structlog.get_logger(__name__)

#: Seconds between polls for runs.
RUNS_POLL_INTERVAL = 1.0

#: Seconds before a failed step is retried, doubled after each failure up to the second value.
FIRST_RETRY_DELAY, LONGEST_RETRY_DELAY = 1.0, 60.0

#: Seconds of consecutive failures after which a run is paused.
GIVEN_UP_AFTER = 1_800.0

#: Errors that no retry can mend.
HOPELESS = (ConfigurationError, EndlessListError, NoAnswersError, UnsteadyListError)

#: Seconds between two batches of retention, and between two checks for expired rows.
RETENTION_PAUSE, RETENTION_INTERVAL = 1.0, 3_600.0

#: Seconds for the current step to end when the process stops.
FEEDER_STOP_TIMEOUT = 5.0


class Feeder:
    """Steps runs of the given kinds. `run` blocks, so call it on a separate thread."""

    def __init__(
        self,
        database: Database,
        kinds: Iterable[RunKind],
        *,
        keep: timedelta | None = None,
        look: Callable[[], object] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`keep` is the retention period of finished runs and of actions; None keeps them for ever.

        `look` is called before each poll for runs, so that a run that it begins is fed at once.
        """
        self.name = new_name()
        self._database = database
        self._kinds: Mapping[str, RunKind] = {kind.name: kind for kind in kinds}
        self._look, self._clock = look, clock
        self._keep, self._drop_at = keep, 0.0
        self._held: dict[int, LeasedRun] = {}
        #: By run, the monotonic time of its next step, and the pause after a failure.
        self._due: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        #: By run, the time of the first of its consecutive failures.
        self._failing: dict[int, tuple[float, datetime]] = {}
        #: By failed work beside the steps, the monotonic time at which it is done again.
        self._put_off: dict[str, float] = {}
        self._stopping, self._turn = threading.Event(), threading.Event()

    def holder(self, kind: str) -> Holder:
        """This feeder as the holder of a new run, which no other feeder then takes before the first step."""
        return Holder(self.name, self._kinds[kind].lease)

    def run(self) -> None:
        """Step runs until `stop` is called."""
        while not self._stopping.is_set():
            try:
                wait = self.step_all()
            except BaseException as error:
                # Every error is caught, because without the feeder all runs would stand still without a log line. In
                # this thread, even those that do not derive from `Exception` come from a dialect's code.
                of, wait = ", ".join(self._kinds), LONGEST_RETRY_DELAY
                log.error("cannot step runs; trying again", kinds=of, error=told(error), seconds=wait)
            if self._turn.wait(wait):
                self._turn.clear()
                self._look_anew()
        self.close()

    def wake(self) -> None:
        """Check for runs at once, after one was planned, started or resumed. Safe to call from any thread."""
        self._turn.set()

    def _look_anew(self) -> None:
        """Let the runs that this feeder does not hold be due, except those that wait after a failure."""
        self._due = {run: due for run, due in self._due.items() if run in self._held or run in self._pauses}

    def stop(self) -> None:
        """End after the current step. Safe to call from any thread."""
        self._stopping.set()
        self._turn.set()

    def close(self) -> None:
        """Release all leases, so that other feeders can continue the runs at once."""
        deregister(self.name)
        for held in self._held.values():
            self._kinds[held.kind].forget(held.run.id)
            try:
                held.release()
            except SQLAlchemyError as error:
                log.debug("cannot release the lease of a run; it will expire", run=held.run.id, error=told(error))

    def step_all(self) -> float:
        """Step each due run once, and return the seconds until the next run is due."""
        self._beside("begin the runs that are due", self._look)
        wanted = open_runs(self._database)
        self._forget(set(self._held) - set(wanted))
        for run in wanted:
            if self._due.get(run, 0.0) <= monotonic() and not self._stopping.is_set():
                self._due[run] = monotonic() + self._step(run)
        self._beside("drop old runs", self._drop_old)
        self._beside("count the runs", self._measure)
        now = monotonic()
        return min((max(self._due.get(run, now) - now, 0.0) for run in wanted), default=RUNS_POLL_INTERVAL)

    def _beside(self, what: str, work: Callable[[], object]) -> None:
        """Do work beside the steps, which only a failure of the database as a whole may hold up."""
        if monotonic() < self._put_off.get(what, 0.0):
            return
        try:
            work()
        except Exception as error:
            if is_infrastructure_error(error):
                raise
            log.warning(f"cannot {what}; trying again", error=told_with_type(error), seconds=LONGEST_RETRY_DELAY)
            self._put_off[what] = monotonic() + LONGEST_RETRY_DELAY

    def step(self, run: int) -> bool:
        """Step this run if no other feeder holds it, and return whether work remains. Raises the errors of the step."""
        held = self._take(run)
        if held is None:
            return False
        refuse_damaged(held.run)
        stage = held.run.state
        kind = self._kinds[held.kind]
        progress = kind.plan(held) if stage is RunState.PLANNING else kind.step(held)
        self._due[run] = monotonic() + progress.wait
        if progress.is_last:
            # The next stage may belong to another process.
            self._forget({run})
        return not progress.is_last

    def steps(self, run: int) -> Iterator[int]:
        """Step this run until no work remains. Yields the number of finished deliveries or rows after each step."""
        while self.step(run):
            yield self._held[run].run.done
            self._turn.wait(max(self._due[run] - monotonic(), 0.0))

    def break_off(self, run: int, trouble: str) -> None:
        """Pause a run that this feeder steps, and store the reason on it."""
        try:
            self._break_off(run, trouble)
        except (RunTaken, SQLAlchemyError) as error:
            log.debug("cannot pause a run; its lease will expire", run=run, error=told(error))
        self._forget({run})

    def _step(self, run: int) -> float:
        """Step a run, and return the seconds until its next step; a failure is stored on the run and retried."""
        before, done = self._committed_at(run), self._done(run)
        try:
            more = self.step(run)
        except RunTaken:
            self._forget({run})
            return 0.0
        except BaseException as error:
            if not is_of_the_code(error):
                raise
            if self._done(run) != done:
                # The failure itself stored what earlier steps had read.
                self._end_failures(run)
            return self._pause(run, error)
        if not more or self._committed_at(run) != before:
            # Steps that store nothing, such as pages in memory, are repeated after the next failure.
            self._end_failures(run)
        return max(self._due.get(run, 0.0) - monotonic(), 0.0) if more else RUNS_POLL_INTERVAL

    def _end_failures(self, run: int) -> None:
        """Forget the failures so far, so that the next one is the first of a series."""
        self._pauses.pop(run, None)
        self._failing.pop(run, None)

    def _done(self, run: int) -> int | None:
        """The stored progress of a run that this feeder steps."""
        held = self._held.get(run)
        return None if held is None else held.run.done

    def _committed_at(self, run: int) -> float | None:
        held = self._held.get(run)
        return None if held is None else held.committed_at

    def _pause(self, run: int, error: BaseException) -> float:
        """Postpone a run after a failure, longer each time, and store the reason; in the end, pause it for a person.

        Raises the database's error if the database as a whole fails, so that the reason cannot be stored, either.
        """
        trouble = _reason(error)
        pause = self._pauses[run] = min(self._pauses.get(run, FIRST_RETRY_DELAY / 2) * 2, LONGEST_RETRY_DELAY)
        since, began_at = self._failing.setdefault(run, (monotonic(), self._clock()))
        is_given_up = _is_hopeless(error) or monotonic() - since >= GIVEN_UP_AFTER
        then = "pausing it" if is_given_up else "trying again"
        log.warning(f"a step of a run failed; {then}", run=run, error=trouble, seconds=pause)
        try:
            if is_given_up:
                self._break_off(run, trouble)
            elif run in self._held:
                since_then = f"It has failed since {time_text(began_at)}, and is tried again in {pause:.0f} s."
                self._held[run].note(f"{sentence(trouble)} {since_then}")
            elif is_infrastructure_error(error):
                raise error
        except RunTaken:
            self._forget({run})
        except SQLAlchemyError as failure:
            if is_infrastructure_error(failure):
                # The time for which the database is away must not count against the run.
                self._end_failures(run)
                raise
            log.warning("cannot store why a run does not progress", run=run, error=told(failure))
        return pause

    def _break_off(self, run: int, trouble: str) -> None:
        held = self._held.get(run)
        if held is not None:
            held.break_off(trouble)
            self._forget({run})

    def _take(self, run: int) -> LeasedRun | None:
        held = self._held.get(run)
        if held is None:
            held = lease_run(self._database, self.name, run, lease_for=self._lease_for, clock=self._clock)
            if held is None:
                return None
            self._held[run] = held
        return held

    def _lease_for(self, kind: str, sources: Sequence[str]) -> timedelta | None:
        """The length of this process's lease on such a run; None for a run that it cannot step."""
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


def _is_hopeless(error: BaseException) -> bool:
    return isinstance(error, HOPELESS) or (isinstance(error, SQLAlchemyError) and is_fault_of_values(error))


def _reason(error: BaseException) -> str:
    """Say why a step failed, and for refused values what to do."""
    if isinstance(error, HookmirrorError):
        return told(error)
    if is_lock_timeout(error):
        return explain_lock(error)
    if isinstance(error, SQLAlchemyError) and is_fault_of_values(error):
        return (
            f"The database cannot store a value of this run ({told_with_type(error)}): correct the value at its "
            "source, or the constraint of the table."
        )
    return told_with_type(error)


class FeederThread:
    """Runs one feeder on a thread beside the worker of a process."""

    def __init__(self, feeder: Callable[[], Feeder], *, name: str = "feeder") -> None:
        self._new_feeder, self._name = feeder, name
        self._begin()

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Check for runs at once, after one was planned, started or resumed."""
        self._feeder.wake()

    def renew(self) -> None:
        """Continue with the new settings, after the current step."""
        self._feeder.stop()
        self._begin()
        self._thread.start()

    def stop(self) -> None:
        """End after the current step; after `FEEDER_STOP_TIMEOUT` seconds, leave its lease to expire."""
        self._feeder.stop()
        self._thread.join(FEEDER_STOP_TIMEOUT)

    def _begin(self) -> None:
        self._feeder = self._new_feeder()
        self._thread = threading.Thread(target=self._feeder.run, name=self._name, daemon=True)
