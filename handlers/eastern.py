"""sticky.io's clock: America/New_York in whole seconds, without offset, so that one hour a year is ambiguous."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from receiver.moments import in_utc, is_zero

EASTERN = ZoneInfo("America/New_York")


def read_eastern(text: str, *, updated: Iterable[datetime] = (), gone: bool = False) -> datetime:
    """The time in UTC. Raises `ValueError` for text that is not a time, and for a zero time.

    In the hour that the clocks go back over there are two readings. The one nearer to the latest of the `updated`
    times is taken, which carry an offset; without any, the earlier. With `gone`, for a delete, which has no such time,
    the later: so that it outlives every update of that hour.
    In the hour that the clocks jump over, the offset from before the jump counts (PEP 495): a clock not moved yet.
    """
    if ":" not in text:
        raise ValueError("a date alone does not order changes")
    local = datetime.fromisoformat(text)
    if is_zero(local.replace(tzinfo=local.tzinfo or EASTERN)):
        raise ValueError("a zero time means that no time is given")
    if local.tzinfo is not None:
        return in_utc(local)
    earlier = in_utc(local.replace(tzinfo=EASTERN, fold=0))
    later = in_utc(local.replace(tzinfo=EASTERN, fold=1))
    updates = list(updated)
    if earlier == later or not (gone or updates):
        return earlier
    return later if gone or later - max(updates) < max(updates) - earlier else earlier


def write_eastern(moment: datetime) -> str:
    """As sticky.io writes it; which of two equal hours it was is lost."""
    return moment.astimezone(EASTERN).strftime("%Y-%m-%d %H:%M:%S")


def is_second_reading(moment: datetime) -> bool:
    """Whether `write_eastern` gives text that means another, earlier moment too."""
    return moment.astimezone(EASTERN).fold == 1
