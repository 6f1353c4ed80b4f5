"""The entities a history can edit, and when each was last edited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Generic, TypeVar

from simulator.chance import Chance

T = TypeVar("T")

#: How often to look for an entity that is free in this tick, before giving up.
LOOKS = 24


class Families(Generic[T]):
    """Entities by id. A family is what shares news: a product with its variants, or one entity alone.

    Two edits of one family in one tick of the system's time would be a tie that nobody can order, so `take` gives out
    each family once in a tick: a history picks another entity instead of waiting.
    """

    def __init__(self) -> None:
        self._members: dict[str, T] = {}
        self._ids: list[str] = []
        self._edited: dict[str, datetime] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[T]:
        return iter(self._members.values())

    def get(self, family: str) -> T | None:
        return self._members.get(family)

    def add(self, family: str, member: T, *, at: datetime) -> T:
        self._members[family] = member
        self._ids.append(family)
        self._edited[family] = at
        return member

    def edited(self, family: str, *, at: datetime) -> None:
        """Someone edits this family outside of the history, over an API for example."""
        self._edited[family] = at

    def free(self, family: str, *, at: datetime) -> bool:
        return self._edited[family] < at

    def take(self, chance: Chance, wanted: Callable[[T], bool], *, at: datetime) -> T | None:
        """A random wanted member that was not edited in this tick, marked as edited now; None if none was found."""
        for _ in range(LOOKS if self._ids else 0):
            family = chance.choice(self._ids)
            if self.free(family, at=at) and wanted(self._members[family]):
                self._edited[family] = at
                return self._members[family]
        return None
