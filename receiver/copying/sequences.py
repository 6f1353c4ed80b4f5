"""Reads the last generated numbers of a database, and lets a copy continue after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, Integer, Table, func, inspect, select, text


def last_numbers(connection: Connection, tables: Iterable[Table]) -> dict[str, int]:
    """The last generated number by table, for tables that have them, even if its row is gone."""
    found = {table.name: _last(connection, table) for table in tables}
    return {name: last for name, last in found.items() if last is not None}


def go_on_from(connection: Connection, tables: Iterable[Table], last: Mapping[str, int]) -> None:
    """Make the next generated number of each table larger than its last number in `last` and than all existing ones."""
    for table in tables:
        at_least = max(last.get(table.name, 0), _highest(connection, table) or 0)
        if at_least > (_last(connection, table) or 0):
            _set(connection, table, at_least)


def _last(connection: Connection, table: Table) -> int | None:
    if _counted(table) is None:
        return None
    if connection.dialect.name == "postgresql":
        sequence = _sequence(connection, table)
        if sequence is None:
            return None
        given = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"  # noqa: S608 (PostgreSQL's name)
        return int(connection.execute(text(given)).scalar_one())
    if not _remembers(connection, table):
        return _highest(connection, table)
    noted = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
    return int(connection.execute(noted, {"name": table.name}).scalar() or 0)


def _set(connection: Connection, table: Table, number: int) -> None:
    if connection.dialect.name == "postgresql":
        sequence = _sequence(connection, table)
        connection.execute(
            text("SELECT setval(CAST(:sequence AS regclass), :number)"), {"sequence": sequence, "number": number}
        )
    elif _remembers(connection, table):
        named = {"name": table.name, "number": number}
        noted = connection.execute(text("UPDATE sqlite_sequence SET seq = :number WHERE name = :name"), named)
        if not noted.rowcount:
            connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :number)"), named)


def _counted(table: Table) -> str | None:
    """The column with generated numbers, if the table has one."""
    columns = list(table.primary_key.columns)
    counts = len(columns) == 1 and isinstance(columns[0].type, Integer) and columns[0].autoincrement is not False
    return columns[0].name if counts else None


def _sequence(connection: Connection, table: Table) -> str | None:
    named = {"table": connection.dialect.identifier_preparer.format_table(table), "column": _counted(table)}
    return connection.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), named).scalar()


def _remembers(connection: Connection, table: Table) -> bool:
    """Whether SQLite records the last number of this table, instead of taking the highest existing one."""
    return bool(table.dialect_options["sqlite"]["autoincrement"]) and inspect(connection).has_table("sqlite_sequence")


def _highest(connection: Connection, table: Table) -> int | None:
    column = _counted(table)
    return None if column is None else connection.execute(select(func.max(table.c[column]))).scalar()
