"""Loses the connection to the database after a commit, before its answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import OperationalError

from receiver.database.database import Database


class LosingOne:
    """Loses the connection after one commit, by the number of its transaction."""

    def __init__(self, database: Database, number: int) -> None:
        self._write, self._number = database.write, number
        self._begun = 0

    @property
    def has_lost(self) -> bool:
        return self._begun >= self._number

    @contextmanager
    def write(self) -> Iterator[Any]:
        self._begun += 1
        is_lost = self._begun == self._number
        with self._write() as connection:
            yield connection
        if is_lost:
            raise OperationalError("COMMIT", None, Exception("the server closed it"), connection_invalidated=True)
