"""Damaged rows: rows of the mirror whose versions or values were edited by hand.

News about a damaged row is refused, because nothing says whether it is newer. A reconcile, which asks the source, reads
such a row as it is shown, and writes it again.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from receiver.database.damage import DAMAGES, damage_of
from receiver.errors import DamagedRow
from receiver.mirror.rows import ACTIVE, Key, child_tables, sql_table, table_name
from receiver.mirror.versions import Rank, Registers, Version, load, microseconds


def read_registers(
    connection: Connection,
    key: Key,
    values: dict[str, Any],
    active: bool,
    versions: str,
    mends_before: datetime | None,
) -> tuple[Registers, bool]:
    """The registers of a stored row, and whether it is damaged.

    For a repair, a damaged row is read with every value older than `mends_before`; if that is None, raises
    `DamagedRow`.
    """
    found = damage_in(values, versions)
    if isinstance(found, Registers):
        return found, False
    if mends_before is None:
        raise DamagedRow(damage_told(key, found))
    return _mended_by(connection, key, values, active, before=mends_before), True


def damage_in(values: dict[str, Any], versions: str) -> Registers | str:
    """The registers of a sound row; for a damaged row, the reason, worded to follow "is damaged:"."""
    if not DAMAGES.isdisjoint(map(type, values.values())):
        name = next(name for name, value in values.items() if type(value) in DAMAGES)
        return f"its column {name} holds text that was not written by this program"
    try:
        return load(values, versions)
    except ValueError as error:
        return f"its versions were edited by hand, since {error}"


def damage_told(key: Key, wrong: str) -> str:
    """The sentence about a damaged row, with what repairs it."""
    table = table_name(key.table)
    command = shlex.join(["hookmirror", "reconcile", key.source, "--entity", f"{table}:{key.external_id}"])
    return (
        f"The row {table} / {key.source} / {key.external_id} is damaged: {wrong}. `{command}` asks the source and "
        "repairs it; where the source cannot be asked, delete the row in the database and replay its deliveries."
    )


def mended_registers(
    key: Key, values: Mapping[str, Any], active: bool, changed_at: datetime, deactivated_at: datetime | None
) -> Registers:
    """The registers of a damaged row as it is shown: every value is as old as the row's last change.

    Damaged values are dropped. If the row is inactive, its children are gone, too.
    """
    version = Version(microseconds(changed_at), int(Rank.UPDATE if active else Rank.DELETE), 0)
    kept = {name: value for name, value in values.items() if value is not None and damage_of(value) is None}
    gone = {} if active else dict.fromkeys((table_name(child) for child in child_tables(key.table)), version)
    if gone and deactivated_at is not None:
        gone = dict.fromkeys(gone, version._replace(time=min(microseconds(deactivated_at), version.time)))
    return Registers({**kept, ACTIVE: active}, dict.fromkeys((*kept, ACTIVE), version), children_gone=gone)


def _mended_by(
    connection: Connection, key: Key, values: Mapping[str, Any], active: bool, *, before: datetime
) -> Registers:
    """The registers of a damaged row that is about to be repaired: every value is older than `before`."""
    sql = sql_table(key.table)
    wanted = select(sql.c.changed_at, sql.c.deactivated_at)
    found = connection.execute(wanted.where(sql.c.source == key.source, sql.c.external_id == key.external_id)).one()
    changed_at = min(found.changed_at, before - timedelta(microseconds=1))
    return mended_registers(key, values, active, changed_at, found.deactivated_at)
