"""Preconditions of a copy: checks that no process uses the two databases, and that their contents allow it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Dialect, Table, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

import receiver.server.own_tables  # noqa: F401 (a copy has every declared table)
from receiver.database import redaction, urls
from receiver.database.database import READERS_SEE, Database
from receiver.database.errors import explain
from receiver.database.identity import IDENTITY
from receiver.database.revisions import OWN
from receiver.database.schema import Schema
from receiver.database.unfinished import UNFINISHED, read_note
from receiver.errors import CopyError
from receiver.findings.tables import DUTIES
from receiver.following.followers import FOLLOWERS, possibly_served
from receiver.inbox.tables import DELIVERIES, State
from receiver.mirror.changes import CHANGES
from receiver.worker.liveness import dead
from receiver.worker.processes import PROCESSES, running, shown, silent

#: Statements that lift the time limits of a transaction, because it reads a whole database, or waits for the other one.
TIMELESS = (
    text("SET LOCAL statement_timeout = 0"),
    text("SET LOCAL idle_in_transaction_session_timeout = 0"),
    text("SET LOCAL datestyle = ISO"),
)

#: The time limit of waiting for the lock that keeps other sessions from writing.
COPY_LOCK_TIMEOUT = "10s"

#: Columns that every mirror table has, in any package.
MARKS_OF_A_MIRROR = {"source", "external_id", "versions", "changed_at"}


class Side:
    """One of the two databases of a copy. The dialects must be imported before, since they declare tables."""

    def __init__(self, name: str, url: str) -> None:
        """`name` is FROM or TO. Raises `ConfigurationError` for an unusable URL."""
        self.name = name
        self.database = Database(url, setting=name)
        self._url = url

    @property
    def place(self) -> str:
        """The URL without its password."""
        return redaction.shown(urls.parse(self._url))

    @property
    def dialect(self) -> Dialect:
        return self.database.engine.dialect

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for PostgreSQL, and for a file named by a URI of SQLite's."""
        named = self.database.engine.url.database or ""
        return None if self.database.is_postgresql or named.startswith("file:") else Path(named)

    @property
    def lacks_file(self) -> bool:
        """Whether this is a SQLite file that does not exist, and that opening would create."""
        return urls.absent_file(self.database.engine.url) is not None

    @staticmethod
    def tables() -> list[Table]:
        """The tables to copy, each after the tables that it refers to. Tables about running processes are left out."""
        return [table for table in SQLModel.metadata.sorted_tables if table not in (PROCESSES, DUTIES)]

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn errors of this database into one line that names it."""
        try:
            yield
        except SQLAlchemyError as error:
            raise CopyError(explain(error, self._url, setting=self.name)) from error


def without_limits(connection: Connection) -> None:
    """Lift the time limits of a transaction."""
    if connection.dialect.name == "postgresql":
        for statement in TIMELESS:
            connection.execute(statement)


def refuse_same(source: Side, target: Side) -> None:
    """Raise `CopyError` if both are the same database."""
    if _identity(source) == _identity(target):
        raise CopyError(f"FROM and TO are the same database, {source.place}: name another one as TO.")


def _identity(side: Side) -> object:
    if not side.database.is_postgresql:
        # Not by `Path.exists`, which raises for a name that is too long and for a folder that is closed to this user.
        if side.file is not None and os.path.exists(side.file):
            found = side.file.stat()
            return found.st_dev, found.st_ino
        return os.path.realpath(str(side.file or side.database.engine.url.database))
    with side.told(), side.database.read() as connection:
        return tuple(connection.execute(_SERVER).one())


_SERVER = text(
    "SELECT pg_postmaster_start_time(), oid, current_schema() FROM pg_database WHERE datname = current_database()"
)


# ── the source ────────────────────────────────────────────────────────────────────────────────────────────────────


def demand_source(side: Side, *, now: datetime | None = None, without: Sequence[str] = ()) -> list[str]:
    """Check the database to copy, and return the tables of other programs, which are left out. Raises `CopyError`.

    With `now`, a database that a process uses is refused.
    """
    if side.lacks_file:
        raise CopyError(f"FROM names the file {str(side.file)!r}, which does not exist: correct the path.")
    with side.told():
        schema = Schema(side.database)
        plan = schema.plan()
        if any(step.before is None and step.branch == OWN[0] for step in plan.steps):
            raise CopyError(f"FROM, {side.place}, has no tables of Hookmirror: correct the URL.")
        if plan.is_needed:
            raise CopyError(
                f"The schema of FROM is not that of this release ({schema.release}): run `hookmirror migrate` with "
                "HOOKMIRROR_DATABASE_URL set to it first."
            )
        with side.database.read() as connection:
            if read_note(connection) is not None:
                raise CopyError("FROM is an unfinished copy itself: finish that copy first.")
            for lacking in schema.lacking(connection):
                raise CopyError(f"FROM: {lacking}")
            if now is not None:
                refuse_users(connection, side, now)
            for table in side.tables():
                if not table.primary_key.columns:
                    raise CopyError(f"The table {table.name} has no primary key: add one.")
            return _left_out(connection, side, without)


def refuse_users(connection: Connection, side: Side, now: datetime) -> None:
    """Raise `CopyError`, which lists the processes, if any uses this database."""
    # A process whose clock is far ahead may be alive, and what it accepts meanwhile would not be copied.
    ahead = [process for process in silent(connection, now) if process["seen_at"] > now]
    users = [shown(process) for process in (*running(connection, now), *ahead)]
    if inspect(connection).has_table(FOLLOWERS.name):
        # A release before followers may have made the tables of TO.
        users += [f"follower {row['name']}" for row in possibly_served(connection, now)]
    if not users:
        holding = select(DELIVERIES.c.claimed_by).distinct()
        held = holding.where(DELIVERIES.c.state == State.PROCESSING, DELIVERIES.c.lease_until > now)
        workers = list(connection.execute(held).scalars())
        users = [f"worker {worker}" for worker in workers if worker and worker not in dead(workers)]
    if users:
        raise CopyError(
            f"{side.name} is in use by {', '.join(users)}: stop it, and run this again. A killed process counts as "
            "dead after a minute, a follower after two. If it ended before the clock was set back, start and "
            "stop another one. Senders retry the webhooks that they cannot deliver meanwhile."
        )


def _left_out(connection: Connection, side: Side, without: Sequence[str]) -> list[str]:
    found = list(_undeclared(connection, side))
    unknown = sorted(set(without) - {name for name, _ in found})
    if unknown:
        raise CopyError(f"--without names {', '.join(unknown)}, which would be copied or does not exist: leave it out.")
    ours = [name for name, is_ours in found if is_ours and name not in without]
    if ours:
        raise CopyError(
            f"FROM has {', '.join(ours)}, which no installed package declares: install the package, or name its "
            "dialect in `dialects`, so that it is copied, too; or leave it out with "
            f"{' '.join(f'--without {name}' for name in ours)}."
        )
    return [str(name) for name, _ in found]


def _undeclared(connection: Connection, side: Side) -> Iterator[tuple[str, bool]]:
    """Yield undeclared tables and columns of the database, each with whether it probably belongs to Hookmirror."""
    present = inspect(connection)
    declared = {table.name: table for table in SQLModel.metadata.sorted_tables}
    notes = {branch.version_table for branch in Schema(side.database).branches}
    for name in sorted(set(present.get_table_names()) - _partitions(connection) - notes - {UNFINISHED.name}):
        columns = {column["name"] for column in present.get_columns(name)}
        if name not in declared:
            yield name, columns >= MARKS_OF_A_MIRROR
            continue
        for column in sorted(columns - set(declared[name].columns.keys())):
            yield f"{name}.{column}", True


def _partitions(connection: Connection) -> set[str]:
    if connection.dialect.name != "postgresql":
        return set()
    return set(connection.execute(text("SELECT relname FROM pg_class WHERE relispartition")).scalars())


@contextmanager
def hold_still(side: Side, *, now: datetime) -> Iterator[Connection]:
    """Open a transaction that reads one state of the database and keeps all other sessions from writing."""
    if not side.database.is_postgresql:
        with side.database.write() as connection:
            refuse_users(connection, side, now)
            yield connection
        return
    snapshot = {"isolation_level": READERS_SEE}
    with side.database.engine.connect() as connection, connection.execution_options(**snapshot).begin():
        without_limits(connection)
        connection.execute(text(f"SET LOCAL lock_timeout = '{COPY_LOCK_TIMEOUT}'"))
        # The locks come before the first read, so that it misses no change. Every write to the feed needs them.
        names = [table for table in side.tables() if table is not CHANGES]
        held = ", ".join(map(connection.dialect.identifier_preparer.format_table, names))
        connection.execute(text(f"LOCK TABLE {held} IN SHARE ROW EXCLUSIVE MODE"))
        refuse_users(connection, side, now)
        yield connection


# ── the target ────────────────────────────────────────────────────────────────────────────────────────────────────


def demand_target(side: Side, *, now: datetime) -> None:
    """Migrate the target to this release's schema. Raises `CopyError` unless it is empty, or an unfinished copy."""
    with side.told():
        _demand_unicode(side)
        with side.database.read() as connection:
            if read_note(connection) is not None:
                if Schema(side.database).plan().is_needed:
                    raise CopyError("TO holds an unfinished copy by an earlier release: run this with --afresh.")
                return
            demand_empty(connection, side, now=now)
        Schema(side.database).upgrade()


def demand_empty(connection: Connection, side: Side, *, now: datetime) -> None:
    """Raise `CopyError` if a process uses the target, or if one of its tables has rows."""
    present = inspect(connection)
    if present.has_table(PROCESSES.name):
        refuse_users(connection, side, now)
    for table in side.tables():
        if (
            table is not IDENTITY
            and present.has_table(table.name, schema=table.schema)
            and connection.execute(select(text("1")).select_from(table).limit(1)).first()
        ):
            raise CopyError(
                f"TO is not empty: its table {table.name} has rows, and it is not an unfinished copy. Name an "
                "empty database, or check a finished copy with --verify-only."
            )


def demand_copied(side: Side) -> None:
    """Raise `CopyError` if the target has no tables to compare with. Creates nothing."""
    with side.told():
        if side.lacks_file or Schema(side.database).plan().is_needed:
            raise CopyError("TO lacks tables of this release, so it is not a copy: run this without --verify-only.")


def _demand_unicode(side: Side) -> None:
    if not side.database.is_postgresql:
        return
    with side.database.read() as connection:
        encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise CopyError(
            f"TO is encoded in {encoding}, which lacks most characters: make another database with "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )
