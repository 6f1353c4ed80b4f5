"""Text from outside as it is shown: nothing in it moves the cursor, colours, turns direction or forges a line."""

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
def test_what_is_not_printable_is_written_out(text: str):
    assert visible(text) == HARMFUL[text]


@pytest.mark.parametrize("text", ["", "Lamp 60 W", "灯 é 😊", "a\\b"])
def test_what_is_printable_stays_as_it_is(text: str):
    assert visible(text) == text


@given(st.text())
def test_whatever_is_shown_is_printable_and_can_be_encoded(text: str):
    assert visible(text).isprintable()
    visible(text).encode()


def test_lines_stay_lines_and_none_can_pass_for_one_of_our_own():
    assert visible_lines("ValueError: x\n2026-01-01 [info] forged\x1b") == (
        "    ValueError: x\n    2026-01-01 [info] forged\\x1b"
    )


class Speechless:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_object_that_cannot_say_its_text_is_told_by_its_type():
    assert text_of(Speechless()) == "(Speechless)"
