"""Arguments of queries: parses text of an address or a command into values, or refuses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from receiver.codec import storable
from receiver.envelope import LONGEST_NAME
from receiver.errors import BadRequest
from receiver.moments import in_utc

#: The most characters of a kind, a colon and an id together.
LONGEST_ENTITY = 2 * LONGEST_NAME + 1

#: A time of today in UTC: `14:02`, `9:05:30`.
_TODAY = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")

#: A time span before now: `90m`, `2h`, `3d`.
_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class WrittenTime(NamedTuple):
    """A time as it was written, which may be relative to the present, such as `2h` or `14:02`."""

    #: The name of the parameter, for errors.
    name: str
    text: str

    @property
    def is_relative(self) -> bool:
        return any(form.fullmatch(self.text) for form in (_TODAY, _AGO))

    def at(self, now: datetime) -> datetime:
        """The moment that was meant at `now`. Raises `BadRequest` if the text is not a time."""
        return parse_moment(self.name, self.text, now=now)


def parse_text(name: str, text: str, *, longest: int = LONGEST_NAME) -> str:
    """Check that a text could be stored in a column. Raises `BadRequest` if it is empty or too long."""
    if not text:
        raise BadRequest(f"`{name}` is empty: give it a value, or leave it out.", names=(name,))
    if len(text) > longest:
        raise BadRequest(
            f"`{name}` takes at most {longest:,} characters, because no stored value has more.", names=(name,)
        )
    return storable(text)


def parse_moment(name: str, text: str, *, now: datetime) -> datetime:
    """Parse ISO 8601 with an offset, `14:02` of today in UTC, or a span before now such as `2h`, into UTC.

    Raises `BadRequest` for any other text.
    """
    try:
        if today := _TODAY.fullmatch(text):
            hour, minute, second = (int(part or 0) for part in today.groups())
            return now.astimezone(UTC).replace(hour=hour, minute=minute, second=second, microsecond=0)
        if ago := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        # An unescaped plus sign in an address arrives as a blank.
        written = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        if written.tzinfo is not None:
            return in_utc(written)
    except (ValueError, OverflowError):
        pass
    raise BadRequest(
        f"`{name}` takes a time with its offset from UTC, such as 2026-11-21T12:00:00Z or 2026-11-21T20:00:00+08:00, "
        "or of today in UTC, such as 14:02, or how long ago it was, such as 90m, 2h or 3d.",
        names=(name,),
    )


def with_moments(given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """These values, with the moment that it meant at `now` in place of each written time."""
    return {name: value.at(now) if isinstance(value, WrittenTime) else value for name, value in given.items()}


def is_id(text: str) -> bool:
    """Whether the text is a whole number that fits a database column."""
    return len(text) <= 19 and text.isascii() and text.isdigit() and int(text) < 2**63
