"""Purity: checks that an envelope function depends on the body alone, by running it twice under a profiler.

Each attempt and replay reads the body again, so a function that reads the clock would give the change another date each
time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, datetime
from types import FrameType
from typing import Any

from receiver.envelope import ARRIVAL, Bundle, Envelope, ReadBody
from receiver.errors import Unreadable

#: The advice that follows the reason in a message.
HOW_TO_BE_PURE = "take everything from the body, and write occurred_at=ARRIVAL if the body has no time"

#: Functions of the interpreter that read the clock, and their names in code.
_CLOCKS = {"now": "datetime.now", "utcnow": "datetime.utcnow", "today": "date.today"}
_CLOCKS_OF_TIME = frozenset({"time", "time_ns", "localtime", "gmtime"})

#: Modules whose use of the clock does not count, because it affects only log lines.
_APART = ("logging", "structlog", "receiver.logs")


def impurity(read: Callable[[bytes], ReadBody], body: bytes) -> str | None:
    """Describe why the function that reads bodies depends on more than the body; None if it seems pure."""
    seen: list[str] = []

    def watch(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and (clock := _clock(called)) and not _is_apart(frame):
            seen.append(f"it calls {clock} in line {frame.f_lineno} of {frame.f_code.co_filename}")

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        first = _read(read, body)
    finally:
        sys.setprofile(before)
    if seen:
        return seen[0]
    return None if _said(first) == _said(_read(read, body)) else "it reads one body in two ways"


def _read(read: Callable[[bytes], ReadBody], body: bytes) -> ReadBody | None:
    try:
        return read(body)
    except (Unreadable, MemoryError):
        # The endpoint handles both errors, and neither says anything about purity.
        return None


def _said(found: ReadBody | None) -> list[Any]:
    """The parts of the envelopes to compare, without the data, whose type may not be comparable."""
    items = found.items if isinstance(found, Bundle) else [found]
    return [_decisive(item) if isinstance(item, Envelope) else str(item) for item in items]


def _decisive(envelope: Envelope) -> tuple[Any, ...]:
    moment = "ARRIVAL" if envelope.occurred_at is ARRIVAL else envelope.occurred_at
    return envelope.event_type, envelope.entity, moment, envelope.dedup_key, envelope.fingerprint


def _clock(called: Any) -> str | None:
    """The name in code of a function that reads the clock; None for any other function."""
    name, owner = getattr(called, "__name__", ""), getattr(called, "__self__", None)
    if name in _CLOCKS and isinstance(owner, type) and issubclass(owner, (date, datetime)):
        return f"{_CLOCKS[name]}()"
    if name in _CLOCKS_OF_TIME and getattr(owner, "__name__", None) == "time":
        return f"time.{name}()"
    return None


def _is_apart(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(_APART)
