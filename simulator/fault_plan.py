"""The faults of each message, decided by the seed alone. Each fault has its own random generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from simulator.faults import Faults
from simulator.faults import names as fault_names
from simulator.rng import Rng
from simulator.systems.base import Change, Message, System

Damage = Literal["corrupt", "truncate"]

#: Bytes of a body that a receiver refuses: one more than 1 MiB (docs/operations.md, `max_body_bytes`).
TOO_LARGE = 1_048_577

#: The most attempts of one message that fail in an outage. All systems that retry make more attempts than that.
FAILURES = 2

#: In a run without an end, the number of events after which the pattern of outages begins again.
ENDLESS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The faults of the network for one message."""

    damage: Damage | None = None
    #: The place of the damage in the body, from 0 to 1.
    place: float = 0.0
    #: Seconds of the clock over which the request is sent.
    pause: float = 0.0
    #: The share of the request after which the connection is cut; None if it is not cut before the answer.
    cut: float | None = None
    cut_after: bool = False
    #: The number of attempts, from the first on, that fail to connect.
    failures: int = 0

    @property
    def fails(self) -> bool:
        """Whether the fault makes the first attempt fail, whatever the receiver answers."""
        return self.damage is not None or self.cut is not None


NONE = Trouble()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A message with the faults that are planned for it."""

    message: Message
    #: Seconds of the clock that the message waits before it is sent.
    delay: float = 0.0
    dropped: bool = False
    trouble: Trouble = NONE


class FaultPlan:
    """Decides the faults of each message. `events` is the number of events in the run; 0 for a run without an end."""

    def __init__(self, faults: Faults, *, seed: int, source: str, events: int = 0) -> None:
        self.faults = faults
        self._events = events or ENDLESS
        self._dice = {name: Rng(f"{seed} {source} {name}") for name in fault_names()}
        self._held: list[Planned] = []

    def meet(self, message: Message) -> Iterator[Planned]:
        """Yield the messages to send when this one is due. With reordering, they may be other messages."""
        for planned in self._copies(message):
            self._held.append(planned)
            if len(self._held) > self.faults.reorder:
                yield self._held.pop(self._dice["reorder"].randrange(len(self._held)))

    def rest(self) -> Iterator[Planned]:
        """Yield the messages that are still held back at the end of the run."""
        self._dice["reorder"].shuffle(self._held)
        yield from self._held
        self._held.clear()

    def _copies(self, message: Message) -> Iterator[Planned]:
        if self._strikes("drop"):
            yield Planned(message=message, dropped=True)
            return
        yield Planned(message=message, delay=self._delay(self._strikes("delay")), trouble=self._trouble(message))
        if self._strikes("duplicate"):
            yield Planned(message=message, delay=self._delay(self._dice["duplicate"].happens(0.5)))

    def _trouble(self, message: Message) -> Trouble:
        damages: list[Damage] = [damage for damage in ("corrupt", "truncate") if self._strikes(damage)]
        where = self._dice["cut_before"]
        return Trouble(
            damage=damages[0] if damages and message.sealed else None,
            place=self._dice["corrupt"].random(),
            pause=self.faults.slow_seconds if self._strikes("slow") else 0.0,
            cut=where.choice((1.0, where.random())) if self._strikes("cut_before") else None,
            cut_after=self._strikes("cut_after"),
            failures=self._failures(message.number),
        )

    def _failures(self, number: int) -> int:
        position = (number - 0.5) % self._events / self._events
        if abs(position - 0.5) * 2 >= self.faults.outage:
            return 0
        return self._dice["outage"].randint(1, FAILURES)

    def _delay(self, late: bool) -> float:
        return self._dice["delay_seconds"].uniform(0, self.faults.delay_seconds) if late else 0.0

    def _strikes(self, fault: str) -> bool:
        return self._dice[fault].happens(getattr(self.faults, fault))


class Stranger:
    """Forges messages about the events of a system, which a receiver must refuse."""

    def __init__(self, system: System, faults: Faults, *, seed: int) -> None:
        self._system = system
        self._faults = faults
        names = ("wrong_signature", "missing_signature", "oversize")
        self._dice = {name: Rng(f"{seed} {system.source} {name}") for name in names}

    def meet(self, change: Change) -> Iterator[Message]:
        """Yield the forged messages about this event."""
        strikes = [name for name, dice in self._dice.items() if dice.happens(getattr(self._faults, name))]
        for subscription in self._system.subscriptions:
            if strikes and subscription.wants(change.event_type) and self._system.is_sealed(subscription):
                for name in strikes:
                    size = TOO_LARGE if name == "oversize" else 0
                    yield self._system.forgery(change, subscription, signed=name != "missing_signature", size=size)
                return


def damaged(body: bytes, trouble: Trouble) -> bytes:
    """Return the body with the damage that the fault plan decided."""
    if trouble.damage == "truncate":
        return body[: len(body) // 2]
    if trouble.damage == "corrupt" and body:
        # Only in the first half, because flipping an unused bit in the last characters of base64 changes nothing.
        place = int(len(body) / 2 * trouble.place)
        return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
    return body
