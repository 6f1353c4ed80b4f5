"""The unit of work: loads the rows of a batch once, changes them in memory by the version guard, and saves them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Select, Text, bindparam, select, text

from receiver.database.bulk import insert_mappings, replace_clause
from receiver.database.columns import Many, among
from receiver.inbox.ids import arrived
from receiver.mirror.changes import RowChange
from receiver.mirror.damaged_rows import read_registers
from receiver.mirror.rows import Key, MirrorRow, Write, exact_columns, own_columns, sql_table
from receiver.mirror.versions import Outcome, Registers, RowStatus, Version, dump, row_status, strongest

#: The most rows that a batch locks one by one; a larger batch locks out all other writers instead. PostgreSQL has one
#: lock table of fixed size for all connections, about 6,400 locks by default, and refuses locks once it is full.
MOST_LOCKS = 1_000

#: The key of the advisory lock that stands for all rows.
MIRROR_LOCK = 0x686F6F6B0004


@dataclass(slots=True)
class _Entry:
    """One row in memory, with its visible state when it was loaded or last reported."""

    registers: Registers
    shown: dict[str, Any] | None
    dirty: bool = False
    #: The status at the last report, which follows every change of the row or its parent; None before the first.
    status: RowStatus | None = None


@dataclass(slots=True)
class UnitOfWork:
    """The rows of a batch by key, loaded and saved within the caller's transaction."""

    connection: Connection
    #: Before this time, damaged rows count as changed, and are read as they are shown; None refuses them.
    mends_before: datetime | None = None
    #: The keys of damaged rows that were read. `save` writes them anew if there is news of them.
    damaged: set[Key] = field(default_factory=set)
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    #: The keys that were fetched, including those without a row.
    _sought: set[Key] = field(default_factory=set)
    _children: dict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))

    def load(self, writes: Iterable[Write], *, lock: bool = False) -> None:
        """Fetch every row that the writes concern: their own, their parents', and the children of lost parents.

        Raises `DamagedRow` for a row that somebody edited by hand, unless `mends_before` is given.
        """
        writes = list(writes)
        if lock and self.connection.dialect.name == "postgresql":
            self._lock([*(write.key for write in writes), *self._parents(writes)])
            self._lock_families(writes)
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
        if entry is None or "active" not in entry.registers.versions:
            return None
        return key.table(**self._columns(key, entry))

    def read(self, key: Key, writes: Sequence[Write]) -> MirrorRow | None:
        """The row as it would be after these writes; None if there was never news about it."""
        tables = {key.table, key.table.parent_table}
        related = [write for write in writes if write.key.table in tables and write.key.source == key.source]
        self._fetch({key}, lock=False)
        self.load(related)
        self.apply(related, delivery_id=None)
        entry = self._entries.get(key)
        parent = self._parent(key, entry.registers) if entry is not None else None
        if parent is not None:
            # The row's status depends on the parent.
            self._fetch({parent}, lock=False)
        return self.row(key)

    def save(self) -> None:
        """Write every row that changed, in key order, one statement per table."""
        by_table: dict[type[MirrorRow], list[dict[str, Any]]] = defaultdict(list)
        for key, entry in sorted(self._entries.items(), key=lambda item: (item[0].source, item[0].external_id)):
            if entry.dirty:
                by_table[key.table].append(self._columns(key, entry))
                entry.dirty = False
        for table, rows in sorted(by_table.items(), key=lambda item: sql_table(item[0]).name):
            insert_mappings(self.connection, sql_table(table), rows, conflict=replace_clause(sql_table(table)))

    def _merge(self, write: Write, entry: _Entry) -> list[Outcome]:
        entry.dirty = True
        if write.children_gone:
            return [entry.registers.lose_children(sql_table(write.children_gone).name, write.version)]
        outcomes = [entry.registers.merge(column, value, write.version) for column, value in write.columns.items()]
        self._adopt(write.key, entry.registers)
        return outcomes

    def _adopt(self, key: Key, registers: Registers) -> None:
        parent = self._parent_of(key, registers.values.get("parent"))
        if parent is not None:
            self._children[parent].add(key)

    def _report(self, key: Key, delivery_id: int | None) -> RowChange | None:
        entry = self._entries[key]
        parent = self._parent(key, entry.registers)
        if parent is not None and parent not in self._sought:
            self._fetch({parent}, lock=False)
        status = entry.status = self._status(key, entry.registers)
        shown = _shown(key.table, entry.registers.values, status.active)
        before, entry.shown = entry.shown, shown
        if before is None:
            return RowChange(
                str(sql_table(key.table).name),
                key.source,
                key.external_id,
                "insert",
                {},
                shown,
                delivery_id,
                status.changed_at,
            )
        differing = [name for name in shown if shown[name] != before.get(name)]
        if not differing:
            return None
        entry.dirty = True
        return RowChange(
            str(sql_table(key.table).name),
            key.source,
            key.external_id,
            _operation(before["active"], status.active),
            {name: before.get(name) for name in differing},
            {name: shown[name] for name in differing},
            delivery_id,
            status.changed_at,
        )

    def _columns(self, key: Key, entry: _Entry) -> dict[str, Any]:
        registers = entry.registers
        status = entry.status or self._status(key, registers)
        columns = {name: registers.values.get(name) for name in own_columns(key.table)}
        columns["source"] = key.source
        columns["external_id"] = key.external_id
        columns["active"] = status.active
        columns["changed_at"] = status.changed_at
        columns["deactivated_at"] = status.deactivated_at
        columns["tie"] = bool(registers.ties)
        columns["versions"] = dump(registers)
        return columns

    def _status(self, key: Key, registers: Registers) -> RowStatus:
        return row_status(registers, self._gone(key, registers))

    def _gone(self, key: Key, registers: Registers) -> Version | None:
        parent = self._parent(key, registers)
        entry = self._entries.get(parent) if parent is not None else None
        return entry.registers.children_gone.get(sql_table(key.table).name) if entry is not None else None

    def _parent(self, key: Key, registers: Registers) -> Key | None:
        return self._parent_of(key, registers.values.get("parent"))

    @staticmethod
    def _parent_of(key: Key, parent: Any) -> Key | None:
        if key.table.parent_table is None or parent is None:
            return None
        return Key(key.table.parent_table, key.source, parent)

    def _parents(self, writes: Iterable[Write]) -> Iterable[Key]:
        for write in writes:
            entry = self._entries.get(write.key)
            known = entry.registers.values.get("parent") if entry is not None else None
            for parent in (known, write.columns.get("parent")):
                key = self._parent_of(write.key, parent)
                if key is not None:
                    yield key

    def _lock(self, keys: Iterable[Key]) -> None:
        """Lock out other writers of these rows, even of rows that do not exist yet and so cannot have row locks."""
        # All writers lock in the same order, so that two of them wait for each other instead of deadlocking.
        numbers = sorted({_lock_number(key) for key in keys})
        if len(numbers) > MOST_LOCKS:
            self.connection.execute(_LOCK_ALL, {"all": MIRROR_LOCK})
            return
        self.connection.execute(_LOCK_SOME, {"all": MIRROR_LOCK})
        self.connection.execute(_LOCK, {"numbers": numbers})

    def _lock_families(self, writes: Sequence[Write]) -> None:
        """Lock the children of lost parents together with the batch's own rows of their table, in one order."""
        lost: dict[tuple[type[MirrorRow], str], set[str]] = defaultdict(set)
        for write in writes:
            if write.children_gone:
                lost[write.children_gone, write.key.source].add(write.key.external_id)
        for (table, source), parents in sorted(lost.items(), key=_lock_order):
            sql = sql_table(table)
            own = {write.key.external_id for write in writes if (write.key.table, write.key.source) == (table, source)}
            concerned = sql.c.external_id.in_(sorted(own)) | sql.c.parent.in_(sorted(parents))
            rows = select(sql.c.external_id).where(sql.c.source == source, concerned).order_by(sql.c.external_id)
            self.connection.execute(rows.with_for_update())

    def _fetch(self, keys: set[Key], lock: bool) -> None:
        missing = keys - self._sought
        groups: dict[tuple[type[MirrorRow], str], list[str]] = defaultdict(list)
        for key in missing:
            groups[key.table, key.source].append(key.external_id)
        for (table, source), ids in sorted(groups.items(), key=_lock_order):
            self._select(table, source, "external_id", sorted(ids), lock)
        # Afterwards, because a row that was refused must not count as a row that is not there.
        self._sought |= missing

    def _fetch_children(self, lost: set[tuple[Key, type[MirrorRow]]], lock: bool) -> None:
        groups: dict[tuple[type[MirrorRow], str], list[str]] = defaultdict(list)
        for parent, child in lost:
            groups[child, parent.source].append(parent.external_id)
        for (table, source), parents in sorted(groups.items(), key=_lock_order):
            self._select(table, source, "parent", sorted(parents), lock)

    def _select(self, table: type[MirrorRow], source: str, column: str, values: list[str], lock: bool) -> None:
        names = tuple(own_columns(table))
        found = self.connection.execute(_rows(table, column, lock), {"source": source, "values": values}).all()
        for external_id, active, versions, *own in found:
            key = Key(table, source, external_id)
            if key not in self._entries:
                self._enter(key, dict(zip(names, own, strict=True)), active, versions)

    def _enter(self, key: Key, values: dict[str, Any], active: bool, versions: str) -> None:
        registers, is_damaged = read_registers(self.connection, key, values, active, versions, self.mends_before)
        if is_damaged:
            self.damaged.add(key)
        self._sought.add(key)
        entry = self._entries[key] = _Entry(registers, _shown(key.table, values, active))
        self._adopt(key, entry.registers)


@cache
def _rows(table: type[MirrorRow], column: str, lock: bool) -> Select[Any]:
    """Select the rows of one source whose `column` is among some values, in key order."""
    sql = sql_table(table)
    wanted = select(sql.c.external_id, sql.c.active, sql.c.versions, *(sql.c[name] for name in own_columns(table)))
    known = among(sql.c[column], bindparam("values", type_=Many(Text)))
    found = wanted.where(sql.c.source == bindparam("source"), known).order_by(sql.c.external_id)
    return found.with_for_update() if lock else found


_LOCK_ALL = text("SELECT pg_advisory_xact_lock(:all)")
_LOCK_SOME = text("SELECT pg_advisory_xact_lock_shared(:all)")
_LOCK = text("SELECT pg_advisory_xact_lock(number) FROM unnest(CAST(:numbers AS bigint[])) AS number")


def _lock_order(group: tuple[tuple[type[MirrorRow], str], Any]) -> tuple[str, str]:
    """The sort key of tables and sources, in whose order all writers lock, so that they wait instead of deadlocking."""
    (table, source), _ = group
    return sql_table(table).name, source


def _lock_number(key: Key) -> int:
    name = "\0".join((sql_table(key.table).name, key.source, key.external_id))
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


def _by_table_and_id(key: Key) -> tuple[str, str]:
    return sql_table(key.table).name, key.external_id


def _operation(was_active: bool, is_active: bool) -> str:
    if was_active == is_active:
        return "update"
    return "reactivate" if is_active else "deactivate"


def _shown(table: type[MirrorRow], values: Mapping[str, Any], active: bool) -> dict[str, Any]:
    """The row's columns as the API and the change feed show them."""
    shown = {name: values.get(name) for name in own_columns(table)}
    for name in exact_columns(table):
        shown[name] = plain(shown[name])
    shown["active"] = active
    return shown


def plain(value: Any) -> Any:
    """Format a decimal as text with all its digits, and a time as ISO 8601."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value
