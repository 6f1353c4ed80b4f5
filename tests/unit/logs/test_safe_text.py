"""Text made of strangers' objects: whatever they do, there is a line, and it can be stored."""

from __future__ import annotations

import io
import logging
from functools import partial

import pytest
import structlog
from odd_errors import ODD

from receiver.logs import logs
from receiver.logs.safe_text import (
    LONGEST_QUOTE,
    LONGEST_SAYING,
    LONGEST_TRACE,
    name_of,
    name_of_function,
    quoted,
    told,
    told_with_type,
    traced,
)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize("odd", ODD)
def test_whatever_an_error_s_text_does_there_is_one_line_that_every_database_takes(odd):
    error = raised(ODD[odd]())
    for line in (told(error), told_with_type(error)):
        assert line
        assert "\n" not in line
        assert len(line) <= LONGEST_SAYING + 300
        assert "\0" not in line
        line.encode()


@pytest.mark.parametrize("odd", ODD)
def test_whatever_an_error_s_parts_do_there_is_a_traceback_with_the_place(odd):
    trace = traced(raised(ODD[odd]()))
    assert "test_safe_text.py" in trace
    assert len(trace) < 3 * LONGEST_TRACE
    trace.encode()


def test_an_error_says_its_first_line_and_without_any_its_type():
    assert told(ValueError("no such colour\nat all")) == "no such colour"
    assert told(ValueError()) == "ValueError"
    assert told_with_type(ValueError("no such colour")) == "ValueError: no such colour"
    assert told_with_type(ValueError()) == "ValueError"


def test_an_error_whose_text_raises_is_told_by_its_type_s_name():
    assert told_with_type(ODD["its text raises"]()) == "TextRaises"


def test_a_metaclass_that_lies_about_the_name_is_not_asked():
    assert name_of(ODD["its type's name raises"]()) == "Nameless"


@pytest.mark.parametrize(
    ("value", "text"),
    [("it's", '"it\'s"'), (b"abc", "b'abc'"), (5, "5"), (None, "None"), ([1] * 100, "[1, 1, 1, 1, 1, 1, ...]")],
)
def test_a_value_is_quoted_as_python_writes_it_and_what_is_long_is_cut(value, text):
    assert quoted(value) == text


@pytest.mark.parametrize("odd", ODD)
def test_a_value_that_cannot_be_written_is_quoted_by_its_type(odd):
    assert 0 < len(quoted(ODD[odd]())) <= LONGEST_QUOTE + 2


def test_a_number_of_more_digits_than_python_writes_is_quoted_by_its_type():
    assert quoted(10**5_000) == "<int>"


def test_a_function_is_named_by_its_module_and_what_else_can_be_called_by_its_type():
    assert name_of_function(raised).endswith("test_safe_text.raised")
    assert name_of_function(partial(raised)) == "partial"


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("odd", ODD)
def test_no_exception_keeps_its_own_line_out_of_the_log(monkeypatch, odd, form):
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    before, config = logging.getLogger().handlers[:], structlog.get_config()
    logs.configure("info", form)
    try:
        structlog.get_logger("ours").error("something of ours failed", exc_info=raised(ODD[odd]()))
        try:
            raise ODD[odd]()
        except Exception:
            logging.getLogger("a.library").exception("something of theirs failed")
    finally:
        structlog.configure(**config)
        logging.getLogger().handlers[:] = before
    assert "something of ours failed" in written.getvalue()
    assert "something of theirs failed" in written.getvalue()
    assert written.getvalue().count("test_safe_text.py") >= 2
