"""Our own checkpoints of SQLite: what they copy, what delays them, and what follows an error."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from types import SimpleNamespace

import pytest
from notes import add, notes, with_notes, write_a_note, write_a_note_at_once, write_a_note_together
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from receiver.api.readiness import Readiness
from receiver.database.database import Database
from receiver.database.errors import explain, is_infrastructure_error
from receiver.database.sqlite import checkpoints, connections
from receiver.database.sqlite.checkpoints import STEP, Checkpoints
from receiver.database.sqlite.connections import FRAMES_OF_SQLITE
from receiver.database.sqlite.soundness import Soundness
from receiver.database.sqlite.wal import Wal, size
from receiver.errors import ConfigurationError
from receiver.inbox.inbox import Inbox

#: Seconds within which the thread must act.
TIMEOUT = 60.0

#: Most commits while a copy of the log is awaited.
MOST_NOTES = 200


def wait_until(condition):
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def url(file):
    return f"sqlite:///{file}"


@pytest.fixture
def looked_after(sqlite):
    sqlite.look_after()
    return sqlite


@pytest.fixture
def wal(looked_after, file):
    return looked_after._care.checkpoints._wal


def write_much(database, times=STEP):
    """Write about this many frames."""
    for _ in range(times // 100 + 1):
        with database.write() as connection:
            add(connection, "x" * 400_000)


@contextmanager
def reading(file):
    """Read one state of the file until the end of the block, as another program does."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM notes").fetchone()
        yield other


def failing(*_):
    raise OSError(5, "Input/output error")


# ── what is copied ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_grown_log_is_copied_and_begins_anew_while_commits_go_on(looked_after, file, monkeypatch):
    complete, copy_the_rest = [], Checkpoints._copy_the_rest
    monkeypatch.setattr(Checkpoints, "_copy_the_rest", lambda self: note_if(copy_the_rest(self), complete))
    for _ in range(5):
        before = len(complete)
        write_much(looked_after)
        # A few commits only, because the log may grow without a bound while many come faster than they are flushed.
        left = iter(range(MOST_NOTES))
        wait_until(lambda before=before, left=left: commit_if(left, looked_after) or len(complete) > before)
    # A copy at the beginning of a round and the next one at the end of the following round leave two rounds in the log,
    # and the commits for which the last of them waited.
    assert size(str(file)) < 3 * STEP * 4_120
    assert notes(looked_after).count("x" * 400_000) == 5 * (STEP // 100 + 1)


def commit_if(left, database):
    if next(left, None) is not None:
        write_a_note(database)


def note_if(done, noted):
    noted.extend([done] if done else [])
    return done


def test_without_commits_everything_is_copied(looked_after, wal, monkeypatch):
    monkeypatch.setattr("receiver.database.sqlite.checkpoints.QUIET", 0.05)
    write_a_note(looked_after)
    wait_until(lambda: wal.frames() == wal.copied() > 0)


def test_no_commit_makes_a_checkpoint(looked_after, wal):
    looked_after._care.checkpoints.stop()
    before = wal.copied()
    write_much(looked_after, 3 * STEP)
    assert wal.copied() == before
    assert wal.frames() > 3 * STEP


def test_frames_that_a_reader_keeps_from_being_copied_are_copied_after_its_end(looked_after, wal, file):
    with reading(file):
        write_much(looked_after, 2 * STEP)
        assert wal.frames() - wal.copied() > STEP
    wait_until(lambda: wal.frames() - wal.copied() < STEP)


def test_a_large_log_is_truncated_when_no_process_writes(looked_after, file, monkeypatch):
    monkeypatch.setattr("receiver.database.sqlite.checkpoints.QUIET", 0.05)
    monkeypatch.setattr("receiver.database.sqlite.connections.LOG_LIMIT", 1 << 20)
    with reading(file):
        write_much(looked_after, 2 * STEP)
    assert looked_after.log_bytes > 1 << 20
    wait_until(lambda: looked_after.log_bytes == 0)
    write_a_note(looked_after)
    assert notes(looked_after)[-1] == "in the end"


def test_copies_count_only_after_a_flush(looked_after, wal, monkeypatch):
    """A process that is killed between copy and flush leaves a log that does not start over."""
    looked_after._care.checkpoints.stop()
    write_much(looked_after)
    copied = []
    monkeypatch.setattr(Wal, "sync_data", lambda self: copied.append((self.copied(), self.frames())))
    looked_after._care.checkpoints._copy_beside()
    ((counted, there),) = copied
    assert 0 < counted < there


# ── which process makes them ──────────────────────────────────────────────────────────────────────────────────


def test_one_of_several_databases_on_a_file_makes_the_checkpoints_and_another_after_its_end(looked_after, url, file):
    with closing(Database(url)) as second:
        second.look_after()
        assert second._care.checkpoints._in_charge is False
        looked_after.close()
        wait_until(lambda: second._care.checkpoints._in_charge)
        write_much(second, 2 * STEP)
        wait_until(lambda: second._care.checkpoints._waiting() < STEP)


def test_a_process_that_takes_over_writes_the_log_again(looked_after, url, monkeypatch):
    again = []
    write_again = Wal.write_again
    with closing(Database(url)) as second:
        second.look_after()
        write_a_note(second)
        monkeypatch.setattr(Wal, "write_again", lambda self, frames: (again.append(frames), write_again(self, frames)))
        looked_after.close()
        wait_until(lambda: second._care.checkpoints._proven)
    assert len(again) == 1


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("write", [write_a_note, write_a_note_at_once, write_a_note_together])
def test_after_an_error_in_any_process_no_write_succeeds_until_everything_is_copied_again(
    looked_after, url, monkeypatch, write
):
    with closing(Database(url)) as second:
        second.look_after()
        monkeypatch.setattr(Wal, "write_again", failing)
        second._care.checkpoints.soundness.doubt()
        for database in (looked_after, second):
            with pytest.raises(OperationalError, match="not yet shown to be sound") as raised:
                write(database)
            assert is_infrastructure_error(raised.value)
        assert "resumes by itself" in explain(raised.value, url)
        assert notes(second) == []
        monkeypatch.undo()
        wait_until(lambda: second.is_sound)
        write(second)
        assert notes(looked_after) == ["in the end"]


def test_an_io_error_of_a_commit_makes_the_file_doubtful(looked_after):
    looked_after._care.checkpoints.stop()

    def write():
        with looked_after.write():
            raise io_error()

    with pytest.raises(OperationalError):
        write()
    assert not looked_after.is_sound


def meets_an_io_error(transaction):
    with suppress(OperationalError), transaction():
        raise io_error()


def test_a_reader_with_repeated_errors_stops_acks_only_once_and_a_writer_each_time(looked_after):
    soundness = looked_after._care.checkpoints.soundness
    looked_after._care.checkpoints.stop()
    marks = [soundness.last_doubt()]
    for transaction in (looked_after.read, looked_after.read, looked_after.write):
        meets_an_io_error(transaction)
        marks.append(soundness.last_doubt())
        soundness.confirm(marks[-1])
    assert marks[0] != marks[1] == marks[2] != marks[3]


class CountedLock:
    """A lock that counts the threads that wait for it."""

    def __init__(self):
        self._lock = threading.Lock()
        self.waiting = 0

    def __enter__(self):
        self.waiting += 1
        self._lock.acquire()
        self.waiting -= 1

    def __exit__(self, *_):
        self._lock.release()


def io_error():
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    return OperationalError("COMMIT", None, error)


def fails_while_one_waits(database, write):
    """End a transaction with an I/O error while another thread waits to `write`; return that thread's error."""
    turn = database._writer
    with ThreadPoolExecutor() as threads:
        with suppress(OperationalError), database.write():
            waits = threads.submit(write, database)
            wait_until(lambda: turn.waiting == 1)
            raise io_error()
        return waits.exception(TIMEOUT)


@pytest.mark.parametrize("write", [write_a_note, write_a_note_at_once, write_a_note_together])
def test_a_write_that_waits_while_another_meets_an_io_error_writes_nothing(looked_after, write, monkeypatch):
    looked_after._care.checkpoints.stop()
    monkeypatch.setattr(looked_after, "_writer", CountedLock())
    assert "not yet shown to be sound" in str(fails_while_one_waits(looked_after, write))
    assert notes(looked_after) == []


@pytest.mark.parametrize("write", [write_a_note, write_a_note_at_once, write_a_note_together])
def test_a_write_that_waits_for_another_process_with_an_io_error_writes_nothing(looked_after, file, write, monkeypatch):
    looked_after._care.checkpoints.stop()
    in_the_way = threading.Event()
    is_busy = connections.is_busy
    monkeypatch.setattr(connections, "is_busy", lambda error: is_busy(error) and not in_the_way.set())
    with ThreadPoolExecutor() as threads, closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waits = threads.submit(write, looked_after)
        assert in_the_way.wait(TIMEOUT)
        looked_after._care.checkpoints.soundness.doubt()
        other.execute("ROLLBACK")
        assert "not yet shown to be sound" in str(waits.exception(TIMEOUT))
    assert notes(looked_after) == []


def test_a_refused_write_does_not_make_the_file_doubtful_again(looked_after):
    looked_after._care.checkpoints.stop()
    soundness = looked_after._care.checkpoints.soundness
    soundness.doubt()
    doubt = soundness.last_doubt()
    with pytest.raises(OperationalError):
        write_a_note(looked_after)
    assert soundness.last_doubt() == doubt


def test_an_error_while_the_file_is_being_shown_to_be_sound_counts(looked_after, monkeypatch):
    checkpoints = looked_after._care.checkpoints
    checkpoints.stop()
    write_a_note(looked_after)
    write_again = Wal.write_again
    monkeypatch.setattr(
        Wal, "write_again", lambda self, frames: (write_again(self, frames), checkpoints.soundness.doubt())
    )
    checkpoints.soundness.doubt()
    checkpoints._poll()
    assert not looked_after.is_sound
    monkeypatch.undo()
    checkpoints._poll()
    assert looked_after.is_sound


def test_an_sql_error_leaves_the_file_sound(looked_after):
    with pytest.raises(OperationalError, match="no such table"):
        looked_after.run_at_once("INSERT INTO absent VALUES (1)", ())
    assert looked_after.is_sound


def test_if_the_copies_cannot_be_flushed_everything_is_copied_again(looked_after, wal, monkeypatch):
    looked_after._care.checkpoints.stop()
    write_much(looked_after)
    monkeypatch.setattr(Wal, "sync_data", failing)
    with looked_after._care.checkpoints._troubles():
        looked_after._care.checkpoints._poll()
    assert not looked_after.is_sound
    assert wal.copied() == 0


def test_checkpoints_that_fail_on_a_full_disk_are_a_line_and_another_one_when_they_succeed(looked_after, monkeypatch):
    def full(*_):
        failed.append(None)
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    failed = []
    monkeypatch.setattr(checkpoints, "RETRY_PAUSE", 0.01)
    with capture_logs() as lines:
        with monkeypatch.context() as broken:
            broken.setattr(Checkpoints, "_checkpoint", full)
            write_much(looked_after)
            wait_until(lambda: len(failed) >= 10)
        wait_until(lambda: len(lines) >= 2)
    assert [line["event"] for line in lines] == ["a checkpoint failed; trying again", "checkpoints succeed again"]


def test_a_checkpoint_that_succeeds_is_told_although_each_poll_finds_further_commits(looked_after, monkeypatch):
    monkeypatch.setattr(checkpoints, "STEP", 1)
    kept = looked_after._care.checkpoints
    kept.stop()
    kept._stopping.clear()
    kept._outage.failed()
    with capture_logs() as lines:
        write_much(looked_after)
        kept._poll()
    assert [line["event"] for line in lines] == ["checkpoints succeed again"]


def test_a_log_that_cannot_be_truncated_does_not_count_as_a_success(looked_after, monkeypatch):
    kept = looked_after._care.checkpoints
    kept.stop()
    write_much(looked_after)
    kept._poll()
    monkeypatch.setattr(checkpoints.sqlite, "LOG_LIMIT", 0)
    monkeypatch.setattr(checkpoints, "QUIET", -1.0)
    kept._poll()
    monkeypatch.setattr(Checkpoints, "_cut", failing)
    kept._outage.failed()
    with capture_logs() as lines, pytest.raises(OSError, match="error"):
        kept._poll()
    assert lines == []


def test_a_start_on_a_failing_disk_refuses_writes_until_the_disk_works(url, monkeypatch):
    with with_notes(url) as database:
        monkeypatch.setattr(Wal, "write_again", failing)
        database.look_after()
        with pytest.raises(OperationalError, match="not yet shown to be sound"):
            write_a_note(database)
        monkeypatch.undo()
        wait_until(lambda: database.is_sound)
        write_a_note(database)
        assert notes(database) == ["in the end"]


def test_a_log_is_rewritten_unchanged(looked_after, wal, file):
    write_much(looked_after, 100)
    log = file.with_name(file.name + "-wal")
    before = log.read_bytes()
    with reading(file):
        wal.write_again(wal.frames())
    assert log.read_bytes() == before


def test_a_file_that_was_sound_when_all_processes_ended_is_shown_to_be_sound_again(url, file):
    with with_notes(url) as database:
        database.look_after()
        assert database.is_sound
    state = Soundness(str(file))
    assert state.holds()
    with closing(Database(url)) as database:
        shown = []
        database.look_after()
        shown.append(database.is_sound)
        assert database._care.checkpoints._proven
    state.close()
    assert shown == [True]


# ── the files ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_file_that_we_make_can_be_read_by_its_owner_only(file, url):
    before = os.umask(0o000)
    try:
        with with_notes(url) as database:
            database.look_after()
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in file.parent.glob("mirror.db*")}
    finally:
        os.umask(before)
    assert modes == {f"mirror.db{suffix}": 0o600 for suffix in ("", "-wal", "-shm", "-sound")}


def test_an_existing_file_keeps_its_rights(file, url):
    file.touch(0o660)
    file.chmod(0o660)
    with with_notes(url):
        assert stat.S_IMODE(file.stat().st_mode) == 0o660


@pytest.fixture
def as_root():
    if os.geteuid():
        pytest.skip("only root may give files away")


def state_file(file):
    return file.with_name(file.name + "-sound")


def rights(path):
    found = path.stat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


@pytest.mark.parametrize("left_behind", [False, True])
def test_a_file_made_by_root_gets_the_owner_of_the_database(as_root, file, url, left_behind):
    with with_notes(url) as database:
        os.chown(file, 65_534, 65_533)
        file.chmod(0o640)
        if left_behind:
            state_file(file).touch(0o600)
        database.look_after()
        assert rights(state_file(file)) == rights(file) == (65_534, 65_533, 0o640)


def test_a_group_that_may_write_the_database_may_write_the_file_beside_it(file, url):
    file.touch()
    file.chmod(0o660)
    with with_notes(url) as database:
        database.look_after()
        assert stat.S_IMODE(state_file(file).stat().st_mode) == 0o660


def make_link(path, victim):
    path.symlink_to(victim)


def make_hard_link(path, victim):
    path.hardlink_to(victim)


def make_folder(path, _victim):
    path.mkdir()


@pytest.mark.parametrize("make", [make_link, make_hard_link, make_folder])
def test_another_object_in_place_of_the_file_is_refused_in_one_line_and_left_unchanged(file, url, make, tmp_path):
    victim = tmp_path / "victim"
    victim.touch(0o600)
    victim.chmod(0o600)
    before = rights(victim)
    make(state_file(file), victim)
    with with_notes(url) as database:
        file.chmod(0o644)
        with pytest.raises(ConfigurationError, match=r"mirror\.db-sound cannot be used \(.*move that away") as raised:
            database.look_after()
    assert "\n" not in str(raised.value)
    assert rights(victim) == before


def test_a_file_that_may_not_be_opened_is_refused_in_one_line(url, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", f"{path}-sound")

    monkeypatch.setattr("receiver.database.sqlite.checkpoints.Soundness", refused)
    with (
        with_notes(url) as database,
        pytest.raises(ConfigurationError, match=r"db-sound cannot be used \(Permission denied\)"),
    ):
        database.look_after()


def test_a_start_on_a_full_disk_refuses_writes_until_there_is_room(url, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with with_notes(url) as database:
        monkeypatch.setattr(Soundness, "_tell", full)
        database.look_after()
        with pytest.raises(OperationalError, match="not yet shown to be sound"):
            write_a_note(database)
        monkeypatch.undo()
        wait_until(lambda: database.is_sound)
        write_a_note(database)
        assert notes(database) == ["in the end"]


# ── the thread ────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_an_unexpected_error_the_file_is_doubtful_and_the_thread_goes_on(looked_after, monkeypatch):
    seen = []

    def odd(*_):
        seen.append(looked_after.is_sound)
        raise ValueError("odd")

    monkeypatch.setattr(Checkpoints, "_step", odd)
    wait_until(lambda: seen and not looked_after.is_sound)
    monkeypatch.undo()
    wait_until(lambda: looked_after.is_sound)
    assert looked_after.trouble is None
    write_much(looked_after, 2 * STEP)
    wait_until(lambda: looked_after._care.checkpoints._waiting() < STEP)


DYING = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def without_thread(looked_after, monkeypatch):
    """Give a database whose checkpoint thread has died."""

    def die(*_):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "_poll", die)
        wait_until(lambda: looked_after._care.checkpoints.is_dead)
    return looked_after


@DYING
def test_without_the_thread_sqlite_makes_the_checkpoints(without_thread, file):
    write_much(without_thread, 6 * FRAMES_OF_SQLITE)
    assert size(str(file)) < 3 * FRAMES_OF_SQLITE * 4_120


@DYING
def test_without_the_thread_the_process_is_not_ready_and_says_why(without_thread):
    readiness = Readiness(Inbox(without_thread), [], max_backlog_seconds=1)
    assert "restart this process" in asyncio.run(readiness.reason())
    readiness.close()


@DYING
def test_without_the_thread_another_process_takes_over(without_thread, url):
    with closing(Database(url)) as second:
        second.look_after()
        assert second._care.checkpoints._in_charge


def test_closing_one_database_leaves_the_locks_of_another_in_the_same_process(looked_after, url, file):
    other = Database(url)
    other.look_after()
    with looked_after.write() as connection:
        add(connection, "kept")
        other.close()
        with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as third:
            # Try the lock in another process, because it has no effect within one.
            assert os.spawnlp(os.P_WAIT, "python3", "python3", "-c", LOCKED.format(file=file)) == 0
            assert third.execute("SELECT count(*) FROM notes").fetchone() == (0,)


LOCKED = """
import sqlite3, sys
connection = sqlite3.connect("{file}", timeout=0, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError:
    sys.exit(0)
sys.exit(1)
"""


def test_a_stopped_thread_ends_before_its_next_look(sqlite, monkeypatch):
    monkeypatch.setattr(checkpoints, "POLL", 10 * TIMEOUT)
    monkeypatch.setattr(checkpoints, "IDLE_POLL", 10 * TIMEOUT)
    sqlite.look_after()
    thread = sqlite._care.checkpoints._thread
    sqlite.close()
    wait_until(lambda: not thread.is_alive())


def test_postgresql_has_no_such_checkpoints(postgres):
    postgres.look_after()
    assert postgres.is_sound
    assert postgres.log_bytes == 0


def test_a_path_that_cannot_be_opened_is_reported(tmp_path):
    with pytest.raises(sqlite3.OperationalError):
        Checkpoints(str(tmp_path / "absent" / "mirror.db"), threading.Lock())


def test_without_memory_even_for_a_line_of_the_log_checkpoints_go_on_and_flush(looked_after, wal, monkeypatch):
    def fail(*_, **__):
        failed.append(None)
        raise MemoryError

    failed = []
    kept = looked_after._care.checkpoints
    with monkeypatch.context() as broken:
        broken.setattr(kept._outage, "_log", SimpleNamespace(error=fail, info=fail))
        broken.setattr(Wal, "sync_data", fail)
        write_much(looked_after)
        wait_until(lambda: len(failed) >= 2)
    wait_until(lambda: looked_after.is_sound and kept._waiting() < STEP)
    write_a_note(looked_after)
    assert kept._copier.execute("PRAGMA synchronous").fetchone() == (2,)
    assert not kept.is_dead
