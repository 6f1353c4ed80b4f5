"""Bodies on a page: light, whatever they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from receiver.console.bodies import MOST_CHARACTERS_SHOWN, shown_body


def weight(lines: list[str]) -> int:
    return sum(len(escape(line)) + 1 for line in lines)


@given(st.text(max_size=500), st.integers(1, 60))
def test_a_body_takes_no_more_of_a_page_than_it_may(text, times):
    assert weight(shown_body(text * times, None).lines) <= MOST_CHARACTERS_SHOWN + 1


@pytest.mark.parametrize("content", ["<" * 60_000, "\x00" * 60_000, "a\n" * 30_000])
def test_what_becomes_too_long_on_a_page_is_cut_and_said_to_be(content):
    shown = shown_body(content, None)
    assert weight(shown.lines) <= MOST_CHARACTERS_SHOWN + 1
    assert shown.is_cut


def test_json_that_is_very_deep_is_not_put_into_lines():
    assert shown_body("[" * 900 + "]" * 900, None).lines == ["[" * 900 + "]" * 900]


def test_a_usual_body_is_shown_whole_with_its_digits():
    shown = shown_body('{"price": 19.900, "name": "Lamp"}', None)
    assert [line.strip() for line in shown.lines] == ["{", '"price": 19.900,', '"name": "Lamp"', "}"]
    assert not shown.is_cut
