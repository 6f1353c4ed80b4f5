"""Temporary databases: a new database on a PostgreSQL server, dropped after its use."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

from sqlalchemy.exc import SQLAlchemyError

from receiver.database.database import Database
from receiver.database.errors import explain
from receiver.errors import ConfigurationError


@contextmanager
def database_of_its_own(server: str) -> Iterator[str]:
    """The URL of a new, empty database on a PostgreSQL server, dropped at the end of the block.

    `server` is the URL of any database there, which is left as it is; its role needs the right to create databases.
    Raises `ConfigurationError` if the server cannot be used.
    """
    with closing(Database(server, setting="`hookmirror_database_url`")) as database:
        if not database.is_postgresql:
            raise ConfigurationError("`hookmirror_database_url` names no PostgreSQL server: leave it out for SQLite.")
        name = f"hookmirror_test_{secrets.token_hex(6)}"
        outside = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            with outside.connect() as connection:
                connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        except SQLAlchemyError as error:
            raise ConfigurationError(explain(error, server, setting=database.setting)) from error
        try:
            yield database.engine.url.set(database=name).render_as_string(hide_password=False)
        finally:
            with outside.connect() as connection:
                connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
