"""Text from a stranger's objects: whatever their methods do, the result is a line that can be stored."""

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
def test_any_error_gives_one_line_that_every_database_accepts(odd):
    error = raised(ODD[odd]())
    for line in (told(error), told_with_type(error)):
        assert line
        assert "\n" not in line
        assert len(line) <= LONGEST_SAYING + 300
        assert "\0" not in line
        line.encode()


@pytest.mark.parametrize("odd", ODD)
def test_any_error_gives_a_traceback_with_its_place(odd):
    trace = traced(raised(ODD[odd]()))
    assert "test_safe_text.py" in trace
    assert len(trace) < 3 * LONGEST_TRACE
    trace.encode()


def test_an_error_is_described_by_its_first_line_or_else_its_type():
    assert told(ValueError("no such colour\nat all")) == "no such colour"
    assert told(ValueError()) == "ValueError"
    assert told_with_type(ValueError("no such colour")) == "ValueError: no such colour"
    assert told_with_type(ValueError()) == "ValueError"


def test_an_error_whose_text_raises_is_described_by_its_type():
    assert told_with_type(ODD["its text raises"]()) == "TextRaises"


def test_the_name_of_a_type_does_not_come_from_its_metaclass():
    assert name_of(ODD["its type's name raises"]()) == "Nameless"


@pytest.mark.parametrize(
    ("value", "text"),
    [("it's", '"it\'s"'), (b"abc", "b'abc'"), (5, "5"), (None, "None"), ([1] * 100, "[1, 1, 1, 1, 1, 1, ...]")],
)
def test_a_value_is_quoted_as_python_writes_it_and_cut_if_long(value, text):
    assert quoted(value) == text


@pytest.mark.parametrize("odd", ODD)
def test_a_value_whose_repr_raises_is_quoted_by_its_type(odd):
    assert 0 < len(quoted(ODD[odd]())) <= LONGEST_QUOTE + 2


def test_a_number_with_too_many_digits_is_quoted_by_its_type():
    assert quoted(10**5_000) == "<int>"


def test_a_function_is_named_with_its_module_and_another_callable_by_its_type():
    assert name_of_function(raised).endswith("test_safe_text.raised")
    assert name_of_function(partial(raised)) == "partial"


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("odd", ODD)
def test_any_exception_is_logged(monkeypatch, odd, form):
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
