"""What a process imports, counted: most of the time of a short command, and much of the memory of a long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commanding import SECRET_KEY, Folder
from stub_servers import Stub, answering

from receiver import cli

#: Runs a command, and writes the names of the modules that it has imported at its end.
RUN = """
import atexit, sys
file = open(sys.argv.pop(1), "w")
atexit.register(lambda: file.write(" ".join(sys.modules)))
from receiver.__main__ import main
main()
"""

#: Asks the questions of the first argument one after the other, and writes the names in the same way.
ASK = """
import atexit, sys
file = open(sys.argv.pop(1), "w")
atexit.register(lambda: file.write(" ".join(sys.modules)))
from receiver.__main__ import main
program, questions, *options = sys.argv
for question in questions.split():
    sys.argv = [program, question, *options]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, question
"""

#: Runs a command up to the moment at which the supervisor would start its processes.
SUPERVISE = """
import sys
from receiver.server import supervised
file = open(sys.argv.pop(1), "w")
supervised.run_processes = lambda *_, **__: file.write(" ".join(sys.modules))
from receiver.__main__ import main
main()
"""

#: Packages of the application, which also loads the dialects.
APPLICATION = {"sqlalchemy", "sqlmodel", "starlette", "uvicorn", "prometheus_client", "handlers", "simulator"}


class Lists(Stub):
    """The API of a receiver, all of whose lists are empty."""

    def get(self):
        self.answer(json.dumps({"items": [], "next": None}).encode())


@pytest.fixture(scope="module")
def receiver_url():
    with answering(Lists) as url:
        yield url


def imported(folder: Path, script: str, *arguments: str, environment: dict[str, str]) -> set[str]:
    """Return the modules that a command has imported when it ends, or starts other processes."""
    names = folder / "modules"
    done = subprocess.run(
        [sys.executable, "-c", script, names, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return set(names.read_text().split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def plain_environment() -> dict[str, str]:
    unset = {name: value for name, value in os.environ.items() if not name.startswith("HOOKMIRROR_")}
    return unset | {"HOOKMIRROR_SECRET_KEY": SECRET_KEY}


def test_the_version_imports_neither_a_command_nor_the_settings(tmp_path):
    found = imported(tmp_path, RUN, "--version", environment=plain_environment())
    assert packages(found) & {*APPLICATION, "pydantic", "httpx", "uvloop"} == set()
    assert {name for name in found if name.startswith("receiver.commands.")} == {
        "receiver.commands.closing",
        "receiver.commands.examples",
        "receiver.commands.options",
        "receiver.commands.wording",
    }


def test_the_help_reads_the_descriptions_of_the_commands_and_imports_none(tmp_path):
    found = imported(tmp_path, RUN, "--help", environment=plain_environment())
    assert packages(found) & ({*APPLICATION, "pydantic", "httpx"} - {"simulator"}) == set()
    modules = {f"receiver.commands.{name.replace('-', '_')}" for name in cli.COMMANDS}
    assert found & {*modules, "simulator.commands"} == set()


def test_a_command_imports_no_other_command(tmp_path):
    found = imported(tmp_path, RUN, "token", environment=plain_environment())
    assert packages(found) & {*APPLICATION, "httpx"} == set()
    modules = {f"receiver.commands.{name.replace('-', '_')}" for name in cli.COMMANDS}
    assert found & modules == {"receiver.commands.token"}


def test_questions_to_another_receiver_import_nothing_of_the_application(tmp_path, receiver_url):
    questions = ("deliveries", "changes", "actions", "sources")
    asked = (" ".join(questions), "--to", receiver_url, "--token", "any")
    found = imported(tmp_path, ASK, *asked, environment=plain_environment())
    assert packages(found) & APPLICATION == set()
    assert {"httpx", *(f"receiver.commands.{each}" for each in questions)} <= found


def test_a_supervisor_imports_nothing_of_the_application_that_it_starts(tmp_path):
    folder = Folder(tmp_path)
    found = imported(
        tmp_path, SUPERVISE, "serve", "--worker-process", "--console", "--port", "0", environment=folder.surroundings()
    )
    assert packages(found) & {*APPLICATION, "httpx", "cryptography"} == set()
    assert {"receiver.server.supervisor", "receiver.settings.settings"} <= found
    assert folder.database.exists(), "the start is checked, which makes the database"


def test_a_worker_imports_no_server(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import receiver.commands.worker, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert packages(set(done.stdout.split())) & {"starlette", "uvicorn"} == set()
