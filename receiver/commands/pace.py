"""The pace of a source: what ends in a minute, how much of it changes nothing, and when its backlog is worked off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

#: The time that the pace is taken over; processes write their tallies once a minute.
PACE_WINDOW = timedelta(minutes=5)

#: Kinds of tallies that it is made of.
PACE_KINDS = ("accepted", "ended")


class Pace(NamedTuple):
    """How fast deliveries of one source come and end."""

    ended_per_minute: float
    #: Of those that were processed, the share that changed nothing; None if none was.
    unchanged_share: float | None
    #: Until nothing is pending, if it goes on so; None if that is unknown, or nothing is pending.
    drains_in_seconds: float | None
    #: Whether as many come as end: then the seconds count from when the sender pauses.
    grows: bool


def pace_of(tallies: Iterable[Mapping[str, Any]], pending: int) -> Pace:
    """The pace by the tallies of one source of the last `PACE_WINDOW`, as the API shows them."""
    accepted = ended = processed = unchanged = 0
    for each in tallies:
        if each["kind"] == "accepted":
            accepted += each["number"]
            continue
        ended += each["number"]
        if each["detail"].startswith("processed"):
            processed += each["number"]
            unchanged += each["number"] * each["detail"].endswith("/unchanged")
    seconds = PACE_WINDOW.total_seconds()
    grows = bool(pending) and accepted >= ended
    speed = (ended if grows else ended - accepted) / seconds
    return Pace(
        ended_per_minute=round(ended * 60 / seconds, 1),
        unchanged_share=round(unchanged / processed, 3) if processed else None,
        drains_in_seconds=round(pending / speed, 1) if pending and speed > 0 else None,
        grows=grows,
    )
