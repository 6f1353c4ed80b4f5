"""Shares work between tests that has the same result throughout a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from certificates import share_certificates
from sqlalchemy import Engine
from sqlalchemy.util import LRUCache

import receiver.database.database

#: The most compiled statements that are kept.
STATEMENTS = 5_000


class _Compiled(LRUCache[Any, Any]):
    """Compiled statements by dialect class and statement. The key of an engine's own cache names its dialect object."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get((type(key[0]), *key[1:]), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__((type(key[0]), *key[1:]), compiled)


def share_work() -> None:
    """Compile each SQL statement once per process, and load the certificates once.

    Production does the same: a process has one engine and few clients there.
    """
    receiver.database.database.open_engine = _sharing(receiver.database.database.open_engine)
    share_certificates()


def _sharing(make: Callable[..., Engine]) -> Callable[..., Engine]:
    compiled = _Compiled(STATEMENTS)

    def make_engine(*arguments: Any, **options: Any) -> Engine:
        engine = make(*arguments, **options)
        engine._compiled_cache = compiled
        return engine

    return make_engine
