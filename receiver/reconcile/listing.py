"""Reads a source's list, page by page or as one stream of rows, and looks up single rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from receiver.codec import encode
from receiver.dialects.listing import Listed, ListPage, ListPart, Wanted
from receiver.dialects.sources import Source
from receiver.errors import ApiError
from receiver.logs.safe_text import quoted, told, told_with_type
from receiver.mirror.rows import Key
from receiver.reconcile.lookup import look_up
from receiver.reconcile.mark import Mark
from receiver.reconcile.question import Asking
from receiver.reconcile.window import Window

#: The most rows of one step of a list that is one stream.
LISTED_AT_ONCE = 200

#: The seconds after which a step asks no further question: with the last one, it must end long before its lease does.
STEP_SECONDS = 60.0


class ListAnswer(NamedTuple):
    """A page of the list, with the window of its request."""

    page: ListPage
    window: Window
    as_of: datetime


class LookupAnswers(NamedTuple):
    """The answers to the first lookups of a group, with their window."""

    #: The number of rows that the source was asked for.
    asked: int
    rows: Sequence[Listed]
    #: The keys of those that the source does not have.
    gone: Sequence[Key]
    window: Window
    as_of: datetime


class SourceList:
    """The list of one source, as its dialect reads it."""

    def __init__(self, source: Source, asking: Asking) -> None:
        self._source, self._asking = source, asking
        #: The rest of a list that is one stream.
        self._rows: Iterator[Listed] | None = None

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
        """Read the next rows of a list that is one stream; all count from its first answer, which may contain them.

        Returns fewer rows if they take long.
        """
        assert part.walk is not None
        rows: list[Listed] = []
        is_last, end = False, monotonic() + STEP_SECONDS
        with self._asking.telling(mark.read):
            if self._rows is None:
                self._asking.begin()
                self._rows = iter(part.walk(self._asking.client))
            for row in self._rows:
                rows.append(row)
                self._asking.note_read(mark.read + len(rows))
                if len(rows) >= LISTED_AT_ONCE or monotonic() >= end:
                    break
            else:
                is_last, self._rows = True, None
        page = ListPage(rows, next=None if is_last else True)
        if mark.as_of is None:
            return ListAnswer(page, window, self._asking.as_of)
        return ListAnswer(page, mark.window, mark.as_of)

    def look_up(
        self, mark: Mark, wanted: Sequence[Wanted], window: Window, *, forgiving: bool = False
    ) -> LookupAnswers:
        """Look up each row, or if the answers take long, only the first ones.

        Raises `ApiError` if the source does not answer. With `forgiving`, the mark counts such rows instead, unless the
        source seems to be away: it answered about none of several rows, or sent no answer at all.
        """
        rows: list[Listed] = []
        gone: list[Key] = []
        failures: list[ApiError] = []
        asked, end = 0, monotonic() + STEP_SECONDS
        self._asking.begin()
        for each in wanted:
            if asked and monotonic() >= end:
                break
            asked += 1
            try:
                with self._asking.telling_of(each):
                    found = look_up(self._source, self._asking, each)
            except ApiError as error:
                if not forgiving:
                    raise
                failures.append(error)
                continue
            rows.extend(found)
            if not found:
                gone.append(Key(each.table, mark.source, each.external_id))
        if failures:
            # One row by itself may be one that the API can never show, and must not hold up the others for good.
            if len(failures) == asked and (asked > 1 or not self._asking.has_response):
                raise failures[-1]
            mark.unanswered, mark.unanswered_reason = mark.unanswered + len(failures), told(failures[-1])
        return LookupAnswers(asked, rows, gone, window, self._asking.as_of)


def _check_next(source: Source, page: ListPage) -> None:
    """Raise `ApiError` for a `next` that the mark of the walk cannot hold."""
    try:
        encode(page.next)
    except Exception as error:
        raise ApiError(
            f"The list of {source.name} gives the `next` {quoted(page.next)}, which JSON cannot hold "
            f"({told_with_type(error)}): its list function has to give text, a number, or a list or dict of these."
        ) from None
