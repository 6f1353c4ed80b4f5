"""The pace of a source: the deliveries that end in a minute, their share without a change, and the time to drain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

#: The period over which the pace is measured; processes write their tallies once a minute.
PACE_WINDOW = timedelta(minutes=5)

#: The kinds of tallies from which the pace is computed.
PACE_KINDS = ("accepted", "ended", "ended_on_arrival")


class Pace(NamedTuple):
    """The rates at which deliveries of one source come and end."""

    ended_per_minute: float
    #: The share of processed deliveries that changed nothing; None without any processed delivery.
    unchanged_share: float | None
    #: The seconds until nothing is pending at this pace; None if that is unknown, or nothing is pending.
    drains_in_seconds: float | None
    #: Whether at least as many deliveries come as end. Then the seconds count from the time at which the sender pauses.
    grows: bool


def pace_of(tallies: Iterable[Mapping[str, Any]], pending: int) -> Pace:
    """Compute the pace from the tallies of one source over the last `PACE_WINDOW`, as the API shows them."""
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
