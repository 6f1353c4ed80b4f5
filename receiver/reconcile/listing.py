"""Reads a source's list, page by page or as one stream of rows, and looks up single rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from time import monotonic
from typing import NamedTuple

from receiver.codec import encode
from receiver.dialects.listing import Listed, ListPage, ListPart, Wanted
from receiver.dialects.sources import Source
from receiver.errors import ApiError, NoAnswersError
from receiver.logs.safe_text import quoted, told, told_with_type
from receiver.mirror.rows import Key
from receiver.reconcile.lookup import look_up
from receiver.reconcile.mark import Mark
from receiver.reconcile.question import Asking
from receiver.reconcile.rows import key_of, refuse_long_id
from receiver.reconcile.window import Window

#: The most rows of one step of a list that is one stream.
LISTED_AT_ONCE = 200

#: The seconds after which a step asks no further question: with the last one, it must end long before its lease does.
STEP_SECONDS = 60.0

#: The number of times that a group of lookups without any answer fails its step. With the pauses of a feeder, they take
#: three minutes. If the source then answers with its list, the rows are the reason.
LOOKUP_TRIES = 8

#: The number of groups in a row without any answer from which on a person is needed: single rows are not the reason.
MOST_SILENT_GROUPS = 3


class ListAnswer(NamedTuple):
    """A page of the list, with the window of its request."""

    page: ListPage
    window: Window
    as_of: datetime


class LookupAnswers(NamedTuple):
    """The answers to the first lookups of a group, with their window."""

    #: The number of rows to which these answers belong, the first ones of the group.
    asked: int
    rows: Sequence[Listed]
    #: The keys of those that the source does not have.
    gone: Sequence[Key]
    #: The keys of those about which it did not answer.
    unanswered: Sequence[Key]
    window: Window
    as_of: datetime

    def keys(self, source: str) -> set[Key]:
        """The keys of the rows in these answers."""
        return {key_of(source, row) for row in self.rows}


class SourceList:
    """The list of one source, as its dialect reads it."""

    def __init__(self, source: Source, asking: Asking, *, waits: bool) -> None:
        """`waits` says whether a step that fails is tried again."""
        self._source, self._asking = source, asking
        self._most_tries = LOOKUP_TRIES if waits else 0
        #: The rest of a list that is one stream.
        self._rows: Iterator[Listed] | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether a list that is one stream is being read."""
        return self._rows is not None

    def read(self, part: ListPart, mark: Mark, window: Window) -> ListAnswer:
        """Read the page at the mark, or the next rows of a stream. Raises `ApiError` if the source gives neither."""
        return self._page(part, mark, window) if part.walk is None else self._go_on(part, mark, window)

    def _page(self, part: ListPart, mark: Mark, window: Window) -> ListAnswer:
        """Read the page at the mark. Raises `ApiError` if the source does not return one."""
        assert part.read is not None
        self._asking.begin()
        with self._asking.telling(mark.read):
            page = part.read(self._asking.client, mark.start)
        if not isinstance(page, ListPage):
            raise ApiError(f"The list of {self._source.name} gives {quoted(page)} instead of a ListPage.")
        _check_next(self._source, page)
        _check_total(self._source, page)
        return ListAnswer(page, window, self._asking.as_of)

    def _go_on(self, part: ListPart, mark: Mark, window: Window) -> ListAnswer:
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

    def look_up(self, mark: Mark, wanted: Sequence[Wanted], window: Window) -> LookupAnswers:
        """Look up each row, or only the first ones: if the answers take long, or the source stops answering.

        The mark counts rows about which the source does not answer. If all rows have no answer, or one that may pass,
        raises `ApiError`, unless that was tried often and the source answers with its list.
        """
        rows: list[Listed] = []
        gone: list[Key] = []
        failures: list[tuple[Key, ApiError]] = []
        asked, end = 0, monotonic() + STEP_SECONDS
        # Of the rows asked for, those up to the last answer, and the failures among them.
        settled = failed = 0
        self._asking.begin()
        for each in wanted:
            if asked and monotonic() >= end:
                break
            asked += 1
            error = self._look_up(mark, each, rows, gone)
            failures += [] if error is None else [(_key(mark, each), error)]
            # A row that the dialect cannot ask for says nothing about the source.
            if self._asking.has_answer or (not self._asking.has_asked and settled == asked - 1):
                settled, failed = asked, len(failures)
        if settled:
            mark.silent = 0
        else:
            self._wait_or_give_up(mark, failures[-1][1])
            settled, failed = asked, len(failures)
        mark.tries = 0
        if failed:
            mark.unanswered, mark.unanswered_reason = mark.unanswered + failed, told(failures[failed - 1][1])
        unanswered = [key for key, _ in failures[:failed]]
        return LookupAnswers(settled, rows, gone, unanswered, window, self._asking.as_of)

    def _look_up(self, mark: Mark, each: Wanted, rows: list[Listed], gone: list[Key]) -> ApiError | None:
        """Look up one row, and add the answer to `rows` or `gone`. Returns the error if there is no answer."""
        try:
            with self._asking.telling_of(each):
                found = look_up(self._source, self._asking, each)
            for row in found:
                key_of(mark.source, row)
                refuse_long_id(row)
        except ApiError as error:
            return error
        self._asking.has_answer = self._asking.has_asked
        rows.extend(found)
        if not found:
            gone.append(_key(mark, each))
        return None

    def _wait_or_give_up(self, mark: Mark, error: ApiError) -> None:
        """Raise the error of a group of lookups without any answer, unless the rows seem to be the reason."""
        mark.tries += 1
        if mark.tries <= self._most_tries or not self._is_listed(mark):
            raise error
        mark.silent += 1
        if mark.silent >= MOST_SILENT_GROUPS:
            raise NoAnswersError(
                f"{self._source.name} answers with its list, and about none of the rows that were looked up in "
                f"{MOST_SILENT_GROUPS} steps: check what its API key may read. The last answer: {told(error)}"
            )

    def _is_listed(self, mark: Mark) -> bool:
        """Whether the source answers with the beginning of its list, so that it is not away."""
        listing, client = self._source.dialect.listing_of, self._asking.client
        assert listing is not None
        part = listing.parts[0]
        try:
            with self._asking.telling(mark.read):
                if part.read is not None:
                    part.read(client, None)
                if part.walk is not None:
                    next(iter(part.walk(client)), None)
        except ApiError:
            return False
        return True


def _key(mark: Mark, each: Wanted) -> Key:
    return Key(each.table, mark.source, each.external_id)


def _check_next(source: Source, page: ListPage) -> None:
    """Raise `ApiError` for a `next` that the mark of the walk cannot hold."""
    try:
        encode(page.next)
    except Exception as error:
        raise ApiError(
            f"The list of {source.name} gives the `next` {quoted(page.next)}, which JSON cannot hold "
            f"({told_with_type(error)}): its list function has to give text, a number, or a list or dict of these."
        ) from None


def _check_total(source: Source, page: ListPage) -> None:
    """Raise `ApiError` for a total that equals no number of rows."""
    if page.total is not None and type(page.total) is not int:
        raise ApiError(
            f"The list of {source.name} gives the total {quoted(page.total)}: its list function has to give a whole "
            "number, or None."
        )
