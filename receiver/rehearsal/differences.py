"""Differences between two sides of a rehearsal. Pure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from receiver.rehearsal.outcomes import NOT_REACHED, THIN, RehearsedDelivery, RehearsedRow, RehearsedSide

#: What stands where a side has no such row.
ABSENT: dict[str, Any] = {}


class RowDifference(NamedTuple):
    """One row that the two sides do not make alike."""

    table: str
    external_id: str
    #: By column, what the old code makes and what the new code makes; None where it makes nothing.
    columns: dict[str, tuple[Any, Any]]
    #: `differs`, `only new` or `only old`.
    kind: str = "differs"


class EndDifference(NamedTuple):
    """One delivery that does not end alike."""

    delivery: int
    event_type: str | None
    entity: str | None
    old: str
    new: str


class Took(NamedTuple):
    """How long the handlers of one side took, in milliseconds."""

    handlers: int
    total: float
    median: float
    longest: float


@dataclass(slots=True)
class Differences:
    """What is different, and nothing else."""

    source: str
    #: What the two sides are called.
    old: str
    new: str
    #: Deliveries that were run.
    deliveries: int
    rows: list[RowDifference] = field(default_factory=list)
    ends: list[EndDifference] = field(default_factory=list)
    #: Deliveries that were not run, by reason.
    skipped: dict[str, int] = field(default_factory=dict)
    old_took: Took | None = None
    new_took: Took | None = None

    @property
    def found(self) -> bool:
        return bool(self.rows or self.ends)


def compare_sides(source: str, old: RehearsedSide, new: RehearsedSide) -> Differences:
    """What the two sides make differently of the same deliveries."""
    skipped = Counter(each.state for each in new.deliveries if each.state in (THIN, NOT_REACHED))
    return Differences(
        source=source,
        old=old.name,
        new=new.name,
        deliveries=len(new.deliveries) - skipped.total(),
        rows=compare_rows(old.rows, new.rows),
        ends=compare_ends(old.deliveries, new.deliveries),
        skipped=dict(skipped),
        old_took=took(old.deliveries),
        new_took=took(new.deliveries),
    )


def compare_rows(old: Iterable[RehearsedRow], new: Iterable[RehearsedRow]) -> list[RowDifference]:
    """The rows that differ, in the order of table and external id."""
    before, after = _by_key(old), _by_key(new)
    found = []
    for key in sorted(before.keys() | after.keys()):
        was, becomes = before.get(key, ABSENT), after.get(key, ABSENT)
        differing = {
            name: (was.get(name), becomes.get(name))
            for name in dict.fromkeys([*was, *becomes])
            if was.get(name) != becomes.get(name)
        }
        kind = "only new" if key not in before else "only old" if key not in after else "differs"
        if differing or kind != "differs":
            found.append(RowDifference(*key, differing, kind))
    return found


def compare_ends(old: Iterable[RehearsedDelivery], new: Iterable[RehearsedDelivery]) -> list[EndDifference]:
    """The deliveries that end otherwise, or for another reason, in the order of arrival."""
    before = {each.id: ending(each.state, each.reason) for each in old}
    return [
        EndDifference(each.id, each.event_type, each.entity, before[each.id], now)
        for each in new
        if (now := ending(each.state, each.reason)) != before.get(each.id, now)
    ]


def ending(state: str, reason: str | None) -> str:
    """How a delivery ended, as it is shown."""
    return f"{state}: {reason}" if reason else state


def took(deliveries: Iterable[RehearsedDelivery]) -> Took | None:
    """How long the handlers took; None if none ran."""
    times = [each.handle_us / 1_000 for each in deliveries if each.handle_us is not None]
    return Took(len(times), sum(times), statistics.median(times), max(times)) if times else None


def _by_key(rows: Iterable[RehearsedRow]) -> Mapping[tuple[str, str], dict[str, Any]]:
    return {(row.table, row.external_id): row.columns for row in rows}
