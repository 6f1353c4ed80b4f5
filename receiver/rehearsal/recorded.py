"""Compares a rehearsal with the mirror and the inbox, value by value.

The mirror also has news that was not rehearsed, so whole rows cannot be compared. But each value names the delivery
that brought it: if that one was rehearsed, or is older, the rehearsal must have the same value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, RowMapping, bindparam, inspect, select

from receiver.codec import is_same, plain
from receiver.database.columns import Many, among
from receiver.database.database import Database
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import Key, tables_by_name
from receiver.mirror.versions import Registers, Version, load
from receiver.provenance.stored import stored_registers
from receiver.provenance.traces import NO_VALUE, Told, as_dated_back, is_misdated, told_of
from receiver.rehearsal.differences import Differences, EndDifference, RowDifference, ending, took
from receiver.rehearsal.outcomes import NOT_REHEARSED, STILL_FAILING, RehearsedRow, RehearsedSide

#: Deliveries per query for their changes.
CHANGES_AT_ONCE = 500

RECORD = "the contents of the mirror and the inbox"


def compare_with_record(
    database: Database, source: str, deliveries: Sequence[RowMapping], new: RehearsedSide
) -> Differences:
    """Compare a side's results with the records of these deliveries."""
    skipped = [each for each in new.deliveries if each.state in NOT_REHEARSED]
    ran = {each.id for each in new.deliveries} - {each.id for each in skipped}
    with database.read() as connection:
        rows = list(_differing_rows(connection, source, ran, new.rows))
    return Differences(
        source=source,
        old=RECORD,
        new=new.name,
        deliveries=len(ran),
        rows=sorted(rows, key=lambda row: row[:2]),
        ends=list(_differing_ends(deliveries, new, ran)),
        skipped={state: sum(each.state == state for each in skipped) for state in {each.state for each in skipped}},
        new_took=took(new.deliveries),
    )


def _differing_ends(
    deliveries: Sequence[RowMapping], new: RehearsedSide, ran: Collection[int]
) -> Iterator[EndDifference]:
    recorded = {row["id"]: row for row in deliveries}
    for each in new.deliveries:
        row = recorded.get(each.id)
        if row is None or each.id not in ran:
            continue
        # A failing delivery ends as dead, with the same reason.
        same_state = each.state == row["state"] or (each.state == STILL_FAILING and row["state"] == "dead")
        if not same_state or each.reason != row["reason"]:
            old = ending(row["state"], row["reason"])
            yield EndDifference(each.id, each.event_type, each.entity, old, ending(each.state, each.reason))


def _differing_rows(
    connection: Connection, source: str, ran: Collection[int], rows: Sequence[RehearsedRow]
) -> Iterator[RowDifference]:
    tables = tables_by_name()
    there = _columns_there(connection, tables)
    made = {(row.table, row.external_id): row for row in rows}
    for name, external_id in dict.fromkeys([*made, *_changed_by(connection, sorted(ran))]):
        rehearsed = made.get((name, external_id))
        key = Key(tables[name], source, external_id) if name in there else None
        held = None if key is None else _held(connection, key, there[name])
        if held is None:
            if rehearsed is not None:
                columns = {column: (None, value) for column, value in rehearsed.columns.items()}
                yield RowDifference(name, external_id, columns, "only new")
            continue
        retold = Registers() if rehearsed is None else load(dict(rehearsed.columns), rehearsed.versions)
        differing = dict(_differing(held, retold, ran))
        if differing:
            yield RowDifference(name, external_id, differing, "only old" if rehearsed is None else "differs")


def _differing(held: Registers, made: Registers, ran: Collection[int]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The columns and members whose held value differs from the rehearsed one."""
    for column, path in _paths(held, made):
        old, new = told_of(held, column, path), told_of(made, column, path)
        if _contradict(old, new, ran):
            yield path, (_shown(old), _shown(new))
    for table in sorted(held.children_gone.keys() | made.children_gone.keys()):
        old, new = (_told(each.children_gone.get(table)) for each in (held, made))
        if _contradict(old, new, ran) and not _is_same_dated_back(old, new):
            yield f"rows of {table} gone", (_shown(old), _shown(new))


def _contradict(old: Told | None, new: Told | None, ran: Collection[int]) -> bool:
    if old is not None and new is not None and old.version[1:] == new.version[1:]:
        # Only the time may differ, if a reconcile dated news from the future back.
        return not is_same(old.value, new.value)
    if old is not None and new is not None and _was_dated_back(old, new):
        # What came after that is stale in the rehearsal, so nothing is known about it.
        return as_dated_back(new.version) > old.version
    if new is not None and (old is None or old.version < new.version):
        return True
    return old is not None and old.version.arrival in ran and (new is None or new.version < old.version)


def _was_dated_back(old: Told, new: Told) -> bool:
    """Whether the rehearsal's news is from the future, and the mirror's is not, since a reconcile dated it back."""
    return is_misdated(new.version) and not is_misdated(old.version)


def _is_same_dated_back(old: Told | None, new: Told | None) -> bool:
    """Whether the mirror's range tombstone is that of the rehearsal, dated back: its value is its time."""
    return old is not None and new is not None and old.version[1:] == new.version[1:] and _was_dated_back(old, new)


def _paths(held: Registers, made: Registers) -> Iterator[tuple[str, str]]:
    columns = dict.fromkeys(name.partition(".")[0] for each in (held, made) for name in each.versions)
    for column in columns:
        documents = [value for each in (held, made) if isinstance(value := each.values.get(column), dict)]
        if documents:
            members = dict.fromkeys(member for each in documents for member in each)
            yield from ((column, f"{column}.{member}") for member in members)
        else:
            yield column, column


def _columns_there(connection: Connection, tables: Iterable[str]) -> dict[str, set[str]]:
    """The columns that the database has, by table: new code may declare tables and columns that it lacks."""
    present = inspect(connection)
    return {
        name: {column["name"] for column in present.get_columns(name)} for name in tables if present.has_table(name)
    }


def _held(connection: Connection, key: Key, there: Collection[str]) -> Registers | None:
    """The registers of a row in the mirror, with values as the API shows them."""
    registers = stored_registers(connection, key, there=there)
    if registers is not None:
        registers.values = {name: plain(value) for name, value in registers.values.items()}
    return registers


def _changed_by(connection: Connection, ids: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Yield the table and the id of each row that these deliveries changed."""
    for start in range(0, len(ids), CHANGES_AT_ONCE):
        found = connection.execute(_CHANGED, {"ids": ids[start : start + CHANGES_AT_ONCE]})
        yield from ((row.table, row.external_id) for row in found)


def _told(version: Version | None) -> Told | None:
    return None if version is None else Told(version.moment.isoformat(), version)


def _shown(told: Told | None) -> Any:
    return None if told is None or told.value is NO_VALUE else told.value


_CHANGED = (
    select(CHANGES.c.table, CHANGES.c.external_id)
    .where(among(CHANGES.c.delivery_id, bindparam("ids", type_=Many(BigInteger))))
    .distinct()
)
