"""Revisions: the numbered migrations of each package, and the revision of a database.

Every package with tables has its own line of migrations, and the database records the revision of each
(docs/decisions/0010).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sqlalchemy import Connection, String, column, func, inspect, select, table

from receiver.errors import ConfigurationError, WiringError
from receiver.loading import entry_points, import_foreign

#: The entry point group in which packages announce migrations: the branch's name, and the package with the files.
MIGRATION_ENTRY_POINTS = "hookmirror.migrations"

#: The branch of the receiver's own tables, which comes before all others.
OWN = ("receiver", "receiver.database.migrations", "receiver")

#: The revision of a database that is older than the first migration.
FIRST = "0001"

#: The name of a migration's file: its revision and its subject.
_FILE = re.compile(r"v(?P<revision>\d{4})_(?P<about>\w+)\.py")


@dataclass(frozen=True)
class Branch:
    """The migrations of one package."""

    name: str
    #: The folder of the files `v<revision>_<about>.py`.
    package: str
    #: The package whose tables these migrations make; by default the one in which the folder of the files lies.
    tables_of: str = ""

    @cached_property
    def folder(self) -> Path:
        try:
            return Path(import_foreign(self.package).__path__[0])
        except (ImportError, AttributeError, WiringError) as error:
            raise WiringError(
                f"The migrations {self.name} cannot be found ({error}): name their package under the entry point group "
                f"{MIGRATION_ENTRY_POINTS}."
            ) from None

    @cached_property
    def revisions(self) -> dict[str, str]:
        """The subjects of the revisions, oldest first."""
        found = sorted(match.groups() for path in self.folder.iterdir() if (match := _FILE.fullmatch(path.name)))
        if not found:
            raise WiringError(f"The package {self.package} holds no migration: write {FIRST} first.")
        return {revision: about.replace("_", " ") for revision, about in found}

    @property
    def newest(self) -> str:
        return next(reversed(self.revisions))

    @property
    def owner(self) -> str:
        """The package whose tables these migrations make."""
        return self.tables_of or self.package.rpartition(".")[0]

    @property
    def version_table(self) -> str:
        """The table in which the database records the branch's revision."""
        return f"alembic_version_{self.name}"

    def first_tables(self) -> tuple[str, ...]:
        """The tables that its first revision makes."""
        return tuple(self._module(FIRST).TABLES)

    def tables_made_by(self, revisions: Iterable[str]) -> set[str]:
        """The tables that these revisions say they make."""
        return {name for each in revisions for name in getattr(self._module(each), "TABLES", ())}

    def tables_rebuilt_by(self, revision: str) -> dict[str, Sequence[str] | None]:
        """The tables that this revision rebuilds on SQLite, each with the columns that it copies; None for all."""
        return dict(getattr(self._module(revision), "REBUILT", {}))

    def _module(self, revision: str) -> ModuleType:
        about = self.revisions[revision].replace(" ", "_")
        return import_module(f"{self.package}.v{revision}_{about}")


@dataclass(frozen=True, slots=True)
class BranchStatus:
    """The revision of a database in one branch."""

    branch: Branch
    #: The database's revision; None if the database has no table of this package.
    revision: str | None
    #: Whether the database records its revision; a database older than the first migration does not.
    noted: bool = True

    @property
    def pending(self) -> list[str]:
        """The revisions still to be applied, oldest first."""
        return [each for each in self.branch.revisions if self.revision is None or each > self.revision]

    def tables_to_make(self) -> list[str]:
        """The tables that pending revisions make, sorted, except those of applied ones."""
        applied = [each for each in self.branch.revisions if each not in self.pending]
        return sorted(self.branch.tables_made_by(self.pending) - self.branch.tables_made_by(applied))

    @property
    def ahead(self) -> bool:
        """Whether a later release has migrated the database."""
        is_ours = self.revision is not None and re.fullmatch(r"\d{4}", self.revision)
        return bool(is_ours) and str(self.revision) > self.branch.newest

    def refuse_what_is_not_ours(self) -> None:
        """Raise `ConfigurationError` for a revision that this release does not know."""
        if self.ahead:
            raise ConfigurationError(
                f"This hookmirror is older than the database: {self.branch.name} is at revision {self.revision} there, "
                f"and {self.branch.newest} is the last that this release knows. Install the newer release."
            )
        if self.revision is not None and self.revision not in self.branch.revisions:
            raise ConfigurationError(
                f"The database says that {self.branch.name} is at revision {self.revision!r}, which no release has: "
                "restore it from a backup, or name another database."
            )


def find_branches() -> list[Branch]:
    """Find the branches: ours first, then those of installed packages by name."""
    points = sorted(entry_points(group=MIGRATION_ENTRY_POINTS), key=lambda point: point.name)
    return [Branch(*OWN), *(Branch(point.name, point.value) for point in points)]


def status_of(connection: Connection, branch: Branch) -> BranchStatus:
    """Read the database's revision in one branch. Raises `ConfigurationError` for tables that are not ours."""
    present = inspect(connection)
    if present.has_table(branch.version_table):
        note = select(column("version_num", String)).select_from(table(branch.version_table))
        revision = connection.execute(note).scalar()
        if revision is not None:
            return BranchStatus(branch, revision)
    schema = creation_schema(connection)
    there = [name for name in branch.first_tables() if present.has_table(name, schema=schema)]
    if there and len(there) < len(branch.first_tables()):
        raise foreign_tables_error(there, is_new=True)
    return BranchStatus(branch, FIRST if there else None, noted=False)


def creation_schema(connection: Connection) -> str | None:
    """The schema in which PostgreSQL makes tables; None if there is none, and on SQLite."""
    if connection.dialect.name != "postgresql":
        return None
    schema: str | None = connection.execute(select(func.current_schema())).scalar()
    return schema


def foreign_tables_error(names: Iterable[str], *, is_new: bool) -> ConfigurationError:
    """Make the error for tables of another program; `is_new` if the database has none of this package yet."""
    mend = (
        "name a database, or on PostgreSQL a schema, without tables of these names"
        if is_new
        else "rename those, or move them to another database, because this release makes tables of these names"
    )
    return ConfigurationError(f"The database has tables named {', '.join(names)} that hookmirror did not make: {mend}.")
