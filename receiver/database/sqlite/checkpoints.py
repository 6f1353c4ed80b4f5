"""Checkpoints of the SQLite file: from its log into the database, beside the commits.

One process makes them, on a thread of its own, and sees their errors; SQLite itself makes none. docs/decisions/0016
says why it is done so, and why nothing is lost by any flush that fails.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from receiver.database.sqlite import connections as sqlite
from receiver.database.sqlite.soundness import Soundness
from receiver.database.sqlite.wal import Wal, size
from receiver.logs.safe_text import told, told_with_type, traced

log = structlog.get_logger(__name__)

#: Frames in the log that are copied as soon as they are there, and those that may still be copied while writers wait.
STEP, REST = 1_000, 200

#: Seconds between polls of the log while it grows, while it does not, and after a reader blocked a checkpoint or an
#: error occurred.
POLL, IDLE_POLL, RETRY_PAUSE = 0.02, 0.25, 0.5

#: Seconds without a commit after which everything is copied, and a log that has grown beyond `sqlite.LOG_LIMIT` is cut.
QUIET = 1.0

#: Seconds for another process to commit, before a commit of our own is made in its place.
OTHERS_COMMIT = 0.002

#: Seconds that the thread gets to end when the process stops.
CHECKPOINT_STOP_TIMEOUT = 5.0


class Checkpoints:
    """Copies the log of one database. An error makes the database doubtful until the file is proved sound."""

    def __init__(self, path: str, turn: threading.Lock) -> None:
        """`turn` is the lock that the writers of this process hold. Raises `sqlite3.Error` or `OSError`."""
        self._path = path
        self._turn = turn
        #: The first keeps a state of the log, or the others from writing; the second copies.
        self._holder, self._copier = sqlite.connect(path), sqlite.connect(path)
        page_size = self._copier.execute("PRAGMA page_size").fetchone()[0]
        # A connection has the log open once it has read.
        self._holder.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        self._wal = Wal(path, page_size)
        self.soundness = Soundness(path)
        #: Whether this process makes the checkpoints; and whether it has shown the file sound since the last error.
        self._in_charge = self._proven = False
        self._stopping = threading.Event()
        self._seen = self._quiet_since = 0.0
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def start(self) -> None:
        """Start the thread; return when the database is sound, or attempts to prove it sound have begun."""
        if self.soundness.take_charge():
            # No other process has the file open or copies its log: what is left in the log may never have been flushed.
            self._in_charge = True
            self.soundness.doubt()
            with self._troubles():
                self._prove()
        self._thread.start()

    def stop(self) -> None:
        """End before the connections of this process are closed, the last of which copies what is left."""
        self._stopping.set()
        self._thread.join(CHECKPOINT_STOP_TIMEOUT)
        # A process whose thread died takes charge again, unless another process has.
        in_charge = self._in_charge or self.soundness.take_charge()
        if in_charge and not self.soundness.holds():
            self._wal.set_back()

    @property
    def is_dead(self) -> bool:
        """Whether the thread has ended without being stopped."""
        return not self._stopping.is_set() and not self._thread.is_alive()

    def close(self) -> None:
        """Close the file, after every other connection of this process is closed."""
        sqlite.disconnect(self._holder, self._path)
        sqlite.disconnect(self._copier, self._path)
        self.soundness.close()
        if not sqlite.is_open(self._path):
            self._wal.close()

    def _run(self) -> None:
        pause = POLL
        try:
            while not self._stopping.wait(pause):
                pause = RETRY_PAUSE
                with self._troubles():
                    pause = self._poll()
        finally:
            if not self._stopping.is_set():
                log.critical("this process makes no checkpoints any more; restart it")
                # Another process may succeed.
                self._in_charge = False
                self.soundness.let_go()

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if _is_of_the_disk(error):
                self._doubt()
                log.error("the database is doubtful; no acks until it is shown to be sound", error=told(error))
            elif not (isinstance(error, sqlite3.Error) and sqlite.is_busy(error)):
                log.error("a checkpoint failed; trying again", error=told(error))
            self._flush_again()
        except Exception as error:
            # Any error may have occurred between a copy and its flush.
            self._doubt()
            log.error(
                "a checkpoint failed in an unexpected way; no acks until the database is shown to be sound",
                **_shown(error),
            )
            self._flush_again()

    def _flush_again(self) -> None:
        with suppress(sqlite3.Error):
            self._copier.execute("PRAGMA synchronous=FULL")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the turn to write; after an error, release it only when the file is marked as doubtful."""
        with self._turn:
            try:
                yield
            except (sqlite3.Error, OSError) as error:
                if _is_of_the_disk(error):
                    self._doubt()
                raise

    def _doubt(self) -> None:
        self._proven = False
        self.soundness.doubt()

    # ── one poll ──────────────────────────────────────────────────────────────────────────────────────────────

    def _poll(self) -> float:
        """Copy due frames, and return the seconds until the next poll."""
        self.soundness.tell()
        if not self._in_charge:
            self._in_charge = self.soundness.take_charge()
            if not self._in_charge:
                return IDLE_POLL
        # Not proven yet in a process that was not in charge before: what the other did when it ended is not known.
        if not (self._proven and self.soundness.holds()):
            self._prove()
        return self._step() if self._proven and self.soundness.holds() else RETRY_PAUSE

    def _step(self) -> float:
        frames, waiting = self._wal.frames(), self._waiting()
        now = time.monotonic()
        if frames != self._seen:
            self._seen, self._quiet_since = frames, now
        quiet = now - self._quiet_since > QUIET
        if waiting < STEP and not (waiting and quiet):
            if quiet and size(self._path) > sqlite.LOG_LIMIT:
                self._cut()
            return IDLE_POLL if quiet else POLL
        while waiting > REST:
            self._copy_beside()
            waiting, before = self._waiting(), waiting
            if waiting >= before or self._stopping.is_set():
                return RETRY_PAUSE
        return POLL if self._copy_the_rest() else RETRY_PAUSE

    def _waiting(self) -> int:
        """Frames that are not copied."""
        return max(self._wal.frames() - self._wal.copied(), 0)

    # ── the parts of a checkpoint ─────────────────────────────────────────────────────────────────────────────

    def _copy_beside(self) -> None:
        """Copy the present frames while others write, and flush them.

        Meanwhile a read transaction keeps the log from beginning anew, since SQLite counts as copied what is not yet
        flushed; and a commit after it keeps SQLite from counting all as copied, should this process be killed.
        """
        with self._held():
            held = self._wal.frames()
            time.sleep(OTHERS_COMMIT)
            if self._wal.frames() == held:
                self._commit()
            # Else SQLite would flush the log, beside a commit that may be about to: who of both hears of an error?
            self._copier.execute("PRAGMA synchronous=OFF")
            self._checkpoint()
            self._copier.execute("PRAGMA synchronous=FULL")
            self._flush()

    def _copy_the_rest(self) -> bool:
        """Copy the rest while no one writes, after which the log begins anew. False if a reader prevents it."""
        with self._writing():
            sqlite.when_free(lambda: self._holder.execute(sqlite.IMMEDIATELY))
            try:
                if not self.soundness.holds():
                    return False
                # All of it: SQLite flushes the copies before it counts them.
                complete = self._checkpoint()
            finally:
                self._holder.execute("ROLLBACK")
        if not complete:
            self._flush()
        return complete

    def _cut(self) -> None:
        """Truncate the log file."""
        with self._writing():
            self._copier.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _checkpoint(self) -> bool:
        """Copy as much as readers permit, without waiting; return whether that was all."""
        _, frames, copied = self._copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(frames == copied)

    def _flush(self) -> None:
        try:
            self._wal.sync_data()
        except OSError:
            # The copies may be gone, and the next flush would succeed without them.
            self._wal.set_back()
            raise

    def _commit(self) -> None:
        """Commit a transaction without changes."""
        with self._writing():
            sqlite.when_free(lambda: self._copier.execute(sqlite.IMMEDIATELY))
            try:
                version = self._copier.execute("PRAGMA user_version").fetchone()[0]
                self._copier.execute(f"PRAGMA user_version={(version + 1) % (1 << 31)}")
                self._copier.execute("COMMIT")
            except sqlite3.Error:
                with suppress(sqlite3.Error):
                    self._copier.execute("ROLLBACK")
                raise

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep the log from beginning anew during the block."""
        self._holder.execute("BEGIN")
        try:
            self._holder.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            yield
        finally:
            if self._holder.in_transaction:
                self._holder.execute("ROLLBACK")

    # ── after an error, and at the start ──────────────────────────────────────────────────────────────────────

    def _prove(self) -> None:
        """Prove the file sound after an error: write the whole log again, and copy it again."""
        doubt = self.soundness.last_doubt()
        self._wal.set_back()
        with self._held():
            frames = self._wal.frames()
            if self._wal.copied():
                # Another program made a checkpoint in between, so that the log may begin anew at any moment.
                return
            self._wal.write_again(frames)
        if frames:
            self._copy_beside()
        self._proven = True
        self.soundness.confirm(doubt)


def _shown(error: Exception) -> dict[str, str]:
    return {"error": told_with_type(error), "traceback": traced(error)}


def _is_of_the_disk(error: Exception) -> bool:
    return isinstance(error, OSError) or sqlite.is_io_error(error)
