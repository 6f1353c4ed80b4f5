"""Reconcile: compare the mirror with the source's own list, and repair what webhooks alone cannot have told.

The list counts as news from the moment the walk began, by the source's clock or ours, whichever is behind. What changed
since is left alone; what is missing in a complete list is deactivated, unless that is suspiciously much. First of all,
whatever is dated so far in the future that it cannot be right is dated back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import httpx
from sqlalchemy import ColumnElement, exists, select

from receiver import codec
from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.dialects.dialect import Listed
from receiver.dialects.sources import Source
from receiver.errors import ApiError, ConfigurationError, HandlerError, Unreadable
from receiver.inbox.ids import first_id_at
from receiver.inbox.inbox import pending_entities
from receiver.logs.escapes import visible
from receiver.logs.safe_text import told_with_type
from receiver.mirror import changes
from receiver.mirror.changes import RowChange
from receiver.mirror.rows import ACTIVE, Key, MirrorRow, Write, child_tables, mirror_tables, own_columns, sql_table
from receiver.mirror.unit_of_work import UnitOfWork
from receiver.mirror.versions import AHEAD, Rank, Version, microseconds
from receiver.moments import is_zero

#: Rows compared and repaired in one transaction, so that the endpoint never waits long for its turn.
ROWS_AT_ONCE = 200

#: The share of a table's active rows that may be missing from the list before it takes `force` to believe it.
BRAKE = 0.2

Item = TypeVar("Item")

#: Called with the number of rows seen so far.
Progress = Callable[[int], None]

#: Says of a row, None if nobody ever spoke of it, and of what the list says about it, whether that must be written.
Needed = Callable[[MirrorRow | None, Write], bool]


@dataclass(slots=True)
class Report:
    """What a reconcile found, and what it did about it."""

    source: str
    #: As of when the list counts: the beginning of the walk, by the source's clock or ours, whichever is behind.
    as_of: datetime
    #: Rows in the source's list; None if it was not asked for.
    listed: int | None = None
    #: What was repaired; with `dry_run`, what would be.
    repaired: list[RowChange] = field(default_factory=list)
    #: Rows that changed since the walk began, and were left alone.
    newer: int = 0
    #: Rows that were dated more than a day after the walk began, and were dated back.
    misdated: int = 0
    #: Per table, how many active rows the list lacks, where that is more than the brake allows.
    braked: dict[str, int] = field(default_factory=dict)
    dry_run: bool = False

    def lines(self) -> list[str]:
        """The report for people: a line for each row that differs, then the sums; nothing in it is invisible."""
        lines = [f"{change.operation} {change.table} {change.external_id}: {_told(change)}" for change in self.repaired]
        did = "would be repaired" if self.dry_run else "repaired"
        if self.listed is not None:
            lines.append(
                f"{self.source}: {self.listed} rows listed, {len(self.repaired)} {did}, {self.newer} changed since."
            )
        if self.misdated or self.listed is None:
            dated_back = "would be dated back" if self.dry_run else "dated back"
            lines.append(f"Rows with news from the future: {self.misdated}, {dated_back} to its arrival.")
        for table, missing in self.braked.items():
            lines.append(
                f"{missing} active rows of {table} are missing from the list, more than {BRAKE:.0%}: nothing of "
                f"{table} was deactivated. If the list is right, run this again with --force."
            )
        return [visible(line) for line in lines]


def _told(change: RowChange) -> str:
    return ", ".join(
        f"{name} {_as_json(before)} -> {_as_json(after)}"
        for name, after in change.after.items()
        if (before := change.before.get(name)) != after
    )


def _as_json(value: Any) -> str:
    return codec.encode(value).decode()


def reconcile(
    database: Database,
    source: Source,
    *,
    dry_run: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Walk the source's list to its end, then compare and repair. Nothing changes if the walk does not reach the end.

    Raises `ConfigurationError` for a source without a list or an API, `ApiError` if the walk breaks off.
    """
    listing = source.dialect.listing_of
    client = source.dialect.client(source.settings)
    if listing is None:
        raise ConfigurationError(
            f"The dialect {source.dialect.name} knows no list of its source, so there is nothing to compare with."
        )
    if client is None:
        raise ConfigurationError(f"The source {source.name} has no `api_url`: set it, and the keys that its API wants.")
    with client:
        began = clock()
        dates: list[datetime] = []
        client.event_hooks["response"].append(lambda response: _note_date(response, dates))
        listed = _walk(source.name, listing.walk(client), progress)
    report = Report(source.name, min([began, *dates[:1]]), len(listed), dry_run=dry_run)
    with _repairing(database, report, clock, future=max([began, *dates[:1]]) + AHEAD) as repair:
        repair.date_back()
        repair.compare(listed)
        for table in listing.tables:
            repair.deactivate_missing(table, listed, force=force)
    return report


def date_back(
    database: Database,
    source: Source,
    *,
    dry_run: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Only what a reconcile does first: date back what is misdated. It needs no list."""
    report = Report(source.name, clock(), dry_run=dry_run)
    with _repairing(database, report, clock, future=report.as_of + AHEAD) as repair:
        repair.date_back()
    return report


def _walk(source: str, rows: Iterator[Listed], progress: Progress) -> dict[Key, Listed]:
    """The whole list by key. Raises `ApiError` if it breaks off: half a list says nothing about what is missing."""
    listed: dict[Key, Listed] = {}
    try:
        for row in rows:
            listed[Key(row.table, source, row.external_id)] = row
            progress(len(listed))
    except httpx.HTTPError as error:
        raise ApiError(
            f"The list of {source} broke off after {len(listed)} rows ({told_with_type(error)}), "
            "so nothing was changed. Check `api_url`, and run it again."
        ) from error
    return listed


def _note_date(response: httpx.Response, dates: list[datetime]) -> None:
    try:
        date = parsedate_to_datetime(response.headers["date"]).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return
    if not is_zero(date):
        dates.append(date)


@contextmanager
def _repairing(
    database: Database, report: Report, clock: Callable[[], datetime], *, future: datetime
) -> Iterator[_Repair]:
    with ExitStack() as opened:
        dry = UnitOfWork(opened.enter_context(database.read())) if report.dry_run else None
        yield _Repair(database, report, clock, future=future, dry=dry)


class _Done(NamedTuple):
    """What one transaction did, as in the report."""

    repaired: list[RowChange]
    newer: int = 0
    misdated: int = 0


class _Repair:
    """Brings the mirror of one source to what its list says."""

    def __init__(
        self,
        database: Database,
        report: Report,
        clock: Callable[[], datetime],
        *,
        future: datetime,
        dry: UnitOfWork | None,
    ) -> None:
        """News dated later than `future` is misdated. `dry` sees what a run would have committed, and saves nothing."""
        self._database = database
        self._report = report
        self._clock = clock
        self._future = future
        self._dry = dry
        self._pending = pending_entities(database, report.source)
        self._moment = microseconds(report.as_of), first_id_at(report.as_of)

    def date_back(self) -> None:
        """Let misdated news, in every table, count as of its arrival, and keep nothing out any more."""
        keys: dict[Key, None] = {}
        for table in sorted(mirror_tables(), key=_generation, reverse=True):
            misdated = sql_table(table).c.changed_at > self._future
            keys = dict.fromkeys(self._keys(table, misdated)) | keys
            if table.parent_table is not None:
                # A watermark may be what its children have their date from.
                keys = dict.fromkeys(self._keys(table.parent_table, _is_parent_of(table, misdated))) | keys
        for some in _batches(keys):
            self._in_transaction(partial(self._date_back, some))

    def compare(self, listed: Mapping[Key, Listed]) -> None:
        """Repair the rows that the list has and the mirror holds otherwise, or not at all."""
        for some in _batches(listed.items()):
            writes = [self._write(key, Rank.UPDATE, _columns(row)) for key, row in some]
            self._apply(writes, needed=lambda row, write: row is None or self._awaits_news(row) or _differs(row, write))

    def deactivate_missing(self, table: type[MirrorRow], listed: Mapping[Key, Listed], *, force: bool) -> None:
        """Deactivate the active rows that the complete list lacks, unless they are too many to be believed."""
        active = self._active(table)
        missing = [key for key in active if key not in listed]
        if len(missing) > BRAKE * len(active) and not force:
            self._report.braked[str(sql_table(table).name)] = len(missing)
            return
        for some in _batches(missing):
            writes = [self._write(key, Rank.ABSENT, {ACTIVE: False}) for key in some]
            self._apply(writes, needed=lambda row, _: row is not None and row.active)

    def _active(self, table: type[MirrorRow]) -> list[Key]:
        active = self._keys(table, sql_table(table).c.active)
        if self._dry is None:
            return active
        # What a run would have committed by now stands in no table.
        name = sql_table(table).name
        mine = {Key(table, each.source, each.external_id) for each in self._report.repaired if each.table == name}
        shown = {key for key in mine if (row := self._dry.row(key)) is not None and row.active}
        return sorted((set(active) - mine) | shown, key=lambda key: key.external_id)

    def _keys(self, table: type[MirrorRow], condition: ColumnElement[bool]) -> list[Key]:
        """The rows of the source that meet the condition, in key order."""
        sql = sql_table(table)
        found = select(sql.c.external_id).where(sql.c.source == self._report.source, condition)

        def read() -> Sequence[str]:
            with self._database.read() as connection:
                return connection.execute(found.order_by(sql.c.external_id)).scalars().all()

        return [Key(table, self._report.source, external_id) for external_id in retry_transaction(read)]

    def _apply(self, writes: Sequence[Write], *, needed: Needed) -> None:
        self._in_transaction(partial(self._let_in, writes, needed))

    def _in_transaction(self, work: Callable[[UnitOfWork], _Done]) -> None:
        done = work(self._dry) if self._dry is not None else retry_transaction(lambda: self._commit(work))
        self._report.newer += done.newer
        self._report.misdated += done.misdated
        self._report.repaired.extend(done.repaired)

    def _commit(self, work: Callable[[UnitOfWork], _Done]) -> _Done:
        with self._database.write() as connection:
            unit_of_work = UnitOfWork(connection)
            done = work(unit_of_work)
            unit_of_work.save()
            changes.record(connection, done.repaired, now=self._clock())
        return done

    def _date_back(self, keys: Sequence[Key], unit_of_work: UnitOfWork) -> _Done:
        rows = [self._write(key, Rank.ABSENT, {}) for key in keys]
        children = [row._replace(children_gone=child) for row in rows for child in child_tables(row.key.table)]
        # In one go, because whoever locks rows does it in one order.
        unit_of_work.load([*rows, *children], lock=self._dry is None)
        # One that somebody has deleted by hand meanwhile has no date any more.
        found = [key for key in keys if unit_of_work.row(key) is not None]
        before_the_list = self._moment[0] - 1
        misdated, changed = unit_of_work.date_back(found, after=microseconds(self._future), latest=before_the_list)
        return _Done(repaired=changed, misdated=misdated)

    def _let_in(self, writes: Sequence[Write], needed: Needed, unit_of_work: UnitOfWork) -> _Done:
        newer, repaired = 0, []
        unit_of_work.load(writes, lock=self._dry is None)
        for write in writes:
            row = unit_of_work.row(write.key)
            if row is not None and row.changed_at > self._report.as_of:
                newer += 1
            elif needed(row, write):
                repaired.extend(unit_of_work.apply([write], delivery_id=None)[1])
        return _Done(repaired, newer)

    def _awaits_news(self, row: MirrorRow) -> bool:
        """Whether what the list confirms has to be recorded: a tie, or older news that is still to be worked on."""
        return row.tie or row.external_id in self._pending or getattr(row, "parent", None) in self._pending

    def _write(self, key: Key, rank: Rank, columns: Mapping[str, Any]) -> Write:
        time, arrival = self._moment
        return Write(key, Version(time, int(rank), arrival), columns)


def _generation(table: type[MirrorRow]) -> int:
    """How many tables are above this one."""
    return 0 if table.parent_table is None else 1 + _generation(table.parent_table)


def _is_parent_of(child: type[MirrorRow], condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a row of the parent table has children that meet the condition."""
    assert child.parent_table is not None
    parent, table = sql_table(child.parent_table), sql_table(child)
    return exists().where(table.c.source == parent.c.source, table.c.parent == parent.c.external_id, condition)


def _columns(row: Listed) -> dict[str, Any]:
    known = own_columns(row.table)
    unknown = sorted(set(row.columns) - set(known))
    if unknown:
        raise ApiError(f"The list gives {row.table.__name__} a column `{unknown[0]}`, which it does not have.")
    try:
        return {ACTIVE: row.active} | {
            name: None if value is None else known[name](name, value) for name, value in row.columns.items()
        }
    except (HandlerError, Unreadable) as error:
        raise ApiError(
            f"The list gives {row.table.__name__} {row.external_id!r} what it cannot keep: {error}"
        ) from None


def _differs(row: MirrorRow, write: Write) -> bool:
    return any(getattr(row, name) != value for name, value in write.columns.items())


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    while some := list(islice(remaining, ROWS_AT_ONCE)):
        yield some
