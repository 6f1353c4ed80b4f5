"""The faults that a scenario can set: their names, units and allowed values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any


def share() -> float:
    """A setting from 0 to 1: the share of messages or events that a fault affects."""
    return field(default=0.0, metadata={"least": 0, "most": 1, "whole": False})


def seconds(default: float, *, least: float = 0) -> float:
    return field(default=default, metadata={"least": least, "most": 3600, "whole": False})


def count() -> int:
    return field(default=0, metadata={"least": 0, "most": 10_000, "whole": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The frequency of each fault. The names of the fields are the names in scenarios and commands.

    Seconds are seconds of the simulated clock. A fault of the network affects only the first attempt to send a message:
    if the system retries, the retry arrives undamaged.
    """

    #: Share of the messages that the sender sends once more.
    duplicate: float = share()
    #: The number of messages that are held back, so that they are sent in any order.
    reorder: int = count()
    #: Share of the messages that wait before they are sent, and the longest wait.
    delay: float = share()
    delay_seconds: float = seconds(2.0)
    #: Share of the messages that never arrive, as after the last retry or when the sender is down.
    drop: float = share()

    #: Share of the messages of which one bit is flipped on the way.
    corrupt: float = share()
    #: Share of the messages of which only the first half is sent, as the whole body of a valid request.
    truncate: float = share()
    #: Share of the messages that are sent in small pieces, and the time from the first piece to the last.
    slow: float = share()
    slow_seconds: float = seconds(1.0)
    #: Share of the messages whose connection ends before the answer (in the body or after it), and after the answer.
    cut_before: float = share()
    cut_after: float = share()
    #: The share of the run, in its middle, in which the first one or two attempts to send a message fail to connect.
    outage: float = share()

    #: Share of the events about which a stranger sends a forged delete: signed with another secret, not signed, or in a
    #: body of more than 1 MiB.
    wrong_signature: float = share()
    missing_signature: float = share()
    oversize: float = share()

    #: Seconds by which the systems' clocks are ahead; negative if they are behind.
    skew_seconds: float = seconds(0.0, least=-3600)
    #: The number of events, over all systems, that happen at once in the middle of the run, whatever its rate.
    burst: int = count()
    #: Share of the edits after which the same family is edited again in the same tick of the system's time.
    tie: float = share()
    #: The share of the run's events after which every secret is rotated; 0 for no rotation.
    rotate: float = share()

    def __post_init__(self) -> None:
        for fault in fields(self):
            check(fault.name, getattr(self, fault.name))


def names() -> list[str]:
    return [fault.name for fault in fields(Faults)]


def check(name: str, value: object) -> None:
    """Raise ValueError, with the allowed values, if the fault is unknown or its value is not allowed."""
    found = next((fault for fault in fields(Faults) if fault.name == name), None)
    if found is None:
        raise ValueError(f"unknown fault {name!r}: choose from {', '.join(names())}")
    least, most, whole = (found.metadata[key] for key in ("least", "most", "whole"))
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ValueError(f"{name} must be {'a whole number' if whole else 'a number'} from {least} to {most}")


def parse(options: Iterable[str]) -> dict[str, Any]:
    """Read faults from the `NAME=VALUE` texts of a command. Raises ValueError, with the allowed values."""
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
