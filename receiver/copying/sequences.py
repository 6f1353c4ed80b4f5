"""The numbers that a database generates: how far they have come, and where they continue after a copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, Integer, Table, func, inspect, select, text


def last_numbers(connection: Connection, tables: Iterable[Table]) -> dict[str, int]:
    """By table, the last number that was given to a row of it, even if that row is gone; none where nothing counts."""
    found = {table.name: _last(connection, table) for table in tables}
    return {name: last for name, last in found.items() if last is not None}


def go_on_from(connection: Connection, tables: Iterable[Table], last: Mapping[str, int]) -> None:
    """Let the next row of each table get a number above these, and above those that are there."""
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
    """The one column whose numbers the database gives, if there is one."""
    columns = list(table.primary_key.columns)
    counts = len(columns) == 1 and isinstance(columns[0].type, Integer) and columns[0].autoincrement is not False
    return columns[0].name if counts else None


def _sequence(connection: Connection, table: Table) -> str | None:
    named = {"table": connection.dialect.identifier_preparer.format_table(table), "column": _counted(table)}
    return connection.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), named).scalar()


def _remembers(connection: Connection, table: Table) -> bool:
    """Whether SQLite notes the last number of this table, instead of looking for the highest each time."""
    return bool(table.dialect_options["sqlite"]["autoincrement"]) and inspect(connection).has_table("sqlite_sequence")


def _highest(connection: Connection, table: Table) -> int | None:
    column = _counted(table)
    return None if column is None else connection.execute(select(func.max(table.c[column]))).scalar()
