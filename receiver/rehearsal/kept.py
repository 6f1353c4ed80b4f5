"""Copies kept deliveries of one source into a file, so that rehearsed code never opens the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

from receiver.database.bulk import insert_mappings
from receiver.database.database import Database
from receiver.database.errors import is_infrastructure_error
from receiver.errors import HookmirrorError
from receiver.header_values import KeptBody
from receiver.inbox.bodies import bodies_of
from receiver.inbox.tables import BODIES, BODY_ID, DELIVERIES, HAS_ENDED, State
from receiver.logs.safe_text import told_with_type

#: The most deliveries, and the most bytes of bodies, that one transaction copies.
AT_ONCE, BYTES_AT_ONCE = 200, 4 * 1024 * 1024

#: The columns of a delivery that are copied: its content, not its results.
KEPT_COLUMNS = (
    *("id", "source", "event_type", "entity_kind", "entity_id", "occurred_at", "received_at", "dedup_key"),
    *("item", "body_id"),
)


def copy_kept(database: Database, source: str, last: int, file: Path) -> list[RowMapping]:
    """Copy the last deliveries of the source that have ended and still have a body into a new SQLite file.

    Returns their rows without bodies, in the order of arrival.
    """
    found = _last(database, source, last)
    with closing(Database(f"sqlite:///{file}")) as kept:
        with telling_of_scratch(), kept.write() as connection:
            SQLModel.metadata.create_all(connection, tables=[DELIVERIES, BODIES])
        for some in _portions(found):
            bodies = _bodies(database, some)
            with telling_of_scratch(), kept.write() as connection:
                add_pending(connection, [row for row in some if _body_id(row) in bodies], bodies)
    return found


@contextmanager
def telling_of_scratch() -> Iterator[None]:
    """Raise `HookmirrorError` for an error of the rehearsal's files, which are not the database in the settings."""
    try:
        yield
    except SQLAlchemyError as error:
        if not is_infrastructure_error(error):
            # Such as a column type that SQLite does not have.
            raise HookmirrorError(f"The rehearsal cannot go on: {told_with_type(error)}") from error
        raise HookmirrorError(
            f"The temporary files of the rehearsal in {gettempdir()} cannot be used ({told_with_type(error)}): free "
            "some space there, name another folder with TMPDIR, or rehearse with fewer deliveries."
        ) from error


def read_kept(file: Path) -> Iterator[tuple[list[RowMapping], dict[int, bytes]]]:
    """Read the copied deliveries, a few at a time, with their bodies by the bodies' ids."""
    with closing(Database(f"sqlite:///{file}")) as kept:
        with kept.read() as connection:
            columns = (*DELIVERIES.c[KEPT_COLUMNS], func.length(BODIES.c.body).label("size"))
            joined = DELIVERIES.join(BODIES, BODIES.c.delivery_id == BODY_ID)
            wanted = select(*columns).select_from(joined).order_by(DELIVERIES.c.id)
            rows = list(connection.execute(wanted).mappings())
        for some in _portions(rows):
            yield some, _bodies(kept, some)


def add_pending(connection: Connection, rows: Sequence[RowMapping], bodies: dict[int, bytes]) -> None:
    """Insert these rows as due deliveries, in the order of arrival."""
    now = datetime.now(UTC)
    insert_mappings(connection, DELIVERIES, [_pending(row, now) for row in rows])
    insert_mappings(
        connection,
        BODIES,
        [
            {"delivery_id": body_id, "body": bodies[body_id], "plain": None, "headers": _headers(bodies[body_id])}
            for body_id in dict.fromkeys(map(_body_id, rows))
        ],
        conflict="ON CONFLICT DO NOTHING",
    )


def _headers(body: bytes) -> dict[str, str]:
    """The headers that an envelope function reads; the others are not copied."""
    return dict(body.headers) if isinstance(body, KeptBody) else {}


def _pending(row: RowMapping, now: datetime) -> dict[str, Any]:
    kept = {name: row[name] for name in KEPT_COLUMNS}
    # Not due at its arrival, which may lie ahead: the clock may have been set back since.
    return {**kept, "state": State.PENDING.value, "due_at": now, "conflict": False}


def _last(database: Database, source: str, last: int) -> list[RowMapping]:
    columns = (*DELIVERIES.c[KEPT_COLUMNS], *DELIVERIES.c["state", "outcome", "reason"])
    size = func.coalesce(func.length(BODIES.c.plain), func.length(BODIES.c.body)).label("size")
    wanted = (
        select(*columns, size)
        .join(BODIES, BODIES.c.delivery_id == BODY_ID)
        .where(DELIVERIES.c.source == source, HAS_ENDED)
        .order_by(DELIVERIES.c.id.desc())
        .limit(last)
    )
    with database.read() as connection:
        return list(connection.execute(wanted).mappings())[::-1]


def _bodies(database: Database, rows: Sequence[RowMapping]) -> dict[int, bytes]:
    """Read verified bodies by their ids; a rehearsal's file has no others."""
    with database.read() as connection:
        return bodies_of(connection, map(_body_id, rows))


def _body_id(row: RowMapping) -> int:
    return int(row["body_id"] or row["id"])


def _portions(rows: Sequence[RowMapping]) -> Iterator[list[RowMapping]]:
    portion: list[RowMapping] = []
    size = 0
    for row in rows:
        if portion and (len(portion) >= AT_ONCE or size + (row["size"] or 0) > BYTES_AT_ONCE):
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += row["size"] or 0
    if portion:
        yield portion
