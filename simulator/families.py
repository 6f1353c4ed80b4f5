"""The entities that a random history can edit, and the time of each entity's last edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Generic, TypeVar

from simulator.rng import Rng

T = TypeVar("T")

#: The number of random tries to find an entity that was not edited in this tick.
LOOKS = 24


class Families(Generic[T]):
    """Entities by id. A family is the entities that one event can change: one entity, or a product with its variants.

    A tick is the smallest step of the system's time. Two edits of one family in one tick would have no order, so `pick`
    returns each family at most once in a tick, and a history edits another entity instead.
    """

    def __init__(self) -> None:
        self._members: dict[str, T] = {}
        self._ids: list[str] = []
        self._edited: dict[str, datetime] = {}
        #: The family that was edited last, and whether `pick` returns it again.
        self._last: str | None = None
        self._again = False

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[T]:
        return iter(self._members.values())

    def get(self, family: str) -> T | None:
        return self._members.get(family)

    def add(self, family: str, member: T, *, at: datetime) -> T:
        self._members[family] = member
        self._ids.append(family)
        self.edited(family, at=at)
        return member

    def __getitem__(self, family: str) -> T:
        return self._members[family]

    def edited(self, family: str, *, at: datetime) -> None:
        """Record that this family is edited at this time."""
        self._edited[family] = at
        self._last = family

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within the block, `pick` returns only the family that was edited last, also in the same tick."""
        self._again = True
        try:
            yield
        finally:
            self._again = False

    def free(self, family: str, *, at: datetime) -> bool:
        return self._edited[family] < at

    def pick(self, rng: Rng, wanted: Callable[[T], bool], *, at: datetime) -> T | None:
        """Choose a random wanted member that was not edited in this tick, and record its edit; None without one."""
        if self._again:
            return self._members[self._last] if self._last and wanted(self._members[self._last]) else None
        for _ in range(LOOKS if self._ids else 0):
            family = rng.choice(self._ids)
            if self.free(family, at=at) and wanted(self._members[family]):
                self.edited(family, at=at)
                return self._members[family]
        return None
