"""The files of a SQLite database, one of which is moved, removed or replaced while it is open."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress

import pytest
from notes import add, notes, write_a_note, write_a_note_at_once, write_a_note_together
from sqlalchemy.exc import OperationalError
from waiting import wait_until

from receiver.database.database import Database
from receiver.database.errors import explain, is_infrastructure_error
from receiver.database.sqlite import checkpoints, connections, files
from receiver.errors import ConfigurationError

BESIDE = ["-wal", "-shm", "-sound"]

REFUSED = "a file beside the database"


@pytest.fixture
def looked_after(sqlite, monkeypatch):
    # Otherwise a log that has been quiet for a second would be copied anyway.
    monkeypatch.setattr(checkpoints, "QUIET", 3_600.0)
    sqlite.look_after()
    write_a_note(sqlite)
    return sqlite


def has_notes_alone(file):
    """Whether the database file without its log has a note, as another program finds it."""
    # By a process of its own, because a process that closes the file drops SQLite's locks on it.
    alone = file.with_name("alone.db")
    subprocess.run(["cp", file, alone], check=True)
    with closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as connection, suppress(sqlite3.Error):
        return connection.execute("SELECT count(*) FROM notes").fetchone() == (1,)
    return False


@pytest.mark.parametrize("suffix", BESIDE)
@pytest.mark.parametrize("write", [write_a_note, write_a_note_at_once, write_a_note_together])
def test_a_database_with_a_removed_file_beside_it_takes_no_writes(looked_after, file, suffix, write):
    file.with_name(file.name + suffix).unlink()
    with pytest.raises(OperationalError, match=REFUSED) as raised:
        write(looked_after)
    assert is_infrastructure_error(raised.value)
    assert "Stop every process that has the database open" in explain(raised.value, str(looked_after.engine.url))


@pytest.mark.parametrize("suffix", BESIDE)
def test_a_file_that_is_put_back_is_used_again(looked_after, file, suffix):
    beside = file.with_name(file.name + suffix)
    away = beside.rename(file.with_name("away"))
    with pytest.raises(OperationalError, match=REFUSED):
        write_a_note(looked_after)
    away.rename(beside)
    write_a_note(looked_after)
    assert len(notes(looked_after)) == 2


@pytest.mark.parametrize("suffix", BESIDE)
def test_a_file_that_is_replaced_by_another_counts_as_removed(looked_after, file, suffix):
    beside = file.with_name(file.name + suffix)
    other = shutil.copy(beside, file.with_name("other"))
    beside.unlink()
    other.rename(beside)
    with pytest.raises(OperationalError, match=REFUSED):
        write_a_note(looked_after)


def test_a_write_during_which_the_log_is_removed_is_not_confirmed(looked_after, file):
    def write():
        with looked_after.write() as connection:
            add(connection, "in the removed log")
            file.with_name(file.name + "-wal").unlink()

    with pytest.raises(OperationalError, match=REFUSED):
        write()


@pytest.mark.parametrize("suffixes", [["-wal"], ["-wal", "-shm"], BESIDE], ids="".join)
def test_the_content_of_a_removed_log_is_copied_into_the_database(looked_after, file, suffixes):
    for suffix in suffixes:
        file.with_name(file.name + suffix).unlink()
    wait_until(lambda: has_notes_alone(file), "the copy of the log")


@pytest.mark.parametrize("first", ["-shm", "-sound"])
def test_a_log_that_is_removed_after_another_file_is_copied_too(looked_after, file, first):
    ours = looked_after._care.checkpoints
    file.with_name(file.name + first).unlink()
    wait_until(lambda: ours._moved, "a poll between the two")
    assert not has_notes_alone(file)
    file.with_name(file.name + "-wal").unlink()
    wait_until(lambda: has_notes_alone(file), "the copy of the log")


def test_a_removed_log_in_whose_place_another_process_has_begun_one_is_not_copied(looked_after, file, monkeypatch):
    ours = looked_after._care.checkpoints
    ours._stopping.set()
    ours._thread.join()
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink()
        file.with_name(file.name + suffix).write_bytes(b"")
    copied = []
    monkeypatch.setattr(ours, "_copy_beside", lambda: copied.append(1))
    ours._poll()
    assert copied == []


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_further_connection_makes_no_other_file_in_the_place_of_a_removed_one(looked_after, file, suffix):
    beside = file.with_name(file.name + suffix)
    beside.unlink()
    with pytest.raises(OperationalError, match=REFUSED), closing(Database(str(looked_after.engine.url))) as another:
        notes(another)
    assert not beside.exists()


def test_the_files_of_a_new_database_are_remembered_once_sqlite_has_made_them(tmp_path):
    path = tmp_path / "new.db"
    with closing(Database(f"sqlite:///{path}")) as database:
        with database.write() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (text TEXT)")
        assert files.missing(str(path)) == []
        (tmp_path / "new.db-wal").unlink()
        assert files.missing(str(path)) == ["-wal"]


def test_a_database_is_forgotten_with_its_last_connection(sqlite, file):
    write_a_note(sqlite)
    assert files.is_open(str(file))
    sqlite.close()
    assert not files.is_open(str(file))


def test_a_database_is_forgotten_if_its_last_connection_was_detached_from_the_pool(sqlite, file):
    with sqlite.engine.connect() as connection:
        connection.detach()
    sqlite.close()
    assert not files.is_open(str(file))


def test_a_database_that_could_not_be_looked_after_may_be_opened_again_by_the_same_process(sqlite, file):
    write_a_note(sqlite)
    in_the_way = file.with_name(file.name + "-sound")
    in_the_way.mkdir()
    with pytest.raises(ConfigurationError, match="-sound cannot be used"):
        sqlite.look_after()
    sqlite.close()
    assert not files.is_open(str(file))
    in_the_way.rmdir()
    with closing(Database(f"sqlite:///{file}")) as again:
        again.look_after()
        write_a_note(again)
        assert len(notes(again)) == 2


def test_a_database_may_be_opened_at_the_moment_in_which_its_last_connection_is_closed(sqlite, file):
    write_a_note(sqlite)
    path, seen = str(file), []
    closing_one = connections.connect(path)
    sqlite.close()

    class Closing:
        def close(self):
            # SQLite removes the log.
            closing_one.close()
            with closing(Database(f"sqlite:///{path}")) as database:
                seen.append(len(notes(database)))

    connections.disconnect(Closing(), path)
    assert (seen, files.is_open(path)) == ([1], False)


def test_a_further_file_may_be_watched_while_another_thread_checks_the_files(sqlite, file, monkeypatch):
    write_a_note(sqlite)
    file.with_name(file.name + "-sound").touch()
    real = files.stat

    def meanwhile(path):
        monkeypatch.setattr(files, "stat", real)
        files.keep_watch(str(file), files.DOUBTS)
        return real(path)

    monkeypatch.setattr(files, "stat", meanwhile)
    files.check(str(file))
    file.with_name(file.name + "-sound").unlink()
    assert files.missing(str(file)) == [files.DOUBTS]


# ── two names of one file ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def other_name(looked_after, file):
    other = file.with_name("other.db")
    other.hardlink_to(file)
    return other


def look_after_elsewhere(path):
    """Look after a database in another process, because SQLite shares the logs of one file within a process."""
    code = "import sys; from receiver.database.database import Database; Database(sys.argv[1]).look_after()"
    command = [sys.executable, "-c", code, f"sqlite:///{path}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the lock would meet those of SQLite")
def test_a_database_that_is_open_under_another_name_is_refused_because_two_logs_would_damage_it(other_name):
    done = look_after_elsewhere(other_name)
    assert done.returncode == 1
    assert "other.db is open under another name" in done.stderr
    assert "mount the folder of the database into a container, not the file alone." in done.stderr


def test_a_database_may_have_another_name_once_it_is_closed_under_the_first(looked_after, other_name):
    looked_after.close()
    done = look_after_elsewhere(other_name)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the lock would meet those of SQLite")
def test_a_process_that_takes_charge_acks_nothing_while_another_has_the_file_under_another_name(looked_after, file):
    ours = looked_after._care.checkpoints
    ours._stopping.set()
    ours._thread.join()
    ours._in_charge = False
    ours._wal.release()
    ours.soundness.let_go()
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ours._poll()
        with pytest.raises(OperationalError, match="not yet shown to be sound"):
            write_a_note(looked_after)
        fcntl.flock(held, fcntl.LOCK_UN)
        ours._poll()
        write_a_note(looked_after)
