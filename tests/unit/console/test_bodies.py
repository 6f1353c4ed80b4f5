"""Bodies on a page take little room, whatever they contain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from receiver.console.bodies import MOST_CHARACTERS_SHOWN, shown_body


def weight(lines: list[str]) -> int:
    return sum(len(escape(line)) + 1 for line in lines)


@given(st.text(max_size=500), st.integers(1, 60))
def test_a_body_takes_only_its_part_of_a_page(text, times):
    assert weight(shown_body(text * times, None).lines) <= MOST_CHARACTERS_SHOWN + 1


@pytest.mark.parametrize("content", ["<" * 60_000, "\x00" * 60_000, "a\n" * 30_000])
def test_a_text_too_long_for_a_page_is_cut_with_a_note(content):
    shown = shown_body(content, None)
    assert weight(shown.lines) <= MOST_CHARACTERS_SHOWN + 1
    assert shown.is_cut


def test_deeply_nested_json_is_not_indented():
    assert shown_body("[" * 900 + "]" * 900, None).lines == ["[" * 900 + "]" * 900]


def test_an_ordinary_body_is_shown_whole_with_its_digits():
    shown = shown_body('{"price": 19.900, "name": "Lamp"}', None)
    assert [line.strip() for line in shown.lines] == ["{", '"price": 19.900,', '"name": "Lamp"', "}"]
    assert not shown.is_cut


@pytest.mark.parametrize("text", ["one\u2028two", "one\x0btwo", "one\x85two", "one\x1ctwo"])
def test_only_line_ends_become_lines_and_other_separators_are_written_out(text):
    assert shown_body(text, None).lines == [text.encode("unicode_escape").decode()]
    assert shown_body("one\r\ntwo\rthree\n", None).lines == ["one", "two", "three"]
