"""Stored rows: one row of the mirror and its parent, with their internal versions."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from receiver.mirror.damaged_rows import damage_in, damage_told, mended_registers
from receiver.mirror.rows import Key, MirrorRow, own_columns, sql_table, table_name
from receiver.mirror.versions import Registers, Version, dump, row_status


class StoredRow(NamedTuple):
    """One row as stored, with its registers."""

    key: Key
    registers: Registers
    active: bool
    changed_at: datetime
    deactivated_at: datetime | None
    #: The parent whose end ends this row; None without one.
    parent: Key | None
    #: The version at which the parent lost its children; None if it did not.
    children_gone: Version | None
    #: The sentence about a damaged row, whose registers are made from its visible columns; None for a sound row.
    damage: str | None = None


def stored_row(connection: Connection, key: Key) -> StoredRow | None:
    """Read the row; None if no news about it has arrived."""
    found = _registers(connection, key)
    if found is None:
        return None
    registers, active, changed_at, deactivated_at, damage = found
    parent = parent_of(key, registers)
    above = _registers(connection, parent) if parent is not None else None
    gone = above[0].children_gone.get(table_name(key.table)) if above is not None else None
    return StoredRow(key, registers, active, changed_at, deactivated_at, parent, gone, damage)


def stored_registers(connection: Connection, key: Key, *, there: Collection[str]) -> Registers | None:
    """Read the registers of the row alone, of these columns; None if no news about it has arrived."""
    found = _registers(connection, key, there)
    return None if found is None else found[0]


def parent_of(key: Key, registers: Registers) -> Key | None:
    """The parent that these registers name, whose end ends this row, too."""
    parent = registers.values.get("parent")
    if key.table.parent_table is None or parent is None:
        return None
    return Key(key.table.parent_table, key.source, parent)


def row_of(key: Key, registers: Registers, children_gone: Version | None) -> MirrorRow | None:
    """Build the row from its registers, as the mirror would show it; None for registers without news."""
    if "active" not in registers.versions:
        return None
    status = row_status(registers, children_gone)
    columns: dict[str, Any] = {name: registers.values.get(name) for name in own_columns(key.table)}
    columns |= status._asdict()
    columns |= {"source": key.source, "external_id": key.external_id}
    columns |= {"tie": bool(registers.ties), "versions": dump(registers)}
    return key.table(**columns)


def _registers(
    connection: Connection, key: Key, there: Collection[str] | None = None
) -> tuple[Registers, bool, datetime, datetime | None, str | None] | None:
    sql = sql_table(key.table)
    names = tuple(name for name in own_columns(key.table) if there is None or name in there)
    columns = (sql.c.versions, sql.c.active, sql.c.changed_at, sql.c.deactivated_at, *(sql.c[name] for name in names))
    wanted = select(*columns).where(sql.c.source == key.source, sql.c.external_id == key.external_id)
    row = connection.execute(wanted).first()
    if row is None:
        return None
    versions, active, changed_at, deactivated_at, *own = row
    values = dict(zip(names, own, strict=True))
    held = damage_in(values, versions)
    if isinstance(held, Registers):
        return held, active, changed_at, deactivated_at, None
    registers = mended_registers(key, values, active, changed_at, deactivated_at)
    return registers, active, changed_at, deactivated_at, damage_told(key, held)
