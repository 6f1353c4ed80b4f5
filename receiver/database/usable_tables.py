"""Checks that this process can use the tables that it declares, as they are: their columns, rights and policies.

The recorded revision says which migrations ran. It does not say what a person, a partial backup or another program did
to the tables since, nor which table the role's `search_path` finds first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Table, text
from sqlmodel import SQLModel

from receiver.errors import ConfigurationError

RESTORE = "restore it from a backup"


def refuse_unusable_tables(connection: Connection, *, setting: str) -> None:
    """Raise `ConfigurationError` with advice if a declared table cannot be used; `setting` names the database's URL.

    Writes nothing.
    """
    refuse_other_columns(connection)
    if connection.dialect.name == "postgresql":
        _refuse_lesser_role(connection, setting)
        _refuse_row_security(connection)


def refuse_other_columns(connection: Connection) -> None:
    """Raise `ConfigurationError` for a declared table that is absent, lacks a column, or demands another one."""
    tables = _declared(connection)
    found = columns_of(connection, list(tables))
    for name, each in tables.items():
        for mistake in _mistakes(each, found.get(name, {}), is_postgresql=connection.dialect.name == "postgresql"):
            raise ConfigurationError(mistake)


def columns_of(connection: Connection, tables: Sequence[str]) -> dict[str, dict[str, bool]]:
    """The columns of each of these tables in the database, each with whether an insert must give it a value.

    Absent tables are missing. On PostgreSQL the names are quoted, with a schema if it is not to be searched for.
    """
    if connection.dialect.name == "postgresql":
        rows = connection.execute(_POSTGRESQL_COLUMNS, {"tables": tables})
    else:
        rows = connection.execute(_SQLITE_COLUMNS, {"tables": json.dumps(tables)})
    found: dict[str, dict[str, bool]] = {}
    for name, column, is_demanded in rows:
        found.setdefault(name, {})[column] = bool(is_demanded)
    return found


def _mistakes(declared: Table, found: dict[str, bool], *, is_postgresql: bool) -> Iterator[str]:
    if not found:
        yield f"The database lacks the table {declared.name}, which a migration made: {RESTORE}."
    lacking = [column.name for column in declared.columns if column.name not in found]
    if lacking:
        path = " If the role's `search_path` names several schemas, let it name the right one." if is_postgresql else ""
        yield f"The table {declared.name} lacks {', '.join(lacking)}, which a migration made: {RESTORE}.{path}"
    for name, is_demanded in found.items():
        if is_demanded and name not in declared.columns:
            yield (
                f"Nothing can be stored in the table {declared.name}, because its column {name} is not this release's "
                "and demands a value: give it a default, or allow NULL in it."
            )


def _declared(connection: Connection) -> dict[str, Table]:
    """The declared tables by the names that statements give them: on PostgreSQL quoted, with a schema if declared."""
    tables = SQLModel.metadata.sorted_tables
    if connection.dialect.name != "postgresql":
        return {each.name: each for each in tables}
    return {connection.dialect.identifier_preparer.format_table(each): each for each in tables}


def _refuse_lesser_role(connection: Connection, setting: str) -> None:
    """Raise `ConfigurationError` if this role lacks rights that serving and working need."""
    if connection.execute(text("SHOW transaction_read_only")).scalar() == "on":
        raise ConfigurationError(
            f"The database accepts no writes: name the primary server in {setting}, not a copy; if it is the primary, "
            "turn off `default_transaction_read_only` of the role or of the database."
        )
    lacking = connection.execute(_LACKING_RIGHTS, {"tables": list(_declared(connection))}).scalars().all()
    if lacking:
        raise ConfigurationError(
            f"The role {_role(connection)} may not read and write {', '.join(lacking)}: GRANT it SELECT, INSERT, "
            "UPDATE and DELETE on all tables, and USAGE on all sequences; see docs/deployment.md."
        )


def _refuse_row_security(connection: Connection) -> None:
    """Raise `ConfigurationError` if row-level security applies to this role in a declared table."""
    restricted = connection.execute(_ROW_SECURITY, {"tables": list(_declared(connection))}).scalars().all()
    if restricted:
        raise ConfigurationError(
            f"Row-level security may hide rows of {', '.join(restricted)} from the role {_role(connection)}: run "
            "`ALTER TABLE … DISABLE ROW LEVEL SECURITY` for each, or `ALTER ROLE … BYPASSRLS`."
        )


def _role(connection: Connection) -> str:
    return str(connection.execute(text("SELECT current_user")).scalar())


#: Names no other table or view, because SQLite refuses to describe one whose own tables or module are absent.
#: `table_xinfo`, because `table_info` leaves generated columns out.
_SQLITE_COLUMNS = text(
    'SELECT names.value, columns.name, columns."notnull" AND columns.dflt_value IS NULL AND NOT columns.hidden '
    "FROM json_each(:tables) AS names JOIN pragma_table_xinfo(names.value) AS columns"
)

#: A value also comes from the default of a domain, or from a trigger that is called before each inserted row (the bits
#: 1, 2 and 4 of its type).
_POSTGRESQL_COLUMNS = text(
    "SELECT name, attname, attnotnull AND NOT atthasdef AND attidentity = '' AND typdefault IS NULL AND NOT EXISTS "
    "(SELECT FROM pg_trigger WHERE tgrelid = attrelid AND tgtype & 7 = 7 AND tgenabled <> 'D') "
    "FROM unnest(CAST(:tables AS text[])) AS name JOIN pg_attribute ON attrelid = to_regclass(name) "
    "JOIN pg_type ON pg_type.oid = atttypid WHERE attnum > 0 AND NOT attisdropped"
)

_LACKING_RIGHTS = text(
    "SELECT name FROM unnest(CAST(:tables AS text[])) AS name WHERE to_regclass(name) IS NOT NULL AND NOT "
    "(has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT')"
    " AND (name = 'changes' OR has_table_privilege(name, 'UPDATE')"
    " AND has_table_privilege(name, 'DELETE')))"
    " UNION ALL SELECT number FROM unnest(CAST(:tables AS text[])) AS name"
    " JOIN pg_attribute ON attrelid = to_regclass(name) AND attnum > 0 AND NOT attisdropped AND attidentity = ''"
    " CROSS JOIN LATERAL pg_get_serial_sequence(name, attname) AS number"
    " WHERE number IS NOT NULL AND NOT has_sequence_privilege(number, 'USAGE')"
)

_ROW_SECURITY = text(
    "SELECT name FROM unnest(CAST(:tables AS text[])) AS name WHERE row_security_active(to_regclass(name))"
)
