"""Past hours: the same sums as the tallies give, and those that cannot change are read only once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from receiver.database.database import Database
from receiver.findings import tallies
from receiver.findings.counting import TALLIES_WAIT, KindCount, TallyKey
from receiver.findings.past_hours import MOST_CHARTS, SETTLING, PastHours
from receiver.findings.tallies import HOUR

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def database(mirror_url: str) -> Iterator[Database]:
    opened = Database(mirror_url)
    yield opened
    opened.close()


def add(database: Database, at: datetime, number: int = 1, kind: str = "ended", source: str = "shop") -> None:
    with database.write() as connection:
        tallies.add(connection, "aaaaaa", {TallyKey(source, kind, "processed"): KindCount(number)}, at=at)


def hours(past: PastHours, database: Database, now: datetime, first: datetime = NOON - DAY) -> dict[datetime, int]:
    with database.read() as connection:
        found = past.by_kind(connection, ["shop"], ("ended",), first, now)
    assert len({each.at for each in found}) == len(found)
    return {each.at: each.number for each in found}


def test_minutes_are_summed_by_the_hour_without_repeating_an_hour(database):
    for minutes in (1, 59, 61, 300):
        add(database, NOON - timedelta(minutes=minutes), 2)
    expected = {NOON - HOUR: 4, NOON - 2 * HOUR: 2, NOON - 5 * HOUR: 2}
    past = PastHours()
    assert hours(past, database, NOON) == expected
    assert hours(past, database, NOON) == expected


def test_new_tallies_of_the_newest_hours_are_seen_and_a_settled_hour_is_not_read_again(database):
    past = PastHours()
    settled = NOON - SETTLING - HOUR
    add(database, settled)
    add(database, NOON - timedelta(minutes=1))
    hours(past, database, NOON)
    # A process writes the minutes of an outage of the database afterwards.
    for at in (NOON - timedelta(minutes=1), NOON - TALLIES_WAIT, settled):
        add(database, at)
    assert hours(past, database, NOON + timedelta(minutes=5)) == {
        NOON - HOUR: 2,
        NOON - TALLIES_WAIT: 1,
        tallies.beginning(settled, HOUR): 1,
    }


def test_an_earlier_beginning_than_before_is_read_from_the_tallies(database):
    past = PastHours()
    add(database, NOON - 20 * HOUR)
    assert hours(past, database, NOON, NOON - 2 * HOUR) == {}
    assert hours(past, database, NOON) == {NOON - 20 * HOUR: 1}


def test_after_a_pause_longer_than_the_chart_no_past_hour_is_kept(database):
    past = PastHours()
    add(database, NOON - HOUR)
    assert hours(past, database, NOON)
    assert hours(past, database, NOON + 9 * DAY, NOON + 2 * DAY) == {}


def test_a_bounded_number_of_charts_is_kept(database):
    past = PastHours()
    with database.read() as connection:
        for number in range(MOST_CHARTS + 5):
            past.by_kind(connection, [f"shop-{number}"], ("ended",), NOON - DAY, NOON)
    assert len(past._charts) == MOST_CHARTS


@pytest.mark.parametrize("width", [timedelta(minutes=1), timedelta(minutes=20), timedelta(hours=2)])
def test_the_database_sums_in_steps_that_fit_the_width(database, width):
    for minutes in range(0, 300, 7):
        add(database, NOON - timedelta(minutes=minutes))
    with database.read() as connection:
        found = tallies.by_kind(connection, ["shop"], ("ended", "refused"), NOON - DAY, NOON + HOUR, width=width)
    widths: dict[datetime, int] = {}
    for each in found:
        widths[tallies.beginning(each.at, width)] = widths.get(tallies.beginning(each.at, width), 0) + each.number
    expected: dict[datetime, int] = {}
    for minutes in range(0, 300, 7):
        at = tallies.beginning(NOON - timedelta(minutes=minutes), width)
        expected[at] = expected.get(at, 0) + 1
    assert widths == expected


def test_hours_that_were_read_before_the_clock_was_set_back_are_read_again(database):
    past = PastHours()
    assert hours(past, database, NOON + DAY) == {}
    add(database, NOON - HOUR)
    assert hours(past, database, NOON) == {NOON - HOUR: 1}
