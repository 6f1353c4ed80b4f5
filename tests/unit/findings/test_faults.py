"""The cause of a fault: the reason without the parts that differ between deliveries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.findings.faults import LONGEST_CAUSE, Fault, cause_of, grouped, with_releases

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("data.price: '5,00' is no number", "data.price: … is no number"),
        ('shop.upsert raised KeyError: "A1"', "shop.upsert raised KeyError: …"),
        ("/items/4711 of the source's API answered 503.", "/items/… of the source's API answered 503."),
        ("no product 7b2e-11aa-4c, nor any", "no product …, nor any"),
        ("it's late: it's 12:04:07.5", "it's late: it's …"),
        ("took 17 seconds, 3 more than 14", "took … seconds, … more than …"),
        ("", ""),
    ],
)
def test_quoted_values_numbers_and_ids_are_removed(reason: str, cause: str):
    assert cause_of(reason) == cause


@given(st.text(max_size=2_500))
def test_any_reason_has_a_short_cause_in_one_line(reason: str):
    cause = cause_of(reason)
    assert len(cause) <= LONGEST_CAUSE
    assert "\n" not in cause


@pytest.mark.parametrize("part", ["a", "a.", '"\\', "'\\", " '\\", "'a"])
def test_a_reason_of_a_million_characters_has_its_cause_at_once(part: str):
    # Hours, if each character of a word without an end were tried as its first.
    assert cause_of(part * (1_000_000 // len(part)))


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_reasons_that_differ_only_in_numbers_have_one_cause(one: int, other: int):
    assert cause_of(f"row {one} is missing") == cause_of(f"row {other} is missing")


def fault(cause: str, **parts: object) -> Fault:
    known = {"dead": 1, "waiting": 0, "first": NOON, "last": NOON, "delivery": 1, "example": cause}
    return Fault("shop", cause, **{**known, **parts})


def test_deliveries_with_one_cause_are_one_fault_with_the_first_last_and_newest():
    parts = [
        fault("no row 1", dead=2, first=NOON - timedelta(hours=1), delivery=5),
        fault("no row 2", dead=0, waiting=3, last=NOON + timedelta(hours=1), delivery=9, until=NOON),
        fault("another"),
    ]
    one, _ = sorted(grouped(parts), key=lambda each: -each.number)
    assert (one.cause, one.dead, one.waiting, one.delivery, one.example) == ("no row …", 2, 3, 9, "no row 2")
    assert (one.first, one.last, one.until) == (NOON - timedelta(hours=1), NOON + timedelta(hours=1), NOON)


@pytest.mark.parametrize(("waiting", "fetching"), [([True, True], True), ([True, False], False)])
def test_a_fault_is_one_of_fetching_if_all_its_waiting_deliveries_failed_so(waiting: list[bool], fetching: bool):
    parts = [fault("no answer"), *(fault("no answer", dead=0, waiting=1, fetching=each) for each in waiting)]
    (one,) = grouped(parts)
    assert one.fetching == fetching


def test_a_fault_names_the_release_at_its_beginning():
    started = [(NOON - timedelta(days=1), "0.1.0"), (NOON - timedelta(minutes=1), "0.2.0"), (NOON, "0.3.0")]
    early, late = with_releases([fault("a", first=NOON - timedelta(hours=1)), fault("b")], started)
    assert (early.release, late.release) == ("0.1.0", "0.3.0")
    (unknown,) = with_releases([fault("c", first=NOON - timedelta(days=9))], started)
    assert unknown.release is None
