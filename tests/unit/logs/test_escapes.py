"""Text from outside is shown escaped: it cannot move the cursor, color, change direction, or forge a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.logs.escapes import text_of, visible, visible_lines

HARMFUL = {
    "\x1b[31mRED": "\\x1b[31mRED",
    "\0": "\\x00",
    "a\r\nb\tc": "a\\r\\nb\\tc",
    "\x7f": "\\x7f",
    "\x85": "\\x85",
    "\x9b31m": "\\x9b31m",
    "\u2028\u2029": "\\u2028\\u2029",
    "\u202atxt.\u202e": "\\u202atxt.\\u202e",
    "\u2066\u2069\u200f\u061c": "\\u2066\\u2069\\u200f\\u061c",
    "\ufeff": "\\ufeff",
    "\ud800": "\\ud800",
    "\U000e0001": "\\U000e0001",
}


@pytest.mark.parametrize("text", HARMFUL, ids=ascii)
def test_text_that_is_not_printable_is_written_as_escapes(text: str):
    assert visible(text) == HARMFUL[text]


@pytest.mark.parametrize("text", ["", "Lamp 60 W", "灯 é 😊", "a\\b"])
def test_printable_text_stays_unchanged(text: str):
    assert visible(text) == text


@given(st.text())
def test_any_shown_text_is_printable_and_can_be_encoded(text: str):
    assert visible(text).isprintable()
    visible(text).encode()


def test_lines_stay_lines_and_none_looks_like_a_line_of_the_log():
    assert visible_lines("ValueError: x\n2026-01-01 [info] forged\x1b") == (
        "    ValueError: x\n    2026-01-01 [info] forged\\x1b"
    )


class Speechless:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_object_whose_text_raises_is_shown_by_its_type():
    assert text_of(Speechless()) == "(Speechless)"
