"""The pace of a source, computed from its tallies."""

from __future__ import annotations

from typing import Any

from receiver.commands.pace import pace_of


def tally(kind: str, number: int, detail: str = "") -> dict[str, Any]:
    return {"kind": kind, "number": number, "detail": detail}


def test_the_pace_counts_ended_deliveries_a_minute_and_the_share_that_changed_nothing():
    found = pace_of([tally("ended", 30, "processed/applied"), tally("ended", 20, "processed/unchanged")], 0)
    assert (found.ended_per_minute, found.unchanged_share) == (10.0, 0.4)


def test_deliveries_that_were_not_processed_do_not_count_in_the_share():
    assert pace_of([tally("ended", 5, "dead")], 0).unchanged_share is None


def test_the_time_to_drain_follows_from_the_difference_of_ended_and_accepted():
    found = pace_of([tally("accepted", 100), tally("ended", 400, "processed/applied")], 600)
    assert (found.drains_in_seconds, found.grows) == (600.0, False)


def test_a_growing_backlog_drains_in_the_time_after_its_sender_pauses():
    found = pace_of([tally("accepted", 800), tally("ended", 400, "processed/applied")], 800)
    assert (found.drains_in_seconds, found.grows) == (600.0, True)


def test_a_backlog_without_ended_deliveries_has_no_time_to_drain():
    assert pace_of([tally("accepted", 3)], 3).drains_in_seconds is None


def test_without_pending_deliveries_there_is_no_time_to_drain():
    found = pace_of([tally("accepted", 3), tally("ended", 3, "ignored")], 0)
    assert (found.drains_in_seconds, found.grows) == (None, False)


def test_deliveries_that_end_on_arrival_do_not_make_a_shrinking_backlog_a_growing_one():
    on_arrival = tally("ended_on_arrival", 300, "ignored")
    found = pace_of([tally("accepted", 500), tally("ended", 350, "processed/applied"), on_arrival], 300)
    assert (found.drains_in_seconds, found.grows) == (600.0, False)
