"""The check before several processes start, which runs in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from textwrap import indent

import pytest
from waiting import TIMEOUT

CHECKING = """
import os, signal, sys
from receiver.errors import ConfigurationError
from receiver.server.supervised import check_apart

def check():
{check}

try:
    check_apart(check)
    print("goes on", "csv" in sys.modules)
except ConfigurationError as error:
    print(error)
"""


def checked(check: str) -> tuple[str, str]:
    """Return what a program prints that runs this check, and what it writes to standard error."""
    script = CHECKING.format(check=indent(check, "    "))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.removesuffix("\n"), done.stderr


def test_what_a_check_imports_is_gone_when_it_has_passed():
    assert checked("import csv") == ("goes on False", "")


def test_the_message_of_a_failed_check_is_that_of_its_error():
    # Longer than a pipe holds, with lines, and with characters that not every encoding has.
    assert checked("raise ConfigurationError('Set “shop”.\\n' * 9_000)") == ("Set “shop”.\n" * 9_000, "")


def test_a_check_that_is_killed_ends_the_start_with_its_code():
    message, _ = checked("os.kill(os.getpid(), signal.SIGKILL)")
    assert message == "The check before the start ended with the code -9: see the log before."


def test_an_unexpected_error_of_a_check_is_shown_with_its_place():
    message, errors = checked("1 / 0")
    assert message == "The check before the start ended with the code 1: see the log before."
    assert "ZeroDivisionError" in errors


def test_a_check_that_hears_of_ctrl_c_leaves_the_end_to_its_parent():
    assert checked("os.kill(os.getpid(), signal.SIGINT)") == ("goes on False", "")


#: Sends a signal at the moment at which the address is logged, before the supervisor runs.
ENDED_EARLY = """
import os, signal, socket, sys
from receiver.server import supervised

supervised.say_where = lambda *_: os.kill(os.getpid(), int(sys.argv[1]))
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
supervised.run_processes(listening, processes=1, worker=False)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_right_after_the_address_is_logged_is_a_regular_end(number):
    command = [sys.executable, "-c", ENDED_EARLY, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
