"""The unit of work: loads the rows of a batch once, changes them in memory by the version guard, and saves them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection

from receiver.codec import changed_members, plain
from receiver.database.bulk import Statement, execute_all, insertions, replace_clause
from receiver.inbox.ids import arrived
from receiver.mirror.basis import RowsFound, rows_among
from receiver.mirror.changes import RowChange, operation_between
from receiver.mirror.damaged_rows import read_registers
from receiver.mirror.locks import lock_families, lock_order, lock_rows
from receiver.mirror.rows import (
    ACTIVE,
    Key,
    MirrorRow,
    Write,
    exact_columns,
    indexed_texts,
    own_columns,
    sql_table,
    table_name,
    unknown_values,
)
from receiver.mirror.versions import Outcome, Registers, RowStatus, Version, dump, row_status, strongest


class _Entry(Struct):
    """One row in memory, with its visible state when it was loaded or last reported."""

    registers: Registers
    shown: dict[str, Any] | None
    #: The key of its parent, which other news may change; None for a row without one.
    parent: Key | None = None
    dirty: bool = False
    #: The values of `indexed_texts` in the database; None for a row that is not there.
    stored_texts: Sequence[Any] | None = None
    #: The status at the last report, which follows every change of the row or its parent; None before the first.
    status: RowStatus | None = None


@dataclass(slots=True)
class UnitOfWork:
    """The rows of a batch by key, loaded and saved within the caller's transaction."""

    connection: Connection
    #: Before this time, damaged rows count as changed, and are read as they are shown; None refuses them.
    mends_before: datetime | None = None
    #: The keys of damaged rows that were read. `save` writes them again if there is news of them.
    damaged: set[Key] = field(default_factory=set)
    #: All rows that were read, so that another transaction can check whether they are still the same.
    basis: list[RowsFound] = field(default_factory=list)
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    #: The keys that were fetched, including those without a row.
    _sought: set[Key] = field(default_factory=set)
    _children: dict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))

    def load(self, writes: Iterable[Write], *, lock: bool = False) -> None:
        """Fetch every row that the writes concern: their own, their parents', and the children of lost parents.

        Raises `DamagedRow` for a row that was edited by hand, unless `mends_before` is given.
        """
        writes = list(writes)
        if lock and self.connection.dialect.name == "postgresql":
            lock_rows(self.connection, [*(write.key for write in writes), *self._parents(writes)])
            lock_families(self.connection, writes)
        self._fetch({write.key for write in writes}, lock)
        # A parent is read without a lock. A batch that deactivates children locks them after the parent, so locking
        # the parent here, after a child, could deadlock.
        self._fetch(set(self._parents(writes)), lock=False)
        self._fetch_children({(write.key, write.children_gone) for write in writes if write.children_gone}, lock)

    def apply(self, writes: Sequence[Write], *, delivery_id: int | None) -> tuple[Outcome, list[RowChange]]:
        """Merge the news of one delivery. Returns its outcome, and the visible changes."""
        outcomes, touched = [], {}
        for write in writes:
            entry = self._entries.get(write.key)
            if entry is None:
                entry = self._entries[write.key] = _Entry(Registers(), None)
            outcomes.extend(self._merge(write, entry))
            touched[write.key] = write
            if write.children_gone:
                children = {key for key in self._children[write.key] if key.table is write.children_gone}
                touched |= dict.fromkeys(sorted(children, key=lambda key: key.external_id), write)
                for child in children:
                    # The time of its deactivation may move while the visible columns stay the same.
                    self._entries[child].dirty = True
        changes = [change for key in touched if (change := self._report(key, delivery_id)) is not None]
        if changes:
            # News may change nothing in its own row, and yet deactivate children or bring one back.
            outcomes.append(Outcome.APPLIED)
        return strongest(outcomes), changes

    def date_back(self, keys: Sequence[Key], *, after: int, latest: int) -> tuple[int, list[RowChange]]:
        """Date news about these rows and their children that is later than `after` back to its arrival.

        News whose arrival is later than `latest` is dated back to `latest`, because this server's clock was ahead, too.
        Both times are microseconds since 1970. Rows and children must be loaded. Returns how many, and the changes.
        """

        def heard(version: Version) -> int:
            return min(arrived(version.arrival), latest)

        touched = dict.fromkeys(keys)
        for key in keys:
            touched |= dict.fromkeys(sorted(self._children[key], key=_by_table_and_id))
        # All rows are dated before any is compared, because a child's status depends on its parent's dates, too.
        dated_back = [self._entries[key].registers.date_back(after=after, heard=heard) for key in touched]
        for key in touched:
            self._entries[key].dirty = True
        return sum(dated_back), [change for key in touched if (change := self._report(key, None)) is not None]

    def contradicts(self, write: Write) -> bool:
        """Whether this write, which was applied, has lost a column to other news that is not older."""
        return self._entries[write.key].registers.differ_from(write.columns)

    def children(self, key: Key) -> set[Key]:
        """The loaded children of this row."""
        return set(self._children.get(key, ()))

    def row(self, key: Key) -> MirrorRow | None:
        """The row as the mirror would show it; None if there was never news about it."""
        entry = self._entries.get(key)
        if entry is None or ACTIVE not in entry.registers.versions:
            return None
        names = (*own_columns(key.table), *_KEPT)
        return key.table(**dict(zip(names, self._values(key, entry), strict=True)))

    def read(self, key: Key, writes: Sequence[Write]) -> MirrorRow | None:
        """The row as it would be after these writes; None if there was never news about it."""
        tables = {key.table, key.table.parent_table}
        related = [write for write in writes if write.key.table in tables and write.key.source == key.source]
        self._fetch({key}, lock=False)
        self.load(related)
        self.apply(related, delivery_id=None)
        entry = self._entries.get(key)
        if entry is not None and entry.parent is not None:
            # The row's status depends on the parent.
            self._fetch({entry.parent}, lock=False)
        return self.row(key)

    def save(self) -> None:
        """Write every row that changed."""
        execute_all(self.connection, self.saves())

    def saves(self) -> list[Statement]:
        """Make the statements that write every changed row, in key order, table by table."""
        changed: dict[type[MirrorRow], list[tuple[Key, _Entry]]] = defaultdict(list)
        for key, entry in self._entries.items():
            if entry.dirty:
                changed[key.table].append((key, entry))
                entry.dirty = False
        statements = []
        for table, entries in sorted(changed.items(), key=lambda item: table_name(item[0])):
            sql, names = sql_table(table), (*own_columns(table), *_KEPT)
            by_kept: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
            for key, entry in sorted(entries, key=_by_source_and_id):
                by_kept[self._kept_texts(key, entry)].append(self._values(key, entry))
            for kept, rows in by_kept.items():
                conflict = replace_clause(sql, but=kept)
                statements += insertions(self.connection.dialect, sql, names, rows, conflict=conflict)
        return statements

    def _kept_texts(self, key: Key, entry: _Entry) -> tuple[str, ...]:
        """The columns that the statement for this row leaves as they are: on SQLite `indexed_texts`, if none differs.

        SQLite writes to the index of each column that a statement sets, even to the same value; PostgreSQL does not.
        """
        if self.connection.dialect.name == "postgresql":
            return ()
        names = indexed_texts(key.table)
        before, entry.stored_texts = entry.stored_texts, list(map(entry.registers.values.get, names))
        return names if entry.stored_texts == before else ()

    def _merge(self, write: Write, entry: _Entry) -> list[Outcome]:
        entry.dirty = True
        if write.children_gone:
            return [entry.registers.lose_children(table_name(write.children_gone), write.version)]
        outcomes = entry.registers.merge_all(write.columns, write.version, corrects=write.corrects)
        self._adopt(write.key, entry)
        return outcomes

    def _adopt(self, key: Key, entry: _Entry) -> None:
        """Note the row's parent, and the row among the parent's children."""
        parent = entry.registers.values.get("parent")
        if entry.parent is not None and entry.parent.external_id == parent:
            return
        entry.parent = self._parent_of(key, parent)
        if entry.parent is not None:
            self._children[entry.parent].add(key)

    def _report(self, key: Key, delivery_id: int | None) -> RowChange | None:
        entry = self._entries[key]
        if entry.parent is not None and entry.parent not in self._sought:
            self._fetch({entry.parent}, lock=False)
        status = entry.status = self._status(key, entry)
        shown = _shown(key.table, entry.registers.values, status.active)
        before, entry.shown = entry.shown, shown
        if before is None:
            return _change(key, "insert", {}, shown, delivery_id, status)
        differing = changed_members(before, shown)
        if not differing:
            return None
        entry.dirty = True
        return _change(
            key,
            operation_between(before[ACTIVE], status.active),
            {name: before[name] for name in differing},
            {name: shown[name] for name in differing},
            delivery_id,
            status,
        )

    def _values(self, key: Key, entry: _Entry) -> tuple[Any, ...]:
        """The values of the row's own columns, and then of `_KEPT`."""
        registers = entry.registers
        active, changed_at, deactivated_at = entry.status or self._status(key, entry)
        own = map(registers.values.get, own_columns(key.table))
        tie = bool(registers.ties)
        return *own, key.source, key.external_id, active, changed_at, deactivated_at, tie, dump(registers)

    def _status(self, key: Key, entry: _Entry) -> RowStatus:
        return row_status(entry.registers, self._gone(key, entry))

    def _gone(self, key: Key, entry: _Entry) -> Version | None:
        """The range tombstone of its parent for rows of this table, if there is one."""
        parent = None if entry.parent is None else self._entries.get(entry.parent)
        return None if parent is None else parent.registers.children_gone.get(table_name(key.table))

    @staticmethod
    def _parent_of(key: Key, parent: Any) -> Key | None:
        if parent is None or key.table.parent_table is None:
            return None
        return Key(key.table.parent_table, key.source, parent)

    def _parents(self, writes: Iterable[Write]) -> Iterable[Key]:
        for write in writes:
            if write.key.table.parent_table is None:
                continue
            entry = self._entries.get(write.key)
            known = None if entry is None else entry.parent
            for key in (known, self._parent_of(write.key, write.columns.get("parent"))):
                if key is not None:
                    yield key

    def _fetch(self, keys: set[Key], lock: bool) -> None:
        missing = keys - self._sought
        groups: dict[tuple[type[MirrorRow], str], list[str]] = defaultdict(list)
        for key in missing:
            groups[key.table, key.source].append(key.external_id)
        for (table, source), ids in sorted(groups.items(), key=lock_order):
            self._select(table, source, "external_id", sorted(ids), lock)
        # Recorded afterwards, because a refused row must not count as a missing row.
        self._sought |= missing

    def _fetch_children(self, lost: set[tuple[Key, type[MirrorRow]]], lock: bool) -> None:
        groups: dict[tuple[type[MirrorRow], str], list[str]] = defaultdict(list)
        for parent, child in lost:
            groups[child, parent.source].append(parent.external_id)
        for (table, source), parents in sorted(groups.items(), key=lock_order):
            self._select(table, source, "parent", sorted(parents), lock)

    def _select(self, table: type[MirrorRow], source: str, column: str, values: list[str], lock: bool) -> None:
        names = tuple(own_columns(table))
        wanted = rows_among(table, column, own_columns=names, lock=lock)
        found = self.connection.execute(wanted, {"source": source, "values": values}).all()
        basis = RowsFound(table, source, column, values, [])
        self.basis.append(basis)
        for external_id, active, versions, *own in found:
            basis.found.append((external_id, active, versions))
            key = Key(table, source, external_id)
            if key not in self._entries:
                self._enter(key, dict(zip(names, own, strict=True)), active, versions)

    def _enter(self, key: Key, values: dict[str, Any], active: bool, versions: str) -> None:
        registers, is_damaged = read_registers(self.connection, key, values, active, versions, self.mends_before)
        if is_damaged:
            self.damaged.add(key)
        self._sought.add(key)
        stored_texts = list(map(values.get, indexed_texts(key.table)))
        entry = self._entries[key] = _Entry(registers, _shown(key.table, values, active), stored_texts=stored_texts)
        self._adopt(key, entry)


#: The columns of a row besides its own, in the order of `UnitOfWork._values`.
_KEPT = ("source", "external_id", "active", "changed_at", "deactivated_at", "tie", "versions")


def _by_table_and_id(key: Key) -> tuple[str, str]:
    return table_name(key.table), key.external_id


def _by_source_and_id(item: tuple[Key, _Entry]) -> tuple[str, ...]:
    return item[0][1:]


def _change(
    key: Key, operation: str, before: dict[str, Any], after: dict[str, Any], delivery_id: int | None, status: RowStatus
) -> RowChange:
    return RowChange(
        table_name(key.table), key.source, key.external_id, operation, before, after, delivery_id, status.changed_at
    )


def _shown(table: type[MirrorRow], values: Mapping[str, Any], active: bool) -> dict[str, Any]:
    """The row's columns as the API and the change feed show them."""
    # In the table's order; `active` stands behind the own columns.
    shown = {**unknown_values(table), **values, ACTIVE: active}
    for name in exact_columns(table):
        if shown[name] is not None:
            shown[name] = plain(shown[name])
    return shown
