"""`hookmirror copy`: copies everything in one database into another, of the same or the other kind (docs/copying.md).

    examine   read everything: check that each value can be carried, and compute counts and digests
    begin     write a note into the target database: no other process may use it from now on
    copy      slice by slice, or tables that refer to each other or to themselves at once; rows and progress commit
              together
    finish    read everything that was copied, compare, and drop the note: one transaction

A copy that was killed continues after its last slice. While a copy runs, the source database refuses writes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, Table, delete, insert, inspect, text

from receiver.copying.digests import Difference, Digest, differences, digest
from receiver.copying.foreign_keys import checked_at_end, circles, is_circle
from receiver.copying.preconditions import (
    Side,
    demand_copied,
    demand_empty,
    demand_source,
    demand_target,
    hold_still,
    refuse_same,
    without_limits,
)
from receiver.copying.sequences import go_on_from, last_numbers
from receiver.copying.slices import Problem, Slice, TableReader, Writer
from receiver.database import unfinished
from receiver.database.database import Database
from receiver.database.identity import IDENTITY
from receiver.database.unfinished import Note, Part
from receiver.errors import CopyError

#: Most problems in one message.
MOST_PROBLEMS = 10

#: Called at each step with the activity, the table, the number of further rows, and the total number if it is known.
CopyProgress = Callable[[str, str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class TableReport:
    """The comparison of one table."""

    table: str
    rows: int
    digest: str
    rows_copied_to: int
    digest_copied_to: str

    @property
    def same(self) -> bool:
        return (self.rows, self.digest) == (self.rows_copied_to, self.digest_copied_to)


@dataclass(frozen=True, slots=True)
class CopyReport:
    """The result of a copy or a comparison."""

    source: str
    target: str
    #: Rows copied by this call; fewer than all if an interrupted copy was continued.
    copied: int
    resumed: bool
    tables: list[TableReport]
    differences: list[Difference]
    #: Tables of other programs in the source database, which are left out: see `demand_source`.
    left_out: list[str] = field(default_factory=list)
    #: The unfinished copy in the target database, with its progress; None if it is finished.
    unfinished: str | None = None

    @property
    def same(self) -> bool:
        """Whether both sides hold the same rows."""
        return not self.differences and all(table.same for table in self.tables)


class Copier:
    """Copies one database into another."""

    def __init__(
        self,
        source: Side,
        target: Side,
        *,
        without: Sequence[str] = (),
        progress: CopyProgress = lambda *_: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`without` lists tables, and columns as `table.column`, to leave out because no installed package has them."""
        self._source = source
        self._target = target
        self._without = without
        self._progress = progress
        self._clock = clock
        self._runner = secrets.token_hex(8)

    def copy(self, *, afresh: bool = False) -> CopyReport:
        """Copy everything, or continue an interrupted copy; `afresh` drops the interrupted copy first.

        Raises `CopyError` or `ConfigurationError` with the reason if it is not possible, and SQLAlchemy's errors.
        """
        refuse_same(self._source, self._target)
        left_out = demand_source(self._source, now=self._clock(), without=self._without)
        if afresh:
            self._empty()
        demand_target(self._target, now=self._clock())
        with self._target.told():
            # An error of the disk outside of a commit must stop the copy, too.
            self._target.database.look_after()
        with self._source.told(), hold_still(self._source, now=self._clock()) as connection:
            parts = self._examine(connection)
            note, resumed = self._begin(parts)
            copied = sum(self._copy(connection, note, tables) for tables in circles(self._source.tables()))
            tables, differing = self._finish(connection, parts)
        return CopyReport(self._source.place, self._target.place, copied, resumed, tables, differing, left_out)

    def verify(self) -> CopyReport:
        """Compare everything, and change nothing."""
        refuse_same(self._source, self._target)
        left_out = demand_source(self._source, without=self._without)
        demand_copied(self._target)
        with self._source.told(), _snapshot(self._source.database) as ours:
            parts = {table.name: self._digest(ours, self._target, table, "reading") for table in self._source.tables()}
            with self._target.told(), _snapshot(self._target.database) as theirs:
                note = unfinished.read_note(theirs)
                tables, differing = self._compare(ours, theirs, parts)
        far = None if note is None else note.told()
        return CopyReport(self._source.place, self._target.place, 0, False, tables, differing, left_out, far)

    # ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _examine(self, connection: Connection) -> dict[str, Part]:
        problems: list[Problem] = []

        def note(problem: Problem) -> None:
            problems.append(problem)
            if len(problems) > MOST_PROBLEMS:
                raise _not_copied(problems)

        parts = {}
        for table in self._source.tables():
            reader = TableReader(connection, table, other=self._target.dialect, problem=note)
            found = digest(reader, lambda rows, name=table.name: self._progress("examining", name, rows, None))  # type: ignore[misc]
            parts[table.name] = Part(found.rows, found.digest)
            if not problems and found.rows != reader.count():
                raise CopyError(f"{table.name} has rows whose key is NULL: give them keys, or delete them.")
        if problems:
            raise _not_copied(problems)
        return parts

    def _begin(self, parts: dict[str, Part]) -> tuple[Note, bool]:
        """Begin or continue a copy: return its note, and whether it had begun before."""
        with self._target.told(), self._target.database.write() as connection:
            note = unfinished.read_note(connection)
            if note is not None and not note.is_of(parts):
                raise CopyError(
                    f"TO holds an unfinished copy of {note.source} as it was at {note.began_at}, and FROM is another "
                    "database, or has changed since: run this with --afresh to drop the copied rows and begin again."
                )
            resumed = note is not None
            if note is None:
                # A process may have begun to use the database while FROM was read.
                demand_empty(connection, self._target, now=self._clock())
                note = Note(self._source.place, self._clock().isoformat(timespec="seconds"), parts)
                # The target takes over the source's identity, so that followers of the feed continue there.
                connection.execute(delete(IDENTITY))
            unfinished.write_note(connection, note, self._runner)
        return note, resumed

    def _copy(self, source: Connection, note: Note, tables: Sequence[Table]) -> int:
        parts = [note.parts[table.name] for table in tables]
        before = sum(part.copied for part in parts)
        slices = self._slices(source, note, tables)
        # A row may refer to one of a later slice, so that a part of such tables may break its constraint.
        together = self._target.database.is_postgresql and is_circle(tables)
        for some in [slices] if together else ([each] for each in slices):
            with self._target.told(), self._target.database.write() as connection, checked_at_end(connection, tables):
                for reader, each in some:
                    self._write(connection, reader, note, each)
        return sum(part.copied for part in parts) - before

    def _slices(self, source: Connection, note: Note, tables: Sequence[Table]) -> Iterator[tuple[TableReader, Slice]]:
        """Read the slices; an error names the database that is read, whatever is written meanwhile."""
        with self._source.told():
            for table in tables:
                part, reader = note.parts[table.name], TableReader(source, table, other=self._target.dialect)
                self._progress("copying", table.name, part.copied, part.rows)
                for each in reader.slices(part.after):
                    yield reader, each
                    # The caller asks for the next one when it has written this one.
                    self._progress("copying", table.name, len(each.rows), part.rows)

    def _write(self, connection: Connection, reader: TableReader, note: Note, some: Slice) -> None:
        part = note.parts[reader.table.name]
        Writer(connection, reader).write(some.rows)
        part.copied, part.after = part.copied + len(some.rows), some.last
        if not unfinished.keep_note(connection, note, self._runner):
            raise CopyError("Another `hookmirror copy` is working on this copy: let it end.")

    def _finish(self, source: Connection, parts: dict[str, Part]) -> tuple[list[TableReport], list[Difference]]:
        tables = self._source.tables()
        numbers = last_numbers(source, tables)
        with self._target.told(), self._target.database.write() as connection:
            without_limits(connection)
            reports, differing = self._compare(
                source, connection, {name: Digest(part.rows, part.digest) for name, part in parts.items()}
            )
            if not differing:
                go_on_from(connection, tables, numbers)
                if self._target.database.is_postgresql:
                    # Without this, the database would plan its first statements for empty tables.
                    names = ", ".join(map(connection.dialect.identifier_preparer.format_table, tables))
                    connection.execute(text(f"ANALYZE {names}"))
                unfinished.drop_note(connection)
        return reports, differing

    def _compare(
        self, ours: Connection, theirs: Connection, parts: dict[str, Digest]
    ) -> tuple[list[TableReport], list[Difference]]:
        reports, differing = [], []
        for table in self._source.tables():
            wanted = parts[table.name]
            found = self._digest(theirs, self._source, table, "comparing", of=wanted.rows)
            reports.append(TableReport(str(table.name), *wanted, *found))
            if found != wanted:
                differing += differences(
                    TableReader(ours, table, other=self._target.dialect),
                    TableReader(theirs, table, other=self._source.dialect),
                )
        return reports, differing

    def _digest(
        self, connection: Connection, other: Side, table: Table, doing: str, *, of: int | None = None
    ) -> Digest:
        reader = TableReader(connection, table, other=other.dialect)
        return digest(reader, lambda rows: self._progress(doing, table.name, rows, of))

    def _empty(self) -> None:
        """Drop the rows of an unfinished copy."""
        with self._target.told(), self._target.database.write() as connection:
            without_limits(connection)
            if unfinished.read_note(connection) is None:
                return
            present = inspect(connection)
            for group in reversed(circles(self._source.tables())):
                tables = [table for table in group if present.has_table(table.name, schema=table.schema)]
                with checked_at_end(connection, tables):
                    for table in tables:
                        connection.execute(delete(table))
            if present.has_table(IDENTITY.name):
                # The identity may be that of FROM, and FROM may turn out not to be copyable.
                connection.execute(insert(IDENTITY).values(id=1, name=secrets.token_hex(16)))
            unfinished.drop_note(connection)


def _not_copied(problems: Sequence[Problem]) -> CopyError:
    more = ["…"] if len(problems) > MOST_PROBLEMS else []
    named = "\n".join(["", *map(str, problems[:MOST_PROBLEMS]), *more])
    return CopyError(f"Nothing is copied: mend or delete these rows, and run this again.{named}")


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection]:
    with database.read() as connection:
        without_limits(connection)
        yield connection
