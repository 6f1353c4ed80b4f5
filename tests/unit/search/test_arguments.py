"""Arguments of searches: texts and times, and refusals that say what is valid."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import BadRequest
from receiver.search.arguments import parse_moment, parse_text
from receiver.search.filters import DeliveryFilter

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-28T10:00:00Z", NOW - timedelta(hours=2)),
        ("2026-11-28T12:00:00+02:00", NOW - timedelta(hours=2)),
        ("2026-11-28T12:00:00 02:00", NOW - timedelta(hours=2)),
        ("2026-11-28 10:00:00+00:00", NOW - timedelta(hours=2)),
        ("10:00", NOW - timedelta(hours=2)),
        ("9:59:30", NOW - timedelta(hours=2, seconds=30)),
        ("13:00", NOW + timedelta(hours=1)),
        ("90m", NOW - timedelta(minutes=90)),
        ("3d", NOW - timedelta(days=3)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_with_its_offset_or_as_an_age(text, meant):
    assert parse_moment("from", text, now=NOW) == meant


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "yesterday",
            "2026-11-28T10:00:00",
            "2026-11-28",
            "24:00",
            "10:60",
            "1000",
            "1e3",
            "-2h",
            "2 h",
            "²h",
        ),
        *("999999d", "9" * 10_000 + "h", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "\0", "\ud800"),
        "'; DROP TABLE deliveries; --",
    ],
)
def test_a_text_that_is_not_a_time_is_refused_with_what_is_valid(text):
    with pytest.raises(BadRequest, match="`from` takes a time with its offset from UTC"):
        parse_moment("from", text, now=NOW)


@given(st.text())
def test_any_text_is_a_time_or_is_refused(text):
    with suppress(BadRequest):
        assert parse_moment("since", text, now=NOW).tzinfo is UTC


def test_a_range_that_ends_before_it_begins_is_refused():
    with pytest.raises(BadRequest, match="`from` is later than `to`"):
        DeliveryFilter(begin=NOW, end=NOW - timedelta(seconds=1))


def test_an_empty_text_and_one_longer_than_any_column_are_refused():
    with pytest.raises(BadRequest, match="`entity` is empty"):
        parse_text("entity", "")
    with pytest.raises(BadRequest, match="`entity` takes at most 512 characters"):
        parse_text("entity", "x" * 10_000)


def test_characters_that_no_column_holds_are_replaced_as_when_stored():
    assert parse_text("entity", "a\0b\ud800") == "a\ufffdb\ufffd"
