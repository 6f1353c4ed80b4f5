"""Replaces connections to PostgreSQL whose session began with another `search_path`, and so does not find our tables.

A session keeps the path that its role had at its beginning, so connections in the pool would keep a wrong one after it
is corrected. Rights, which take effect at once, need no such care.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

#: PostgreSQL's codes of a table, and of a schema for new tables, that the path does not lead to.
NOT_FOUND = frozenset({"42P01", "3F000"})

#: The note about a connection whose session did not find a table.
_LACKS_TABLES = "lacks_tables"


def note_lacking(info: dict[Any, Any], error: BaseException) -> None:
    """Note in the `info` of a connection if the error of its statement means that it did not find a table."""
    if getattr(error, "sqlstate", None) in NOT_FOUND:
        info[_LACKS_TABLES] = True


def leave_lacking(_connection: object, record: ConnectionPoolEntry, _: object) -> None:
    """Make the pool replace all its connections after one of them did not find a table."""
    if record.info.pop(_LACKS_TABLES, False):
        raise InvalidatePoolError("its session did not find a table")
