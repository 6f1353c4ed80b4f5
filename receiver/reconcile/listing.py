"""Reads a source's list, page by page or as one stream of rows, and looks up single rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from receiver.codec import encode
from receiver.dialects.listing import Listed, ListPage, ListPart, Wanted
from receiver.dialects.sources import Source
from receiver.errors import ApiError
from receiver.logs.safe_text import quoted, told_with_type
from receiver.mirror.rows import Key
from receiver.reconcile.lookup import look_up
from receiver.reconcile.mark import Mark
from receiver.reconcile.question import Asking
from receiver.reconcile.window import Window

#: Rows per step of a list that is one stream.
LISTED_AT_ONCE = 200


class ListAnswer(NamedTuple):
    """A page of the list, with the window of its request."""

    page: ListPage
    window: Window
    as_of: datetime


class SourceList:
    """The list of one source, as its dialect reads it."""

    def __init__(self, source: Source, asking: Asking) -> None:
        self._source, self._asking = source, asking
        #: The rest of a list that is one stream.
        self._rows: Iterator[Listed] | None = None

    @property
    def as_of(self) -> datetime:
        """The moment from which the latest answer counts."""
        return self._asking.as_of

    @property
    def is_under_way(self) -> bool:
        """Whether a list that is one stream is being read."""
        return self._rows is not None

    def page(self, part: ListPart, mark: Mark, window: Window) -> ListAnswer:
        """Read the page at the mark. Raises `ApiError` if the source does not return one."""
        assert part.read is not None
        self._asking.begin()
        with self._asking.telling(mark.read):
            page = part.read(self._asking.client, mark.start)
        if not isinstance(page, ListPage):
            raise ApiError(f"The list of {self._source.name} gives {quoted(page)} instead of a ListPage.")
        _check_next(self._source, page)
        return ListAnswer(page, window, self._asking.as_of)

    def go_on(self, part: ListPart, mark: Mark, window: Window) -> ListAnswer:
        """Read the next rows of a list that is one stream; all count from its first answer, which may contain them."""
        assert part.walk is not None
        rows: list[Listed] = []
        with self._asking.telling(mark.read):
            if self._rows is None:
                self._asking.begin()
                self._rows = iter(part.walk(self._asking.client))
            for row in islice(self._rows, LISTED_AT_ONCE):
                rows.append(row)
                self._asking.note_read(mark.read + len(rows))
        is_last = len(rows) < LISTED_AT_ONCE
        if is_last:
            self._rows = None
        page = ListPage(rows, next=None if is_last else True)
        if mark.as_of is None:
            return ListAnswer(page, window, self._asking.as_of)
        return ListAnswer(page, mark.window, mark.as_of)

    def look_up(
        self, mark: Mark, asked: Sequence[Wanted], *, forgiving: bool = False
    ) -> tuple[list[Listed], list[Key]]:
        """Look up each row, and return the rows found and the keys of those that the source does not have.

        Raises `ApiError` if the source does not answer; with `forgiving`, the mark counts such rows instead.
        """
        rows: list[Listed] = []
        gone: list[Key] = []
        self._asking.begin()
        for each in asked:
            try:
                with self._asking.telling(mark.read):
                    found = look_up(self._source, self._asking, each)
            except ApiError:
                if not forgiving:
                    raise
                mark.left += 1
                continue
            rows.extend(found)
            if not found:
                gone.append(Key(each.table, mark.source, each.external_id))
        return rows, gone


def _check_next(source: Source, page: ListPage) -> None:
    """Raise `ApiError` for a `next` that the mark of the walk cannot hold."""
    try:
        encode(page.next)
    except Exception as error:
        raise ApiError(
            f"The list of {source.name} gives the `next` {quoted(page.next)}, which JSON cannot hold "
            f"({told_with_type(error)}): its list function has to give text, a number, or a list or dict of these."
        ) from None
