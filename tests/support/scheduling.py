"""The order of the tests: long files first, so that no core waits at the end, with tests that mostly wait between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest

#: Folders and files with slow tests, which begin first: those that one process takes as a whole before all others.
LONG_FIRST = ("browser", "test_documentation.py", "acceptance", "neighbours", "integration")

#: The folder of tests that are distributed one by one: they share no fixture, and mostly wait.
ONE_BY_ONE = "plug"

#: The folder of tests that one process takes as a whole: they share a browser and a console with data.
TOGETHER = "browser"


def in_turn(items: Sequence[pytest.Item], tests: Path) -> list[pytest.Item]:
    """Sort the tests of the folder `tests`."""

    # Relating the path of each item took every process of a run half a second.
    @cache
    def top(path: Path) -> str:
        return path.relative_to(tests).parts[0] if path.is_relative_to(tests) else ""

    def turn(item: pytest.Item) -> int:
        return LONG_FIRST.index(top(item.path)) if top(item.path) in LONG_FIRST else len(LONG_FIRST)

    waiting = [item for item in items if top(item.path) == ONE_BY_ONE]
    others = sorted((item for item in items if top(item.path) != ONE_BY_ONE), key=turn)
    portions = groupby(others, key=lambda item: TOGETHER if top(item.path) == TOGETHER else item.path)
    return [*_spread(waiting, (portion for _, portion in portions))]


def _spread(waiting: list[pytest.Item], portions: Iterable[Iterable[pytest.Item]]) -> Iterator[pytest.Item]:
    """One of the waiting tests after each portion that one process takes, and the rest at the end."""
    left = iter(waiting)
    for portion in portions:
        yield from portion
        yield from [each for each in [next(left, None)] if each is not None]
    yield from left
