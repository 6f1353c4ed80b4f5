"""Recognises a source's list without an end, by a few numbers that fit into the mark.

Two signs show one: a `next` that came before, and many pages in a row without a row that is new in this walk. A list
that brings new rows for ever cannot be told from a long one.
"""

from __future__ import annotations

from collections.abc import Sized
from hashlib import blake2b
from typing import Any

from receiver.dialects.listing import ListPage, ListPart
from receiver.errors import EndlessListError
from receiver.reconcile.mark import Mark

#: The pages in a row that repeat only rows of earlier pages, and those without any row, after which a list is endless.
#: A list by days may begin in 1970, more than 20,000 pages before its first row.
MOST_REPEATED_PAGES, MOST_EMPTY_PAGES = 100, 40_000

#: The number of times that a stream may repeat all its rows. It may name a row once for each category, collection and
#: tag, after a first category with all rows.
MOST_ROUNDS_OF_STREAM = 50

#: Bytes of the digest of a `next`.
DIGEST_BYTES = 16


def note_page(mark: Mark, part: ListPart, page: ListPage, *, new: Sized) -> None:
    """Count a page in the mark. `new` are its rows that no earlier page of this walk had.

    Raises `EndlessListError` if the list shows that it has no end; the mark is then at the beginning of another walk.
    """
    mark.pages += 1
    mark.pages_of_walk += 1
    mark.rows_of_walk += len(new)
    if new:
        mark.repeated_pages = mark.repeated_rows = mark.empty_pages = 0
    elif page.rows:
        mark.repeated_pages, mark.repeated_rows = mark.repeated_pages + 1, mark.repeated_rows + len(page.rows)
    else:
        mark.empty_pages += 1
    sign = None if page.next is None else _sign(mark, part, page)
    if sign is not None:
        mark.begin_walk(mark.walk + 1)
        raise EndlessListError(f"The list of {mark.source} {sign}")


def _sign(mark: Mark, part: ListPart, page: ListPage) -> str | None:
    """The end of the sentence that says why the list has no end, and what to correct; None if it may have one."""
    if part.walk is None and _has_come_before(mark, page.next):
        return (
            f"leads from page {mark.pages_of_walk:,} to a page that was read before, so it has no end, and nothing was "
            "deactivated: correct its list function, which must give `next=None` with the last page, and a new `next` "
            "with each other page."
        )
    if mark.empty_pages >= MOST_EMPTY_PAGES:
        return (
            f"had no row in {mark.empty_pages:,} pages, and no end, so nothing was deactivated: correct its list "
            "function, which must give `next=None` with the last page."
        )
    if mark.repeated_pages < MOST_REPEATED_PAGES:
        return None
    if part.walk is None:
        return (
            f"repeated only rows of earlier pages in its last {mark.repeated_pages:,} pages, so it has no end, and "
            "nothing was deactivated: correct its list function, which must ask for the page that `start` names, and "
            "give `next=None` with the last page."
        )
    if mark.repeated_rows < MOST_ROUNDS_OF_STREAM * mark.rows_of_walk:
        return None
    return (
        f"repeated only earlier rows in its last {mark.repeated_rows:,} rows, so it has no end, and nothing was "
        "deactivated: correct its list function, which must end after the last row."
    )


def _has_come_before(mark: Mark, following: Any) -> bool:
    """Whether an earlier page of this walk led to the same page.

    Compares with the page before, and with one `next` that is replaced at pages 1, 2, 4, 8 and so on (Brent's
    algorithm). So a circle is found within three times the pages up to its end, and the mark keeps one digest.
    """
    digest = blake2b(repr(following).encode("utf-8", "replace"), digest_size=DIGEST_BYTES).hexdigest()
    if following == mark.start or digest == mark.earlier_next:
        return True
    if mark.pages_of_walk & (mark.pages_of_walk - 1) == 0:
        mark.earlier_next = digest
    return False
