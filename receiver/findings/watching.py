"""Watching: once a minute each process writes its tallies, and one of them evaluates the rules."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from receiver.database.database import Database
from receiver.findings import duties, tallies
from receiver.findings.counting import (
    RUNNING,
    SECRETS_SET,
    TALLIES_WAIT,
    WATCHED,
    Counted,
    KindCount,
    ProcessCounts,
    TallyKey,
    summed,
)
from receiver.findings.gathering import Facts, examine
from receiver.findings.record import Changes, update_record
from receiver.findings.secret_uses import marks_of_sources
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told
from receiver.worker.liveness import short_name

log = structlog.get_logger(__name__)

#: Seconds between two rounds, and before the first.
ROUND_SECONDS, FIRST_ROUND_SECONDS = 60.0, 5.0

#: Seconds for writing the last tallies when the process stops.
WATCH_STOP_SECONDS = 2.0

#: The time limit of one statement in seconds.
WATCH_STATEMENT_SECONDS = 10.0

#: The duty of evaluating the rules, and the length of its lease.
DUTY, EVALUATION_LEASE = "findings", timedelta(seconds=90)


class CountedMinute(NamedTuple):
    """The counts of one round, and its time."""

    at: datetime
    counted: Counted


class UncertainWrite(NamedTuple):
    """Counts that may have been written, because the answer to their commit was lost."""

    #: The minute and the key that every write raises by one, and its number before.
    at: datetime
    running: TallyKey
    before: int
    #: The counts, oldest first.
    counts: Sequence[CountedMinute]


class FindingsWatch:
    """Writes the tallies of this process, and evaluates the rules while it holds that duty."""

    def __init__(
        self,
        database: Database,
        process: str,
        facts: Callable[[], Facts],
        *,
        release: Callable[[], str],
        serves: bool,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        counts: ProcessCounts | None = None,
    ) -> None:
        """`database` has a connection of its own. `process` is the name under which this process is registered.

        `release` returns what runs here now: a release, a space, and the fingerprint of its wiring.
        """
        self._database = database
        self._process = process
        #: Short, because every row repeats it.
        self._short_name = short_name(process)
        self._facts = facts
        self._release = release
        self._serves = serves
        self._clock = clock
        self._counts = counts or ProcessCounts()
        #: The mark of all secrets of each source, as tallied last.
        self._secrets: Mapping[str, str] = {}
        #: The counts that are not written yet, oldest first, without those of an uncertain write.
        self._waiting: list[CountedMinute] = []
        self._uncertain: UncertainWrite | None = None
        self._log = Repeats(log)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write the last tallies, and release the duty."""
        self._stopping.set()
        self._thread.join(WATCH_STOP_SECONDS)

    def __enter__(self) -> FindingsWatch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tally(self) -> None:
        """Write the counts since the last call.

        Raises SQLAlchemy's error; the counts then wait, each for its own minute, and the next call writes all of them.
        """
        now = self._clock()
        self._waiting.append(CountedMinute(now, self._counted()))
        self._sum_up_oldest(now)
        # What runs is tallied only while the database answers: no source is silent while nothing can be accepted.
        running = TallyKey("", RUNNING, self._release())
        present = {running: KindCount(1)}
        if self._serves:
            present[TallyKey("", WATCHED, "")] = KindCount(1)
        with self._database.write() as connection:
            self._decide_uncertain(connection)
            self._sum_up_oldest(now)
            before = tallies.number_at(connection, self._short_name, running, now)
            *earlier, last = self._waiting
            self._uncertain, self._waiting = UncertainWrite(now, running, before, self._waiting), []
            for each in (*earlier, CountedMinute(now, {**last.counted, **present})):
                tallies.add(connection, self._short_name, each.counted, at=each.at)
        self._uncertain = None

    def _sum_up_oldest(self, now: datetime) -> None:
        """Count the minutes of a long outage together that are older than `TALLIES_WAIT`."""
        while abs(now - self._waiting[0].at) > TALLIES_WAIT:
            oldest, following, *others = self._waiting
            self._waiting = [CountedMinute(following.at, summed(oldest.counted, following.counted)), *others]

    def _decide_uncertain(self, connection: Connection) -> None:
        """Let the counts of a write that failed wait again, unless it was committed although it failed."""
        tried = self._uncertain
        if tried is None:
            return
        if tallies.number_at(connection, self._short_name, tried.running, tried.at) == tried.before:
            self._waiting = [*tried.counts, *self._waiting]
        self._uncertain = None

    def _counted(self) -> Counted:
        """The counts since the last call, with the changes of secrets."""
        secrets = marks_of_sources(self._facts().sources) if self._serves else {}
        changed = secrets.items() - self._secrets.items()
        self._secrets = secrets
        set_now = {TallyKey(source, SECRETS_SET, mark): KindCount(1) for source, mark in changed}
        return self._counts.look() | set_now

    def evaluate(self) -> Changes | None:
        """Evaluate the rules, record the findings and log the changes; None while another process holds the duty."""
        now = self._clock()
        if not duties.take(self._database, DUTY, self._process, now=now, lease=EVALUATION_LEASE):
            return None
        changes = update_record(self._database, examine(self._database, self._facts(), now=now), now=now)
        tell(changes, now=now)
        return changes

    def _run(self) -> None:
        pause = FIRST_ROUND_SECONDS
        while not self._stopping.wait(pause):
            pause = ROUND_SECONDS
            self._try(self.tally)
            self._try(self.evaluate)
        self._try(self.tally)
        self._try(lambda: duties.leave(self._database, DUTY, self._process, now=self._clock()))

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:
            # No failure here may end the process; the next round tries again.
            self._log.warning("cannot write tallies or findings", about={}, error=told(error))


def tell(changes: Changes, *, now: datetime) -> None:
    """Log the findings that were opened or closed."""
    for finding in changes.opened:
        log.warning("a finding", rule=finding.rule, source=finding.source, says=finding.says, mend=finding.mend)
    for row in changes.closed:
        lasted = max(now - row["opened_at"], timedelta())
        log.info("a finding has closed", rule=row["rule"], source=row["source"], says=row["says"], lasted=str(lasted))
