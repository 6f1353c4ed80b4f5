"""Refuses to migrate where tables of another program, or of another installation, would be taken for this one's.

A migration makes its tables only where they are absent, so it would fill and alter a stranger's table of the same name.
A column that a stranger added to a table is refused where a migration would lose it.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text
from sqlmodel import SQLModel

from receiver.database.revisions import Branch, BranchStatus, creation_schema, foreign_tables_error
from receiver.database.usable_tables import columns_of
from receiver.errors import ConfigurationError


def refuse_foreign_tables(connection: Connection, status: BranchStatus) -> None:
    """Raise `ConfigurationError` if a pending migration would make a table that exists, and that is not declared so.

    Tables that were made as they are declared, before any revision was recorded, have the declared columns.
    """
    names = status.tables_to_make()
    if not names:
        return
    quoted = connection.dialect.identifier_preparer.quote
    schema = creation_schema(connection)
    places = {name: name if schema is None else f"{quoted(schema)}.{quoted(name)}" for name in names}
    found = columns_of(connection, list(places.values()))
    foreign = [name for name, place in places.items() if place in found and not _is_declared(name, found[place])]
    if foreign:
        raise foreign_tables_error(foreign, is_new=status.revision is None)


def refuse_foreign_columns(connection: Connection, status: BranchStatus) -> None:
    """Raise `ConfigurationError` if a pending migration would copy a table of SQLite without a column of a stranger."""
    if connection.dialect.name == "postgresql":
        return
    for revision in status.pending:
        for name, copied in status.branch.tables_rebuilt_by(revision).items():
            declared = SQLModel.metadata.tables.get(name)
            known = {*(copied or ()), *(() if declared is None else declared.columns.keys())}
            lost = [column for column in columns_of(connection, [name]).get(name, {}) if column not in known]
            if lost and copied is not None:
                raise ConfigurationError(
                    f"The table {name} has columns that hookmirror did not make, and that its migration to revision "
                    f"{revision} of {status.branch.name} would lose: {', '.join(lost)}. Keep their values in a table "
                    "of your own, and drop them for the upgrade."
                )


def _is_declared(name: str, columns: Iterable[str]) -> bool:
    declared = SQLModel.metadata.tables.get(name)
    return declared is not None and {column.name for column in declared.columns} <= set(columns)


def refuse_other_schema(connection: Connection, branches: Iterable[Branch], *, setting: str) -> None:
    """Raise `ConfigurationError` if PostgreSQL finds the tables in another schema than that in which it makes new ones.

    Migrating would then alter those of another installation, or divide one over two schemas.
    """
    schema = creation_schema(connection)
    if schema is None:
        return
    quoted = connection.dialect.identifier_preparer.quote
    for branch in branches:
        elsewhere = _schemas(connection, [quoted(branch.version_table)])
        if not elsewhere:
            # The first release recorded no revision.
            tables = [quoted(name) for name in branch.first_tables()]
            elsewhere = _schemas(connection, tables)
            if len(elsewhere) < len(tables):
                continue
        if elsewhere[0] != schema:
            raise ConfigurationError(
                f"The role's `search_path` finds the tables of {branch.name} in the schema {elsewhere[0]}, and new "
                f"ones would be made in {schema}: let it name one of the two alone, as "
                f"`?options=-csearch_path%3D{schema}` does in {setting}."
            )


def _schemas(connection: Connection, tables: list[str]) -> list[str]:
    """The schema of each of these tables that the `search_path` finds."""
    return list(connection.execute(_SCHEMAS, {"tables": tables}).scalars())


_SCHEMAS = text(
    "SELECT nspname FROM unnest(CAST(:tables AS text[])) AS name JOIN pg_class ON pg_class.oid = to_regclass(name) "
    "JOIN pg_namespace ON pg_namespace.oid = relnamespace"
)
