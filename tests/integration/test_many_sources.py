"""An installation with many sources: the work for all of them does not grow by the square of their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from shopping import NOON

from receiver.api.stats import Counts


class ReadCounts(list[Any]):
    """Counts that count how often all of them are read."""

    reads = 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        return super().__iter__()


def reads_for(kit, monkeypatch, number: int) -> int:
    """How often the counts of this number of sources are read for their statistics."""
    names = [f"shop-{each:03}" for each in range(number)]
    known = {"state": "dead", "outcome": None, "deliveries": 2, "duplicates": 1, "oldest": NOON, "first": 1}
    rows = ReadCounts({"source": name, **known} for name in names)
    counts = Counts(kit.database, names)
    monkeypatch.setattr(counts._backlog, "counted", lambda *, now: (rows, now))
    found = counts.per_source(now=NOON, brief=True)
    assert [(each.source, each.states["dead"], each.duplicates) for each in found] == [(name, 2, 1) for name in names]
    return rows.reads


def test_statistics_read_the_counts_as_often_for_many_sources_as_for_two(kit, monkeypatch: pytest.MonkeyPatch):
    assert reads_for(kit, monkeypatch, 40) == reads_for(kit, monkeypatch, 2)
