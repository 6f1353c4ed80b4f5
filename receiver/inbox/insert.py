"""Inserting arrivals: as few statements as possible put a whole batch into the inbox.

Nearly always every key of a batch is new. On SQLite one statement fills each table then, and fails if a key is not new
(docs/decisions/0048); some new arrivals among known ones are inserted into a view, whose trigger fills the tables for
each arrival with a new key. On PostgreSQL, which may be a round trip away, it is one query with several INSERTs. On
both, the delivery and its body are inserted only if the dedup key is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table
from sqlalchemy.exc import IntegrityError

from receiver import codec
from receiver.database.bulk import SIZES, padded, portions, values
from receiver.database.byte_arrays import ByteArray
from receiver.database.columns import iso_text
from receiver.database.database import Database
from receiver.inbox.arrival import Arrival
from receiver.inbox.tables import BODIES, DEDUP_KEYS, DELIVERIES, kept_reason


def insert_all(database: Database, arrivals: Sequence[Arrival]) -> bool:
    """Insert every arrival under its own id and commit, provided that every dedup key is new.

    Otherwise returns False; on PostgreSQL, those with a new key have been inserted.
    """
    if database.is_postgresql:
        return bool(database.run_at_once(*_kind_of(arrivals).query(arrivals))[0][0] == len(arrivals))
    try:
        database.run_together([each for kind, some in _by_kind(arrivals) for each in kind.inserts(some)])
    except IntegrityError:
        return False
    return True


def prepare(arrivals: Iterable[Arrival], *, is_postgresql: bool) -> None:
    """Make the rows of these arrivals, which have their ids, ready for `insert_all`.

    It is done by the thread that made the arrivals, which has them in its caches (docs/decisions/0048). A row that
    cannot be made is left to `insert_all`, which raises the error.
    """
    single, items = (_SINGLE.query_row, _ITEMS.query_row) if is_postgresql else (_SINGLE.table_rows, _ITEMS.table_rows)
    for arrival in arrivals:
        try:  # noqa: SIM105 (entering a context for each arrival takes a third of the time of making its row)
            arrival.row = single(arrival) if arrival.item is None else items(arrival)
        except Exception:  # noqa: S110 (the thread that inserts raises it)
            pass


def insert_new(connection: Connection, arrivals: Sequence[Arrival]) -> None:
    """Insert each arrival with a new dedup key under its own id; if several have the same key, insert the first.

    On SQLite, the body of a bundle with a known first item is left out: `receiver.inbox.duplicates` adds it.
    """
    kind = _kind_of(arrivals)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(*kind.query(arrivals))
    else:
        for statement in _VIEWS:
            connection.exec_driver_sql(statement)
        for rows, size in portions([kind.view_row(arrival) for arrival in arrivals]):
            width = len(kind.columns)
            connection.exec_driver_sql(f"INSERT INTO {kind.view} {values(width, size)}", padded(rows, size, width))


# ── the columns of an arrival ─────────────────────────────────────────────────────────────────────────────────────


class _Column(NamedTuple):
    """A column of an arrival; all statements and row builders here are made from these."""

    name: str
    #: The type of the column on PostgreSQL.
    kind: str
    #: The Python expression of the value; None if the arrival has no value.
    value: str
    #: Whether arrivals of a bundle lack the value, since they share a body.
    is_shared: bool = False

    @property
    def may_be_absent(self) -> bool:
        return self.is_shared or any(table.c[self.name].nullable for table in _FOLLOWING if self.name in table.c)


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
    _Column("reason", "text", "arrival.reason and kept_reason(arrival.reason)"),
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
        column._replace(value=f"None if arrival.body_id else {column.value}", is_shared=True)
        if column.name in _OF_THE_BODY
        else column
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


#: The text of a time that all arrivals of one turn of the event loop share.
_shared_time = lru_cache(maxsize=4)(iso_text)


def _compiled(row: str) -> Callable[[Arrival], Any]:
    """Compile the function that makes a row from an arrival.

    It is one expression for all columns, because a function call for each column took twice as long.
    """
    names = {"encode": codec.encode, "iso_text": iso_text, "kept_reason": kept_reason, "shared_time": _shared_time}
    return eval(f"lambda arrival: {row}", names)  # type: ignore[no-any-return]  # noqa: S307 (our own expressions)


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────────────────────

#: The value that stands for NULL, which the driver binds much more slowly. A value that is there is never empty text.
_ABSENT = ""


def _view(view: str, columns: Sequence[_Column]) -> tuple[str, str]:
    """The statements that make a view, and its trigger, which skips an arrival with a known dedup key."""
    #: The trigger's expression for each column.
    new = {each.name: f"nullif(NEW.{each.name}, '')" if each.may_be_absent else f"NEW.{each.name}" for each in columns}
    has_body = "" if columns is _COLUMNS else f"AND {new['body']} IS NOT NULL"
    return (
        f"CREATE TEMP VIEW IF NOT EXISTS {view} AS SELECT {', '.join(f'NULL AS {column.name}' for column in columns)}",
        f"""
        CREATE TEMP TRIGGER IF NOT EXISTS insert_{view} INSTEAD OF INSERT ON {view} BEGIN
            {_fill(DEDUP_KEYS, new)} WHERE true ON CONFLICT DO NOTHING;
            {_fill(DELIVERIES, new)} WHERE changes() = 1;
            {_fill(BODIES, new)} WHERE changes() = 1 {has_body};
        END
        """,
    )


@cache
def _insertion(fill: str, width: int, size: int) -> str:
    """The statement that inserts `size` rows; kept, since the driver knows a statement by its whole text."""
    return f"{fill} FROM ({values(width, size)})"


def _columns_for(table: Table, columns: Sequence[_Column]) -> list[_Column]:
    """The columns of an arrival from which those of the table are filled."""
    following = " ".join(_FOLLOWING[table].values())
    return [each for each in columns if each.name in table.c or f"{{{each.name}}}" in following]


def _fill_by_place(table: Table, columns: Sequence[_Column]) -> str:
    """The beginning of a statement that fills the table from rows with these columns."""
    read = {
        each.name: f"nullif(column{place}, '')" if each.may_be_absent else f"column{place}"
        for place, each in enumerate(columns, start=1)
    }
    return _fill(table, read)


def _row(columns: Iterable[_Column]) -> str:
    """The expression of a row that the driver binds."""
    return f"({', '.join(map(_sqlite_value, columns))})"


def _sqlite_value(column: _Column) -> str:
    """The expression of the value that the driver binds."""
    value = column.value
    if column.name == "fingerprint":
        # The driver looks for an adapter of any value but text, numbers and these, which takes a microsecond.
        return f"bytearray({value})"
    if column.kind == "boolean":
        return f"1 if {value} else 0"
    if column.kind == "timestamptz":
        value = f"{'shared_time' if column.name == 'received_at' else 'iso_text'}({value})"
    if not column.may_be_absent:
        return value
    if column.kind in ("bytea", "integer"):
        # Empty bytes and the number 0 are values, but None is not.
        return f"{_ABSENT!r} if (value := {value}) is None else value"
    return f"({value}) or {_ABSENT!r}"


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────


def _divided(columns: Sequence[_Column]) -> tuple[list[_Column], list[_Column]]:
    """The columns that the statement reads from JSON, and those with bytes, each of which is an array."""
    return [each for each in columns if each.kind != "bytea"], [each for each in columns if each.kind == "bytea"]


def _query(columns: Sequence[_Column]) -> str:
    """Build the statement, which returns the number of new arrivals. Its parameters are JSON and the arrays of bytes.

    Keys are inserted in sorted order, so that two processes with the same keys wait for each other instead of
    deadlocking. Of two arrivals with one key, the earlier is kept. A bundle's body is kept if any of its items is new.
    It may be there already, since a conflict is inserted after the new items.
    """
    in_json, of_bytes = _divided(columns)
    given = {each.name: each.name for each in columns}
    kept = "JOIN new ON new.delivery_id = arrivals.id"
    if columns is not _COLUMNS:
        kept = (
            "WHERE arrivals.body IS NOT NULL AND arrivals.id IN "
            "(SELECT coalesce(each.body_id, each.id) FROM arrivals AS each JOIN new ON new.delivery_id = each.id) "
            "ON CONFLICT DO NOTHING"
        )
    return f"""
WITH arrivals AS (
    SELECT {", ".join(f"CAST(shown ->> {place} AS {each.kind}) AS {each.name}" for place, each in enumerate(in_json))},
        {", ".join(each.name for each in of_bytes)}
    FROM ROWS FROM (
        jsonb_array_elements(CAST(%s AS jsonb)), {", ".join("unnest(CAST(%b AS bytea[]))" for _ in of_bytes)}
    ) AS given (shown, {", ".join(each.name for each in of_bytes)})
), new AS (
    {_fill(DEDUP_KEYS, given)} FROM arrivals ORDER BY source, lead || dedup_key, id
    ON CONFLICT DO NOTHING
    RETURNING delivery_id
), delivered AS (
    {_fill(DELIVERIES, given)} FROM arrivals JOIN new ON new.delivery_id = arrivals.id
), kept AS (
    {_fill(BODIES, given)} FROM arrivals {kept}
)
SELECT count(*) FROM new
"""  # noqa: S608 (our own names)


def _query_row(columns: Sequence[_Column]) -> str:
    """The expression of an arrival's values in JSON and of its bytes."""
    in_json, of_bytes = _divided(columns)
    return f"(({', '.join(each.value for each in in_json)}), ({', '.join(each.value for each in of_bytes)}))"


# ── the two kinds of batches ──────────────────────────────────────────────────────────────────────────────────────


class _Kind(NamedTuple):
    """The statements that insert arrivals with these columns on either database."""

    columns: Sequence[_Column]
    #: On SQLite, for arrivals that are all new: the beginning of the statement for each table with the number of its
    #: columns, and an arrival's rows in these tables; None in a table where it has no row.
    fills: Sequence[tuple[str, int]]
    table_rows: Callable[[Arrival], Sequence[tuple[Any, ...] | None]]
    #: On SQLite, if some are known: the view, and an arrival's row in it.
    view: str
    view_row: Callable[[Arrival], tuple[Any, ...]]
    #: On PostgreSQL.
    statement: str
    query_row: Callable[[Arrival], tuple[tuple[Any, ...], tuple[bytes | None, ...]]]

    def inserts(self, arrivals: Sequence[Arrival]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield as few statements for SQLite as possible, each with its parameters."""
        rows = [arrival.row or self.table_rows(arrival) for arrival in arrivals]
        for place, (fill, width) in enumerate(self.fills):
            own = [given for row in rows if (given := row[place]) is not None]
            for some, size in portions(own, BATCH_SIZES):
                yield _insertion(fill, width, size), padded(some, size, width)

    def query(self, arrivals: Sequence[Arrival]) -> tuple[str, tuple[str | ByteArray, ...]]:
        """The statement for PostgreSQL, which returns the number of new arrivals, with its parameters."""
        rows = [arrival.row or self.query_row(arrival) for arrival in arrivals]
        arrays = [ByteArray([own[place] for _, own in rows]) for place, _ in enumerate(_divided(self.columns)[1])]
        return self.statement, (codec.encode([shown for shown, _ in rows]).decode(), *arrays)


def _kind(view: str, columns: Sequence[_Column]) -> _Kind:
    by_table = {table: _columns_for(table, _COLUMNS if table is BODIES else columns) for table in _FOLLOWING}
    # Of the items of a bundle, only the first has a body.
    body = ("" if columns is _COLUMNS else "None if arrival.body_id else ") + _row(by_table[BODIES])
    return _Kind(
        columns=columns,
        fills=[(_fill_by_place(table, own), len(own)) for table, own in by_table.items()],
        table_rows=_compiled(f"({_row(by_table[DEDUP_KEYS])}, {_row(by_table[DELIVERIES])}, {body})"),
        view=view,
        view_row=_compiled(_row(columns)),
        statement=_query(columns),
        query_row=_compiled(_query_row(columns)),
    )


#: The sizes of statements for arrivals that are all new: each table gets the rows of a whole batch in one.
BATCH_SIZES = (*SIZES, 96, 128, 192, 256)

#: Nearly all batches have only bodies with one event, which need two columns less. The names of the views must differ
#: from all tables of dialects, because a view would hide a table with its name.
_SINGLE = _kind("hookmirror_arrivals", _COLUMNS)
_ITEMS = _kind("hookmirror_items", _ITEM_COLUMNS)

#: The views belong to a connection, not to the file: they change with this code, without a migration.
_VIEWS = tuple(statement for kind in (_SINGLE, _ITEMS) for statement in _view(kind.view, kind.columns))


def _kind_of(arrivals: Sequence[Arrival]) -> _Kind:
    for arrival in arrivals:
        if arrival.item is not None:
            return _ITEMS
    return _SINGLE


def _by_kind(arrivals: Sequence[Arrival]) -> Iterator[tuple[_Kind, Sequence[Arrival]]]:
    """Divide the arrivals into those with one event to a body and items of bundles, if there are any."""
    if _kind_of(arrivals) is _SINGLE:
        yield _SINGLE, arrivals
        return
    yield _SINGLE, [each for each in arrivals if each.item is None]
    yield _ITEMS, [each for each in arrivals if each.item is not None]
