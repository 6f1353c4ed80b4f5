"""The retry schedule, which is only arithmetic."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from receiver.inbox.retries import RetrySchedule

SCHEDULE = RetrySchedule()


def test_the_last_attempt_exhausts_the_schedule_and_the_one_before_does_not():
    assert [RetrySchedule(attempts=3).exhausted(attempt) for attempt in (1, 2, 3, 4)] == [False, False, True, True]


def test_the_limits_triple_from_fifteen_seconds_up_to_a_day():
    caps = [SCHEDULE.delay(attempt, 1.0) for attempt in range(1, 10)]
    assert caps[:4] == [timedelta(seconds=seconds) for seconds in (15, 45, 135, 405)]
    assert caps[-1] == timedelta(days=1)


def test_ten_attempts_take_about_a_day_with_average_jitter():
    total = sum((SCHEDULE.delay(attempt, 0.5) for attempt in range(1, SCHEDULE.attempts)), timedelta())
    assert timedelta(hours=18) < total < timedelta(hours=30)


@given(st.integers(1, 200), st.floats(0, 1))
def test_a_wait_is_never_negative_and_never_beyond_its_limit(attempt, jitter):
    assert timedelta() <= SCHEDULE.delay(attempt, jitter) <= min(SCHEDULE.delay(attempt, 1.0), SCHEDULE.longest)


@given(st.integers(1, 50))
def test_the_limits_never_shrink(attempt):
    assert SCHEDULE.delay(attempt, 1.0) <= SCHEDULE.delay(attempt + 1, 1.0)


def test_zero_jitter_means_no_wait():
    assert SCHEDULE.delay(9, 0.0) == timedelta()
