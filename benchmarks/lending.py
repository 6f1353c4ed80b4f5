"""Lends an empty database of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from benchmarks import postgresql, sqlite

#: Lends a database with this release's tables, and gives its URL.
Lend = Callable[[], AbstractContextManager[str]]

#: By the name of the database system.
LENDERS: Mapping[str, Lend] = {"SQLite": sqlite.fresh_file, "PostgreSQL": postgresql.fresh_database}
