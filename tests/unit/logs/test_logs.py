"""The log shows everything from outside escaped, in both formats and from every logger."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from waiting import TIMEOUT

from receiver.logs import logs, rates
from receiver.logs.standard_error import Unfailing

#: ESC, a bidirectional override, NEL, a line separator, DEL, C1's CSI, a lone surrogate, and a line end before a forged
#: line.
NASTY = "\x1b[31mRED\u202e\x85\u2028\x7f\x9b1m\ud800\n2026-01-01T00:00:00Z [info     ] listening"
SHOWN = "\\x1b[31mRED\\u202e\\x85\\u2028\\x7f\\x9b1m\\ud800\\n2026-01-01T00:00:00Z [info     ] listening"


@pytest.fixture(params=["console", "json"])
def form(request) -> Iterator[str]:
    before, level, config = logging.root.handlers[:], logging.root.level, structlog.get_config()
    libraries = {name: logging.getLogger(name).level for name in ("httpx", "alembic")}
    logs.configure("info", request.param)
    # Each test has a standard error of its own, which a logger that was used before would not see.
    structlog.configure(cache_logger_on_first_use=False)
    yield request.param
    structlog.configure(**config)
    logging.root.handlers[:] = before
    logging.root.setLevel(level)
    for name, was in libraries.items():
        logging.getLogger(name).setLevel(was)


def fails() -> None:
    raise ValueError(NASTY)


def assert_harmless(written: str) -> None:
    for line in written.split("\n"):
        assert line.isprintable(), ascii(line)


def test_a_value_is_escaped(form: str, capsys):
    structlog.get_logger().warning("refused", source=NASTY)
    written = capsys.readouterr().err
    assert_harmless(written)
    assert written.count("\n") == 1
    # In the format for people, a text with blanks is quoted and its backslashes are doubled.
    told = json.loads(written)["source"] if form == "json" else written.replace("\\\\", "\\")
    assert SHOWN in told


def test_the_message_itself_is_escaped(form: str, capsys):
    structlog.get_logger().warning(NASTY)
    written = capsys.readouterr().err
    assert_harmless(written)
    assert written.count("\n") == 1


@pytest.mark.parametrize("value", [[NASTY], {"name": NASTY}, {NASTY: 1}, ({"a": [NASTY]},), ValueError(NASTY)])
def test_values_inside_containers_are_escaped(form: str, capsys, value):
    structlog.get_logger().warning("kept", told=value)
    written = capsys.readouterr().err
    assert_harmless(written)
    assert written.count("\n") == 1


def test_a_traceback_keeps_its_lines_and_none_looks_like_a_line_of_the_log(form: str, capsys):
    try:
        fails()
    except ValueError:
        structlog.get_logger().exception("it failed")
    written = capsys.readouterr().err
    assert_harmless(written)
    told = json.loads(written)["exception"] if form == "json" else written.partition("\n")[2].removesuffix("\n")
    assert "\n    ValueError: \\x1b[31mRED" in told
    assert all(line.startswith("    ") for line in told.split("\n") if line)


def test_a_library_s_line_and_traceback_are_escaped(form: str, capsys):
    # pytest's own handlers would keep the line unescaped, and a lone surrogate cannot be sent to another process.
    logging.root.handlers[:] = [each for each in logging.root.handlers if isinstance(each.stream, Unfailing)]
    try:
        fails()
    except ValueError:
        logging.getLogger("uvicorn.error").exception("about %s", NASTY)
    written = capsys.readouterr().err
    assert_harmless(written)
    told = json.loads(written)["event"] if form == "json" else written
    assert f"about {SHOWN}" in told


def test_an_object_whose_text_raises_does_not_stop_the_line(form: str, capsys):
    class Speechless(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    structlog.get_logger().warning("kept", error=Speechless())
    try:
        raise Speechless
    except Speechless:
        structlog.get_logger().exception("it failed")
    assert capsys.readouterr().err.count("Speechless") >= 2


@pytest.mark.parametrize("form", ["json"], indirect=True)
def test_numbers_and_flags_keep_their_types_in_json(form: str, capsys):
    structlog.get_logger().warning("counted", lines=3, seconds=1.5, forced=True, source=None)
    line = json.loads(capsys.readouterr().err)
    assert (line["lines"], line["seconds"], line["forced"], line["source"]) == (3, 1.5, True, None)


def test_a_repeated_warning_of_a_library_is_written_once(form: str, capsys, monkeypatch):
    monkeypatch.setattr(rates, "FIRST_WHILE", TIMEOUT)
    for number in range(50):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request %d", number)
    logging.getLogger("uvicorn.error").info("Started")
    logging.getLogger("uvicorn.error").info("Started")
    written = capsys.readouterr().err
    assert written.count("Invalid HTTP request") == 1
    assert written.count("Started") == 2


def test_a_lone_surrogate_does_not_lose_its_line(form: str, capsys):
    structlog.get_logger().warning("kept", name="\ud800")
    assert "\\ud800" in capsys.readouterr().err


def test_a_command_that_reads_no_settings_keeps_its_standard_output_for_its_answer():
    script = (
        "import structlog\n"
        "from receiver import cli\n"
        "cli.own_command = lambda _: lambda: structlog.get_logger().warning('logged beside the answer')\n"
        "cli.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, "token"], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    assert "logged beside the answer" in ended.stderr
