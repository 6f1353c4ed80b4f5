"""Timetables: plain words for when something is due, and the times that follow from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import ConfigurationError
from receiver.settings.settings import source_settings
from receiver.settings.timetable import LONGEST_SPREAD, read_timetable

SATURDAY = datetime(2026, 11, 28, 13, 20, tzinfo=UTC)

TEXTS = ["hourly", "daily 02:10", "Daily 23:59", "weekly sunday 02:10", "every 6 hours", "every 5 minutes"]


@pytest.mark.parametrize(
    ("text", "latest"),
    [
        ("hourly", datetime(2026, 11, 28, 13, tzinfo=UTC)),
        ("daily 02:10", datetime(2026, 11, 28, 2, 10, tzinfo=UTC)),
        ("daily 23:59", datetime(2026, 11, 27, 23, 59, tzinfo=UTC)),
        ("weekly sunday 02:10", datetime(2026, 11, 22, 2, 10, tzinfo=UTC)),
        ("weekly saturday 02:10", datetime(2026, 11, 28, 2, 10, tzinfo=UTC)),
        ("every 6 hours", datetime(2026, 11, 28, 12, tzinfo=UTC)),
    ],
)
def test_a_due_time_is_the_one_in_the_words_or_minutes_later(text: str, latest: datetime):
    found = read_timetable(text).latest(SATURDAY, name="shop")
    assert timedelta() <= found - latest < LONGEST_SPREAD


@pytest.mark.parametrize("text", TEXTS)
@given(seconds=st.integers(0, 4_000_000_000), name=st.text())
def test_now_is_always_between_the_latest_due_time_and_the_next(text: str, seconds: int, name: str):
    timetable, now = read_timetable(text), datetime.fromtimestamp(seconds, UTC)
    latest, following = timetable.latest(now, name=name), timetable.following(now, name=name)
    assert latest <= now < following
    assert following - latest == timetable.interval


def test_sources_are_not_all_reconciled_in_the_same_second():
    timetable = read_timetable("daily 02:10")
    assert len({timetable.following(SATURDAY, name=f"source-{number}") for number in range(20)}) > 10


@pytest.mark.parametrize(
    "text",
    [
        *("daily", "daily 24:00", "daily 2:10", "daily 02:60", "02:10", "weekly 02:10", "weekly someday 02:10"),
        *(
            "every 6",
            "every 0 hours",
            "every 4 minutes",
            "every 8 days",
            "every 99999 days",
            "* * * * *",
            "daily \N{ARABIC-INDIC DIGIT ZERO}2:10",
        ),
    ],
)
def test_a_text_that_is_not_a_timetable_is_refused_with_examples(text: str):
    with pytest.raises(ConfigurationError, match=r"reconcile.* (takes a timetable in UTC, such as|must be every)"):
        source_settings("shop", {"reconcile": text})


def test_an_empty_setting_means_no_schedule():
    assert source_settings("shop", {"reconcile": ""}).reconcile_timetable is None
