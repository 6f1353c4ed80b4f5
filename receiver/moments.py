"""Moments: times in UTC, and what only looks like one."""

from __future__ import annotations

from datetime import UTC, datetime

#: The beginning of Unix time, which programs usually write for a time that was never set.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC. Raises `ValueError` for one that UTC has no year for."""
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is outside the years 1 to 9999 of UTC") from None


def is_zero(moment: datetime) -> bool:
    """Whether it is what programs write for no time at all: a day in the year 1, or the beginning of 1970.

    The latter in UTC or by the clock that its offset shows.
    """
    if moment.year > 1970:
        return False
    return moment.year == 1 or moment == EPOCH or moment.replace(tzinfo=UTC) == EPOCH


def time_text(moment: datetime | str) -> str:
    """A time as commands show it, to the second: `2026-11-21 12:00:00Z`. A text is one that JSON holds."""
    known = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{in_utc(known):%Y-%m-%d %H:%M:%S}Z"


def clock_time(moment: datetime, now: datetime) -> str:
    """A time as a sentence names it: `10:42 UTC`, with the day where it was not today."""
    return moment.strftime("%H:%M UTC" if moment.date() == now.date() else "%Y-%m-%d %H:%M UTC")
