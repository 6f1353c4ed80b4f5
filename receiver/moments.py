"""Moments: converts times to UTC, recognises zero times, and formats times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

#: The beginning of Unix time, which programs usually write for a time that was never set.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: The first and the last moment that has a date: the beginning of the year 1, and the end of the year 9999.
FIRST_MOMENT, LAST_MOMENT = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

MICROSECOND = timedelta(microseconds=1)

#: What a time of the years 2001 to 2096 in seconds since 1970 becomes if it is read as milliseconds.
_SHRUNK_FROM, _SHRUNK_TO = (EPOCH + timedelta(milliseconds=seconds) for seconds in (10**9, 4 * 10**9))

_NO_TIME = timedelta()


def in_utc(moment: datetime) -> datetime:
    """Convert a moment to UTC. Raises `ValueError` for a moment outside the years of UTC."""
    if moment.tzinfo is UTC:
        return moment
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is outside the years 1 to 9999 of UTC") from None


def is_zero(moment: datetime) -> bool:
    """Whether programs write this moment for a missing time: a day in the year 1, or the beginning of 1970.

    The beginning of 1970 counts in UTC and in the moment's own offset.
    """
    if moment.year > 1970:
        return False
    return moment.year == 1 or moment == EPOCH or moment.replace(tzinfo=UTC) == EPOCH


def is_shrunk(moment: datetime) -> bool:
    """Whether this moment, in January or February 1970, is that of a number of seconds read as milliseconds."""
    return moment.year == 1970 and _SHRUNK_FROM <= moment <= _SHRUNK_TO


def has_passed(since: datetime, span: timedelta, now: datetime) -> bool:
    """Whether the span has passed since then, as it also has if the clock was set back behind that time."""
    return not _NO_TIME <= now - since < span


def time_text(moment: datetime | str) -> str:
    """Format a time for commands, to the second: `2026-11-21 12:00:00Z`. A text is a time as JSON has it.

    A text that is not a time, or not one in UTC, says that the time in the database is damaged, and stays as it is.
    """
    try:
        known = in_utc(datetime.fromisoformat(moment) if isinstance(moment, str) else moment)
    except ValueError:
        return str(moment)
    return f"{known:%Y-%m-%d %H:%M:%SZ}"


def clock_time(moment: datetime, now: datetime) -> str:
    """Format a time for a sentence: `10:42 UTC`, with the date in front if it is not today's."""
    return moment.strftime("%H:%M UTC" if moment.date() == now.date() else "%Y-%m-%d %H:%M UTC")
