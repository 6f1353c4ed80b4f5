"""News: what handlers say about rows, by the verbs of `Mirror`.

A handler's verbs do not access the database. They are collected as `Write`s, and the worker applies a whole batch
through the version guard (`receiver.mirror.unit_of_work`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from receiver.codec import storable
from receiver.database.normalizers import Normalizer, document
from receiver.errors import HandlerError, Unreadable
from receiver.logs.safe_text import quoted
from receiver.mirror.rows import ACTIVE, Key, MirrorRow, Row, Write, check_id, child_tables, own_columns
from receiver.mirror.versions import Patch, Rank, Version, microseconds
from receiver.moments import in_utc, is_shrunk, is_zero

#: A function that reads one row as it would be after these writes; it returns None if there is no news about the row.
ReadRow = Callable[[Key, "list[Write]"], "MirrorRow | None"]


class Mirror:
    """The mirror's interface for handlers. Every verb adds news with the time of the event, or with `at` if given."""

    def __init__(
        self,
        *,
        source: str,
        occurred_at: datetime,
        arrival: int,
        earlier: list[Write],
        read: ReadRow,
        session: Session | None = None,
    ) -> None:
        self.writes: list[Write] = []
        #: The columns of each row and version in `writes`, apart from those about children.
        self._written: dict[tuple[Key, Version], dict[str, Any]] = {}
        self._source = source
        self._occurred_at = occurred_at
        self._arrival = arrival
        self._earlier = earlier
        self._read = read
        self._session = session
        #: Whether the handler has read rows, or may have.
        self.has_read = False

    @property
    def session(self) -> Session:
        """A session for a handler's own SQL, inside the transaction that settles the delivery.

        A handler that uses it runs inside that transaction, in a savepoint. This is slower, and still all or nothing:
        its SQL is committed with the delivery, and rolled back if the attempt fails.
        """
        if self._session is None:
            raise SessionRequested
        self.has_read = True
        return self._session

    def upsert(
        self,
        table: type[MirrorRow],
        external_id: str,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        at: datetime | None = None,
        **columns: Any,
    ) -> None:
        """Add news that the row exists and has these values. Other columns keep theirs; None is a value.

        `values` are values of columns by name, too; only they can fill a column named `at`. `active=False` is for a
        row that exists but is switched off. A later value of the same handler and time counts. Raises `HandlerError`
        for an unknown column or an inexact value, and `Unreadable` for an id or an indexed text that is too long.
        """
        self._write(table, external_id, Rank.UPDATE, at, {**(values or {}), **columns})

    def deactivate(self, table: type[MirrorRow], external_id: str, *, at: datetime | None = None) -> None:
        """Add news that the row and its children are gone. Their values stay; newer news can revive them."""
        self._write(table, external_id, Rank.DELETE, at, {ACTIVE: False})
        for child in child_tables(table):
            self._lose_children(table, external_id, child, Rank.DELETE, at)

    def keep_only(
        self, child: type[MirrorRow], external_ids: Iterable[str], *, parent: str, at: datetime | None = None
    ) -> None:
        """Add news that the parent has only these children. Any other child is gone, unless it has newer news.

        The same handler must upsert the parent, and each of these children.
        """
        if child.parent_table is None:
            raise HandlerError(f"{child.__name__} has no parent table, so there is no complete list of its rows.")
        written = {(write.key.table, write.key.external_id) for write in self.writes}
        for table, external_id in [(child.parent_table, parent), *((child, kept) for kept in external_ids)]:
            # An id with a NUL byte or a lone surrogate is written in another form.
            known = storable(external_id) if isinstance(external_id, str) else external_id
            if (table, known) not in written:
                raise HandlerError(
                    f"keep_only needs {table.__name__} {quoted(external_id)} upserted by the same handler."
                )
        self._lose_children(child.parent_table, parent, child, Rank.ABSENT, at)

    def get(self, table: type[Row], external_id: str) -> Row | None:
        """Read the row, including the writes of this batch so far; None if there was no news about it."""
        self.has_read = True
        row = self._read(Key(table, self._source, external_id), [*self._earlier, *self.writes])
        return row if isinstance(row, table) else None

    def _write(
        self, table: type[MirrorRow], external_id: str, rank: Rank, at: datetime | None, given: dict[str, Any]
    ) -> None:
        known = own_columns(table)
        columns: dict[str, Any] = {}
        for name, value in given.items():
            normal = known.get(name)
            if normal is not None:
                if value is None:
                    columns[name] = None
                else:
                    columns[name] = _patch(name, normal, value) if isinstance(value, Patch) else normal(name, value)
            elif name != ACTIVE:
                raise HandlerError(f"{table.__name__} has no column `{name}`: it has {', '.join(known)}.")
            elif isinstance(value, bool):
                columns[name] = value
            else:
                raise HandlerError("`active` takes true or false.")
        check_id("parent", columns.get("parent"))
        news = self._key(table, external_id), self._version(rank, at)
        if news in self._written:
            # The guard takes news of one version for repeated news, and would keep the handler's first values.
            _add(self._written[news], columns)
        else:
            self._written[news] = written = {ACTIVE: True, **columns}
            self.writes.append(Write(*news, written))

    def _lose_children(
        self, table: type[MirrorRow], external_id: str, child: type[MirrorRow], rank: Rank, at: datetime | None
    ) -> None:
        self.writes.append(Write(self._key(table, external_id), self._version(rank, at), {}, children_gone=child))

    def _key(self, table: type[MirrorRow], external_id: str) -> Key:
        if not isinstance(external_id, str) or not external_id:
            raise HandlerError(f"A row of {table.__name__} needs its id as text, not {quoted(external_id)}.")
        check_id("external_id", external_id)
        return Key(table, self._source, storable(external_id))

    def _version(self, rank: Rank, at: datetime | None) -> Version:
        if at is not None and at.tzinfo is None:
            raise HandlerError("`at` takes a datetime with its offset.")
        # A time of zero means that none is given, so the news has the time of the event.
        moment = self._occurred_at if at is None or is_zero(at) else _checked(at)
        return Version(microseconds(moment), int(rank), self._arrival)


def news_of(mirror: Mirror, round_number: int) -> list[Write]:
    """The writes of a handler that has ended, in this round of its delivery.

    After the first round, they correct what the earlier ones left, because the code may be other code by now. If the
    handler has read, they do not: what it read may contain its own effect, which would be applied twice.
    """
    if round_number == 1 or mirror.has_read:
        return mirror.writes
    return [write._replace(corrects=True) for write in mirror.writes]


class SessionRequested(BaseException):
    """A handler needs the settling transaction, for its session or for what it reads, so it must run again inside.

    It is not an `Exception`, so that a handler's `except Exception` does not catch it.
    """


def _patch(name: str, normal: Normalizer, patch: Patch) -> Patch:
    """The patch with its members in the stored form."""
    if normal is not document:
        raise HandlerError(f"`{name}` is not a document, so it takes no Patch.")
    return Patch(normal(name, dict(patch.members)))


def _add(earlier: dict[str, Any], later: Mapping[str, Any]) -> None:
    """Put later values in the place of earlier ones. A later patch changes members of the earlier value."""
    earlier |= {name: _patched(earlier.get(name, Patch({})), value) for name, value in later.items()}


def _patched(value: Any, later: Any) -> Any:
    if not isinstance(later, Patch):
        return later
    if isinstance(value, Patch):
        return Patch({**value.members, **later.members})
    return {**(value if isinstance(value, dict) else {}), **later.members} if later.members else value


def _checked(at: datetime) -> datetime:
    if is_shrunk(at):
        raise Unreadable(
            f"News cannot be from {at.isoformat()}, as if a time in seconds were read as milliseconds: do not divide "
            "it by 1000."
        )
    try:
        return in_utc(at)
    except ValueError as error:
        raise Unreadable(f"News cannot be from {at.isoformat()}: {error}.") from None
