"""Checkpoints of the SQLite file: copy frames from its log into the database while others commit.

One process makes them, on a separate thread, and sees their errors; SQLite itself makes none. docs/decisions/0016 gives
the reasons, and explains why a failed flush loses nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import structlog

from receiver.database.sqlite import connections as sqlite
from receiver.database.sqlite import files
from receiver.database.sqlite.soundness import Soundness
from receiver.database.sqlite.wal import Wal, size
from receiver.errors import ConfigurationError
from receiver.logs.outages import Outage
from receiver.logs.safe_text import told, told_with_type, traced

log = structlog.get_logger(__name__)

#: The number of frames in the log from which they are copied at once, and the number that may be copied while writers
#: wait. In a larger log more frames are of the same pages, and writers wait less often.
STEP, REST = 4_000, 200

#: Seconds between polls of the log while it grows, while it does not, and after a reader blocked a checkpoint or an
#: error occurred.
POLL, IDLE_POLL, RETRY_PAUSE = 0.02, 0.25, 0.5

#: Seconds without a commit after which all frames are copied, and a log larger than `sqlite.LOG_LIMIT` is truncated.
QUIET = 1.0

#: Seconds in which another process may commit before this process makes an empty commit.
OTHERS_COMMIT = 0.002

#: Seconds that the thread gets to end when the process stops.
CHECKPOINT_STOP_TIMEOUT = 5.0


class Checkpoints:
    """Copies the log of one database. An error makes the database doubtful until the file is proved sound."""

    def __init__(self, path: str, turn: threading.Lock) -> None:
        """`turn` is the lock that the writers of this process hold. Raises `sqlite3.Error` or `OSError`."""
        self._path = path
        self._turn = turn
        with ExitStack() as opened:
            #: One connection holds a state of the log, or keeps others from writing; the other one copies.
            self._holder = self._connected(opened)
            self._copier = self._connected(opened)
            page_size = self._copier.execute("PRAGMA page_size").fetchone()[0]
            # A connection opens the log at its first read.
            self._holder.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            # Not closed after an error, because that would drop the locks of this process's other connections.
            self._wal = Wal(path, page_size)
            self.soundness = Soundness(path)
            files.keep_watch(path, files.DOUBTS)
            opened.pop_all()
        #: Whether a file was moved or removed; and whether the content of a removed log was copied since.
        self._moved = self._rescued = False
        #: Whether this process makes the checkpoints; and whether it has shown the file sound since the last error.
        self._in_charge = self._proven = False
        self._stopping = threading.Event()
        self._outage = Outage(log, "a checkpoint failed; trying again", "checkpoints succeed again")
        self._seen = self._quiet_since = 0.0
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def _connected(self, opened: ExitStack) -> sqlite3.Connection:
        """Open a connection that is closed with `opened`."""
        connection = sqlite.connect(self._path)
        opened.callback(sqlite.disconnect, connection, self._path)
        return connection

    def start(self) -> None:
        """Start the thread; return when the database is sound, or attempts to prove it sound have begun.

        Raises `ConfigurationError` for a database that a process has open under another name. It must then be closed.
        """
        if self.soundness.take_charge():
            if not self._wal.claim():
                raise ConfigurationError(
                    f"{self._path} is open under another name, by a process that has another log beside it, and the "
                    "two would damage it: give every process the same path, and mount the folder of the database "
                    "into a container, not the file alone. A network disk looks the same: use a local one."
                )
            # No other process has the file open or copies its log, so the frames in the log may never have been
            # flushed.
            self._in_charge = True
            self.soundness.doubt()
            with self._troubles():
                self._prove()
        self._thread.start()

    def stop(self) -> None:
        """Stop, before this process closes its connections: the last one to close copies the remaining frames."""
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

    def check_files(self) -> None:
        """Raise SQLite's error if a file of the database is not in its place."""
        files.check(self._path)

    def close(self) -> None:
        """Close the file, after every other connection of this process is closed."""
        self._wal.release()
        sqlite.disconnect(self._holder, self._path)
        sqlite.disconnect(self._copier, self._path)
        self.soundness.close()
        if not files.is_open(self._path):
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
                log.critical("this process no longer makes checkpoints; restart it")
                # Another process may succeed.
                self._in_charge = False
                self._wal.release()
                self.soundness.let_go()

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Any error may have occurred between a copy and its flush, except those of SQLite that say otherwise.
            if is_doubtful := sqlite.is_of_the_disk(error) or not isinstance(error, sqlite3.Error):
                self._doubt()
            self._flush_again()
            # Last, because without memory the line may fail, too, and the thread must go on.
            with suppress(MemoryError):
                _tell(self._outage, error, is_doubtful=is_doubtful)

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
                if sqlite.is_of_the_disk(error):
                    self._doubt()
                raise

    def _doubt(self) -> None:
        self._proven = False
        self.soundness.doubt()

    # ── one poll ──────────────────────────────────────────────────────────────────────────────────────────────

    def _poll(self) -> float:
        """Copy due frames, and return the seconds until the next poll."""
        if away := files.missing(self._path):
            return self._rescue(away)
        self._moved = False
        self.soundness.tell()
        if not self._in_charge:
            self._in_charge = self._take_charge()
            if not self._in_charge:
                return IDLE_POLL
        # A process that has just taken charge must prove the file sound, because the previous process may have failed
        # at its end.
        if not (self._proven and self.soundness.holds()):
            self._prove()
        return self._step() if self._proven and self.soundness.holds() else RETRY_PAUSE

    def _rescue(self, away: list[str]) -> float:
        """Copy the log once if it was removed, because what was acked is nowhere else, and stop making checkpoints.

        A process that starts now makes another log, which must not be mixed with the removed one.
        """
        if not self._moved:
            self._moved, self._rescued = True, False
            log.critical(
                "files of the database were moved or removed; no acks until every process that has it open was stopped "
                "and started again",
                files=[self._path + suffix for suffix in away],
            )
        replaced = any(files.exists(self._path + suffix) for suffix in (files.LOG, files.INDEX) if suffix in away)
        # The log may be removed some polls after its index.
        if files.LOG in away and self._in_charge and not self._rescued and not replaced:
            if not (self._proven and self.soundness.holds()):
                self._prove()
            self._rescued = self._copy_the_rest()
        return IDLE_POLL

    def _take_charge(self) -> bool:
        """Become the process that makes the checkpoints; False if another process is, or has the file otherwise."""
        if not self.soundness.take_charge():
            return False
        if self._wal.claim():
            return True
        # A process with another log beside the same file has begun since the last one in charge ended.
        self._doubt()
        self.soundness.let_go()
        return False

    def _step(self) -> float:
        frames, waiting, now = self._wal.frames(), self._waiting(), time.monotonic()
        if frames != self._seen:
            self._seen, self._quiet_since = frames, now
        quiet = now - self._quiet_since > QUIET
        if waiting < STEP and not (waiting and quiet):
            if quiet and size(self._path) > sqlite.LOG_LIMIT:
                self._cut()
            if not waiting:
                self._outage.worked()
            return IDLE_POLL if quiet else POLL
        while waiting > REST:
            self._copy_beside()
            waiting, before = self._waiting(), waiting
            if waiting >= before or self._stopping.is_set():
                return RETRY_PAUSE
        if not self._copy_the_rest():
            return RETRY_PAUSE
        # While commits go on, no poll may find that nothing waits.
        self._outage.worked()
        return POLL

    def _waiting(self) -> int:
        """The number of frames that are not copied."""
        return max(self._wal.frames() - self._wal.copied(), 0)

    # ── the parts of a checkpoint ─────────────────────────────────────────────────────────────────────────────

    def _copy_beside(self) -> None:
        """Copy the present frames while others write, and flush them.

        Meanwhile a read transaction keeps the log from starting over, because SQLite counts copied frames before they
        are flushed. A commit after that transaction began keeps SQLite from counting all frames as copied if this
        process is killed.
        """
        with self._held():
            held = self._wal.frames()
            time.sleep(OTHERS_COMMIT)
            if self._wal.frames() == held:
                self._commit()
            # With any other value SQLite would flush the log, too, perhaps during another flush by a commit, and only
            # one of the two would get an error.
            self._copier.execute("PRAGMA synchronous=OFF")
            self._checkpoint()
            self._copier.execute("PRAGMA synchronous=FULL")
            self._flush()

    def _copy_the_rest(self) -> bool:
        """Copy the remaining frames while others cannot write, so that the log starts over; False if it does not."""
        with self._writing():
            sqlite.when_free(lambda: self._holder.execute(sqlite.IMMEDIATELY))
            try:
                if not self.soundness.holds():
                    return False
                # If all frames are copied, SQLite flushes the copies before it counts them.
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
        """Copy as many frames as readers permit, without waiting; return whether all are copied."""
        _, frames, copied = self._copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(frames == copied)

    def _flush(self) -> None:
        try:
            self._wal.sync_data()
        except OSError:
            # The copies may be lost, and the next flush would succeed without them.
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
        """Keep the log from starting over during the block."""
        self._holder.execute("BEGIN")
        try:
            self._holder.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            yield
        finally:
            if self._holder.in_transaction:
                self._holder.execute("ROLLBACK")

    # ── after an error, and at the start ──────────────────────────────────────────────────────────────────────

    def _prove(self) -> None:
        """Prove the file sound after an error by writing the whole log again and copying it again."""
        doubt = self.soundness.last_doubt()
        self._wal.set_back()
        with self._held():
            frames = self._wal.frames()
            if self._wal.copied():
                # Another program has just made a checkpoint, so the log may start over at any moment.
                return
            self._wal.write_again(frames)
        if frames:
            self._copy_beside()
        self._proven = True
        self.soundness.confirm(doubt)


def _tell(outage: Outage, error: Exception, *, is_doubtful: bool) -> None:
    if not isinstance(error, (sqlite3.Error, OSError)):
        says = "a checkpoint failed in an unexpected way; no acks until the database is shown to be sound"
        outage.failed(says, says=says, error=told_with_type(error), traceback=traced(error))
    elif is_doubtful or not (isinstance(error, sqlite3.Error) and sqlite.is_busy(error)):
        says = "the database is doubtful; no acks until it is shown to be sound" if is_doubtful else ""
        outage.failed(says, says=says, error=told(error))
