"""New SQLite files of the benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from receiver.database.database import Database
from receiver.database.schema import Schema


@contextmanager
def fresh_file() -> Iterator[str]:
    """Make a new SQLite file with this release's tables, and give its URL."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'hookmirror.db'}"
        with closing(Database(url)) as database:
            Schema(database).upgrade()
        yield url
