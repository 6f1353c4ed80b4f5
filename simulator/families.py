"""The entities a history can edit, and when each was last edited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Generic, TypeVar

from simulator.rng import Rng

T = TypeVar("T")

#: How often to look for an entity that is free in this tick, before giving up.
LOOKS = 24


class Families(Generic[T]):
    """Entities by id. A family is one or more entities that share news: a product with its variants, or one entity.

    Two edits of one family in one tick of the system's time would be a tie without an order, so `pick` returns each
    family once in a tick: a history picks another entity instead of waiting.
    """

    def __init__(self) -> None:
        self._members: dict[str, T] = {}
        self._ids: list[str] = []
        self._edited: dict[str, datetime] = {}
        #: The family edited last, and whether `take` shall give it out again.
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
        """This family is edited now."""
        self._edited[family] = at
        self._last = family

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within the block, `take` returns the family that was edited last, in any tick, or none."""
        self._again = True
        try:
            yield
        finally:
            self._again = False

    def free(self, family: str, *, at: datetime) -> bool:
        return self._edited[family] < at

    def pick(self, rng: Rng, wanted: Callable[[T], bool], *, at: datetime) -> T | None:
        """A random wanted member that was not edited in this tick, marked as edited now; None if none was found."""
        if self._again:
            return self._members[self._last] if self._last and wanted(self._members[self._last]) else None
        for _ in range(LOOKS if self._ids else 0):
            family = rng.choice(self._ids)
            if self.free(family, at=at) and wanted(self._members[family]):
                self.edited(family, at=at)
                return self._members[family]
        return None
