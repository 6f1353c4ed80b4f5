"""Sentences on pages and values in downloads: code between backticks, no markup of strangers, no formulas."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.console.downloads import _cell, _csv
from receiver.console.filters import told
from receiver.logs.escapes import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `hookmirror reload` now", "run <code>hookmirror reload</code> now"),
        ("`a` and `b`", "<code>a</code> and <code>b</code>"),
        ("an odd ` stands", "an odd ` stands"),
        ("`a` and an odd ` stand", "<code>a</code> and an odd ` stand"),
        ("`<b>`<i>", "<code>&lt;b&gt;</code>&lt;i&gt;"),
        ("`</code><script>`", "<code>&lt;/code&gt;&lt;script&gt;</code>"),
        ("`\u202e`", "<code>\\u202e</code>"),
    ],
)
def test_text_between_backticks_becomes_code_and_everything_is_escaped(text: str, shown: str) -> None:
    assert told(text) == f"<bdi hx-ignore>{shown}</bdi>"


@given(st.text(st.sampled_from("`<>&\"'a\n")))
def test_a_sentence_keeps_its_words_and_gets_no_other_markup(text: str) -> None:
    plain = re.sub(r"</?code>", "`", str(told(text or "x")).removeprefix("<bdi hx-ignore>").removesuffix("</bdi>"))
    assert "<" not in plain
    assert unescape(plain) == visible(text or "x")


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "=1",
        "@SUM(A1)",
        "-1+2",
        "+cmd",
        "\t=1",
        "\n=1",
        "\r=1",
        " =1",
        "\uff1d1+1",
        "x;=1",
        'x;"=1',
        "x\t@a",
        "'=1",
    ],
)
def test_no_cell_of_a_download_begins_with_a_formula_whatever_separates_the_cells(text: str) -> None:
    for cell in re.split(r"[;\t]", _cell(text)):
        assert not re.match(r"[\"\s]*[=+\-@\t\r\n\uff1d]", cell), cell


@pytest.mark.parametrize("formula", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\uff1d1", '"=1+1', " '=1"])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\n\n"])
def test_no_line_of_a_downloaded_cell_begins_a_row_with_a_formula_where_semicolons_separate(
    formula: str, end: str
) -> None:
    # In such a file, the quotes around a cell that is not the first of its row mean nothing.
    first, *rows = re.split(r"[\r\n]+", _csv([["shop", _cell(f"Lamp{end}{formula}{end}tail"), "A1"]]).decode().strip())
    assert first == 'shop,"Lamp'
    assert len(rows) == 2
    for row in rows:
        assert not re.match(r"[\"\s]*[=+\-@\uff1d]", row), row


def test_the_lines_of_a_cell_without_formulas_stay_unchanged() -> None:
    assert _cell("Lamp\n\nwith = and - inside\r\n1-2") == "Lamp\n\nwith = and - inside\r\n1-2"


@pytest.mark.parametrize("text", ["-5", "+5.5", "-.5", "1-2", "a;b", "A-1", "a=b", "12345678901234567890.10", ""])
def test_numbers_and_names_in_a_cell_stay_unchanged(text: str) -> None:
    assert _cell(text) == text


def test_a_cell_of_a_million_digits_before_a_letter_is_written_at_once() -> None:
    # Hours, if the digits were divided between two parts of a number in each way.
    text = f"+{'1' * 1_000_000}x"
    assert _cell(text) == f"'{text}"
