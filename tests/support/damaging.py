"""Damages single values of a database, as a person does who edits it by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Column, Table, text

from receiver.database.database import Database
from receiver.server.registry import Registration

#: Held while values are damaged, and by each heartbeat within `heartbeats_in_between`.
UNDISTURBED = threading.RLock()


@contextmanager
def heartbeats_in_between() -> Iterator[None]:
    """Let servers of this process write their rows while nothing is damaged: a heartbeat would mend a damaged row."""
    heartbeat = Registration.heartbeat

    def wait_for_its_turn(registration: Registration) -> None:
        with UNDISTURBED:
            heartbeat(registration)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registration, "heartbeat", wait_for_its_turn)
        yield


@contextmanager
def damaged(
    database: Database, column: Column[Any], value: object, *, row: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Have this value in the column until the end of the block: in this row, or in the first one.

    Values are written and read as the database stores them.
    """
    with UNDISTURBED:
        row = row or last_row(database, column.table)
        assert row is not None, f"{column.table.name} is empty"
        _write(database, column, value, row)
        try:
            yield
        finally:
            _write(database, column, row[column.name], {**row, column.name: value})


def last_row(database: Database, table: Any) -> Mapping[str, Any] | None:
    """Return the last row by the primary key, as stored; None for an empty table."""
    order = ", ".join(f'"{key.name}" DESC' for key in table.primary_key)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    with database.read() as connection:
        found = connection.execute(text(f'SELECT {names} FROM "{table.name}" ORDER BY {order} LIMIT 1'))
        return found.mappings().first()


def _write(database: Database, column: Column[Any], value: object, row: Mapping[str, Any]) -> None:
    table: Table = column.table
    keys = [str(key.name) for key in table.primary_key]
    mine = " AND ".join(f'"{key}" = :key_{number}' for number, key in enumerate(keys))
    given = {f"key_{number}": row[key] for number, key in enumerate(keys)}
    statement = text(f'UPDATE "{table.name}" SET "{column.name}" = :value WHERE {mine}')
    with database.write() as connection:
        connection.execute(statement, {"value": value, **given})
