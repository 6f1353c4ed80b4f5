"""Edits that the systems share whose events tell of one entity each."""

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
    """A system whose events tell of one entity each; a bulk edit is an event for each, at the same moment."""

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
        """All entities, deleted ones included."""

    @abstractmethod
    def _revised(self, member: Member, at: datetime) -> Change:
        """Change some values of an entity."""

    @abstractmethod
    def _deleted(self, member: Member, at: datetime) -> Change:
        """Delete an entity."""

    def _is_removable(self, member: Member) -> bool:
        return member.alive

    def _pick(self, wanted: Callable[[Member], bool], at: datetime) -> Member | None:
        return self._families.pick(self.rng, wanted, at=at)


def is_alive(member: Mortal) -> bool:
    return member.alive
