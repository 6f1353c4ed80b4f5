"""Cursors: signed texts with the beginning of the next page of a list.

A cursor names its list, the list's filters, and the database. A cursor of the change feed also has the mark
of its last change: after a restore, the feed may have a different change of the same number. A cursor of a list
with relative times, such as `2h`, also has the time of the first page, from which these count on every page.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from itsdangerous import BadSignature, URLSafeSerializer

from receiver.codec import canonical
from receiver.errors import BadRequest
from receiver.search.filters import ChangeFilter, DeliveryFilter, RowFilter, as_text
from receiver.search.windows import SortKey

CURSOR_SALT = "hookmirror-cursor"

#: The longest cursor, in characters; enough for the longest key with every character escaped.
LONGEST_CURSOR = 16_384

#: The parameter that an error about a cursor names.
NAMES_CURSOR = ("cursor",)


class ListedIn:
    """The list that a cursor belongs to: its name, its filters, and the database."""

    def __init__(
        self,
        name: str,
        wanted: DeliveryFilter | RowFilter | ChangeFilter,
        identity: str,
        *,
        as_of: datetime | None = None,
    ) -> None:
        """`as_of` is the time from which the relative times of the filters count; None if there are none."""
        self.name = name
        self.as_of = as_of
        self.filters = sha256(canonical(as_text(wanted))).hexdigest()[:16]
        self.identity = identity


class _Content(NamedTuple):
    """The signed content of a cursor."""

    name: str
    filters: str
    identity: str
    key: list[Any]
    mark: str
    as_of: datetime | None = None


class Cursors:
    """Writes and reads cursors. `keys` are the installation's, oldest first: the last signs, and each verifies."""

    def __init__(self, keys: list[str]) -> None:
        self._serializer = URLSafeSerializer(keys, salt=CURSOR_SALT)

    def write(self, listed: ListedIn, key: SortKey | None, *, mark: str = "") -> str | None:
        """Make the cursor of the page that begins after this key; None without a key."""
        if key is None:
            return None
        content = [listed.name, listed.filters, listed.identity, list(key), mark]
        return str(self._serializer.dumps(content if listed.as_of is None else [*content, listed.as_of.isoformat()]))

    def as_of(self, cursor: str | None) -> datetime | None:
        """The time from which the relative times of the cursor's list count; None without a cursor, and without any.

        Raises `BadRequest` for a text that `write` did not return.
        """
        return None if cursor is None else self._content(cursor).as_of

    def read(self, listed: ListedIn, cursor: str | None) -> SortKey | None:
        """Read the key from a cursor. Raises `BadRequest` for a text that `write` did not return for this list."""
        if cursor is None:
            return None
        content = self._content(cursor)
        _refuse_other_list(listed, content)
        if content.identity != listed.identity:
            raise BadRequest(
                "`cursor` belongs to another database: leave it out, to begin with the first page.", names=NAMES_CURSOR
            )
        return tuple(content.key)

    def read_feed(self, listed: ListedIn, cursor: str) -> tuple[int, str, bool]:
        """Read a cursor of the feed: the number and the mark of its change, and whether it is from this database."""
        content = self._content(cursor)
        _refuse_other_list(listed, content)
        return content.key[0], content.mark, content.identity == listed.identity

    def _content(self, cursor: str) -> _Content:
        try:
            content: Any = self._serializer.loads(cursor) if len(cursor) <= LONGEST_CURSOR else None
        except (BadSignature, ValueError, UnicodeError):
            content = None
        match content:
            case [str(name), str(filters), str(identity), list(key), str(mark)]:
                return _Content(name, filters, identity, key, mark)
            case [str(name), str(filters), str(identity), list(key), str(mark), str(as_of)]:
                return _Content(name, filters, identity, key, mark, datetime.fromisoformat(as_of))
        raise BadRequest(
            "`cursor` was not signed by this installation: give `next` of the previous page unchanged, under the same "
            "HOOKMIRROR_SECRET_KEY, or leave it out, to begin with the first page.",
            names=NAMES_CURSOR,
        )


def _refuse_other_list(listed: ListedIn, content: _Content) -> None:
    if content.name != listed.name:
        raise BadRequest(
            f"`cursor` belongs to the list {content.name}, not {listed.name}: leave it out, or use it there.",
            names=NAMES_CURSOR,
        )
    if content.filters != listed.filters:
        raise BadRequest(
            "`cursor` belongs to other filters: repeat those of its first page, or leave it out.", names=NAMES_CURSOR
        )
