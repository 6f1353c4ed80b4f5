"""Reads and writes a table in slices, in the order of its key, bounded in rows and in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Enum,
    Integer,
    Select,
    String,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal,
    select,
    tuple_,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import NullType, TypeEngine

from receiver import codec
from receiver.copying.conversions import PADDED, Conversion, conversion, writer
from receiver.copying.numbers import NotPortable
from receiver.database.errors import is_fault_of_values
from receiver.errors import CopyError
from receiver.logs.safe_text import told, told_with_type

#: Most characters of a part of a key that a message shows.
SHOWN_OF_KEY = 80

#: Most rows and most bytes of a slice. A larger row is a slice by itself.
ROWS, BYTES = 2_000, 4 * 1_024 * 1_024

RowKey = tuple[Any, ...]
RowValues = tuple[Any, ...]


class Problem(NamedTuple):
    """A value that cannot be copied."""

    table: str
    key: str
    column: str
    says: str

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.column} {self.says}"


class Slice(NamedTuple):
    """Consecutive rows of a table, in the order of its key."""

    rows: list[RowValues]
    #: The key of the last row, as JSON.
    last: str


def refuse(problem: Problem) -> None:
    raise CopyError(f"{problem}. Mend or delete that row, and run this again.")


class TableReader:
    """Reads one table, within the caller's transaction on one snapshot."""

    def __init__(
        self, connection: Connection, table: Table, *, other: Dialect, problem: Callable[[Problem], None] = refuse
    ) -> None:
        """`other` is the database to compare with; `problem` is called for each value that cannot be carried."""
        self.table = table
        self._connection = connection
        self._problem = problem
        #: Whether the table has text that is not valid UTF-8.
        self._is_damaged = False
        self._conversions = [conversion(column, connection.dialect, other=other) for column in table.columns]
        self._compared = [(at, each.compared) for at, each in enumerate(self._conversions) if each.compared is not None]
        self._key = [_KeyColumn(column, connection.dialect) for column in table.primary_key.columns]
        self._key_at = [list(table.columns).index(column) for column in table.primary_key.columns]

    def count(self) -> int:
        return int(self._connection.execute(select(func.count()).select_from(self.table)).scalar_one())

    def slices(self, after: str | None = None) -> Iterator[Slice]:
        """Read all rows after the row with the key `after`, in the order of their keys."""
        last: RowKey | None = None if after is None else tuple(map(_key_value, codec.decode(after)))
        while page := self._page(last):
            for end in _ends(page):
                yield Slice(self._rows(last, end), codec.encode(list(map(_key_json, end))).decode())
                last = end

    def comparable(self, rows: list[RowValues]) -> list[RowValues]:
        """Convert rows into a form that is equal on both databases."""
        return _by_column(rows, self._compared) if self._compared else rows

    def key_of(self, row: RowValues) -> RowKey:
        return tuple(row[at] for at in self._key_at)

    def show(self, key: RowKey) -> str:
        """Format a key for a message."""
        names = self.table.primary_key.columns.keys()
        return ", ".join(f"{name}={_printable(value)}" for name, value in zip(names, key, strict=True))

    def _page(self, last: RowKey | None) -> list[tuple[RowKey, int]]:
        """The keys of the next rows, each with the approximate size of its row in bytes."""
        sizes = [func.coalesce(each.size, 0) for each in self._conversions if each.size is not None]
        size: ColumnElement[Any] = sum(sizes[1:], sizes[0]) if sizes else literal(0)
        statement = select(*(key.selected for key in self._key), size).order_by(*(key.column for key in self._key))
        if last is not None:
            statement = statement.where(self._position() > self._at("after", last))
        return [(tuple(row[:-1]), row[-1]) for row in self._fetch(statement.limit(ROWS))]

    def _rows(self, last: RowKey | None, end: RowKey) -> list[RowValues]:
        between = [self._position() <= self._at("to", end)]
        if last is not None:
            between.append(self._position() > self._at("after", last))
        ordered = [key.column for key in self._key]
        try:
            rows = self._fetch(self._whole_rows().where(*between).order_by(*ordered))
        except Exception as error:
            if not is_fault_of_values(error):
                raise
            keys = select(*(key.selected for key in self._key)).where(*between).order_by(*ordered)
            rows = [row for key in self._fetch(keys) for row in self._readable(key)]
        if self._is_damaged:
            return self._one_by_one(rows)
        try:
            return _by_column(rows, [(at, each.read) for at, each in enumerate(self._conversions)])
        except NotPortable:
            return self._one_by_one(rows)

    def _whole_rows(self) -> Select[Any]:
        return select(*(each.selected for each in self._conversions))

    def _readable(self, key: RowKey) -> list[RowValues]:
        """The row with this key; nothing, and a call of `problem` for each such value, if its types do not read it."""
        here = self._position() == self._at("here", key)
        try:
            return self._fetch(self._whole_rows().where(here))
        except Exception as error:
            if not is_fault_of_values(error):
                raise
            for each in self._conversions:
                try:
                    self._fetch(select(each.selected).where(here))
                except Exception as error:
                    if not is_fault_of_values(error):
                        raise
                    says = f"holds a value that its type does not read ({told_with_type(error)})"
                    self._problem(Problem(self.table.name, self.show(key), each.name, says))
            return []

    def _one_by_one(self, rows: list[RowValues]) -> list[RowValues]:
        """The rows that can be carried. `problem` is called for each value that cannot."""
        travel = []
        for row in rows:
            told = list(_problems(self._conversions, row))
            for column, says in told:
                self._problem(Problem(self.table.name, self.show(self.key_of(row)), column, says))
            if not told:
                travel += _by_column([row], [(at, each.read) for at, each in enumerate(self._conversions)])
        return travel

    def _fetch(self, statement: Any) -> list[RowValues]:
        try:
            return [tuple(row) for row in self._connection.execute(statement)]
        except DBAPIError as error:
            if "Could not decode" not in str(error.orig):
                raise
        # The table has invalid text, which is decoded loosely so that the message can show the row.
        self._is_damaged = True
        driver: Any = self._connection.connection.driver_connection
        driver.text_factory = lambda content: content.decode("utf-8", "surrogateescape")
        try:
            return [tuple(row) for row in self._connection.execute(statement)]
        finally:
            driver.text_factory = str

    def _position(self) -> Any:
        return tuple_(*(key.column for key in self._key))

    def _at(self, name: str, values: RowKey) -> Any:
        return tuple_(*(key.bound(f"{name}_{at}", values[at]) for at, key in enumerate(self._key)))


class _KeyColumn:
    """A column of a key in a form that JSON and the driver accept; on PostgreSQL, other types become text."""

    def __init__(self, column: Column[Any], dialect: Dialect) -> None:
        self.column = column
        self._bound_as: TypeEngine[Any] = Text()
        if isinstance(column.type, (Boolean, Integer)):
            self._bound_as = BigInteger() if isinstance(column.type, Integer) else Boolean()
        # PostgreSQL's own types of names, as which it stores an `Enum`, compare with no text, and padded text compares
        # in another way than text.
        is_plain = isinstance(column.type, (Boolean, Integer, String)) and not isinstance(column.type, (Enum, *PADDED))
        self._cast = dialect.name == "postgresql" and not is_plain
        self._is_raw = dialect.name != "postgresql"
        self.selected: ColumnElement[Any] = type_coerce(cast(column, Text) if self._cast else column, NullType())

    def bound(self, name: str, value: Any) -> ColumnElement[Any]:
        if self._is_raw:
            if isinstance(value, str) and not _is_valid(value):
                return cast(bindparam(name, _as_bytes(value), type_=NullType()), Text)
            return bindparam(name, value, type_=NullType())
        if self._cast:
            return cast(bindparam(name, value, type_=Text()), self.column.type)
        return bindparam(name, value, type_=self._bound_as)


def _printable(value: Any) -> str:
    """Make a text safe for a terminal."""
    text = str(value)[:SHOWN_OF_KEY]
    return text if text.isprintable() else repr(text)[1:-1]


def _key_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return {"text": _as_bytes(value).hex()} if isinstance(value, str) and not _is_valid(value) else value


def _key_value(value: Any) -> Any:
    match value:
        case {"bytes": str(content)}:
            return bytes.fromhex(content)
        case {"text": str(content)}:
            return bytes.fromhex(content).decode("utf-8", "surrogateescape")
    return value


def _is_valid(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _ends(page: Sequence[tuple[RowKey, int]]) -> Iterator[RowKey]:
    """Yield the keys at which slices end, so that each is within the bound of bytes."""
    held = 0
    for at, (_, size) in enumerate(page):
        if held and held + size > BYTES:
            yield page[at - 1][0]
            held = 0
        held += size
    yield page[-1][0]


def _by_column(rows: list[RowValues], changes: Sequence[tuple[int, Callable[[Any], Any]]]) -> list[RowValues]:
    if not rows:
        return []
    columns: list[Any] = list(zip(*rows, strict=True))
    for at, change in changes:
        columns[at] = [None if value is None else change(value) for value in columns[at]]
    return list(zip(*columns, strict=True))


def _problems(conversions: Sequence[Conversion], row: RowValues) -> Iterator[tuple[str, str]]:
    for each, value in zip(conversions, row, strict=True):
        try:
            if value is not None:
                read = each.read(value)
                if isinstance(read, str):
                    read.encode()
                if each.compared is not None:
                    each.compared(read)
        except UnicodeEncodeError:
            yield each.name, "holds text that is not valid UTF-8"
        except NotPortable as error:
            yield each.name, str(error)


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Writer:
    """Writes rows into one table, within the caller's transaction."""

    def __init__(self, connection: Connection, reader: TableReader) -> None:
        self._connection = connection
        self._reader = reader
        table = reader.table
        #: The columns that are written, by their positions in a row: the database computes the others itself.
        self._written = [at for at, column in enumerate(table.columns) if column.computed is None]
        columns = [table.columns[at] for at in self._written]
        changes = [(at, writer(column, connection.dialect)) for at, column in enumerate(columns)]
        self._changes = [(at, change) for at, change in changes if change is not None]
        names = ", ".join(map(connection.dialect.identifier_preparer.format_column, columns))
        target = f"{connection.dialect.identifier_preparer.format_table(table)} ({names})"
        self._copy = f"COPY {target} FROM STDIN"
        self._insert = f"INSERT INTO {target} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 (our names)

    def write(self, rows: list[RowValues]) -> None:
        """Write rows. Raises `CopyError` for a row that the database refuses, and SQLAlchemy's error otherwise."""
        written = rows
        if len(self._written) < len(self._reader.table.columns):
            written = [tuple(row[at] for at in self._written) for row in rows]
        if self._changes:
            written = _by_column(written, self._changes)
        try:
            with self._connection.begin_nested():
                self._run(written)
        except DBAPIError as error:
            if not is_fault_of_values(error):
                raise
            with self._connection.begin_nested():
                self._name_the_guilty(rows, written)
            raise

    def _name_the_guilty(self, rows: list[RowValues], written: list[RowValues]) -> None:
        for row, single in zip(rows, written, strict=True):
            try:
                with self._connection.begin_nested():
                    self._run([single])
            except DBAPIError as error:
                raise CopyError(
                    f"{self._reader.table.name} {self._reader.show(self._reader.key_of(row))}: TO refuses this row "
                    f"({told(error)}). Mend or delete it, and run this again."
                ) from None

    def _run(self, rows: list[RowValues]) -> None:
        if self._connection.dialect.name != "postgresql":
            self._connection.exec_driver_sql(self._insert, rows)
            return
        driver: Any = self._connection.connection.driver_connection
        with _errors_of(self._connection), driver.cursor() as cursor, cursor.copy(self._copy) as copy:
            for row in rows:
                copy.write_row(row)


@contextmanager
def _errors_of(connection: Connection) -> Iterator[None]:
    """Convert the driver's errors into SQLAlchemy's."""
    base: Any = connection.dialect.dbapi and connection.dialect.dbapi.Error
    try:
        yield
    except base as error:
        raise DBAPIError.instance(None, None, error, base, dialect=connection.dialect) from error
