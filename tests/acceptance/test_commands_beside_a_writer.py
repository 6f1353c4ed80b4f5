"""Commands that read, while another program has a long transaction on the SQLite file."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from commanding import Folder, Forks

#: Commands that write nothing.
READING = [
    "sources",
    "search lamp",
    "deliveries",
    "rows products",
    "changes",
    "actions",
    "runs list",
    "top --once",
    "findings",
    "refused",
    "sessions",
    "follow --list",
]


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks(1) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("beside_a_writer"))
    folder.migrate()
    return folder


@pytest.fixture
def writer(folder) -> Iterator[None]:
    """Hold the writer's lock."""
    with closing(sqlite3.connect(folder.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.usefixtures("writer")
@pytest.mark.parametrize("command", READING)
def test_a_command_that_reads_does_not_wait_for_a_writer(folder, forks, command):
    done = forks.run(folder, *shlex.split(command))
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("writer")
def test_a_command_that_writes_says_that_another_program_holds_the_file(folder, forks):
    done = forks.run(replace(folder, patience=False), "sessions", "--end", "1")
    assert (done.returncode, "Another program holds the file" in done.stderr) == (1, True), done


@pytest.mark.parametrize("command", ["console --port 0", "follow --to http://127.0.0.1:9/"])
def test_a_process_that_stays_does_not_start_on_a_file_that_it_cannot_write(folder, forks, command):
    """A mode of the URL stands for missing rights, which root has anyway."""
    closed = replace(folder, database_url=f"sqlite:///file:{folder.database}?uri=true&mode=ro")
    done = forks.run(closed, *shlex.split(command))
    assert (done.returncode, "opens the file for reading only" in done.stderr) == (1, True), done
