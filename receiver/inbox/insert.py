"""Inserting arrivals: one statement puts a whole batch into the inbox, and may be a transaction by itself.

A single statement is used because each statement takes the interpreter's lock several times beside a busy event loop,
and costs a round trip to a remote database (docs/decisions/0011). On SQLite it is an INSERT into a view whose trigger
fills the three tables; on PostgreSQL it is one query with several INSERTs. On both, the delivery and its body are
inserted only if the dedup key is.

Nearly always every key of a batch is new. On SQLite the statement fails if a key is not new, because a second statement
that counts the inserted rows would take the interpreter's lock as often as the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError

from receiver import codec
from receiver.database.bulk import SIZES, padded, portions, values
from receiver.database.columns import iso_text
from receiver.database.database import Database
from receiver.inbox.arrival import Arrival
from receiver.inbox.tables import BODIES, DEDUP_KEYS, DELIVERIES, kept_reason

#: The channel on which PostgreSQL notifies the workers of other processes of accepted deliveries.
CHANNEL = "hookmirror_accepted"


def insert_all(database: Database, arrivals: Sequence[Arrival]) -> bool:
    """Insert every arrival under its own id and commit, provided that every dedup key is new.

    Otherwise returns False; some arrivals may have been inserted.
    """
    kind = _kind_of(arrivals)
    if database.is_postgresql:
        return bool(database.run_at_once(*kind.query(arrivals))[0][0] == len(arrivals))
    try:
        if len(arrivals) <= kind.sizes[-1]:
            for statement in kind.inserts(kind.all_new, arrivals):
                database.run_at_once(*statement, after=_VIEWS)
        else:
            with database.write() as connection:
                _insert_into_sqlite(connection, kind, kind.all_new, arrivals)
    except IntegrityError:
        return False
    return True


def insert_new(connection: Connection, arrivals: Sequence[Arrival]) -> None:
    """Insert each arrival with a new dedup key under its own id; if several have the same key, insert the first.

    On SQLite, the body of a bundle with a known first item is left out: `receiver.inbox.duplicates` adds it.
    """
    kind = _kind_of(arrivals)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(*kind.query(arrivals))
    else:
        _insert_into_sqlite(connection, kind, kind.some_new, arrivals)


# ── the columns of an arrival ─────────────────────────────────────────────────────────────────────────────────────


class _Column(NamedTuple):
    """A column of an arrival; all statements and row builders here are made from these."""

    name: str
    #: The type of the column on PostgreSQL.
    kind: str
    #: The Python expression of the value; None if the arrival has no value.
    value: str

    @property
    def is_nullable(self) -> bool:
        return any(table.c[self.name].nullable for table in _FOLLOWING if self.name in table.c)


#: The columns in the order of a row. Each fills the columns with its name in all tables of the inbox, if there are any.
_COLUMNS = (
    _Column("id", "bigint", "arrival.id"),
    _Column("source", "text", "arrival.source"),
    _Column("event_type", "text", "arrival.event_type or None"),
    _Column("entity_kind", "text", "arrival.entity and arrival.entity[0]"),
    _Column("entity_id", "text", "arrival.entity and arrival.entity[1]"),
    _Column("occurred_at", "timestamptz", "arrival.occurred_at"),
    _Column("received_at", "timestamptz", "arrival.received_at"),
    _Column("state", "text", "arrival.state._value_"),
    _Column("reason", "text", "kept_reason(arrival.reason)"),
    _Column("dedup_key", "text", "arrival.dedup_key"),
    _Column("lead", "text", "arrival.lead"),
    _Column("fingerprint", "bytea", "arrival.fingerprint"),
    _Column("conflict", "boolean", "arrival.conflict"),
    _Column("secret", "integer", "arrival.secret"),
    _Column("body", "bytea", "arrival.body"),
    _Column("plain", "bytea", "arrival.plain"),
    _Column("headers", "text", "encode(arrival.headers).decode()"),
)

_OF_THE_BODY = ("body", "plain", "headers")

#: The columns of an item of a bundle, of which only the first item has a body.
_ITEM_COLUMNS = (
    *(
        column._replace(value=f"None if arrival.body_id else {column.value}") if column.name in _OF_THE_BODY else column
        for column in _COLUMNS
    ),
    _Column("item", "integer", "arrival.item"),
    _Column("body_id", "bigint", "arrival.body_id or None"),
)

#: Further columns of each table, computed from the columns of an arrival, which are in braces.
_FOLLOWING: dict[Table, dict[str, str]] = {
    DEDUP_KEYS: {"delivery_id": "{id}", "dedup_key": "{lead} || {dedup_key}"},
    DELIVERIES: {
        "due_at": "{received_at}",
        "ended_at": "CASE {state} WHEN 'pending' THEN NULL ELSE {received_at} END",
    },
    BODIES: {"delivery_id": "{id}"},
}


def _fill(table: Table, read: Mapping[str, str]) -> str:
    """The beginning of a statement that inserts arrivals into a table; `read` formats a column reference."""
    filled = {name: text for name, text in read.items() if name in table.c}
    filled |= {name: text.format_map(read) for name, text in _FOLLOWING[table].items()}
    return f"INSERT INTO {table.name} ({', '.join(filled)}) SELECT {', '.join(filled.values())}"


def _compiled(row: str) -> Callable[[Arrival], Any]:
    """Compile the function that makes a row from an arrival.

    It is one expression for all columns, because a function call for each column took twice as long.
    """
    names = {"encode": codec.encode, "iso_text": iso_text, "kept_reason": kept_reason}
    return eval(f"lambda arrival: {row}", names)  # type: ignore[no-any-return]  # noqa: S307 (our own expressions)


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────────────────────

#: The value that stands for NULL, which the driver binds much more slowly. No nullable column is ever empty text.
_ABSENT = ""


def _view(view: str, columns: Sequence[_Column], conflict: str) -> tuple[str, str]:
    """The statements that make a view and its trigger."""
    #: The trigger's expression for each column.
    new = {each.name: f"nullif(NEW.{each.name}, '')" if each.is_nullable else f"NEW.{each.name}" for each in columns}
    has_body = "" if columns is _COLUMNS else "AND NEW.body IS NOT NULL"
    return (
        f"CREATE TEMP VIEW IF NOT EXISTS {view} AS SELECT {', '.join(f'NULL AS {column.name}' for column in columns)}",
        f"""
        CREATE TEMP TRIGGER IF NOT EXISTS insert_{view} INSTEAD OF INSERT ON {view} BEGIN
            {_fill(DEDUP_KEYS, new)} WHERE true {conflict};
            {_fill(DELIVERIES, new)} WHERE changes() = 1;
            {_fill(BODIES, new)} WHERE changes() = 1 {has_body};
        END
        """,
    )


def _insert_into_sqlite(connection: Connection, kind: _Kind, view: str, arrivals: Sequence[Arrival]) -> None:
    for statement in _VIEWS:
        connection.exec_driver_sql(statement)
    for statement, parameters in kind.inserts(view, arrivals):
        connection.exec_driver_sql(statement, parameters)


def _sqlite_value(column: _Column) -> str:
    """The expression of the value that the driver binds."""
    value = column.value
    if column.kind == "boolean":
        return f"1 if {value} else 0"
    if column.kind == "timestamptz":
        value = f"iso_text({value})"
    if not column.is_nullable:
        return value
    if column.kind in ("bytea", "integer"):
        # Empty bytes and the number 0 are values, unlike None.
        return f"{_ABSENT!r} if (value := {value}) is None else value"
    return f"{value} or {_ABSENT!r}"


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────


def _query(columns: Sequence[_Column]) -> str:
    """Build the statement, which returns the number of new arrivals. Its parameter is JSON, with bytes in Base64.

    Keys are inserted in sorted order, so that two processes with the same keys wait for each other instead of
    deadlocking. Of two arrivals with one key, the earlier is kept. A bundle's body is kept if any of its items is new.
    """
    given = {each.name: f"decode({each.name}, 'base64')" if each.kind == "bytea" else each.name for each in columns}
    kept = "JOIN new ON new.delivery_id = arrivals.id"
    if columns is not _COLUMNS:
        kept = (
            "WHERE arrivals.body IS NOT NULL AND arrivals.id IN "
            "(SELECT coalesce(each.body_id, each.id) FROM arrivals AS each JOIN new ON new.delivery_id = each.id)"
        )
    return f"""
WITH arrivals AS (
    SELECT * FROM json_to_recordset(CAST(%s AS json)) AS given (
        {", ".join(f"{each.name} {'text' if each.kind == 'bytea' else each.kind}" for each in columns)}
    )
), new AS (
    {_fill(DEDUP_KEYS, given)} FROM arrivals ORDER BY source, lead || dedup_key, id
    ON CONFLICT DO NOTHING
    RETURNING delivery_id
), delivered AS (
    {_fill(DELIVERIES, given)} FROM arrivals JOIN new ON new.delivery_id = arrivals.id
), kept AS (
    {_fill(BODIES, given)} FROM arrivals {kept}
)
SELECT count(*), pg_notify('{CHANNEL}', '') FROM new
"""  # noqa: S608 (our own names)


# ── the two kinds of batches ──────────────────────────────────────────────────────────────────────────────────────


class _Kind(NamedTuple):
    """The statements that insert arrivals with these columns on either database."""

    #: The two views: the first fails for a known dedup key, the second skips arrivals with a known dedup key.
    all_new: str
    some_new: str
    columns: Sequence[_Column]
    sqlite_row: Callable[[Arrival], Any]
    json_row: Callable[[Arrival], Any]
    statement: str
    #: The possible numbers of rows of one statement on SQLite.
    sizes: Sequence[int]

    def inserts(self, view: str, arrivals: Sequence[Arrival]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield as few statements for SQLite as possible, each with its parameters."""
        width = len(self.columns)
        for rows, size in portions([self.sqlite_row(arrival) for arrival in arrivals], self.sizes):
            yield f"INSERT INTO {view} {values(width, size)}", padded(rows, size, width)

    def query(self, arrivals: Sequence[Arrival]) -> tuple[str, tuple[str]]:
        """The statement for PostgreSQL, which returns the number of new arrivals, with its parameter."""
        return self.statement, (codec.encode([self.json_row(arrival) for arrival in arrivals]).decode(),)


def _kind(view: str, columns: Sequence[_Column], sizes: Sequence[int]) -> _Kind:
    return _Kind(
        all_new=view,
        some_new=f"{view}_or_duplicates",
        columns=columns,
        sqlite_row=_compiled(f"({', '.join(map(_sqlite_value, columns))})"),
        json_row=_compiled(f"{{{', '.join(f'{column.name!r}: {column.value}' for column in columns)}}}"),
        statement=_query(columns),
        sizes=sizes,
    )


#: Nearly all batches have only bodies with one event, which need two columns less. The names of the views must differ
#: from all tables of dialects, because a view would hide a table with its name. A body with a hundred events is one
#: statement, and therefore one transaction.
_SINGLE = _kind("hookmirror_arrivals", _COLUMNS, SIZES)
_ITEMS = _kind("hookmirror_items", _ITEM_COLUMNS, (*SIZES, 128, 256))

#: The views belong to a connection, not to the file: they change with this code, without a migration.
_VIEWS = tuple(
    statement
    for kind in (_SINGLE, _ITEMS)
    for view, conflict in ((kind.all_new, ""), (kind.some_new, "ON CONFLICT DO NOTHING"))
    for statement in _view(view, kind.columns, conflict)
)


def _kind_of(arrivals: Sequence[Arrival]) -> _Kind:
    for arrival in arrivals:
        if arrival.item is not None:
            return _ITEMS
    return _SINGLE
