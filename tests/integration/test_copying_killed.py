"""A copy is killed at any instant, or its disk is full: copied rows stay, and the next copy continues."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import closing

import pytest
from copies import both, copy, everything, fill_attempts
from sqlalchemy import event
from templates import copy_tables_to

from receiver.copying import slices
from receiver.copying.copying import Copier
from receiver.database import unfinished
from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.errors import ConfigurationError, CopyError

#: Rows of the source: attempts, and one row that identifies the database.
ROWS = 201


@pytest.fixture
def source(tmp_path):
    url = f"sqlite:///{tmp_path}/source.db"
    copy_tables_to(url)
    fill_attempts(url, ROWS - 1)
    return url


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    monkeypatch.setattr(slices, "ROWS", 10)


def in_a_process_of_its_own(do) -> int:
    """Run the function in a child process, and return its exit code, negative for a signal."""
    child = os.fork()
    if not child:
        try:
            do()
            os._exit(0)
        except CopyError as error:
            os.write(2, str(error).encode())
            os._exit(1)
        finally:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def copy_and_die(source: str, target: str, *, at: int, during: str) -> int:
    """Copy in a process that is killed at this step in TO, counted from the first progress of the kind `during`.

    A step is a statement, a commit, or the pause between two slices.
    """

    def run():
        counted = steps = 0

        def step(*_):
            nonlocal steps
            steps += counted
            if steps == at:
                os.kill(os.getpid(), signal.SIGKILL)

        def progress(doing, table, rows, of):
            nonlocal counted
            counted = counted or doing == during
            step()

        with both(source, target) as sides:
            engine = sides[1].database.engine
            event.listen(engine, "before_cursor_execute", step)
            event.listen(engine, "commit", step)
            Copier(*sides, progress=progress).copy()

    return in_a_process_of_its_own(run)


def copied(target: str) -> int | None:
    """Return the number of copied rows in the note; None without a note."""
    with closing(Database(target)) as database, database.read() as connection:
        note = unfinished.read_note(connection)
    return None if note is None else sum(part.copied for part in note.parts.values())


#: The deaths of successive processes: the part of the copy, and its step.
DEATHS = [
    *(("examining", at) for at in (1, 17)),
    *(("copying", at) for at in (1, 2, 3, 4, 5, 6, 16, 25)),
    *(("comparing", at) for at in (1, 24)),
]


def test_a_copy_that_is_killed_repeatedly_becomes_complete(source, database_url):
    seen = []
    for during, at in DEATHS:
        assert copy_and_die(source, database_url, at=at, during=during) == -signal.SIGKILL
        seen.append(copied(database_url))
        if seen[-1] is not None:
            rows = sum(map(len, everything(database_url).values()))
            assert rows == seen[-1], "rows and the note of them commit together"
            with (
                closing(Database(database_url)) as database,
                pytest.raises(ConfigurationError, match="unfinished copy"),
            ):
                Schema(database).check()
    known = [each for each in seen if each is not None]
    assert known == sorted(known), "nothing that was copied is copied again"
    assert len(set(known)) >= 4, "it was killed at different places"
    report = copy(source, database_url)
    assert (report.same, report.resumed) == (True, True)
    assert everything(database_url) == everything(source)
    with closing(Database(database_url)) as database:
        Schema(database).check()


def test_a_full_disk_stops_a_copy_with_advice_and_the_next_one_continues(source, tmp_path, capfd):
    target = f"sqlite:///{tmp_path}/target.db"
    copy_tables_to(target)

    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with both(source, target) as sides:

            def fill(doing, table, rows, of):
                if doing == "copying" and rows:
                    size = (tmp_path / "target.db-wal").stat().st_size
                    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

            Copier(*sides, progress=fill).copy()

    assert in_a_process_of_its_own(run) == 1
    told = capfd.readouterr().err
    assert "cannot be used" in told
    assert "space" in told
    there = copied(target)
    assert 0 < there < ROWS
    report = copy(source, target)
    assert (report.same, report.copied) == (True, ROWS - there)
