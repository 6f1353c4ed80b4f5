"""Bad days, seeded: what happens to messages between the system and the receiver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from simulator.chance import Chance
from simulator.systems.base import Message


def share() -> float:
    """A setting from 0 to 1: how often a fault strikes."""
    return field(default=0.0, metadata={"least": 0, "most": 1, "whole": False})


def seconds(default: float) -> float:
    return field(default=default, metadata={"least": 0, "most": 3600, "whole": False})


def window() -> int:
    return field(default=0, metadata={"least": 0, "most": 10_000, "whole": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often which fault strikes. Every fault has its field, so that scenarios and commands can name it."""

    #: Share of the messages that the sender sends once more.
    duplicate: float = share()
    #: How many messages are in flight at once, to be sent in any order.
    reorder: int = window()
    #: Share of the messages that wait before they are sent, and how long at most (seconds of the clock).
    delay: float = share()
    delay_seconds: float = seconds(2.0)
    #: Share of the messages that never arrive, as after the last retry.
    drop: float = share()

    def __post_init__(self) -> None:
        for fault in fields(self):
            check(fault.name, getattr(self, fault.name))


def check(name: str, value: object) -> None:
    """Raises ValueError with what the setting may be."""
    found = next((fault for fault in fields(Faults) if fault.name == name), None)
    if found is None:
        raise ValueError(f"unknown fault {name!r}: choose from {', '.join(fault.name for fault in fields(Faults))}")
    least, most, whole = (found.metadata[key] for key in ("least", "most", "whole"))
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ValueError(f"{name} must be {'a whole number' if whole else 'a number'} from {least} to {most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A message with what fate has for it."""

    message: Message
    #: Seconds of the clock to wait before it is sent.
    delay: float = 0.0
    dropped: bool = False


class Fate:
    """Decides, message by message, from the seed alone."""

    def __init__(self, faults: Faults, *, seed: int, source: str) -> None:
        self.faults = faults
        self._chance = Chance(f"{seed} {source} fate")
        self._held: list[Planned] = []

    def meet(self, message: Message) -> Iterator[Planned]:
        """What is sent now that this message is due; with reordering, perhaps others."""
        for planned in self._copies(message):
            self._held.append(planned)
            if len(self._held) > self.faults.reorder:
                yield self._held.pop(self._chance.randrange(len(self._held)))

    def rest(self) -> Iterator[Planned]:
        """What is still held back, at the end."""
        self._chance.shuffle(self._held)
        yield from self._held
        self._held.clear()

    def _copies(self, message: Message) -> Iterator[Planned]:
        if self._chance.happens(self.faults.drop):
            yield Planned(message=message, dropped=True)
            return
        yield Planned(message=message, delay=self._delay(self.faults.delay))
        if self._chance.happens(self.faults.duplicate):
            yield Planned(message=message, delay=self._delay(0.5))

    def _delay(self, share: float) -> float:
        return self._chance.uniform(0, self.faults.delay_seconds) if self._chance.happens(share) else 0.0
