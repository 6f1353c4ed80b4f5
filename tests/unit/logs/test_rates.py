"""Rates: which of many similar lines are written, and the sums of the others."""

from __future__ import annotations

from receiver.logs.rates import LONGEST_WHILE, HeldBack, Rates


def test_the_first_line_of_each_kind_is_written():
    rates = Rates()
    assert [rates.lets_through(kind, now=0.0) for kind in ("a", "b", "a")] == [True, True, False]


def test_further_lines_are_counted_and_summed_up_at_the_end_of_an_interval():
    rates = Rates()
    for _ in range(6):
        rates.lets_through("a", now=0.0)
    assert rates.held_back(now=0.9) == []
    assert rates.held_back(now=1.0) == [HeldBack("a", 5, 1.0)]


def test_each_interval_of_a_flood_is_twice_as_long_up_to_a_bound():
    rates = Rates()
    now, told = 0.0, []
    rates.lets_through("a", now=now)
    for _ in range(8):
        assert not rates.lets_through("a", now=now)
        now = rates.next_end()
        told += rates.held_back(now=now)
    assert [each.seconds for each in told] == [1, 2, 4, 8, 16, 32, LONGEST_WHILE, LONGEST_WHILE]


def test_a_line_after_a_quiet_interval_is_written():
    rates = Rates()
    rates.lets_through("a", now=0.0)
    assert rates.lets_through("a", now=1.0)


def test_a_late_poll_loses_no_held_back_line():
    rates = Rates()
    rates.lets_through("a", now=0.0)
    rates.lets_through("a", now=0.5)
    assert not rates.lets_through("a", now=30.0)
    assert rates.held_back(now=30.0) == [HeldBack("a", 2, 30.0)]


def test_after_the_last_sum_of_a_flood_no_further_sum_follows():
    rates = Rates()
    rates.lets_through("a", now=0.0)
    rates.lets_through("a", now=0.0)
    rates.held_back(now=1.0)
    assert rates.next_end() is None
    assert rates.held_back(now=100.0) == []
    assert rates.lets_through("a", now=100.0)


def test_kinds_beyond_the_bound_are_counted_together():
    rates = Rates(kinds_at_once=2)
    assert [rates.lets_through(kind, now=0.0) for kind in "abcde"] == [True, True, True, False, False]
    assert rates.held_back(now=1.0) == [HeldBack(None, 2, 1.0)]


def test_a_quiet_kind_makes_room_for_another():
    rates = Rates(kinds_at_once=1)
    rates.lets_through("a", now=0.0)
    assert rates.lets_through("b", now=1.0)
    assert not rates.lets_through("b", now=1.5)
    assert rates.held_back(now=2.0) == [HeldBack("b", 1, 1.0)]
