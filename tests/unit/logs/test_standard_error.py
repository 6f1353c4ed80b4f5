"""Standard error whose reader stands still or has gone, or that the starter has closed."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest
from waiting import TIMEOUT

from receiver.logs.standard_error import PIECE, Unfailing

PREPARED = (
    "from receiver.logs.standard_error import prepare_standard_streams; prepare_standard_streams(); import os, sys; "
)


@contextmanager
def full_pipe() -> Iterator[int]:
    """Make standard error a pipe inside the block, and yield the end that reads."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w", encoding="utf-8") as stream, redirect_stderr(stream):
        yield reading
        drained(reading)
    os.close(reading)


def drained(reading: int) -> bytes:
    read = b""
    try:
        while more := os.read(reading, 1 << 20):
            read += more
    except BlockingIOError:
        pass
    return read


def test_lines_that_a_full_pipe_does_not_take_are_dropped_and_counted():
    with full_pipe() as reader:
        error = Unfailing()
        for _ in range(200):
            error.write("x" * (PIECE - 1) + "\n")
        lines = drained(reader).splitlines()
        assert {len(line) for line in lines} == {PIECE - 1}
        error.write("the next one\n")
        dropped, after = drained(reader).decode().splitlines()
        assert dropped == f"{200 - len(lines)} lines of the log could not be written to standard error."
        assert after == "the next one"


class Interrupted(io.StringIO):
    """A stream at which a signal handler logs in the middle of a line."""

    def write(self, text: str) -> int:
        if text == "a line\n":
            ERROR.write("a signal came\n")
        return super().write(text)


ERROR = Unfailing()


def test_a_signal_handler_may_log_in_the_middle_of_a_line():
    with redirect_stderr(Interrupted()) as stream:
        line = threading.Thread(target=ERROR.write, args=("a line\n",), daemon=True)
        line.start()
        line.join(TIMEOUT)
        assert not line.is_alive(), "it waits for itself"
        assert stream.getvalue() == "a signal came\na line\n"


class InterruptedFile(io.RawIOBase):
    """A file at which a signal handler logs in the middle of a write, below the buffer of the stream."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def fileno(self) -> int:
        raise io.UnsupportedOperation

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        if not self.written:
            self.written.append(bytes(content))
            ERROR.write("a signal came\n")
        return len(content)


def test_a_signal_handler_that_logs_in_the_middle_of_a_write_gets_no_error():
    file = InterruptedFile()
    with redirect_stderr(io.TextIOWrapper(io.BufferedWriter(file))):
        assert ERROR.write("a line\n") == 7
    assert file.written == [b"a line\n"]


def test_a_line_that_was_cut_off_ends_before_the_next_one():
    with full_pipe() as reader:
        error = Unfailing()
        error.write("x" * 1_000_000 + "\n")
        drained(reader)
        error.write("the next one\n")
        assert drained(reader).decode().splitlines() == [
            "",
            "1 line of the log could not be written to standard error.",
            "the next one",
        ]


def test_a_line_longer_than_the_room_of_a_pipe_does_not_wait():
    with full_pipe():
        assert Unfailing().write("y" * 10_000_000) == 10_000_000


class FullDisk(io.StringIO):
    """A stream to a disk that is full at first."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_lines_that_a_full_disk_does_not_take_are_dropped_and_counted():
    error = Unfailing()
    with redirect_stderr(FullDisk()) as stream:
        for _ in range(3):
            error.write("lost\n")
        stream.is_full = False
        error.write("the next one\n")
        error.write("and another\n")
    assert stream.getvalue() == (
        "3 lines of the log could not be written to standard error.\nthe next one\nand another\n"
    )


def test_a_reader_that_has_gone_stops_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8", buffering=1) as stream:
        with redirect_stderr(stream):
            assert Unfailing().write("not read\n") == 9
        # What the stream still holds cannot be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


@pytest.mark.parametrize("closed", ["0<&-", ">&-", "2>&-", "0<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_standard_stream_that_was_closed(closed, tmp_path):
    code = PREPARED + "opened = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); os.write(opened, str(opened).encode())"
    subprocess.run(["sh", "-c", f'exec "$0" -c "$1" "$2" {closed}', sys.executable, code, tmp_path / "new"], check=True)
    assert int((tmp_path / "new").read_text()) > 2


def test_a_command_runs_with_all_standard_streams_closed(tmp_path):
    environment = {**os.environ, "HOOKMIRROR_SECRET_KEY": "k" * 32}
    command = [sys.executable, "-m", "receiver", "token"]
    subprocess.run(["sh", "-c", '"$@" 0<&- >&- 2>&-', "sh", *command], check=True, env=environment, cwd=tmp_path)


def test_a_command_whose_output_cannot_be_written_says_so_in_one_line(tmp_path):
    environment = {**os.environ, "HOOKMIRROR_SECRET_KEY": "k" * 32}
    for command in ("token", "--version"):
        asked = [sys.executable, "-m", "receiver", command]
        with open("/dev/full", "w") as full:
            done = subprocess.run(asked, stdout=full, stderr=subprocess.PIPE, env=environment, cwd=tmp_path, text=True)
        assert (done.returncode, done.stderr) == (
            1,
            "hookmirror: The output cannot be written (No space left on device): free some space, or let it go "
            "elsewhere. What the command did before stays done.\n",
        )


def test_libraries_may_ask_a_closed_standard_output_whether_it_is_a_terminal(tmp_path):
    code = PREPARED + "sys.exit(3 + sys.stdout.isatty())"
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code])
    assert done.returncode == 3


def test_a_locale_without_a_character_shows_its_number():
    code = PREPARED + "print('Gr\\u00fcn \\U0001f60a')"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert done.stdout.decode("latin-1") == "Grün \\U0001f60a\n"
