"""Watching: once a minute each process writes its tallies, and one of them looks what needs a person."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from receiver.database.database import Database
from receiver.findings import duties, tallies
from receiver.findings.counting import RUNNING, WATCHED, KindCount, ProcessCounts, TallyKey
from receiver.findings.gathering import Facts, examine
from receiver.findings.record import Changes, update_record
from receiver.logs.repeats import Repeats
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: Seconds between two rounds, and before the first.
ROUND_SECONDS, FIRST_ROUND_SECONDS = 60.0, 5.0

#: Seconds that the last tallies get when the process stops.
WATCH_STOP_SECONDS = 2.0

#: Seconds that one statement may take.
WATCH_STATEMENT_SECONDS = 10.0

#: The duty of evaluating the rules, and how long whoever has it keeps it.
DUTY, EVALUATION_LEASE = "findings", timedelta(seconds=90)


class FindingsWatch:
    """Writes what this process counts, and evaluates the rules when that is its turn."""

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
        """`database` is one with a connection of its own. `process` is the name that this one is registered by.

        `release` says what runs here now: a release, a space, and the fingerprint of its wiring.
        """
        self._database = database
        self._process = process
        #: The end of the name tells processes apart, and is repeated in every row.
        self._short_name = process.rpartition(":")[2]
        self._facts = facts
        self._release = release
        self._serves = serves
        self._clock = clock
        self._counts = counts or ProcessCounts()
        self._log = Repeats(log)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write the last tallies, and let another process evaluate."""
        self._stopping.set()
        self._thread.join(WATCH_STOP_SECONDS)

    def __enter__(self) -> FindingsWatch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tally(self) -> None:
        """Write what was counted since the last time. Raises SQLAlchemy's error; it is written the next time then."""
        counted = self._counts.look() | {TallyKey("", RUNNING, self._release()): KindCount(1)}
        if self._serves:
            counted[TallyKey("", WATCHED, "")] = KindCount(1)
        with self._database.write() as connection:
            tallies.add(connection, self._short_name, counted, at=self._clock())
        self._counts.settle()

    def evaluate(self) -> Changes | None:
        """Look what needs a person, and log what is new; None if that is another process's turn."""
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
            # Whatever it is, the work goes on, and the next round may do.
            self._log.warning("tallies or findings could not be written", about={}, error=told(error))


def tell(changes: Changes, *, now: datetime) -> None:
    """Log what has opened and closed."""
    for finding in changes.opened:
        log.warning("a finding", rule=finding.rule, source=finding.source, says=finding.says, mend=finding.mend)
    for row in changes.closed:
        lasted = max(now - row["opened_at"], timedelta())
        log.info("a finding has closed", rule=row["rule"], source=row["source"], says=row["says"], lasted=str(lasted))
