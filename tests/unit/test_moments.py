"""Times beyond the years of UTC, and times that programs write for no time, in every part where a source gives one."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from collecting import fixture, json_body, writes_of
from hypothesis import given
from hypothesis import strategies as st

from handlers.catalog import Product
from handlers.eastern import read_eastern
from handlers.iimmpact import iimmpact
from handlers.indexed import indexed
from handlers.sigma import EntityRecord, sigma
from handlers.sticky import sticky
from handlers.values import as_moment, as_moment_or_none
from receiver.database.columns import UtcDateTime
from receiver.database.normalizers import normalizer
from receiver.errors import LONGEST_RETRY, BadRequest, Retry, Unreadable
from receiver.mirror.news import Mirror
from receiver.mirror.versions import microseconds
from receiver.moments import in_utc, is_zero, time_text
from receiver.search.arguments import parse_moment

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)

BEYOND = ["9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999999-14:00"]
ZERO = [
    *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "0001-01-01T00:00:00-05:00", "0001-01-01T08:00:00Z"),
    *("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z", "1969-12-31T19:00:00-05:00", "1970-01-01T00:00:00+08:00"),
]
NONE = [*BEYOND, *ZERO, "0000-00-00T00:00:00Z", "0000-00-00 00:00:00", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z"]


# ── moments ───────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.datetimes(timezones=st.integers(-1_439, 1_439).map(lambda minutes: timezone(timedelta(minutes=minutes)))))
def test_a_moment_is_converted_to_utc_or_moved_to_the_edge_of_its_years(some):
    if 1 < some.year < 9999:
        assert in_utc(some) == some
    else:
        with suppress(ValueError):
            assert in_utc(some) == some


@pytest.mark.parametrize("written", ZERO)
def test_times_that_programs_write_for_no_time_count_as_zero(written: str):
    assert is_zero(datetime.fromisoformat(written))


@pytest.mark.parametrize(
    "written", ["2026-03-04T12:00:00Z", "1970-01-01T00:00:01Z", "1969-07-20T20:17:40Z", "9999-12-31T23:59:59Z"]
)
def test_any_other_time_does_not_count_as_zero(written: str):
    assert not is_zero(datetime.fromisoformat(written))


# ── times of sources ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("written", NONE)
def test_a_zero_time_that_only_informs_becomes_none(written: str):
    assert as_moment_or_none(written) is None


@pytest.mark.parametrize("written", NONE)
def test_a_zero_time_that_decides_is_refused(written: str):
    with pytest.raises(ValueError, match=r"a time|zero time|outside the years|year|month|isoformat"):
        as_moment(written)


@pytest.mark.parametrize("written", NONE)
@pytest.mark.parametrize(("dialect", "name"), [(sigma, "entity.updated"), (iimmpact, "product.updated")])
def test_an_event_with_a_zero_time_is_unreadable_and_the_reason_names_it(dialect, name: str, written: str):
    body = fixture(dialect.name, name) | {"timestamp": written}
    with pytest.raises(Unreadable, match="timestamp"):
        dialect.read(json_body(body))


def updated(*, revised: str, dispatched: str) -> bytes:
    body = fixture("indexed", "product.updated")
    return json_body(body | {"timestamp": dispatched, "revision": {"timestamp": revised}})


@pytest.mark.parametrize("written", NONE)
def test_with_a_zero_revision_time_the_dispatch_time_counts(written: str):
    envelope = indexed.read(updated(revised=written, dispatched="2026-03-04T12:00:00Z"))
    assert envelope.occurred_at == NOON
    assert envelope.fingerprint is None


@pytest.mark.parametrize("written", NONE)
def test_with_a_zero_dispatch_time_the_revision_time_counts(written: str):
    assert indexed.read(updated(revised="2026-03-04T12:00:00Z", dispatched=written)).occurred_at == NOON


def test_without_either_time_the_event_is_unreadable_and_the_reason_names_both():
    with pytest.raises(Unreadable, match=r"`revision.timestamp` nor `timestamp`"):
        indexed.read(updated(revised=ZERO[0], dispatched=BEYOND[0]))


LOCAL = [
    *("0000-00-00 00:00:00", "0001-01-01 00:00:00", "1970-01-01 00:00:00", "1969-12-31 19:00:00"),
    "9999-12-31 23:59:59",
]


@pytest.mark.parametrize("written", LOCAL)
def test_an_invalid_local_time_is_refused(written: str):
    with pytest.raises(Unreadable, match="`time` is not a time"):
        sticky.read(json_body(fixture("sticky", "product.updated.custom_built_bundle") | {"time": written}))


@pytest.mark.parametrize("written", NONE)
def test_a_zero_update_time_does_not_choose_between_two_hours(written: str):
    body = fixture("sticky", "product.updated.custom_built_bundle") | {"time": "2026-11-01 01:30:00"}
    body["data"] = body["data"] | {"object": body["data"]["object"] | {"updated_at": written}}
    assert sticky.read(json_body(body)).occurred_at == read_eastern("2026-11-01 01:30:00")


@pytest.mark.parametrize("written", NONE)
def test_a_record_with_a_zero_time_has_the_event_s_time(written: str):
    record = EntityRecord.model_validate({"id": "A1", "values": {}, "updatedAt": written})
    assert record.updated_at is None
    body = fixture("sigma", "entity.updated")
    times = {write.version.time for write in writes_of(sigma, json_body(body), hydrated=record)}
    assert times == {microseconds(datetime.fromisoformat(body["timestamp"]))}


# ── the framework ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("written", BEYOND)
def test_a_column_that_cannot_keep_a_time_is_named(written: str):
    with pytest.raises(Unreadable, match=r"^`released_at` cannot keep the time 9999-.*outside the years 1 to 9999"):
        normalizer(UtcDateTime())("released_at", datetime.fromisoformat(written))


def told_at(at: datetime | None) -> int:
    mirror = Mirror(source="shop", occurred_at=NOON, arrival=1, earlier=[], read=lambda _key, _writes: None)
    mirror.upsert(Product, "A1", at=at, name="Lamp")
    return mirror.writes[0].version.time


@pytest.mark.parametrize("written", ZERO)
def test_news_with_a_zero_time_has_the_event_s_time(written: str):
    assert told_at(datetime.fromisoformat(written)) == told_at(None) == microseconds(NOON)


def test_news_with_a_time_in_seconds_that_was_read_as_milliseconds_is_unreadable():
    with pytest.raises(
        Unreadable, match=r"^News cannot be from 1970-01-21.*seconds were read as milliseconds: do not divide it"
    ):
        told_at(datetime.fromtimestamp(1_780_315_200 / 1000, UTC))


@pytest.mark.parametrize("written", BEYOND)
def test_news_with_a_time_beyond_all_years_is_unreadable(written: str):
    with pytest.raises(Unreadable, match=r"News cannot be from 9999-.*outside the years 1 to 9999"):
        told_at(datetime.fromisoformat(written))


@pytest.mark.parametrize("written", [*BEYOND, "0001-01-01T00:00:00+01:00"])
def test_send_refuses_a_time_beyond_all_years_in_one_line(written: str):
    with pytest.raises(BadRequest, match=r"^`--at` takes a time"):
        parse_moment("--at", written, now=NOON)


@pytest.mark.parametrize("given", ["2026-11-28T14:02:07.5+02:00", datetime(2026, 11, 28, 12, 2, 7, 5, tzinfo=UTC)])
def test_commands_show_a_time_in_utc_to_the_second(given: datetime | str):
    assert time_text(given) == "2026-11-28 12:02:07Z"


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        (timedelta.max, LONGEST_RETRY),
        (timedelta.min, timedelta()),
        (timedelta(hours=1), timedelta(hours=1)),
        (None, None),
    ],
)
def test_a_retry_asked_for_by_a_handler_stays_within_the_calendar(asked: timedelta | None, waits: timedelta | None):
    assert Retry(after=asked).after == waits
