"""The schema of the database: checks it against this release, and migrates it.

Tables of packages without migrations are made as they are declared.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Table, create_engine, delete, false, inspect, table, text
from sqlalchemy.orm import Mapper
from sqlalchemy.pool import NullPool
from sqlmodel import SQLModel

from receiver.database.added_columns import lacking_columns
from receiver.database.database import Database
from receiver.database.foreign_tables import refuse_foreign_columns, refuse_foreign_tables, refuse_other_schema
from receiver.database.revisions import OWN, Branch, BranchStatus, find_branches, status_of
from receiver.database.sqlite.rebuilt_tables import keeping_indexes_and_triggers, renaming_tables_alone
from receiver.database.unfinished import refuse_unfinished
from receiver.database.urls import absent_file, path_of
from receiver.database.usable_tables import refuse_other_columns, refuse_unusable_tables
from receiver.errors import ConfigurationError

#: The key of the advisory lock that lets one process at a time change the schema on PostgreSQL.
SCHEMA_LOCK = 0x686F6F6B0003

#: The time limit of a migration's wait for a locked table; short, because all other sessions wait behind the migration.
MIGRATION_LOCK_TIMEOUT = "10s"

#: PostgreSQL's encoding with all characters.
ENCODING = "UTF8"

#: The first release of PostgreSQL that has all functions that statements here call, such as `date_bin`.
OLDEST_POSTGRESQL = 14

MIGRATE = "run `hookmirror migrate`"

#: Held by the migrating thread, because Alembic keeps the connection of a migration in a global variable.
_migrating = threading.Lock()


@dataclass(frozen=True, slots=True)
class Step:
    """The migration of one package from one revision to another, done or planned."""

    branch: str
    #: None for a package without tables in the database.
    before: str | None
    after: str
    #: The subjects of the applied revisions.
    revisions: dict[str, str]

    def way(self) -> str:
        about = ", ".join(f"{revision} {about}" for revision, about in self.revisions.items())
        return f"from {self.before or 'nothing'} to {self.after} ({about})"


@dataclass(frozen=True, slots=True)
class Migration:
    """The result of a migration, or its plan."""

    steps: list[Step] = field(default_factory=list)
    #: Tables of packages without migrations.
    created: list[str] = field(default_factory=list)

    @property
    def is_needed(self) -> bool:
        return bool(self.steps or self.created)

    def lines(self, *, dry_run: bool) -> list[str]:
        """Format the result as lines of text."""
        would = "would go" if dry_run else "went"
        told = [f"{step.branch} {would} {step.way()}." for step in self.steps]
        was = "would be" if dry_run else "was"
        told += [f"The table {name} {was} made as it is declared." for name in self.created]
        return told or ["The database has the schema of this release already."]


class Schema:
    """The schema of one database. Import the dialects first, because every table must be declared."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @cached_property
    def branches(self) -> list[Branch]:
        """The branches of the database, in the order of their migrations."""
        return find_branches()

    @property
    def release(self) -> str:
        """The revisions that this release needs, as one line."""
        return ", ".join(f"{branch.name} {branch.newest}" for branch in self.branches)

    # ── at start ──────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Migrate SQLite to this release's schema; on PostgreSQL, check that `hookmirror migrate` has done so.

        Raises `ConfigurationError` with advice, and SQLAlchemy's error if the database cannot be used.
        """
        if self._database.is_postgresql:
            self.check()
        else:
            self.upgrade()

    def open(self) -> None:
        """Prepare an existing database, as `prepare` does; a file that has this release's schema already is only read.

        So a command that reads does not wait for a long transaction of another process. Without the right to write the
        file, it fails as `prepare` does.
        """
        if self._database.is_postgresql or not self._may_write_file() or self.checked_plan().is_needed:
            self.prepare()

    def _may_write_file(self) -> bool:
        return os.access(path_of(self._database.engine.url), os.W_OK)

    def check(self) -> None:
        """Raise `ConfigurationError` if the database is not at this release's schema, or may not be written.

        Writes nothing itself. Raises SQLAlchemy's error if the database cannot be used.
        """
        with self._database.write() as connection:
            self._refuse_server(connection)
            refuse_unfinished(connection)
            for status in self.statuses(connection):
                status.refuse_what_is_not_ours()
                if status.pending:
                    refuse_foreign_tables(connection, status)
                    raise ConfigurationError(f"{_behind(status)}: {MIGRATE}.")
            missing = [each.name for each in self._missing(connection)]
            if missing:
                raise ConfigurationError(f"The database lacks the tables {', '.join(missing)}: {MIGRATE}.")
            self._refuse_lacking(connection)
            refuse_unusable_tables(connection, setting=self._database.setting)
            if not self._database.is_postgresql:
                _demand_writable(connection)

    # ── migration ─────────────────────────────────────────────────────────────────────────────────────────────

    def upgrade(self) -> Migration:
        """Bring the database to this release's schema, in one transaction and one process at a time.

        Raises `ConfigurationError` if a later release has migrated the database, and SQLAlchemy's error if a migration
        fails.
        """
        with self._database.write() as connection:
            self._refuse_server(connection)
            if self._database.is_postgresql:
                _take_turns(connection)
            refuse_unfinished(connection)
            plan = self._plan(connection)
            for branch in self.branches:
                self._upgrade(connection, branch)
            SQLModel.metadata.create_all(connection, tables=list(self._missing(connection)))
            self._refuse_lacking(connection)
            refuse_other_columns(connection)
            if not self._database.is_postgresql:
                _demand_writable(connection)
        return plan

    def plan(self) -> Migration:
        """Return what `upgrade` would do, and create no file for it."""
        with self._reading_plan() as connection:
            self._refuse_server(connection)
            return self._plan(connection)

    def checked_plan(self) -> Migration:
        """Return the plan. Raises the errors of `upgrade`, except for those of a migration that runs."""
        with self._reading_plan() as connection:
            self._refuse_server(connection)
            refuse_unfinished(connection)
            plan = self._plan(connection)
            self._refuse_lacking(connection)
            if not plan.is_needed:
                refuse_other_columns(connection)
        return plan

    @contextmanager
    def _reading_plan(self) -> Iterator[Connection]:
        """Read the database, or an empty one in memory in place of a file that reading would create."""
        if absent_file(self._database.engine.url) is None:
            with self._database.read() as connection:
                yield connection
        else:
            # Without a pool, which would keep the connection.
            with create_engine("sqlite://", poolclass=NullPool).connect() as connection:
                yield connection

    def _plan(self, connection: Connection) -> Migration:
        migration = Migration()
        refuse_other_schema(connection, self.branches, setting=self._database.setting)
        for status in self.statuses(connection):
            status.refuse_what_is_not_ours()
            if status.pending:
                refuse_foreign_tables(connection, status)
                refuse_foreign_columns(connection, status)
                about = {revision: status.branch.revisions[revision] for revision in status.pending}
                newest = status.branch.newest
                migration.steps.append(Step(status.branch.name, status.revision, newest, about))
        # Converted to plain text, because JSON cannot encode SQLAlchemy's own type of names.
        migration.created.extend(str.__str__(each.name) for each in self._missing(connection))
        return migration

    def _upgrade(self, connection: Connection, branch: Branch) -> None:
        status = status_of(connection, branch)
        if status.noted and not status.pending:
            return
        # Imported here, because the import takes a moment, which a start without migrations saves.
        from alembic.migration import MigrationContext
        from alembic.operations import Operations
        from alembic.script import ScriptDirectory

        script = ScriptDirectory(str(branch.folder), version_locations=[str(branch.folder)])
        context = MigrationContext.configure(connection, opts={"version_table": branch.version_table})
        if status.revision is not None:
            context.stamp(script, status.revision)
        with _migrating, Operations.context(context):
            for revision in status.pending:
                with self._keeping_what_is_not_ours(connection, branch.tables_rebuilt_by(revision)):
                    script.get_revision(revision).module.upgrade()
                context.stamp(script, revision)

    @contextmanager
    def _keeping_what_is_not_ours(self, connection: Connection, rebuilt: Iterable[str]) -> Iterator[None]:
        """Keep other people's views, triggers, indexes and foreign keys in the block, which rebuilds these tables."""
        if self._database.is_postgresql:
            yield
            return
        with renaming_tables_alone(connection), keeping_indexes_and_triggers(connection, rebuilt):
            yield

    # ── status ────────────────────────────────────────────────────────────────────────────────────────────────

    def statuses(self, connection: Connection) -> list[BranchStatus]:
        """The revision of the database in each branch."""
        return [status_of(connection, branch) for branch in self.branches]

    def is_ahead(self) -> bool:
        """Whether a later release has migrated the database since."""
        with self._database.read() as connection:
            return any(status.ahead for status in self.statuses(connection))

    def lacking(self, connection: Connection) -> Iterator[str]:
        """Describe columns that were added to the declarations of tables without migrations."""
        models = {mapper.local_table: mapper.class_ for mapper in _mappers(SQLModel)}
        for each in self._tables_without_migrations():
            yield from lacking_columns(connection, each, models.get(each))

    def _refuse_server(self, connection: Connection) -> None:
        """Raise `ConfigurationError` if the server is too old, or if the encoding of the database lacks characters."""
        if not self._database.is_postgresql:
            return
        release, encoding = connection.execute(_SERVER).one()
        if release // 10_000 < OLDEST_POSTGRESQL:
            raise ConfigurationError(
                f"The server is PostgreSQL {release // 10_000}, and {OLDEST_POSTGRESQL} is the oldest that works: "
                f"upgrade it, or name another server in {self._database.setting}."
            )
        if encoding != ENCODING:
            raise ConfigurationError(
                f"The database is encoded in {encoding}, which cannot keep every text: make one with "
                f"`CREATE DATABASE … ENCODING '{ENCODING}' TEMPLATE template0`, and name that in "
                f"{self._database.setting}."
            )

    def _refuse_lacking(self, connection: Connection) -> None:
        for lacking in self.lacking(connection):
            raise ConfigurationError(lacking)

    def _missing(self, connection: Connection) -> Iterator[Table]:
        present = inspect(connection)
        tables = self._tables_without_migrations()
        return (each for each in tables if not present.has_table(each.name, schema=each.schema))

    def _tables_without_migrations(self) -> Iterable[Table]:
        owners = {branch.owner for branch in self.branches}
        modules = {mapper.local_table: mapper.class_.__module__ for mapper in _mappers(SQLModel)}
        for each in SQLModel.metadata.sorted_tables:
            if not any(f"{modules.get(each, '')}.".startswith(f"{owner}.") for owner in owners):
                yield each


_SERVER = text("SELECT CAST(current_setting('server_version_num') AS integer), current_setting('server_encoding')")


def _mappers(base: type[SQLModel]) -> Iterator[Mapper[Any]]:
    """The mappers of all classes below this one, except for classes that exist although their mapping failed."""
    for kind in base.__subclasses__():
        mapper = inspect(kind, raiseerr=False)
        if mapper is not None:
            yield mapper
        yield from _mappers(kind)


def _take_turns(connection: Connection) -> None:
    """Wait until no other process migrates, and lift the time limits, except for waiting on locks."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
    connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_TIMEOUT}'"))


def _behind(status: BranchStatus) -> str:
    if status.revision is None:
        return f"The database has no tables of {status.branch.name} yet"
    return (
        f"The database is behind this release: {status.branch.name} is at revision {status.revision} there and "
        f"{status.branch.newest} here"
    )


def _demand_writable(connection: Connection) -> None:
    """Raise SQLAlchemy's error for a read-only file, by writing, because SQLite reports that only then."""
    connection.execute(delete(table(Branch(*OWN).version_table)).where(false()))
