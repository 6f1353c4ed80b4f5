"""Signals to end while a command is starting."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from receiver.interrupts import EndingTidily

#: A program that starts with this process id, and ends itself by SIGTERM.
PROGRAM = """
import os, signal, sys
number = os.getpid()
os.getpid = lambda: int(sys.argv[1])
from receiver.interrupts import end_at_sigterm
end_at_sigterm()
os.kill(number, signal.SIGTERM)
"""


@pytest.mark.parametrize(("number", "code"), [(1, 0), (2, -signal.SIGTERM)])
def test_the_first_process_of_a_container_ends_at_sigterm_by_itself_and_any_other_by_the_system(number, code):
    assert subprocess.run([sys.executable, "-c", PROGRAM, str(number)], timeout=60).returncode == code


def test_a_block_that_ends_tidily_goes_on_ignoring_the_end_of_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with EndingTidily():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_does_not_interrupt_the_tidying():
    before, tidied = signal.getsignal(signal.SIGTERM), []

    def end_and_tidy():
        with EndingTidily():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGHUP)
                tidied.append("all")

    with pytest.raises(SystemExit) as ended:
        end_and_tidy()
    assert (tidied, ended.value.code, signal.getsignal(signal.SIGTERM)) == (["all"], 128 + signal.SIGTERM, before)
