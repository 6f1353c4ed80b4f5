"""Column types that keep values exactly: decimals with all their digits, times in UTC, objects as JSON.

Each type has one form per database and one in Python. `receiver.database.normalizers` converts or refuses values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar, cast

from msgspec import Raw
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Integer,
    Numeric,
    Table,
    Text,
    type_coerce,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

from receiver import codec
from receiver.database.damage import (
    DamagedList,
    DamagedMoment,
    DamagedObject,
    checked_json,
    damage_of,
    damaged,
    damaged_moment,
    read_document,
)

#: The largest exponent, positive or negative, of a decimal column; beyond it, databases behave differently.
LARGEST_EXPONENT = 1000


class ExactDecimal(TypeDecorator[Decimal]):
    """A decimal with all its digits: NUMERIC on PostgreSQL; text on SQLite, whose NUMERIC is a float."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Numeric() if dialect.name == "postgresql" else Text())

    def bind_processor(self, dialect: Dialect) -> Callable[[Decimal | None], Any] | None:
        return None if dialect.name == "postgresql" else _digits

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 (signature is SQLAlchemy's)
        return _number_of


class ShownDecimal(ExactDecimal):
    """An `ExactDecimal` that is read to be shown: damaged text is a sentence."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 (signature is SQLAlchemy's)
        return _shown_number


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time: TIMESTAMPTZ on PostgreSQL, on SQLite ISO 8601 text in UTC, which sorts and reads well.

    A damaged value is read as a time that says so.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=True) if dialect.name == "postgresql" else Text())

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        return None if dialect.name == "postgresql" else iso_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:  # noqa: ARG002 (signature is SQLAlchemy's)
        return _utc if dialect.name == "postgresql" else _moment_of


class Document(TypeDecorator[Any]):
    """A JSON value as text, its fractions exact. Damaged text is read as a value that says so."""

    impl = Text
    cache_ok = True

    #: The Python type of every value of the column, and the sentence that says what repairs a damaged one.
    shape: ClassVar[Any] = Any
    mend: ClassVar[str] = "A reconcile of its source brings the value again."

    def __init_subclass__(cls, **options: Any) -> None:
        """Allow the caching of statements with columns of this class; SQLAlchemy requires this in each class."""
        super().__init_subclass__(**options)
        cls.cache_ok = True
        codec.describe_shape(cls.shape)

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], str | None]:  # noqa: ARG002 (signature is SQLAlchemy's)
        return _json_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], Any]:  # noqa: ARG002 (signature is SQLAlchemy's)
        shape, mend = self.shape, self.mend
        return lambda text: None if text is None else read_document(text, shape, mend)


class RawDocument(TypeDecorator[Any]):
    """A `Document` that stays JSON text when read, which takes a fraction of the memory."""

    impl = Text
    cache_ok = True

    def __init__(self, document: type[Document]) -> None:
        super().__init__()
        #: The type of the column.
        self.document = document

    def process_result_value(self, value: str | None, dialect: Dialect) -> Raw | None:  # noqa: ARG002 (signature is SQLAlchemy's)
        return None if value is None else checked_json(value, self.document.shape, self.document.mend)


def raw_columns(table: Table, *, but: Collection[str] = ()) -> list[ColumnElement[Any]]:
    """The table's columns except `but`, for display: documents as JSON text, damaged values as sentences."""
    return [_shown(column) for column in table.columns if column.name not in but]


def _shown(column: Column[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, Document):
        return type_coerce(column, RawDocument(type(column.type))).label(column.name)
    return type_coerce(column, ShownDecimal()).label(column.name) if isinstance(column.type, ExactDecimal) else column


class Many(TypeDecorator[Sequence[Any]]):
    """A list of values of one type as one parameter: an array on PostgreSQL, JSON on SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[TypeEngine[Any]]) -> None:
        super().__init__()
        #: BigInteger or Text.
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(ARRAY(self.kind) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Sequence[Any] | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return codec.encode(value).decode()


class among(FunctionElement[Any]):  # noqa: N801 (it is used like a function)
    """`among(column, bindparam("ids", type_=Many(BigInteger)))`: IN, in the same statement for any number of ids."""

    # Not Boolean, which SQLAlchemy would compare by `… = 1` on SQLite, and no index covers that.
    type = NullType()
    name = "among"
    inherit_cache = True


@compiles(among, "sqlite")
def _among_json(element: among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 (both are compiled)


@compiles(among, "postgresql")
def _among_array(element: among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"


class place_of(FunctionElement[int]):  # noqa: N801 (a function, as its callers see it)
    """`place_of("text", column)`: the position, from 1, of the text's first exact occurrence; 0 without one."""

    type = Integer()
    name = "place_of"
    inherit_cache = True


@compiles(place_of, "sqlite")
def _place_instr(element: place_of, compiler: SQLCompiler, **options: Any) -> str:
    sought, column = (compiler.process(clause, **options) for clause in element.clauses)
    return f"instr({column}, {sought})"


@compiles(place_of, "postgresql")
def _place_strpos(element: place_of, compiler: SQLCompiler, **options: Any) -> str:
    sought, column = (compiler.process(clause, **options) for clause in element.clauses)
    return f"strpos({column}, {sought})"


def iso_text(value: datetime | None) -> str | None:
    """Format a time as stored on SQLite: ISO 8601 in UTC, always with microseconds; damage as it is stored."""
    if value is None:
        return None
    if isinstance(value, DamagedMoment):
        if value.says is not None:
            return cast("str", value.stored)
        value = datetime.fromtimestamp(value.timestamp(), UTC)
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    # The JSON encoder takes a fraction of the time of `isoformat`.
    text = codec.encode(value).decode()
    return text[1:-1] if value.microsecond else f"{text[1:-2]}.000000Z"


def _digits(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _number_of(stored: Any) -> Any:
    """The number of an `ExactDecimal`; for damaged text, the value that stands for it."""
    try:
        return None if stored is None else Decimal(stored)
    except InvalidOperation:
        return damaged(str(stored), "is not a number", mend=Document.mend)


def _shown_number(stored: Any) -> Any:
    number = _number_of(stored)
    return damage_of(number) or number


def _json_text(value: Any) -> str | None:
    """Encode the value of a `Document`; damage as it is stored."""
    if value is None:
        return None
    if isinstance(value, (DamagedObject, DamagedList)):
        return value.text
    return codec.encode(value).decode()


def _moment_of(text: str | None) -> datetime | None:
    """Parse a time stored on SQLite; one without an offset is in UTC, as SQLite's own functions write it."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return damaged_moment(text)


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def by_kind(kind: TypeEngine[Any], choices: Iterable[tuple[Any, Any]], otherwise: Any) -> Any:
    """The choice for the first of these classes (or tuples of them) that the column type `kind` belongs to."""
    # SQLModel wraps the types of text columns in one of its own.
    inside = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
    for kinds, choice in choices:
        if isinstance(kind, kinds) or isinstance(inside, kinds):
            return choice
    return otherwise
