"""Timetables of repeated work: `daily 02:10`, `weekly sunday 02:10`, `every 6 hours`, `hourly`; in UTC."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EXAMPLES = '"daily 02:10", "weekly sunday 02:10", "hourly" or "every 6 hours"'

DAYS = ("thursday", "friday", "saturday", "sunday", "monday", "tuesday", "wednesday")  # 1 January 1970 was the first

SHORTEST_INTERVAL, LONGEST_INTERVAL = timedelta(minutes=5), timedelta(days=7)

#: Work that is due at one time for several sources is spread over a tenth of its interval, at most over this time.
LONGEST_SPREAD = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Timetable:
    """Moments at equal distances."""

    #: One of the moments, since 1970.
    first: timedelta
    interval: timedelta

    def latest(self, now: datetime, *, name: str) -> datetime:
        """The last moment up to `now`, shifted for this name."""
        shift = self._shift(name)
        since = now - _EPOCH - self.first - shift
        return _EPOCH + self.first + shift + since // self.interval * self.interval

    def following(self, now: datetime, *, name: str) -> datetime:
        """The first moment after `now`, shifted for this name."""
        return self.latest(now, name=name) + self.interval

    def _shift(self, name: str) -> timedelta:
        """The shift of a name, always the same, so that the next moment is predictable."""
        spread = min(self.interval / 10, LONGEST_SPREAD) // timedelta(seconds=1)
        return timedelta(seconds=int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % spread)


def read_timetable(text: str) -> Timetable:
    """Parse a timetable. Raises `ValueError`, whose text lists the valid forms, for any other text."""
    words = text.strip().lower()
    if words == "hourly":
        return Timetable(timedelta(), timedelta(hours=1))
    if found := _DAILY.fullmatch(words):
        return Timetable(_time_of_day(*found.groups()), timedelta(days=1))
    if found := _WEEKLY.fullmatch(words):
        day, hour, minute = found.groups()
        return Timetable(timedelta(days=DAYS.index(day)) + _time_of_day(hour, minute), timedelta(days=7))
    if found := _EVERY.fullmatch(words):
        number, unit = found.groups()
        interval = timedelta(**{unit: int(number)})
        if SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
            return Timetable(timedelta(), interval)
        raise ValueError("must be every 5 minutes to every 7 days")
    raise ValueError(f"takes a timetable in UTC, such as {EXAMPLES}")


def _time_of_day(hour: str, minute: str) -> timedelta:
    return timedelta(hours=int(hour), minutes=int(minute))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_CLOCK = r"([01]\d|2[0-3]):([0-5]\d)"
_DAILY = re.compile(rf"daily {_CLOCK}", re.ASCII)
_WEEKLY = re.compile(rf"weekly ({'|'.join(DAYS)}) {_CLOCK}", re.ASCII)
_EVERY = re.compile(r"every (\d{1,5}) (minutes|hours|days)", re.ASCII)
