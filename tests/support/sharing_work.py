"""Shares work between tests that has the same result throughout a process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.util import LRUCache

import receiver.database.database
import receiver.database.revisions
import receiver.dialects.sources

#: The most compiled statements that are kept.
STATEMENTS = 5_000


class _Compiled(LRUCache[Any, Any]):
    """Compiled statements by dialect class and statement. The key of an engine's own cache names its dialect object."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), compiled)


def share_work() -> None:
    """Compile each SQL statement once per process, and look for installed packages once.

    Production does the same: a process has one engine there, and looks for packages when it starts.
    """
    receiver.database.database._engine = _sharing(receiver.database.database._engine)
    for module in (receiver.database.revisions, receiver.dialects.sources):
        module.entry_points = lambda group: _installed(group, tuple(sys.path))  # type: ignore[attr-defined]


def _sharing(make: Callable[..., Engine]) -> Callable[..., Engine]:
    compiled = _Compiled(STATEMENTS)

    def make_engine(*arguments: Any, **options: Any) -> Engine:
        engine = make(*arguments, **options)
        engine._compiled_cache = compiled
        return engine

    return make_engine


@cache
def _installed(group: str, _path: tuple[str, ...]) -> EntryPoints:
    return entry_points(group=group)
