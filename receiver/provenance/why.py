"""Why a row is as it is: for each column and member its version, what brought it, and what lost last against it.

Versions and what brought them are read from the row. What lost is found by running the kept deliveries about it again
(`receiver.provenance.recomputation`), which also shows whether the row is what its deliveries say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.inbox.retries import RetrySchedule
from receiver.mirror.rows import ACTIVE, Key, own_columns
from receiver.mirror.versions import Version
from receiver.provenance.candidates import Candidates, find_candidates
from receiver.provenance.origins import Bringer, Origin, origins_of
from receiver.provenance.recomputation import RECOMPUTATION_SECONDS, Recomputation, recompute
from receiver.provenance.stored import StoredRow, stored_row
from receiver.provenance.traces import Defeat, Loss, Told, paths_of, told_of


class Checked(StrEnum):
    """Whether the deliveries say what the row holds."""

    AGREES = "agrees"
    DIFFERS = "differs"
    #: What brought the value could not be run.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one column, or one member of a document, has its value."""

    #: `price`, or `data.price` for a member.
    path: str
    value: Any
    version: Version
    origin: Origin
    #: What lost last against it, as far as the deliveries that were run tell; None if nothing did that differs.
    lost: Loss | None
    check: Checked
    #: Why it is not known whether the deliveries say so, or what they say instead; None if they agree.
    because: str | None
    #: Whether the arrival alone decided it.
    is_tie: bool


@dataclass(frozen=True, slots=True)
class Why:
    """All about one row."""

    row: StoredRow
    reasons: list[Reason]
    #: What made the row inactive although nothing about itself did: the end of its parent's children.
    lost_with_parent: tuple[Version, Origin] | None
    candidates: Candidates
    recomputation: Recomputation
    asked_at: datetime
    #: Columns that the deliveries tell about and the row does not have.
    missing: list[str] = field(default_factory=list)

    @property
    def differing(self) -> list[str]:
        """The columns and members about which the deliveries say something else."""
        return [*(each.path for each in self.reasons if each.check is Checked.DIFFERS), *self.missing]

    @property
    def is_complete(self) -> bool:
        """Whether every delivery that is known to have spoken of the row was run."""
        return not self.recomputation.obstacles and self.candidates.partial is None


#: Says why a row is as it is, as `explain_row` does.
Explain = Callable[[Database, Key], Why | None]


def explainer(sources: Mapping[str, Source], retries: RetrySchedule | None = None) -> Explain:
    """Explains rows with the code of these sources."""
    return lambda database, key: explain_row(database, sources, key, retries=retries)


def explain_row(
    database: Database,
    sources: Mapping[str, Source],
    key: Key,
    *,
    retries: RetrySchedule | None = None,
    seconds: float = RECOMPUTATION_SECONDS,
) -> Why | None:
    """Why the row is as it is; None if no news of it has arrived. Takes a little longer than `seconds` at most.

    Raises `Unavailable` if too much of the dialects' code hangs in this process.
    """
    asked_at = datetime.now(UTC)
    with database.read() as connection:
        row = stored_row(connection, key)
        if row is None:
            return None
        candidates = find_candidates(connection, row)
        gone = [row.children_gone] if row.children_gone is not None else []
        versions = [*row.registers.versions.values(), *gone]
        origins = origins_of(connection, key.source, versions, candidates)
    recomputation = recompute(
        database, sources, row, candidates.processed, retries=retries or RetrySchedule(), seconds=seconds
    )
    judge = _Judge(row, recomputation, origins)
    reasons = [judge.reason(column, path) for column, path in _paths(row)]
    parted = _lost_with_parent(row, origins)
    return Why(row, reasons, parted, candidates, recomputation, asked_at, judge.missing())


@dataclass(frozen=True, slots=True)
class _Judge:
    """Holds the row against what the deliveries say."""

    row: StoredRow
    recomputation: Recomputation
    origins: Mapping[int, Origin]

    def reason(self, column: str, path: str) -> Reason:
        held = told_of(self.row.registers, column, path)
        assert held is not None
        recomputed = told_of(self.recomputation.trace.registers, column, path)
        check, because = self._check(column, path, held, recomputed)
        return Reason(
            path=path,
            value=held.value,
            version=held.version,
            origin=self.origins[held.version.arrival],
            lost=self._lost(path, held, recomputed),
            check=check,
            because=because,
            is_tie=path in self.row.registers.ties,
        )

    def missing(self) -> list[str]:
        """What the deliveries tell about that the row holds nothing of."""
        held, recomputed = self.row.registers.versions, self.recomputation.trace.registers.versions
        return sorted(path for path in recomputed if path not in held and path.partition(".")[0] not in held)

    def _check(self, column: str, path: str, held: Told, recomputed: Told | None) -> tuple[Checked, str | None]:
        if recomputed is not None and self._is_same(column, path, held, recomputed):
            return Checked.AGREES, None
        arrival = held.version.arrival
        back = self._dated_back(column, path)
        if back is not None and _is_held_as(back, held):
            return Checked.AGREES, None
        versions = [told.version for told in (recomputed, back) if told is not None]
        newest = min(versions, default=held.version)
        if newest.arrival != arrival and newest > held.version:
            return Checked.DIFFERS, f"delivery {newest.arrival} says something newer"
        if arrival in self.recomputation.ran:
            return Checked.DIFFERS, f"with today's code delivery {arrival} does not say so"
        return Checked.UNKNOWN, f"cannot be told: {self._obstacle(arrival)}"

    def _is_same(self, column: str, path: str, held: Told, recomputed: Told) -> bool:
        if held.version != recomputed.version:
            return False
        both = (self.row.registers, self.recomputation.trace.registers)
        if path == column and any(name.startswith(f"{column}.") for each in both for name in each.versions):
            # Members that were told apart are held against each other one by one.
            return isinstance(held.value, dict) == isinstance(recomputed.value, dict)
        return bool(held.value == recomputed.value)

    def _dated_back(self, column: str, path: str) -> Told | None:
        """What the deliveries say once a reconcile has dated back what is from the future; None if nothing is."""
        back = self.recomputation.trace.dated_back
        return None if back is None else told_of(back, column, path)

    def _obstacle(self, arrival: int) -> str:
        known = self.recomputation.obstacles.get(arrival)
        if known is not None:
            return f"of delivery {arrival}, {known[1]}"
        origin = self.origins[arrival]
        if origin.kind is Bringer.RECONCILE:
            of_run = "" if origin.run is None else f", run {origin.run},"
            return f"a reconcile{of_run} brought it, and what the source's list said is not kept"
        if origin.kind is Bringer.DELIVERY:
            return f"delivery {arrival} is not kept any more, or was not looked at"
        return "what brought it is older than every delivery that is kept"

    def _lost(self, path: str, held: Told, recomputed: Told | None) -> Loss | None:
        if recomputed is None:
            return None
        if recomputed.version >= held.version or recomputed.value == held.value:
            return self.recomputation.trace.losses.get(path)
        later = recomputed.version.arrival > held.version.arrival
        return Loss(recomputed.value, recomputed.version, Defeat.STALE if later else Defeat.OVERTAKEN)


def _is_held_as(back: Told, held: Told) -> bool:
    """Whether the row holds what is told once it is dated back: to its arrival, or to a time before that."""
    is_same = back.version[1:] == held.version[1:] and back.value == held.value
    return is_same and held.version.time <= back.version.time


def _paths(row: StoredRow) -> Iterator[tuple[str, str]]:
    """Every column that was ever told about, and every member of a document."""
    for column in (ACTIVE, *own_columns(row.key.table)):
        for path in paths_of(row.registers, column):
            if told_of(row.registers, column, path) is not None:
                yield column, path


def _lost_with_parent(row: StoredRow, origins: Mapping[int, Origin]) -> tuple[Version, Origin] | None:
    if row.active or not row.registers.values[ACTIVE] or row.children_gone is None:
        return None
    return row.children_gone, origins[row.children_gone.arrival]


def not_in_force(candidates: Candidates) -> list[Row[Any]]:
    """The deliveries about the row that were never processed, the newest first."""
    return list(reversed(candidates.others))
