"""Commands close the database, so that a SQLite file has its last commits in it and no log beside it."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from commanding import Folder
from waiting import TIMEOUT, wait_until

from receiver.commands.closing import closed_at_the_end, ending_a_command

#: Commands with their exit codes, those that end with an error among them.
ENDING = [
    ("sources", 0),
    ("search lamp", 0),
    ("deliveries", 0),
    ("show 1", 1),
    ("rows products", 0),
    ("changes", 0),
    ("actions", 0),
    ("runs list", 0),
    ("top --once", 0),
    ("tail --after never", 1),
    ("replay 1", 1),
    ("replay --source nobody", 1),
    ("prune", 0),
    ("findings", 0),
    ("findings nothing", 1),
    ("refused", 0),
    ("capture iimmpact", 0),
    ("sessions", 0),
    ("reload", 1),
    ("ask products iimmpact P1", 1),
    ("reconcile iimmpact --misdated", 0),
    ("rehearse --source iimmpact", 1),
    ("follow --list", 0),
    ("migrate", 0),
    ("doctor", 0),
    ("follow --to http://127.0.0.1:9/ --source nobody", 1),
    ("console --port 70000", 2),
    ("serve --host no.such.host.invalid", 1),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = Folder(tmp_path_factory.mktemp("closed"))
    folder.migrate()
    return folder


def beside(folder: Folder) -> set[str]:
    """The files of SQLite beside the database."""
    return {each.name for each in folder.path.glob("hookmirror.db-*")} - {"hookmirror.db-sound"}


@pytest.mark.parametrize(("command", "code"), ENDING)
def test_a_command_leaves_no_log_beside_the_database(folder, command, code):
    done = folder.run(*shlex.split(command))
    assert (done.returncode, beside(folder)) == (code, set()), done.stderr


@pytest.mark.parametrize(("command", "says"), [("worker", "working"), ("console --port 0", "listening")])
def test_a_process_that_is_asked_to_end_leaves_no_log_beside_the_database(folder, command, says):
    with folder.running(*command.split()) as process:
        assert process.stderr is not None
        wait_until(lambda: says in process.stderr.readline(), "its start")
        process.terminate()
        # The console is ended by the system until its server has begun to handle signals.
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, command
    assert beside(folder) == set()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("worker --metrics-port 0", ["working"]),
        ("console --port 0", ["listening"]),
        ("serve --port 0", ["listening"]),
        # First the process that starts the others, then one of them.
        ("serve --port 0 --worker-process", ["listening", "listening"]),
    ],
)
def test_a_process_that_is_asked_to_end_leaves_nothing_to_the_interpreter(folder, command, says):
    fresh = replace(folder, environment={"PYTHONWARNINGS": "always::ResourceWarning"}, fresh=True)
    with fresh.running(*command.split()) as process:
        assert process.stderr is not None
        for word in says:
            wait_until(lambda word=word: word in process.stderr.readline(), "its start")
        process.terminate()
        _, told = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, "ResourceWarning" in told) == (0, False), told


def test_what_was_opened_is_closed_in_reverse_order_after_an_error():
    closed = []

    class Opened:
        def __init__(self, name: str) -> None:
            self.close = lambda: closed.append(name)

    def fail() -> None:
        with ending_a_command():
            closed_at_the_end(Opened("first"))
            closed_at_the_end(Opened("second"))
            raise ValueError("of the command")

    with pytest.raises(ValueError, match="of the command"):
        fail()
    assert closed == ["second", "first"]
