"""The version guard: merges news about a row, with the same result in any order of arrival.

A row is a set of registers, one per column. Each register keeps the newest news about it and the `Version` of that
news; older news changes nothing. The row that people see is computed from the registers alone (and, for a child, from
its parent's), never from the order in which they were filled. This module does no I/O and reads no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from msgspec import Struct, field

from receiver import codec
from receiver.codec import changed_members, is_same
from receiver.errors import Unreadable
from receiver.moments import EPOCH, FIRST_MOMENT, LAST_MOMENT, MICROSECOND


class Rank(IntEnum):
    """The rank of news with equal times: delete beats update, and update beats absence from a list."""

    #: Absence from a complete list. It is weaker than an update of the same time, because reading a list takes time.
    ABSENT = 0
    UPDATE = 1
    DELETE = 2


class Version(NamedTuple):
    """The age of a piece of news, compared by time of change, then rank, then arrival."""

    #: Microseconds since 1970 in UTC.
    time: int
    rank: int
    #: The id of the delivery that brought the news, since ids grow with arrival.
    arrival: int

    @property
    def moment(self) -> datetime:
        return EPOCH + self.time * MICROSECOND

    def ties_with(self, other: Version) -> bool:
        """Whether only the order of arrival decides between the two versions."""
        return self.time == other.time and self.rank == other.rank and self.arrival != other.arrival


class Outcome(StrEnum):
    """The effect of a delivery on the mirror."""

    #: At least one column has a new value, in the row or in a child that was deactivated or revived with it.
    APPLIED = "applied"
    #: Equal times with different values: the later arrival won.
    TIE = "tie"
    #: The news is the newest, and equals the values in the mirror.
    UNCHANGED = "unchanged"
    #: All its news is older than that in the mirror.
    STALE = "stale"


#: The members under names of their own, because an enum looks up each use of a member, and this runs for every column.
_APPLIED, _TIE, _UNCHANGED, _STALE = Outcome.APPLIED, Outcome.TIE, Outcome.UNCHANGED, Outcome.STALE

#: News dated further in the future than this on arrival counts as misdated; no honest clock is so far ahead.
AHEAD = timedelta(days=1)

#: The outcomes from strongest to weakest. The outcome of a delivery is the strongest of its parts.
STRONGEST_FIRST = (Outcome.TIE, Outcome.APPLIED, Outcome.UNCHANGED, Outcome.STALE)


@dataclass(frozen=True, slots=True)
class Patch:
    """Some members of an object: `mirror.upsert(…, data=Patch({…}))` keeps the members that the patch does not name."""

    members: Mapping[str, Any]


#: The value of a member that an object does not have.
_NOTHING = object()


class Registers(Struct):
    """One row: the newest news about each of its columns."""

    #: The newest value per column. `active` reflects only news about this row, not about its parent.
    values: dict[str, Any] = field(default_factory=dict)
    #: The version of that news per column. `data.price` names one member of the object in `data`.
    versions: dict[str, Version] = field(default_factory=dict)
    #: The registers for which the order of arrival decided between different values with equal times.
    ties: set[str] = field(default_factory=set)
    #: The range tombstone per child table: children without newer news are inactive as of this version.
    children_gone: dict[str, Version] = field(default_factory=dict)
    #: How often other values of the same versions replaced the values, so that stored versions differ with the values.
    corrections: int = 0

    def merge(self, column: str, value: Any, version: Version, *, corrects: bool = False) -> Outcome:
        """Merge the news `column = value`, which takes effect if it is the newest.

        If it `corrects`, it also replaces news of the same version.
        """
        if isinstance(value, Patch):
            members = value.members.items()
            return strongest(self._merge_member(column, *member, version, corrects) for member in members)
        floor = self.versions.get(column)
        old = self.values.get(column)
        # Checked first because this is the usual case, and runs for every column of every event.
        if self.ties or isinstance(old, dict) or isinstance(value, dict) or (floor and floor.time == version.time):
            return self._merge_whole(column, value, version, corrects)
        if floor is not None and version < floor:
            return _STALE
        self.values[column] = value
        self.versions[column] = version
        return _UNCHANGED if floor is not None and is_same(value, old) else _APPLIED

    def merge_all(self, columns: Mapping[str, Any], version: Version, *, corrects: bool = False) -> list[Outcome]:
        """Merge the news of all these columns. Returns the outcome of each, or one for all of them."""
        if self._is_later_than_all(version) and Patch not in map(type, columns.values()):
            return [self._replace_with(columns, version)]
        return [self.merge(column, value, version, corrects=corrects) for column, value in columns.items()]

    def _is_later_than_all(self, version: Version) -> bool:
        """Whether every register is from an earlier time, none has a tie, and none holds a member of an object."""
        if self.ties or "." in "".join(self.versions):
            return False
        return not self.versions or max(self.versions.values()).time < version.time

    def _replace_with(self, columns: Mapping[str, Any], version: Version) -> Outcome:
        """Merge whole values that are later than all known news, as `merge` does column by column."""
        is_known = columns.keys() <= self.versions.keys() and columns.items() <= self.values.items()
        # Values that Python takes for equal may be different JSON.
        is_known = is_known and not changed_members(self.values, columns)
        self.values.update(columns)
        self.versions.update(dict.fromkeys(columns, version))
        return _UNCHANGED if is_known else _APPLIED

    def differ_from(self, columns: Mapping[str, Any]) -> bool:
        """Whether the newest news about one of these columns has another value; 1.0 and 1.00 are one number."""
        return any(not codec.is_equal(self.values.get(name), value) for name, value in columns.items())

    def lose_children(self, table: str, version: Version) -> Outcome:
        """Merge the news that all children without newer news are gone."""
        known = self.children_gone.get(table)
        if known is not None and version <= known:
            return _UNCHANGED if version == known else _STALE
        self.children_gone[table] = version
        return _UNCHANGED

    def date_back(self, *, after: int, heard: Callable[[Version], int]) -> bool:
        """Date news later than `after` back to its arrival, which `heard` returns; both in microseconds since 1970.

        Returns whether there was such news.
        """
        before = self.versions, self.children_gone
        self.versions = _dated_back(self.versions, after, heard)
        self.children_gone = _dated_back(self.children_gone, after, heard)
        return (self.versions, self.children_gone) != before

    def _merge_whole(self, column: str, value: Any, version: Version, corrects: bool) -> Outcome:
        """Merge a whole value, which is also news about each member of an object.

        That includes members that the object lacks. The register of the column decides whether the value is an object.
        """
        floor, old = self.versions.get(column), self.values.get(column)
        ties = floor is not None and version.ties_with(floor)
        if floor is not None and version <= floor and not ties and not (corrects and version == floor):
            return _UNCHANGED if version == floor else _STALE
        held, given = (each if isinstance(each, dict) else {} for each in (old, value))
        prefix = f"{column}."
        own = {name.removeprefix(prefix): known for name, known in self.versions.items() if name.startswith(prefix)}
        is_other = not (isinstance(old, dict) and isinstance(value, dict)) and not is_same(old, value)
        tied = self._settle_tie(column, is_other, version, floor, *own.values())
        marked = {name.removeprefix(prefix) for name in self.ties if name.startswith(prefix)}
        for member in {*own, *marked, *(held if ties else ()), *(given if ties else ())}:
            differs = not is_same(held.get(member, _NOTHING), given.get(member, _NOTHING))
            tied |= self._settle_tie(prefix + member, differs, version, floor, own.get(member))
        if floor is not None and version < floor:
            return _TIE if tied else _UNCHANGED
        # A member may be missing if the object was edited by hand.
        newer = {member: held[member] for member, known in own.items() if known > version and member in held}
        for member in own.keys() - newer.keys():
            del self.versions[prefix + member]
        self.values[column] = given | newer if newer else value
        self.versions[column] = version
        is_news = floor is None or not is_same(self.values[column], old)
        self.corrections += is_news and version == floor
        return _TIE if tied else _APPLIED if is_news else _UNCHANGED

    def _merge_member(self, column: str, member: str, value: Any, version: Version, corrects: bool) -> Outcome:
        register = f"{column}.{member}"
        known = [self.versions[name] for name in (column, register) if name in self.versions]
        floor = max(known, default=None)
        if version == floor and not corrects:
            return _UNCHANGED
        held = self.values.get(column)
        members: dict[str, Any] = held if isinstance(held, dict) else {}
        old = members.get(member, _NOTHING)
        differs = value is not old and (value != old or not is_same(value, old))
        tied = self._settle_tie(register, differs, version, floor)
        # A patch is also news that the value is an object.
        if not isinstance(held, dict):
            self._settle_tie(column, True, version, floor)
        elif column in self.ties:
            self._settle_tie(column, False, version, *self._all_versions(column))
        if floor is not None and version < floor:
            return _TIE if tied else _UNCHANGED if version.ties_with(floor) else _STALE
        self.values[column] = {**members, member: value}
        self.versions[register] = version
        if not differs:
            return _UNCHANGED
        self.corrections += version == floor
        return _TIE if tied else _APPLIED

    def _all_versions(self, column: str) -> list[Version]:
        """The versions of the column, and of the members in it."""
        prefix = f"{column}."
        return [known for name, known in self.versions.items() if name == column or name.startswith(prefix)]

    def _settle_tie(self, register: str, differs: bool, version: Version, *known: Version | None) -> bool:
        """Mark a register for news that ties with the newest that is known, and clear its mark for newer news.

        Returns whether the news ties with another value.
        """
        newest = max(filter(None, known), default=None)
        if newest is None:
            return False
        if version.ties_with(newest):
            if differs:
                self.ties.add(register)
            return differs
        if version > newest:
            self.ties.discard(register)
        return False


def _dated_back(versions: Mapping[str, Version], after: int, heard: Callable[[Version], int]) -> dict[str, Version]:
    return {
        name: version._replace(time=heard(version)) if version.time > after else version
        for name, version in versions.items()
    }


class RowStatus(NamedTuple):
    """Whether a row is active and since when, computed from its registers and its parent's."""

    active: bool
    changed_at: datetime
    deactivated_at: datetime | None


def row_status(row: Registers, gone: Version | None) -> RowStatus:
    """The status of a row whose parent, if it has one, lost its children as of `gone`."""
    own = row.versions["active"]
    newest = max(row.versions.values())
    if gone is not None and gone > own and row.values["active"]:
        return RowStatus(False, max(newest, gone).moment, gone.moment)
    return RowStatus(row.values["active"], newest.moment, None if row.values["active"] else own.moment)


def strongest(outcomes: Any) -> Outcome:
    """The outcome of a delivery with several effects; `unchanged` if there are none."""
    # A list, because Python computes the hash of an enum's member slowly.
    found = list(outcomes)
    for outcome in STRONGEST_FIRST:
        if outcome in found:
            return outcome
    return _UNCHANGED


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly. `moment` is aware."""
    # Aware times are subtracted in UTC.
    return (moment - EPOCH) // MICROSECOND


def dump(row: Registers) -> str:
    """Encode the versions of a row as JSON; registers with the same version share an entry."""
    document: dict[str, Any] = {
        "own": row.values["active"],
        "at": [[*version, *registers] for version, registers in _by_version(row.versions)],
    }
    if row.ties:
        document["ties"] = sorted(row.ties)
    if row.children_gone:
        document["gone"] = row.children_gone
    if row.corrections:
        document["corrections"] = row.corrections
    return codec.encode(document).decode()


def _by_version(versions: Mapping[str, Version]) -> Iterable[tuple[Version, Iterable[str]]]:
    """Each version with its registers, in the order of their first appearance."""
    found = list(versions.values())
    if found and found.count(found[0]) == len(found):
        # The usual row, whose news came together.
        return [(found[0], versions)]
    shared: dict[Version, list[str]] = {}
    for register, version in versions.items():
        shared.setdefault(version, []).append(register)
    return shared.items()


def load(values: dict[str, Any], versions: str) -> Registers:
    """The registers of a stored row: the inverse of `dump`. `values` are the row's own columns.

    Raises `ValueError`, whose message says what is wrong, for text that `dump` has not written.
    """
    try:
        document = codec.decode(versions)
    except Unreadable:
        raise ValueError("they are not JSON" if versions else "they are empty") from None
    try:
        known: dict[str, Version] = {}
        for time, rank, arrival, *registers in document["at"]:
            known.update(dict.fromkeys(registers, _version(time, rank, arrival)))
        found = Registers({**values, "active": document["own"]}, known)
        if len(document) > len(_ALWAYS):
            found.ties.update(document.get("ties", ()))
            gone = document.get("gone", {})
            found.children_gone.update({table: _version(*version[:3]) for table, version in gone.items()})
            found.corrections = document.get("corrections", 0)
        # Fails unless every register has a name.
        "".join(known)
    except (LookupError, TypeError, AttributeError, ValueError):
        raise ValueError("they are JSON of another shape") from None
    if type(document["own"]) is not bool or type(found.corrections) is not int or "active" not in known:
        raise ValueError("they are JSON of another shape")
    return found


#: The members of the JSON that are always there.
_ALWAYS = ("own", "at")


def _version(time: Any, rank: Any, arrival: Any) -> Version:
    """The version with these parts. Raises `ValueError` for parts that no version has."""
    if not type(time) is type(rank) is type(arrival) is int:
        raise ValueError("not a number")
    if not (_FIRST <= time <= _LAST and _LOWEST <= rank <= _HIGHEST and 0 <= arrival < 2**63):
        raise ValueError("out of range")
    return Version(time, rank, arrival)


#: The times that a version may have, in microseconds since 1970, and its ranks.
_FIRST, _LAST = microseconds(FIRST_MOMENT), microseconds(LAST_MOMENT)
_LOWEST, _HIGHEST = int(Rank.ABSENT), int(Rank.DELETE)
