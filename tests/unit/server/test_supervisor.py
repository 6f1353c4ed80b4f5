"""The supervisor, with processes that are one line of shell each."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import TIMEOUT

from receiver.server.supervisor import Supervisor

SUPERVISING = """
import os, sys
from receiver.server.supervisor import Supervisor

told = []
def ended(pid):
    print("ended", pid, flush=True)
    told.append(pid)
    return told.count(pid) == 3

Supervisor([["sh", "-c", line] for line in sys.argv[2:]], environment=os.environ, file_descriptors=[],
           ended=ended, stop_timeout=float(sys.argv[1])).run()
"""


#: Lets the second process fail to start, as without memory or for want of processes.
FAILING_ONCE = """
import subprocess
popen, errors = subprocess.Popen, [{error}, None]
def start(*given, **named):
    error = errors.pop() if errors else None
    if error is not None:
        raise error
    return popen(*given, **named)
subprocess.Popen = start
"""


@pytest.fixture
def supervise():
    """Return a function that runs a supervisor of shell commands in a process of its own."""
    started = []

    def start(*commands: str, stop_timeout: float = TIMEOUT, before: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", before + SUPERVISING, str(stop_timeout), *commands]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def lines_of(path: Path, count: int) -> list[str]:
    """Wait until a file has this many lines, and return them."""
    end = time.monotonic() + TIMEOUT
    while not path.exists() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < end, f"waited {TIMEOUT:.0f} s for {count} lines"
        time.sleep(0.01)
    return path.read_text().splitlines()


def test_every_command_gets_a_process(supervise, tmp_path):
    process = supervise(*(f"echo {name} >> {tmp_path}/{name}; exec sleep 60" for name in ("one", "two")))
    assert lines_of(tmp_path / "one", 1) == ["one"]
    assert lines_of(tmp_path / "two", 1) == ["two"]
    process.terminate()
    assert process.wait(TIMEOUT) == 0


def test_an_ended_process_is_replaced_whatever_its_exit_code(supervise, tmp_path):
    supervise(f"echo $$ >> {tmp_path}/pids; exit 0", f"echo $$ >> {tmp_path}/others; kill -9 $$")
    assert len(set(lines_of(tmp_path / "pids", 2))) == 2
    assert len(set(lines_of(tmp_path / "others", 2))) == 2


def test_a_process_that_ends_repeatedly_is_replaced_after_growing_pauses(supervise, tmp_path):
    began = time.monotonic()
    supervise(f"echo x >> {tmp_path}/starts; exit 1")
    lines_of(tmp_path / "starts", 4)
    assert time.monotonic() - began > 0.2 + 0.4 + 0.8


@pytest.mark.parametrize(
    "error",
    ["MemoryError()", 'subprocess.SubprocessError("Exception occurred in preexec_fn.")', 'BlockingIOError(11, "full")'],
)
def test_a_process_that_cannot_be_started_is_tried_again_and_the_others_go_on(supervise, tmp_path, error):
    process = supervise(f"echo x >> {tmp_path}/starts; exit 1", before=FAILING_ONCE.format(error=error))
    lines_of(tmp_path / "starts", 3)
    process.terminate()
    assert "cannot start a process; trying again" in process.communicate(timeout=TIMEOUT)[0]


def test_the_callback_gets_the_id_of_an_ended_process(supervise, tmp_path):
    process = supervise(f"echo $$ >> {tmp_path}/pids; exit 0")
    first = lines_of(tmp_path / "pids", 2)[0]
    process.terminate()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert f"ended {first}" in output.splitlines()


def test_the_callback_gets_the_id_again_until_it_returns_true(supervise, tmp_path):
    process = supervise(f"echo $$ >> {tmp_path}/pids; exit 0")
    first = lines_of(tmp_path / "pids", 4)[0]
    process.terminate()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert output.splitlines().count(f"ended {first}") == 3


def test_the_callback_does_not_get_an_id_that_another_process_has():
    told: list[int] = []

    def ended(pid: int) -> bool:
        told.append(pid)
        return False

    supervisor = Supervisor([], environment={}, file_descriptors=[], ended=ended, stop_timeout=TIMEOUT)
    supervisor._left_by |= {7, 8}
    supervisor._posts.append(SimpleNamespace(pid=7))
    supervisor._tell_of_ended()
    assert told == [8]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_is_asked_to_end_first(supervise, tmp_path, number):
    process = supervise(
        f"trap 'echo asked >> {tmp_path}/log; exit 0' TERM; echo up >> {tmp_path}/log; while true; do sleep 0.05; done"
    )
    lines_of(tmp_path / "log", 1)
    process.send_signal(number)
    assert process.wait(TIMEOUT) == 0
    assert (tmp_path / "log").read_text().splitlines() == ["up", "asked"]


@pytest.mark.parametrize("name", ["INT", "HUP"])
def test_a_process_that_is_starting_is_left_to_its_supervisor(supervise, tmp_path, name):
    supervise(f"kill -{name} $$; echo $$ >> {tmp_path}/alive; while true; do sleep 0.05; done")
    assert len(lines_of(tmp_path / "alive", 1)) == 1


def test_a_process_that_does_not_end_when_asked_is_killed(supervise, tmp_path):
    stubborn = f"trap '' TERM; echo up >> {tmp_path}/log; while true; do sleep 0.05; done"
    process = supervise(stubborn, stop_timeout=1.0)
    lines_of(tmp_path / "log", 1)
    began = time.monotonic()
    process.terminate()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, time.monotonic() - began >= 1.0) == (0, True)
    assert "did not end in time" in output
