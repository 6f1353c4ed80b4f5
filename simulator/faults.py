"""Faults as settings: their names, how often they occur, and the allowed values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any


def share() -> float:
    """A setting from 0 to 1: how often a fault strikes."""
    return field(default=0.0, metadata={"least": 0, "most": 1, "whole": False})


def seconds(default: float, *, least: float = 0) -> float:
    return field(default=default, metadata={"least": least, "most": 3600, "whole": False})


def count() -> int:
    return field(default=0, metadata={"least": 0, "most": 10_000, "whole": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often each fault occurs. Every fault has a field, so that scenarios and commands can name it.

    Seconds are those of the simulated clock. A fault of the line affects the first attempt to send a message only: if
    the system retries, the retry gets through.
    """

    #: Share of the messages that the sender sends once more.
    duplicate: float = share()
    #: How many messages are in flight at once, to be sent in any order.
    reorder: int = count()
    #: Share of the messages that wait before they are sent, and how long at most.
    delay: float = share()
    delay_seconds: float = seconds(2.0)
    #: Share of the messages that never arrive, as after the last retry or when the sender is down.
    drop: float = share()

    #: Share of the messages of which one bit is turned on the way.
    corrupt: float = share()
    #: Share of the messages of which only the first half arrives, in a request that is whole.
    truncate: float = share()
    #: Share of the messages that are sent in small pieces, and how long that takes.
    slow: float = share()
    slow_seconds: float = seconds(1.0)
    #: Share of the messages whose connection is cut before the answer, in the body or after it; and after the answer.
    cut_before: float = share()
    cut_after: float = share()
    #: The middle part of the run in which the receiver cannot be reached at first.
    outage: float = share()

    #: Share of the events that a stranger announces too: a forged delete under a secret of his own, without any, or
    #: in a body of more than 1 MiB.
    wrong_signature: float = share()
    missing_signature: float = share()
    oversize: float = share()

    #: How far the systems' clocks are off.
    skew_seconds: float = seconds(0.0, least=-3600)
    #: Events, over all systems, that happen at once in the middle of the run, whatever its rate.
    burst: int = count()
    #: Share of the edits followed by another of the same family in the same tick of the system's time.
    tie: float = share()
    #: The point of the run at which every secret is rotated, as a share of its events; 0 for never.
    rotate: float = share()

    def __post_init__(self) -> None:
        for fault in fields(self):
            check(fault.name, getattr(self, fault.name))


def names() -> list[str]:
    return [fault.name for fault in fields(Faults)]


def check(name: str, value: object) -> None:
    """Raises ValueError that names the allowed values."""
    found = next((fault for fault in fields(Faults) if fault.name == name), None)
    if found is None:
        raise ValueError(f"unknown fault {name!r}: choose from {', '.join(names())}")
    least, most, whole = (found.metadata[key] for key in ("least", "most", "whole"))
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ValueError(f"{name} must be {'a whole number' if whole else 'a number'} from {least} to {most}")


def parse(options: Iterable[str]) -> dict[str, Any]:
    """Faults from `name=value` texts, as commands take them. Raises ValueError that says what is allowed."""
    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals:
            raise ValueError(f"{option!r} is not NAME=VALUE: the names are {', '.join(names())}")
        value: object = text
        for kind in (int, float):
            try:
                value = kind(text)
                break
            except ValueError:
                continue
        check(name, value)
        found[name] = value
    return found
