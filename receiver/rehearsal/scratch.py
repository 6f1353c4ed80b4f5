"""Runs one side of a rehearsal in a separate process: a real worker over a temporary SQLite file.

The process is separate because the present and the new code may declare the same tables, and because new code may hang
or crash. It opens only the files in its folder.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update

from receiver import codec
from receiver.database.database import Database
from receiver.database.errors import is_infrastructure_error
from receiver.dialects.dialect import Dialect
from receiver.dialects.own_settings import adopt_own_settings
from receiver.dialects.sources import Reference, Source, find_dialects
from receiver.errors import Discard, HookmirrorError
from receiver.inbox.inbox import Inbox
from receiver.inbox.retries import RetrySchedule
from receiver.inbox.tables import ATTEMPTS, DELIVERIES, SETTLEMENTS, State
from receiver.logs import logs
from receiver.logs.safe_text import told_with_type
from receiver.mirror.rows import Write, mirror_tables, own_columns, sql_table
from receiver.rehearsal.kept import add_pending, read_kept, telling_of_scratch
from receiver.rehearsal.outcomes import (
    NOT_REACHED,
    STILL_FAILING,
    THIN,
    WITH_SESSION,
    Job,
    RehearsedDelivery,
    RehearsedRow,
    RehearsedSide,
)
from receiver.settings.settings import Settings, load, settings_folder
from receiver.shadowing import add_folder
from receiver.worker.attempt import Attempt
from receiver.worker.handling import Handling
from receiver.worker.worker import Worker

#: Names of files in the folder of a side.
JOB, SCRATCH, RESULT = "job.json", "scratch.db", "result.json"

#: The number of hanging deliveries after which the side ends.
MOST_HUNG_DELIVERIES = 3

#: The number of failed passes in a row after which the side ends.
MOST_FAILED_PASSES = 10

#: Seconds between polls of the worker.
SCRATCH_LOOK_SECONDS = 0.05

ENDED_PROCESS = "its code ended the process"


def main(folder: Path) -> None:
    """Do the job in the folder, and end the process."""
    logs.configure("error", "console")
    do_job(folder)
    # A handler that hangs would keep the interpreter from ending.
    os._exit(0)


def do_job(folder: Path) -> None:
    """Do the job in the folder, and write the result beside it."""
    job = msgspec.json.decode((folder / JOB).read_bytes(), type=Job)
    try:
        with telling_of_scratch():
            result = _Rehearsing(job, folder).run()
    except HookmirrorError as error:
        result = RehearsedSide(job.reference or "the code in force", refused=str(error))
    unfinished = folder / f"{RESULT}.part"
    unfinished.write_bytes(codec.encode(result))
    unfinished.replace(folder / RESULT)


class _Rehearsing:
    """The job with its loaded dialect. Raises `ConfigurationError` if the dialect is not usable."""

    def __init__(self, job: Job, folder: Path) -> None:
        settings = load()
        self._job, self._folder = job, folder
        dialect = _dialect(settings, job)
        dialect.check()
        mirror_tables()
        account = settings.sources[job.source]
        self._has_api = account.api_url is not None
        asked = account if job.hydrate else account.model_copy(update={"api_url": None})
        if job.hydrate and dialect.settings_model is not None:
            adopt_own_settings(asked, dialect.settings_model)
        # A rehearsal verifies nothing, so credentials for another verifier do no harm.
        self._source = Source(
            job.source,
            dialect,
            account.credentials(),
            asked,
            max_body_bytes=settings.max_body_bytes,
            max_events=settings.max_events_per_body,
        )
        self._retries = RetrySchedule(attempts=settings.max_attempts)
        self._thin: list[RehearsedDelivery] = []
        self._until = monotonic() + job.seconds

    def run(self) -> RehearsedSide:
        with closing(Database(f"sqlite:///{self._folder / SCRATCH}")) as database:
            if not self._job.restarts:
                database.create_tables()
            self._fill(database)
            batch_size = 1 if self._job.restarts else 200
            for _ in range(MOST_HUNG_DELIVERIES):
                if self._drain(database, batch_size):
                    break
            return RehearsedSide(
                self._job.reference or "the code in force", self._deliveries(database), self._rows(database)
            )

    def _fill(self, database: Database) -> None:
        """Make every delivery pending, and mark the delivery that crashed an earlier process."""
        if self._job.restarts:
            _pick_up(database, alone=self._job.restarts > 1)
        without = set(self._job.without)
        for kept, bodies in read_kept(Path(self._job.kept)):
            rows = [row for row in kept if row["id"] not in without]
            thin = {row["id"] for row in rows if self._is_thin(row["event_type"])}
            self._thin += [_rehearsed(row, THIN, _THIN_REASON) for row in rows if row["id"] in thin]
            if not self._job.restarts:
                with database.write() as connection:
                    add_pending(connection, [row for row in rows if row["id"] not in thin], bodies)

    def _is_thin(self, event_type: str | None) -> bool:
        if self._job.hydrate or not self._has_api or event_type is None:
            return False
        return self._source.dialect.hydrator_for(event_type) is not None

    def _drain(self, database: Database, batch_size: int) -> bool:
        """Work until no delivery is due or the time ends; False if a handler hung and another worker must continue.

        Raises the error after which the worker cannot go on.
        """
        worker = _ScratchWorker(
            Inbox(database), {self._source.name: self._source}, batch_size=batch_size, retries=self._retries
        )

        met: list[Exception] = []

        def work() -> None:
            try:
                worker.drain(self._until)
            except Exception as error:
                met.append(error)

        thread = threading.Thread(target=work, name="rehearsal", daemon=True)
        thread.start()
        # Polls are counted, not seconds: a process that was paused as a whole has not polled, and nothing hangs in it.
        seen, still = worker.pulse.at_hand, 0
        while thread.is_alive():
            thread.join(SCRATCH_LOOK_SECONDS)
            now = worker.pulse.at_hand
            still = still + 1 if now == seen and now else 0
            seen = now
            if still * SCRATCH_LOOK_SECONDS > self._job.hang_seconds:
                worker.give_up()
                _end_hung(database, worker.name, {each.delivery for each in now}, self._job.hang_seconds)
                return False
        if met:
            raise met[0]
        return True

    def _deliveries(self, database: Database) -> list[RehearsedDelivery]:
        with database.read() as connection:
            took = _handler_times(connection)
            rows = connection.execute(select(DELIVERIES)).mappings().all()
        found = [_ended(row, took.get(row["id"]) or None) for row in rows]
        return sorted([*found, *self._thin], key=lambda each: each.id)

    def _rows(self, database: Database) -> list[RehearsedRow]:
        found = []
        with database.read() as connection:
            for table in mirror_tables():
                sql = sql_table(table)
                names = (*own_columns(table), "active")
                for row in connection.execute(select(sql).order_by(sql.c.external_id)).mappings():
                    columns = {name: codec.plain(row[name]) for name in names}
                    found.append(RehearsedRow(str(sql.name), row["external_id"], columns, row["versions"]))
        return found


class _WithoutSessions(Handling):
    """Handling that ends deliveries whose handler asks for a session, because its SQL is about the real database."""

    def run_in_savepoint(self, attempt: Attempt, earlier: list[Write], connection: Connection) -> None:  # noqa: ARG002
        with self._guard(attempt, "", in_transaction=True):
            raise Discard(_SESSION_REASON)


class _ScratchWorker(Worker):
    """A worker that runs no SQL of handlers, and ends when it has nothing more to do."""

    def drain(self, until: float) -> None:
        """Work until no delivery is due or the time ends.

        A delivery that makes a pass fail is found as in a running worker, by smaller batches. Raises the scratch
        database's own errors, and `HookmirrorError` if pass after pass fails.
        """
        failures = 0
        while monotonic() < until:
            try:
                if not self.work():
                    return
                failures = 0
            except Exception as error:
                failures += 1
                if is_infrastructure_error(error):
                    raise
                if failures > MOST_FAILED_PASSES:
                    raise HookmirrorError(f"The rehearsal cannot go on: {told_with_type(error)}") from error
                self._make_way(error)

    def _new_handling(self) -> Handling:
        return _WithoutSessions(self._database, self._guarded, self._leases.extend, lambda: self._stopping.is_set())


def _dialect(settings: Settings, job: Job) -> Dialect:
    folder = settings_folder()
    if job.reference is None:
        return find_dialects(settings.dialects, beside=folder)[settings.sources[job.source].dialect]
    add_folder(folder)
    return Reference(job.reference, named="to be rehearsed").load(folder)


def _pick_up(database: Database, *, alone: bool) -> None:
    """Make the deliveries claimed by a crashed process pending; a delivery claimed alone caused the crash."""
    in_hand = DELIVERIES.c.state == State.PROCESSING.value
    ended = {"state": State.DEAD.value, "reason": ENDED_PROCESS, "ended_at": datetime.now(UTC)}
    again: dict[str, Any] = {"state": State.PENDING.value, "attempts": 0, "claimed_by": None}
    with database.write() as connection:
        connection.execute(update(DELIVERIES).where(in_hand).values(ended if alone else again))


def _end_hung(database: Database, worker: str, ids: set[int], seconds: float) -> None:
    """Mark the hanging delivery as dead, and make the others of its batch due again."""
    mine = DELIVERIES.c.claimed_by == worker
    in_hand = DELIVERIES.c.state == State.PROCESSING.value
    reason = f"its code did not return within {seconds:g} seconds"
    ended = {"state": State.DEAD.value, "reason": reason, "ended_at": datetime.now(UTC)}
    with database.write() as connection:
        connection.execute(update(DELIVERIES).where(DELIVERIES.c.id.in_(ids)).values(ended))
        connection.execute(
            update(DELIVERIES).where(mine, in_hand).values(state=State.PENDING.value, attempts=0, claimed_by=None)
        )


def _handler_times(connection: Connection) -> dict[int, int]:
    """The microseconds of each delivery's handler; 0 for a delivery that was not reached."""
    failed = connection.execute(select(ATTEMPTS.c.delivery_id, ATTEMPTS.c.handle_us))
    found = {row.delivery_id: row.handle_us or 0 for row in failed}
    for groups in connection.execute(select(SETTLEMENTS.c.attempts)).scalars():
        for group in groups:
            found.update(zip(group["deliveries"], group["handle_us"], strict=True))
    return found


def _ended(row: Any, handle_us: int | None) -> RehearsedDelivery:
    state = row["state"]
    if row["reason"] == _SESSION_REASON:
        return _rehearsed(row, WITH_SESSION, _SESSION_REASON)
    if state in (State.PENDING, State.PROCESSING):
        state = STILL_FAILING if row["reason"] else NOT_REACHED
    return _rehearsed(row, state, row["reason"], handle_us)


def _rehearsed(row: Any, state: str, reason: str | None, handle_us: int | None = None) -> RehearsedDelivery:
    entity = f"{row['entity_kind']}:{row['entity_id']}" if row["entity_kind"] is not None else None
    return RehearsedDelivery(row["id"], state, reason, row["event_type"], entity, handle_us)


_THIN_REASON = "its event is thin: the source's answer is not kept, and its API was not asked again"

_SESSION_REASON = "its handler takes mirror.session, whose SQL only a worker may run"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
