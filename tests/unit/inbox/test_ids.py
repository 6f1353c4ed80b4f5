"""Ids of deliveries grow, are unique, and contain the time of arrival."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from receiver.inbox.ids import MOST_PROCESSES, DeliveryIds, first_id_at


def test_each_id_is_larger_than_the_one_before():
    ids = DeliveryIds()
    drawn = [ids.draw() for _ in range(10_000)]
    assert drawn == sorted(set(drawn))


def test_ids_grow_even_if_the_clock_steps_back(monkeypatch):
    ids, clock = DeliveryIds(), iter([2_000_000_000_000_000_000, 1_000_000_000_000_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(clock))
    first, second = ids.draw(), ids.draw()
    assert second > first


def test_ids_drawn_together_are_as_many_as_asked_for_and_lie_in_order():
    ids = DeliveryIds()
    before, drawn, after = ids.draw(), ids.draw_many(100), ids.draw()
    assert len(drawn) == 100
    assert [before, *drawn, after] == sorted({before, *drawn, after})


def test_several_threads_never_draw_the_same_id():
    ids = DeliveryIds()

    def draw(_: int) -> list[int]:
        return [*ids.draw_many(1_000), *(ids.draw() for _ in range(1_000))]

    with ThreadPoolExecutor(4) as pool:
        drawn = [each for some in pool.map(draw, range(4)) for each in some]
    assert len(set(drawn)) == 8_000


def test_an_id_lies_in_the_range_of_its_time():
    before, drawn, after = datetime.now(UTC), DeliveryIds().draw(), datetime.now(UTC)
    assert first_id_at(before) <= drawn < first_id_at(after + timedelta(microseconds=1))


def test_an_id_fits_a_database_integer_for_centuries():
    assert first_id_at(datetime(2250, 1, 1, tzinfo=UTC)) < 2**63


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 (hypothesis wants naive bounds)
def test_ranges_of_ids_cut_exactly_between_microseconds(moment):
    assert first_id_at(moment + timedelta(microseconds=1)) - first_id_at(moment) == MOST_PROCESSES
