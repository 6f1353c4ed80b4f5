"""Turns a source's answers about rows into news for the mirror."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from receiver.codec import is_equal, storable
from receiver.dialects.listing import Listed
from receiver.envelope import LONGEST_NAME
from receiver.errors import ApiError, HandlerError, Unreadable
from receiver.logs.safe_text import quoted, told
from receiver.mirror.rows import ACTIVE, Key, MirrorRow, Write, check_id, child_tables, own_columns
from receiver.mirror.versions import Rank
from receiver.reconcile.mark import Mark
from receiver.reconcile.window import Window


class UnstorableError(ApiError):
    """A listed row has a value that its column cannot hold, or an id that is too long."""


def key_of(source: str, row: Listed) -> Key:
    """Make the key of a listed row, with a digest in place of an id that is too long, which no row of the mirror has.

    Raises `ApiError` for an id that is not text, or is empty.
    """
    if not isinstance(row.external_id, str) or not row.external_id:
        raise ApiError(
            f"The list gives {row.table.__name__} the id {quoted(row.external_id)}: the dialect has to give an id as "
            f"text of 1 to {LONGEST_NAME} characters."
        )
    if has_long_id(row):
        # Longer than any id of the mirror, and the same for the same id.
        digest = hashlib.sha256(row.external_id.encode("utf-8", "surrogatepass")).hexdigest()
        return Key(row.table, source, digest * (LONGEST_NAME // len(digest) + 1))
    return Key(row.table, source, storable(row.external_id))


def has_long_id(row: Listed) -> bool:
    """Whether the id of the row is longer than the mirror can hold."""
    return len(row.external_id) > LONGEST_NAME


def refuse_long_id(row: Listed) -> None:
    """Raise `UnstorableError` for a row whose id is longer than the mirror can hold."""
    if has_long_id(row):
        raise UnstorableError(
            f"The list gives {row.table.__name__} the id {quoted(row.external_id)}, which is longer than "
            f"{LONGEST_NAME} characters: let the dialect shorten it."
        )


def present(source: str, row: Listed, window: Window, as_of: datetime) -> Write:
    """Make the news that the row exists with these columns.

    Raises `UnstorableError` for a value that cannot be stored, and `ApiError` for an id, a column or an `active`
    that is not valid.
    """
    key, columns = key_of(source, row), _columns(row)
    refuse_long_id(row)
    return Write(key, window.version(Rank.UPDATE, as_of), columns)


def news(mark: Mark, rows: Iterable[Listed], window: Window, as_of: datetime) -> list[Write]:
    """Make the news that the source has these rows. The mark counts those with a value that cannot be stored."""
    writes = []
    for row in rows:
        try:
            writes.append(present(mark.source, row, window, as_of))
        except UnstorableError as error:
            mark.unstorable, mark.unstorable_reason = mark.unstorable + 1, told(error)
    return writes


def absent(key: Key, window: Window, as_of: datetime) -> Write:
    """Make the news that the source does not have the row."""
    return Write(key, window.version(Rank.ABSENT, as_of), {ACTIVE: False})


def gone(key: Key, window: Window, as_of: datetime) -> list[Write]:
    """Make the news that a row is gone after a lookup, and its children with it."""
    version = window.version(Rank.ABSENT, as_of)
    children = [Write(key, version, {}, children_gone=child) for child in child_tables(key.table)]
    return [absent(key, window, as_of), *children]


def differs(row: MirrorRow, write: Write) -> bool:
    """Whether a column has another value in the row; 1.0 and 1.00 are one number, since an API may write either."""
    return any(not is_equal(getattr(row, name), value) for name, value in write.columns.items())


def _columns(row: Listed) -> dict[str, Any]:
    if not isinstance(row.active, bool):
        raise ApiError(
            f"The list gives {row.table.__name__} {quoted(row.external_id)} `active` = {quoted(row.active)}: the "
            "dialect has to give True or False."
        )
    known = own_columns(row.table)
    unknown = sorted(set(row.columns) - set(known))
    if unknown:
        raise ApiError(f"The list gives {row.table.__name__} a column `{unknown[0]}`, which it does not have.")
    try:
        columns = {name: None if value is None else known[name](name, value) for name, value in row.columns.items()}
        check_id("parent", columns.get("parent"))
    except (HandlerError, Unreadable) as error:
        raise UnstorableError(
            f"The list gives {row.table.__name__} {row.external_id!r} a value that cannot be stored: {error}"
        ) from None
    return {ACTIVE: row.active} | columns
