"""Traces: the registers of one row, filled from empty ones, with the last news that lost against each value.

A trace does no I/O. It merges news in the order of arrival, through the mirror's version guard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

from receiver.codec import is_same
from receiver.inbox.ids import arrived
from receiver.mirror.rows import Write, table_name
from receiver.mirror.versions import AHEAD, Patch, Registers, Version

#: The most members of one document that are traced one by one.
MOST_MEMBERS_TOLD = 200


class NoValue:
    """The value of a member that a document does not have."""

    def __repr__(self) -> str:
        return "no value"


NO_VALUE: Final = NoValue()


class Defeat(StrEnum):
    """The way in which news lost."""

    #: The losing value was in the row until newer news arrived.
    OVERTAKEN = "overtaken"
    #: The losing value arrived after newer news.
    STALE = "stale"
    #: Both values had the same time of change, so the order of arrival decided.
    TIE = "tie"


class Told(NamedTuple):
    """A value with its version."""

    value: Any
    version: Version


class Loss(NamedTuple):
    """News that lost against the value."""

    value: Any
    version: Version
    how: Defeat


@dataclass(slots=True)
class Trace:
    """The registers of one row, and for each column and member the last news that lost."""

    registers: Registers = field(default_factory=Registers)
    losses: dict[str, Loss] = field(default_factory=dict)
    #: The registers with news from the future dated back; None while there is no such news.
    dated_back: Registers | None = None

    def take(self, write: Write) -> None:
        """Merge the news of one write."""
        version, back = write.version, as_dated_back(write.version)
        if back != version and self.dated_back is None:
            self.dated_back = _copied(self.registers)
        if write.children_gone is not None:
            name = table_name(write.children_gone)
            self.registers.lose_children(name, version)
            if self.dated_back is not None:
                self.dated_back.lose_children(name, back)
            return
        for column, value in write.columns.items():
            self._take(column, value, version)
            if self.dated_back is not None:
                self.dated_back.merge(column, value, back)

    def copied(self) -> Trace:
        """Copy the trace, so that the copy can merge other news."""
        back = None if self.dated_back is None else _copied(self.dated_back)
        return Trace(_copied(self.registers), dict(self.losses), back)

    def _take(self, column: str, value: Any, version: Version) -> None:
        said = dict(_said(column, value, self.registers.values.get(column)))
        before = {path: told_of(self.registers, column, path) for path in said}
        self.registers.merge(column, value, version)
        for path, word in said.items():
            loss = _loss(Told(word, version), before[path], told_of(self.registers, column, path))
            if loss is not None:
                self.losses[path] = loss


def told_of(registers: Registers, column: str, path: str) -> Told | None:
    """The value and version of a column, or of a member of a document (`data.price`); None without news about it."""
    version = registers.versions.get(path) or registers.versions.get(column)
    if version is None:
        return None
    value = registers.values.get(column)
    if path != column:
        member = path.removeprefix(f"{column}.")
        value = value.get(member, NO_VALUE) if isinstance(value, dict) else NO_VALUE
    return Told(value, version)


def paths_of(registers: Registers, column: str) -> Iterator[str]:
    """The paths of a column and of the document members in it that are traced one by one."""
    yield column
    value = registers.values.get(column)
    if isinstance(value, dict):
        yield from (f"{column}.{member}" for member, _ in zip(value, range(MOST_MEMBERS_TOLD), strict=False))


def is_misdated(version: Version) -> bool:
    """Whether the version lies so far in the future that a reconcile dates it back."""
    return version.time > arrived(version.arrival) + AHEAD // timedelta(microseconds=1)


def as_dated_back(version: Version) -> Version:
    """The version after a reconcile, which dates news from the future back to its arrival."""
    return version._replace(time=arrived(version.arrival)) if is_misdated(version) else version


def _said(column: str, value: Any, held: Any) -> Iterator[tuple[str, Any]]:
    """The paths with their new values: the column, and each member whose value differs from the held one."""
    if isinstance(value, Patch):
        yield from ((f"{column}.{member}", word) for member, word in value.members.items())
        return
    yield column, value
    members: Mapping[str, Any] = value if isinstance(value, dict) else {}
    known: Mapping[str, Any] = held if isinstance(held, dict) else {}
    for member, _ in zip({**known, **members}, range(MOST_MEMBERS_TOLD), strict=False):
        word = members.get(member, NO_VALUE)
        # An equal value does not count as a loss.
        if not is_same(word, known.get(member, NO_VALUE)):
            yield f"{column}.{member}", word


def _loss(said: Told, before: Told | None, now: Told | None) -> Loss | None:
    """The one of the new and the previous value that lost; None if they are equal."""
    assert now is not None
    if now.version != said.version:
        how = Defeat.TIE if said.version.ties_with(now.version) else Defeat.STALE
        return Loss(said.value, said.version, how) if not is_same(said.value, now.value) else None
    if before is None or before.version == said.version or is_same(before.value, now.value):
        return None
    how = Defeat.TIE if before.version.ties_with(now.version) else Defeat.OVERTAKEN
    return Loss(before.value, before.version, how)


def _copied(registers: Registers) -> Registers:
    """Copy registers; the documents are shared, because they are never changed in place."""
    other = copy(registers)
    other.values, other.versions = dict(registers.values), dict(registers.versions)
    other.ties, other.children_gone = set(registers.ties), dict(registers.children_gone)
    return other
