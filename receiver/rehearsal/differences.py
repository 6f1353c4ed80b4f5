"""Differences between the two sides of a rehearsal, computed without I/O."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from receiver.codec import is_same
from receiver.rehearsal.outcomes import NOT_REACHED, NOT_REHEARSED, RehearsedDelivery, RehearsedRow, RehearsedSide

#: The columns of a row that a side does not have.
ABSENT: dict[str, Any] = {}


class RowDifference(NamedTuple):
    """One row in which the two sides differ."""

    table: str
    external_id: str
    #: By column, the old and the new code's values; None for no value.
    columns: dict[str, tuple[Any, Any]]
    #: `differs`, `only new` or `only old`.
    kind: str = "differs"


class EndDifference(NamedTuple):
    """One delivery that ends differently on the two sides."""

    delivery: int
    event_type: str | None
    entity: str | None
    old: str
    new: str


class Took(NamedTuple):
    """The durations of one side's handlers, in milliseconds."""

    handlers: int
    total: float
    median: float
    longest: float


@dataclass(slots=True)
class Differences:
    """The differences between two sides."""

    source: str
    #: The names of the two sides.
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


def not_reached(side: RehearsedSide) -> set[int]:
    """The deliveries before whose turn a bound of this side was reached."""
    return {each.id for each in side.deliveries if each.state == NOT_REACHED}


def compare_sides(source: str, old: RehearsedSide, new: RehearsedSide, unreached: Collection[int]) -> Differences:
    """Compare the results of the two sides over the same deliveries, without those that one did not reach."""
    missed = {*unreached, *not_reached(old), *not_reached(new)}
    kept = [each for each in new.deliveries if each.id not in missed]
    skipped = Counter(each.state for each in kept if each.state in NOT_REHEARSED)
    return Differences(
        source=source,
        old=old.name,
        new=new.name,
        deliveries=len(kept) - skipped.total(),
        rows=compare_rows(old.rows, new.rows),
        ends=compare_ends(old.deliveries, kept),
        skipped=dict(skipped) | ({NOT_REACHED: len(missed)} if missed else {}),
        old_took=took(old.deliveries),
        new_took=took(new.deliveries),
    )


def compare_rows(old: Iterable[RehearsedRow], new: Iterable[RehearsedRow]) -> list[RowDifference]:
    """List the rows that differ, in the order of table and external id."""
    before, after = _by_key(old), _by_key(new)
    found = []
    for key in sorted(before.keys() | after.keys()):
        was, becomes = before.get(key, ABSENT), after.get(key, ABSENT)
        differing = {
            name: (was.get(name), becomes.get(name))
            for name in dict.fromkeys([*was, *becomes])
            if not is_same(was.get(name), becomes.get(name))
        }
        kind = "only new" if key not in before else "only old" if key not in after else "differs"
        if differing or kind != "differs":
            found.append(RowDifference(*key, differing, kind))
    return found


def compare_ends(old: Iterable[RehearsedDelivery], new: Iterable[RehearsedDelivery]) -> list[EndDifference]:
    """List the deliveries that end differently, or for another reason, in the order of arrival."""
    before = {each.id: ending(each.state, each.reason) for each in old}
    return [
        EndDifference(each.id, each.event_type, each.entity, before[each.id], now)
        for each in new
        if (now := ending(each.state, each.reason)) != before.get(each.id, now)
    ]


def ending(state: str, reason: str | None) -> str:
    """Format the end of a delivery."""
    return f"{state}: {reason}" if reason else state


def took(deliveries: Iterable[RehearsedDelivery]) -> Took | None:
    """Sum up the durations of the handlers; None if none ran."""
    times = [each.handle_us / 1_000 for each in deliveries if each.handle_us is not None]
    return Took(len(times), sum(times), statistics.median(times), max(times)) if times else None


def _by_key(rows: Iterable[RehearsedRow]) -> Mapping[tuple[str, str], dict[str, Any]]:
    return {(row.table, row.external_id): row.columns for row in rows}
