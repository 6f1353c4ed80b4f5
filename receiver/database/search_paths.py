"""Replaces connections to PostgreSQL whose session began with another `search_path`, and so does not find our tables.

A session keeps the path that its role had at its beginning, so connections in the pool would keep a wrong one after it
is corrected. Rights, which take effect at once, need no such care.
"""

from __future__ import annotations

from sqlalchemy.pool import PoolProxiedConnection

#: PostgreSQL's codes of a table, and of a schema for new tables, that the path does not lead to.
NOT_FOUND = frozenset({"42P01", "3F000"})


def replace_lacking(pooled: PoolProxiedConnection, error: BaseException) -> None:
    """Let the pool replace this connection after its use if the error means that its session did not find a table."""
    if getattr(error, "sqlstate", None) in NOT_FOUND:
        pooled.invalidate(soft=True)
