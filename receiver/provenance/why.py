"""Explains a row: for each column and member the version, the origin, and the last news that lost against it.

Versions and origins are read from the row. Lost news is found by running the kept deliveries about the row again
(`receiver.provenance.recomputation`), which also checks the row against its deliveries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from receiver.codec import is_same
from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.inbox.retries import RetrySchedule
from receiver.mirror.rows import ACTIVE, Key, own_columns
from receiver.mirror.versions import Version
from receiver.provenance.candidates import Candidates, find_candidates
from receiver.provenance.origins import Bringer, Origin, origins_of
from receiver.provenance.recomputation import RECOMPUTATION_SECONDS, Recomputation, recompute
from receiver.provenance.recorded import is_as_recorded, recorded_change
from receiver.provenance.stored import StoredRow, stored_row
from receiver.provenance.traces import Defeat, Loss, Told, paths_of, told_of
from receiver.provenance.unread import Unread, unread_value
from receiver.worker.trial import Obstacle


class Checked(StrEnum):
    """The result of checking a value against the kept deliveries."""

    AGREES = "agrees"
    #: The delivery or run that brought the value could not be run, but the recorded change has the same value.
    RECORDED = "recorded"
    DIFFERS = "differs"
    #: The delivery that brought the value could not be run.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reason:
    """The explanation of one column, or of one member of a document."""

    #: `price`, or `data.price` for a member.
    path: str
    value: Any
    version: Version
    origin: Origin
    #: The last different news that lost, according to the deliveries that were run; None if there was none.
    lost: Loss | None
    check: Checked
    #: The reason for which the value could not be checked, or the difference; None if the deliveries agree.
    because: str | None
    #: Whether the order of arrival alone decided the value.
    is_tie: bool
    #: For an empty column, the value in the source's object that it cannot hold; None without one.
    unread: Unread | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """The explanation of one row."""

    row: StoredRow
    reasons: list[Reason]
    #: The news that made the row inactive through its parent; None if it is active or inactive by itself.
    lost_with_parent: tuple[Version, Origin] | None
    candidates: Candidates
    recomputation: Recomputation
    asked_at: datetime
    #: Columns for which the deliveries have news and the row has none.
    missing: list[str] = field(default_factory=list)
    #: Whether the source can be asked for the row.
    is_askable: bool = False

    @property
    def differing(self) -> list[str]:
        """The columns and members in which the deliveries differ from the row."""
        return [*(each.path for each in self.reasons if each.check is Checked.DIFFERS), *self.missing]

    @property
    def is_complete(self) -> bool:
        """Whether every delivery known to have brought news of the row was run."""
        return not self.recomputation.obstacles and self.candidates.partial is None


#: A function that explains a row, as `explainer` returns it.
Explain = Callable[[Database, Key], Why | None]


def explainer(sources: Mapping[str, Source], retries: RetrySchedule | None = None) -> Explain:
    """Make a function that explains rows with the handlers of these sources."""
    return lambda database, key: explain_row(database, sources, key, retries=retries)


def explain_row(
    database: Database,
    sources: Mapping[str, Source],
    key: Key,
    *,
    retries: RetrySchedule | None = None,
    seconds: float = RECOMPUTATION_SECONDS,
) -> Why | None:
    """Explain the row; None if no news about it has arrived. Takes little longer than `seconds`.

    Raises `Unavailable` if too many handlers hang in this process.
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
    judge = _Judge(row, candidates, recomputation, origins)
    reasons = [judge.reason(column, path) for column, path in _paths(row)]
    parted = _lost_with_parent(row, origins)
    source = sources.get(key.source)
    return Why(
        row,
        reasons,
        parted,
        candidates,
        recomputation,
        asked_at,
        judge.missing(),
        is_askable=source is not None and source.can_look_up(key.table),
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    """Compares the stored row with the recomputed one."""

    row: StoredRow
    candidates: Candidates
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
            unread=unread_value(self.row.key.table, self.row.registers, path),
        )

    def missing(self) -> list[str]:
        """The columns for which the deliveries have news and the row has none."""
        if self.row.damage is not None:
            return []
        held, recomputed = self.row.registers.versions, self.recomputation.trace.registers.versions
        return sorted(path for path in recomputed if path not in held and path.partition(".")[0] not in held)

    def _check(self, column: str, path: str, held: Told, recomputed: Told | None) -> tuple[Checked, str | None]:
        if self.row.damage is not None:
            return Checked.UNKNOWN, "the row is damaged, so the time of this value is unknown"
        if recomputed is not None and self._is_same(column, path, held, recomputed):
            return Checked.AGREES, None
        arrival = held.version.arrival
        back = self._dated_back(column, path)
        if back is not None and _is_held_as(back, held):
            return Checked.AGREES, None
        versions = [told.version for told in (recomputed, back) if told is not None]
        newest = min(versions, default=held.version)
        if newest.arrival != arrival and newest > held.version:
            return Checked.DIFFERS, f"delivery {newest.arrival} has newer news"
        if arrival in self.recomputation.ran:
            verb = "correct" if self._would_correct(arrival, held, recomputed) else "not change"
            return (
                Checked.DIFFERS,
                f"with today's code, delivery {arrival} does not bring this value, and a replay would {verb} it",
            )
        change = recorded_change(self.candidates.changes, self.origins[arrival], column)
        if change is None:
            return Checked.UNKNOWN, self._obstacle(arrival)
        if is_as_recorded(change, column, path, held, self.row.registers):
            return Checked.RECORDED, self._why_not_run(change.seq, arrival)
        return Checked.DIFFERS, f"change {change.seq}, which brought it, has another value"

    def _would_correct(self, arrival: int, held: Told, recomputed: Told | None) -> bool:
        """Whether a replay of the delivery that brought the value would replace it."""
        if recomputed is None or recomputed.version < held.version:
            return False
        return recomputed.version > held.version or arrival not in self.recomputation.have_read

    def _is_same(self, column: str, path: str, held: Told, recomputed: Told) -> bool:
        if held.version != recomputed.version:
            return False
        both = (self.row.registers, self.recomputation.trace.registers)
        if path == column and any(name.startswith(f"{column}.") for each in both for name in each.versions):
            # Members with their own versions are compared one by one.
            return isinstance(held.value, dict) == isinstance(recomputed.value, dict)
        return is_same(held.value, recomputed.value)

    def _dated_back(self, column: str, path: str) -> Told | None:
        """The recomputed value after news from the future is dated back; None without such news."""
        back = self.recomputation.trace.dated_back
        return None if back is None else told_of(back, column, path)

    def _why_not_run(self, seq: int, arrival: int) -> str | None:
        """The reason for relying on the recorded change; None if the sentences about the whole row give it."""
        known = self.recomputation.obstacles.get(arrival)
        if known is None or known[0] is Obstacle.THIN:
            return None
        return f"change {seq} says so, because {self._obstacle(arrival)}"

    def _obstacle(self, arrival: int) -> str:
        known = self.recomputation.obstacles.get(arrival)
        if known is not None:
            return f"delivery {arrival} gives no news, because {known[1]}"
        origin = self.origins[arrival]
        if origin.kind is Bringer.RECONCILE:
            return "a reconcile or a repair brought it, and the source's answer is not kept"
        if origin.kind is Bringer.DELIVERY:
            return f"delivery {arrival} is no longer kept, or was left out"
        return "its news is older than every kept delivery"

    def _lost(self, path: str, held: Told, recomputed: Told | None) -> Loss | None:
        if recomputed is None:
            return None
        if recomputed.version >= held.version or is_same(recomputed.value, held.value):
            return self.recomputation.trace.losses.get(path)
        later = self._took_effect(recomputed.version) > self._took_effect(held.version)
        return Loss(recomputed.value, recomputed.version, Defeat.STALE if later else Defeat.OVERTAKEN)

    def _took_effect(self, version: Version) -> tuple[datetime, int]:
        """The sort key of the time at which news came into the mirror: its first processing, or its arrival."""
        at = self.candidates.took_effect.get(version.arrival)
        return at or self.origins[version.arrival].arrived_at, version.arrival


def _is_held_as(back: Told, held: Told) -> bool:
    """Whether the stored value is the recomputed one, dated back to its arrival or to an earlier time."""
    is_earlier = held.version[1:] == back.version[1:] and held.version.time <= back.version.time
    return is_earlier and is_same(back.value, held.value)


def _paths(row: StoredRow) -> Iterator[tuple[str, str]]:
    """The paths of all columns with news, and of all document members."""
    for column in (ACTIVE, *own_columns(row.key.table)):
        for path in paths_of(row.registers, column):
            if told_of(row.registers, column, path) is not None:
                yield column, path


def _lost_with_parent(row: StoredRow, origins: Mapping[int, Origin]) -> tuple[Version, Origin] | None:
    if row.active or not row.registers.values[ACTIVE] or row.children_gone is None:
        return None
    return row.children_gone, origins[row.children_gone.arrival]


def not_in_force(candidates: Candidates) -> list[Row[Any]]:
    """List the deliveries about the row that were never processed, newest first."""
    return list(reversed(candidates.others))
