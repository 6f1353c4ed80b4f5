"""The pace of a source, out of its tallies."""

from __future__ import annotations

from typing import Any

from receiver.commands.pace import pace_of


def tally(kind: str, number: int, detail: str = "") -> dict[str, Any]:
    return {"kind": kind, "number": number, "detail": detail}


def test_what_ends_is_told_by_the_minute_with_the_share_that_changed_nothing():
    found = pace_of([tally("ended", 30, "processed/applied"), tally("ended", 20, "processed/unchanged")], 0)
    assert (found.ended_per_minute, found.unchanged_share) == (10.0, 0.4)


def test_deliveries_that_were_not_processed_are_no_part_of_the_share():
    assert pace_of([tally("ended", 5, "dead")], 0).unchanged_share is None


def test_a_backlog_drains_as_fast_as_more_end_than_come():
    found = pace_of([tally("accepted", 100), tally("ended", 400, "processed/applied")], 600)
    assert (found.drains_in_seconds, found.grows) == (600.0, False)


def test_a_backlog_that_grows_is_told_from_when_the_sender_pauses():
    found = pace_of([tally("accepted", 800), tally("ended", 400, "processed/applied")], 800)
    assert (found.drains_in_seconds, found.grows) == (600.0, True)


def test_nothing_is_said_of_a_backlog_of_which_nothing_ends():
    assert pace_of([tally("accepted", 3)], 3).drains_in_seconds is None


def test_nothing_drains_where_nothing_is_pending():
    found = pace_of([tally("accepted", 3), tally("ended", 3, "ignored")], 0)
    assert (found.drains_in_seconds, found.grows) == (None, False)
