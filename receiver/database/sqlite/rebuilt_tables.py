"""Tables that a migration rebuilds by copying the rows into a new one, because SQLite cannot alter all in place.

Other people's views, triggers, indexes and foreign keys outlive the old table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import SQLAlchemyError

from receiver.errors import ConfigurationError


@contextmanager
def renaming_tables_alone(connection: Connection) -> Iterator[None]:
    """Let the block rename tables without changing the views, triggers and foreign keys that name them.

    SQLite would let them name the old table, which is dropped then; and one that is broken would end the migration.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    before = driver.execute("PRAGMA legacy_alter_table").fetchone()[0]
    driver.execute("PRAGMA legacy_alter_table=ON")
    try:
        yield
    finally:
        with suppress(sqlite3.Error):
            driver.execute(f"PRAGMA legacy_alter_table={before}")


@contextmanager
def keeping_indexes_and_triggers(connection: Connection, tables: Iterable[str]) -> Iterator[None]:
    """Make those indexes and triggers of the tables again that the block drops along with the old tables.

    Raises `ConfigurationError` for one that does not fit the new table.
    """
    named = list(tables)
    before = connection.execute(_DEFINITIONS, {"tables": named}).all()
    yield
    left = {row.name for row in connection.execute(_DEFINITIONS, {"tables": named})}
    for row in before:
        if row.name not in left:
            try:
                connection.exec_driver_sql(row.sql)
            except SQLAlchemyError as error:
                raise ConfigurationError(
                    f"The {row.type} {row.name} of the table {row.tbl_name}, which hookmirror did not make, does not "
                    f"fit the migrated table ({getattr(error, 'orig', error)}): drop it for the upgrade."
                ) from error


#: Those that a constraint makes have no statement. Indexes come before triggers.
_DEFINITIONS = text(
    "SELECT type, name, tbl_name, sql FROM sqlite_master "
    "WHERE type IN ('index', 'trigger') AND sql IS NOT NULL AND tbl_name COLLATE NOCASE IN :tables ORDER BY type, name"
).bindparams(bindparam("tables", expanding=True))
