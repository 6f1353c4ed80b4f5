"""Edits for the systems whose events are about one entity each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from simulator.families import Families
from simulator.systems.base import Change, System


class Mortal(Protocol):
    """An entity that can be deleted."""

    alive: bool


Member = TypeVar("Member", bound=Mortal)


class SingleEntitySystem(System, Generic[Member]):
    """A system whose events are about one entity each. A bulk edit makes an event for each entity, at the same time."""

    def erase(self, family: str, at: datetime) -> list[Change]:
        self._families.edited(family, at=at)
        return [self._deleted(self._families[family], at)]

    def update(self, at: datetime) -> list[Change]:
        member = self._pick(is_alive, at)
        return [self._revised(member, at)] if member else []

    def bulk_update(self, at: datetime) -> list[Change]:
        taken = [self._pick(is_alive, at) for _ in range(self.rng.randint(2, 6))]
        return [self._revised(member, at) for member in taken if member]

    def delete(self, at: datetime) -> list[Change]:
        member = self._pick(self._is_removable, at)
        return [self._deleted(member, at)] if member else []

    @property
    @abstractmethod
    def _families(self) -> Families[Member]:
        """All entities, including deleted ones."""

    @abstractmethod
    def _revised(self, member: Member, at: datetime) -> Change:
        """Change some values of an entity, and return the event."""

    @abstractmethod
    def _deleted(self, member: Member, at: datetime) -> Change:
        """Delete an entity, and return the event."""

    def _is_removable(self, member: Member) -> bool:
        return member.alive

    def _pick(self, wanted: Callable[[Member], bool], at: datetime) -> Member | None:
        return self._families.pick(self.rng, wanted, at=at)


def is_alive(member: Mortal) -> bool:
    return member.alive
