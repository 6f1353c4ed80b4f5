"""Limits of the system on one process: a start that needs more says which limit to raise, and the work goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from commanding import Folder, lines, post, product, wait_until

FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {0}))"

#: Threads of these names are refused by the system, as often as given.
NO_THREAD = """
import threading
_start, _left = threading.Thread.start, {names}
def start(self):
    if _left.get(self.name, 0):
        _left[self.name] -= 1
        raise RuntimeError("can't start new thread")
    _start(self)
threading.Thread.start = start
"""

#: The system refuses the thread of the timer in C, which is not one of Python's.
NO_TIMER = """
import faulthandler
def refuse(*_, **__):
    raise RuntimeError("unable to start watchdog thread")
faulthandler.dump_traceback_later = refuse
"""

SHORT_LEASE = {"HOOKMIRROR_LEASE_SECONDS": "1"}


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "--port", "0"),
        ("serve", "--port", "0", "--processes", "2"),
        ("worker",),
        ("console", "--port", "0"),
        ("follow", "--to", "http://127.0.0.1:9/changes"),
    ],
    ids=" ".join,
)
def test_a_process_that_may_open_too_few_files_does_not_start_and_says_which_limit_to_raise(tmp_path, command):
    done = Folder(tmp_path, before=FEW_FILES.format(24)).run(*command)
    assert done.returncode == 1
    assert lines(done.stderr)[-1] == (
        "hookmirror: This process may open 24 files at once, and needs at least 64: raise its limit (`ulimit -n`, "
        "`LimitNOFILE=` of its unit, `ulimits` of its container)."
    )


@pytest.mark.parametrize("files", range(8, 20))
def test_a_command_that_runs_out_of_files_names_the_limit_and_no_line_of_code(tmp_path, files):
    folder = Folder(tmp_path)
    folder.migrate()
    folder.before = FEW_FILES.format(files)
    done = folder.run("deliveries")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or f"This process may open {files} files at once: raise its limit" in done.stderr


@pytest.mark.parametrize("thread", ["group-commit", "keeper", "registration", "reloader"])
def test_a_server_that_gets_too_few_threads_ends_with_what_to_raise(tmp_path, thread):
    folder = Folder(tmp_path, before=NO_THREAD.format(names={thread: 1}))
    done = folder.run("serve", "--port", "0")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "The system gives this process no further thread: raise its limits on threads (`ulimit -u`" in done.stderr


def test_a_worker_goes_on_and_stays_watched_without_the_timer_outside_the_interpreter(tmp_path):
    folder = Folder(tmp_path, environment=SHORT_LEASE, before=NO_TIMER)
    with folder.serving() as (process, client):
        says = "cannot set the timer for handlers that block the interpreter"
        assert says in next(line for line in process.stderr if "cannot" in line)
        assert post(client, product(1, key="1", name="Lamp")).status_code == 200
        wait_until(lambda: folder.count("state = 'processed'"), "the delivery's end")
        assert client.get("/readyz").json()["status"] == "ready"


def test_a_server_without_threads_for_reads_answers_with_a_reason_and_goes_on_acking(tmp_path):
    folder = Folder(tmp_path, before=NO_THREAD.format(names={"readiness_0": 1, "reads_0": 1}))
    with folder.serving("--no-worker") as (_, client):
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reason"].startswith("The system gives this process no further thread: raise its limits")
        token = folder.run("token", "--scope", "read").stdout.strip()
        listed = [client.get("/api/v1/deliveries", headers={"Authorization": f"Bearer {token}"}) for _ in range(2)]
        assert (listed[0].status_code, listed[0].json()["error"]) == (503, "unavailable")
        message = listed[0].json()["message"]
        assert message.startswith("No thread can be started for this read. The system gives this process no further")
        assert "raise its limits on threads" in message
        assert listed[1].status_code == 200
        assert client.get("/readyz").status_code == 200
        assert post(client, product(1, key="1", name="Lamp")).status_code == 200


def test_a_command_in_a_folder_that_was_removed_says_so(tmp_path):
    place = tmp_path / "gone"
    place.mkdir()
    folder = Folder(tmp_path, environment={"HOOKMIRROR_CONFIG": None})
    folder.before = f"import os; os.chdir({str(place)!r}); os.rmdir({str(place)!r})"
    done = folder.run("doctor")
    assert done.stderr == (
        "hookmirror: The folder in which this command was started no longer exists: change to another one.\n"
    )


def test_an_acceptor_process_is_started_again_by_a_later_thread(tmp_path):
    folder = Folder(tmp_path, environment={"HOOKMIRROR_ACCEPTOR_PROCESS": "true"})
    folder.before = NO_THREAD.format(names={"acceptor-starter": 2})
    with folder.serving("--no-worker") as (process, client):
        assert post(client, product(1, key="1", name="Lamp")).status_code == 200
        (acceptor,) = (Path("/proc") / str(process.pid) / "task" / str(process.pid) / "children").read_text().split()
        os.kill(int(acceptor), signal.SIGKILL)
        wait_until(
            lambda: post(client, product(2, key="2", name="Lamp")).status_code == 200, "another acceptor process"
        )
