"""sticky.io's times: America/New_York in whole seconds, without an offset, so that one hour a year is ambiguous."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from receiver.moments import EPOCH, in_utc, is_zero

EASTERN = ZoneInfo("America/New_York")


def read_eastern(text: str, *, updated: Iterable[datetime] = (), gone: bool = False) -> datetime:
    """Read a time as UTC. Raises `ValueError` for text that is not a time, and for a zero time.

    In the hour that is repeated when the clocks go back, a text means two times. The result is the one nearer to the
    latest of the `updated` times, which have an offset; without `updated`, it is the earlier. For a delete (`gone`),
    which has no `updated` time, it is the later, so that the delete is newer than all updates of that hour.
    In the hour that is left out when the clocks go forward, the offset from before the change counts (PEP 495).
    """
    earlier, later = _readings(text)
    if earlier == later:
        return earlier
    updates = list(updated)
    if not gone and not updates:
        return earlier
    return later if gone or later - max(updates) < max(updates) - earlier else earlier


@lru_cache(maxsize=1_024)
def _readings(text: str) -> tuple[datetime, datetime]:
    """The earlier and the later time that a text means, usually the same; cached, since a burst has few seconds."""
    if ":" not in text:
        raise ValueError("a date without a time does not order changes")
    local = datetime.fromisoformat(text)
    if local.year <= EPOCH.year and is_zero(local.replace(tzinfo=local.tzinfo or EASTERN)):
        raise ValueError("a zero time means that no time is given")
    if local.tzinfo is not None:
        return in_utc(local), in_utc(local)
    return in_utc(local.replace(tzinfo=EASTERN, fold=0)), in_utc(local.replace(tzinfo=EASTERN, fold=1))


def write_eastern(moment: datetime) -> str:
    """Write a time as sticky.io does. In the repeated hour, the text of the first and the second pass is the same."""
    return moment.astimezone(EASTERN).strftime("%Y-%m-%d %H:%M:%S")


def is_second_reading(moment: datetime) -> bool:
    """Whether the text of `write_eastern` also means an earlier time."""
    return moment.astimezone(EASTERN).fold == 1
