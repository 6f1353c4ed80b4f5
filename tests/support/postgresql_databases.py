"""Lends each test a database of its own on one PostgreSQL server.

Most tests need the empty tables of a release. Making and dropping such a database costs more than most tests. So a used
database is emptied and lent again under another name, unless anything but rows has changed in it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url
from waiting import TIMEOUT

#: The first object id that PostgreSQL gives to objects of users.
FIRST_OID = 16_384

#: Catalogs of definitions and statistics in a database, each with the column of the object's id. Every statement that
#: defines something or gathers statistics adds, changes or removes a row in one of them.
CATALOGS = {
    "pg_attrdef": "oid",
    "pg_attribute": "attrelid",
    "pg_constraint": "oid",
    "pg_default_acl": "oid",
    "pg_depend": "objid",
    "pg_event_trigger": "oid",
    "pg_extension": "oid",
    "pg_index": "indexrelid",
    "pg_inherits": "inhrelid",
    "pg_policy": "oid",
    "pg_proc": "oid",
    "pg_publication": "oid",
    "pg_rewrite": "oid",
    "pg_sequence": "seqrelid",
    "pg_statistic": "starelid",
    "pg_trigger": "oid",
    "pg_type": "oid",
}

#: The number of rows in each catalog, and the number of the last transaction that wrote one.
DEFINITIONS = " UNION ALL ".join(
    f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name} WHERE {about} >= {FIRST_OID}"
    for name, about in CATALOGS.items()
)

#: The schemas with their rights, `public` among them.
SCHEMAS = "SELECT oid, nspname, nspowner, nspacl::text FROM pg_namespace ORDER BY oid"

#: The properties of tables, indexes and sequences, except for their files, which emptying replaces.
RELATIONS = f"""
SELECT md5(string_agg((oid, relname, relnamespace, relowner, relam, reltablespace, relhasindex, relpersistence, relkind,
    relnatts, relchecks, relhasrules, relhastriggers, relhassubclass, relrowsecurity, relforcerowsecurity,
    relispopulated, relreplident, relispartition, relacl, reloptions)::text, '' ORDER BY oid))
FROM pg_class WHERE oid >= {FIRST_OID}
"""

#: The settings of the database itself.
OF_THE_DATABASE = """
SELECT (SELECT (datacl, datconnlimit, datallowconn, datistemplate)::text FROM pg_database
    WHERE datname = current_database()),
  (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid
    WHERE datname = current_database())
"""

#: Tables with anything in their files, even from a transaction that was rolled back.
USED_TABLES = f"""
SELECT oid::regclass::text FROM pg_class
WHERE relkind = 'r' AND oid >= {FIRST_OID} AND pg_relation_size(oid) > 0 ORDER BY 1
"""

#: Restarts each sequence that has given a number.
RESTART = """
SELECT setval(seqrelid, seqstart, false) FROM pg_sequence WHERE pg_sequence_last_value(seqrelid) IS NOT NULL
"""


class Databases:
    """Makes databases on one server, and drops them at the end."""

    def __init__(self, server: str, make_tables: Callable[[str], None]) -> None:
        """`make_tables` is called with the URL of a database, and makes the tables of a release there."""
        self._server = make_url(server).set(drivername="postgresql")
        self._make_tables = make_tables
        self._template: str | None = None
        #: The results of `_state` and `_contents` for a database with newly made tables.
        self._made: tuple[Any, dict[str, Any]] | None = None
        #: Names of databases with empty tables.
        self._clean: list[str] = []
        self._session: psycopg.Connection[Any] | None = None

    def create(self, template: str = "template1", *, encoding: str | None = None) -> str:
        """Make a database like the template, with another encoding if one is given; return its name.

        Nobody may be connected to the template.
        """
        name = _new_name()
        if template != "template1":
            # A session that was closed may end later. The server waits for it for five seconds only.
            self._end_sessions(template)
        encoded = "" if encoding is None else f" ENCODING '{encoding}' LOCALE 'C'"
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{encoded}')
        return name

    def create_with_tables(self) -> str:
        """Make a database with the tables of the inbox and the catalog; return its name."""
        if self._template is None:
            self._template = self.create()
            self._make_tables(self.url(self._template))
            with psycopg.connect(self.url(self._template), connect_timeout=10) as session:
                self._made = _state(session), _contents(session, _used_tables(session))
        return self.create(self._template)

    @contextmanager
    def lend(self, _folder: Path) -> Iterator[str]:
        """Lend a database whose tables are as if they had just been made, and give its URL."""
        name = self._clean.pop() if self._clean else self.create_with_tables()
        try:
            yield self.url(name)
        except BaseException:
            self.drop(name)
            raise
        self._take_back(name)

    @contextmanager
    def copy(self, url: str, _folder: Path) -> Iterator[str]:
        """Lend a copy of the database at this URL, to which nobody may be connected, and give the URL of the copy."""
        name = self.create(str(make_url(url).database))
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def url(self, name: str) -> str:
        return self._server.set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        """Drop the database, even if clients are connected to it."""
        self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def close(self) -> None:
        for name in (*self._clean, *([self._template] if self._template else [])):
            self.drop(name)
        if self._session is not None:
            self._session.close()

    # ── lending again ─────────────────────────────────────────────────────────────────────────────────────────

    def _take_back(self, name: str) -> None:
        """Empty the database and keep it for the next test, or drop it if anything but rows has changed."""
        # A thread or process that outlives its test knows only the old name.
        renamed = _new_name()
        try:
            self._end_sessions(name)
            self._run(f'ALTER DATABASE "{name}" RENAME TO "{renamed}"')
            with psycopg.connect(self.url(renamed), connect_timeout=10) as session:
                is_clean = self._empty(session)
        except (psycopg.Error, TimeoutError):
            is_clean = False
        if is_clean:
            self._clean.append(renamed)
        else:
            self.drop(name)
            self.drop(renamed)

    def _end_sessions(self, name: str) -> None:
        """End all sessions of the database, and return once they have ended. After `TIMEOUT`, raises `TimeoutError`."""
        end = time.monotonic() + TIMEOUT
        while self._run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", name):
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.001)

    def _empty(self, session: psycopg.Connection[Any]) -> bool:
        """Remove all rows added since the tables were made; return False if anything else has changed."""
        assert self._made is not None
        state, filled = self._made
        if _state(session) != state or _contents(session, filled) != filled:
            return False
        used = [name for name in _used_tables(session) if name not in filled]
        if used:
            session.execute(f"TRUNCATE {', '.join(used)}")
        session.execute(RESTART)
        return True

    def _run(self, statement: str, *parameters: Any) -> list[Any]:
        """Run one statement as a transaction by itself, and return its rows."""
        try:
            found = self._connected().execute(statement, parameters)
        except psycopg.OperationalError:
            # A test may have ended every session of the server.
            if self._session is None or not self._session.closed:
                raise
            found = self._connected().execute(statement, parameters)
        return found.fetchall() if found.description else []

    def _connected(self) -> psycopg.Connection[Any]:
        if self._session is None or self._session.closed:
            address = self._server.render_as_string(hide_password=False)
            self._session = psycopg.connect(address, autocommit=True, connect_timeout=10)
        return self._session


def _new_name() -> str:
    return f"hookmirror_test_{secrets.token_hex(6)}"


def _state(session: psycopg.Connection[Any]) -> list[Any]:
    """Describe the definitions, statistics and settings of a database, without the rows of its tables."""
    return [session.execute(each).fetchall() for each in (DEFINITIONS, SCHEMAS, RELATIONS, OF_THE_DATABASE)]


def _used_tables(session: psycopg.Connection[Any]) -> list[str]:
    return [name for (name,) in session.execute(USED_TABLES).fetchall()]


def _contents(session: psycopg.Connection[Any], tables: Iterable[str]) -> dict[str, Any]:
    return {name: session.execute(f"SELECT each::text FROM {name} AS each ORDER BY 1").fetchall() for name in tables}
