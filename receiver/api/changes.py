"""The change feed over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, UnsetType, structs

from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.pages import HORIZON, MOMENTS_MEANT, LookedAt
from receiver.api.parameters import LIMIT, SOURCE, flag, moment, number, plain_text, relative_times
from receiver.api.row_shapes import row_shape, show_row
from receiver.api.tokens import Scope
from receiver.codec import decode, encode
from receiver.database.snapshots import one_snapshot
from receiver.errors import BadRequest, NotFound, NotThisFeed, Unavailable
from receiver.mirror.rows import MirrorRow
from receiver.schemas import Moment, Shape
from receiver.search import rows
from receiver.search.arguments import is_id
from receiver.search.changes import Change, follow_changes, mark_of, newest_changes, show_change
from receiver.search.cursors import ListedIn
from receiver.search.filters import ChangeFilter
from receiver.search.pages import FoundPage, PageBounds
from receiver.search.windows import SortKey

#: The most items of a page with whole rows.
LARGEST_WHOLE = 100

#: The cursor of the first page of the feed.
BEGIN = "begin"

BEGIN_ANEW = (
    "This database is another one, or was restored from an older state: remember the newest `seq` "
    "(`/api/v1/changes?newest=true&limit=1`), read the rows anew (`/api/v1/catalog`), and continue with that `seq` as "
    "`after`."
)
NAMED_TO_BEGIN_ANEW = ("/api/v1/changes?newest=true&limit=1", "/api/v1/catalog", "after")


class ChangeHorizon(Shape, frozen=True):
    """The change that the search of a list has reached."""

    seq: Annotated[int, Meta(description="The last change that was examined.")]
    looked_at: LookedAt


class ChangePage(Shape, frozen=True):
    items: list[Change]
    next: Annotated[int | None, Meta(description="The value for the next `after`; null with `newest`.")]
    cursor: Annotated[
        str | UnsetType | None,
        Meta(description="Only with `cursor` or `newest`: the next `cursor`; null at the end with `newest`."),
    ] = UNSET
    horizon: Annotated[ChangeHorizon | UnsetType, Meta(description=HORIZON)] = UNSET
    rows: Annotated[
        list[dict[str, Any] | None] | UnsetType,
        Meta(description="Only with `whole`: the present row of each item; null for a row that is no longer stored."),
    ] = UNSET
    times: Annotated[dict[str, Moment] | UnsetType, Meta(description=MOMENTS_MEANT)] = UNSET


AFTER: Parameter[int | None] = Parameter(
    "after", {"type": "integer", "minimum": 0}, "The value of `next` on the previous page.", number("after"), None
)
FEED_CURSOR: Parameter[str | None] = Parameter(
    "cursor", {"type": "string"}, "Instead of `after`: `begin`, then the `cursor` of the previous page.", str, None
)
TABLE = plain_text("table", "Only changes of this table.")
SINCE = moment("since", "Only changes recorded at this time or later.")
DELIVERY: Parameter[int | None] = Parameter(
    "delivery", {"type": "string"}, "Only changes caused by this delivery.", number("delivery"), None
)
NEWEST: Parameter[bool | None] = Parameter("newest", {"type": "boolean"}, "The newest first.", flag("newest"), None)
WHOLE: Parameter[bool | None] = Parameter(
    "whole",
    {"type": "boolean"},
    f"Also return the present rows; then at most {LARGEST_WHOLE} items.",
    flag("whole"),
    None,
)


def _change_seq(text: str) -> int:
    if not is_id(text) or int(text) == 0:
        raise NotFound(f"There is no change {text[:64]!r}: `/api/v1/changes` lists them.", names=("/api/v1/changes",))
    return int(text)


CHANGE_SEQ = Parameter("seq", {"type": "integer", "minimum": 1}, "The number of a change.", _change_seq, 0)


class ChangeFeed:
    """Lists changes: `/api/v1/changes`."""

    def __init__(self, lookup: Lookup, tables: Mapping[str, type[MirrorRow]]) -> None:
        self._lookup = lookup
        self._tables = tables

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="list_changes",
                path="/api/v1/changes",
                summary="The change feed after `after`, oldest first",
                answer=self.list_changes,
                answers={200: ChangePage},
                scope=Scope.READ,
                parameters=(AFTER, FEED_CURSOR, TABLE, SOURCE, SINCE, DELIVERY, NEWEST, WHOLE, LIMIT),
                refusals=(BadRequest, NotThisFeed, Unavailable),
            ),
            Operation(
                name="show_change",
                path="/api/v1/changes/{seq}",
                summary="One change",
                answer=self.show_one,
                answers={200: Change},
                scope=Scope.READ,
                parameters=(CHANGE_SEQ,),
                refusals=(BadRequest, NotFound, Unavailable),
            ),
        ]

    def show_one(self, asked: Question) -> Raw:
        """Show one `Change`. Raises `NotFound` if no change has this number."""
        seq = asked[CHANGE_SEQ]
        bounds = PageBounds(behind=(seq - 1,), limit=1, most_bytes=self._lookup.page_bytes)
        found: list[Raw] = follow_changes(self._lookup.database, ChangeFilter(), show_change, bounds).listing.items
        if not found or decode(bytes(found[0]))["seq"] != seq:
            raise NotFound(f"There is no change {seq}: `/api/v1/changes` lists them.", names=("/api/v1/changes",))
        return found[0]

    def list_changes(self, asked: Question) -> ChangePage:
        """List the changes after a place in the feed, in commit order; or the newest changes first."""
        if asked[AFTER] is not None and (asked[FEED_CURSOR] is not None or asked[NEWEST]):
            other = "cursor" if asked[FEED_CURSOR] is not None else "newest"
            raise BadRequest(f"`after` does not go with `{other}`: leave one of them out.", names=("after", other))
        with one_snapshot(self._lookup.database):
            as_of = self._lookup.as_of(None if asked[FEED_CURSOR] == BEGIN else asked[FEED_CURSOR])
            times = relative_times(asked, (SINCE,), as_of)
            wanted = self._wanted(asked, as_of)
            name = "newest changes" if asked[NEWEST] else "changes"
            listed = self._lookup.listed_in(name, wanted, as_of=as_of if times else None)
            page = self._newest(asked, wanted, listed) if asked[NEWEST] else self._following(asked, wanted, listed)
            return structs.replace(page, times=times) if times else page

    def _following(self, asked: Question, wanted: ChangeFilter, listed: ListedIn) -> ChangePage:
        after = self._place(listed, asked)
        page = follow_changes(self._lookup.database, wanted, show_change, self._bounds((after,), asked))
        if after > page.end:
            raise NotThisFeed(
                f"The change feed ends with {page.end}, and {after} lies beyond. {BEGIN_ANEW}",
                names=NAMED_TO_BEGIN_ANEW,
            )
        shown = self._show(page.listing, page.next, asked)
        if asked[FEED_CURSOR] is None:
            return shown
        with self._lookup.database.read() as connection:
            mark = mark_of(connection, shown.next or 0)
        return structs.replace(shown, cursor=self._lookup.cursors.write(listed, (shown.next,), mark=mark))

    def _newest(self, asked: Question, wanted: ChangeFilter, listed: ListedIn) -> ChangePage:
        behind = self._lookup.cursors.read(listed, asked[FEED_CURSOR])
        page = newest_changes(self._lookup.database, wanted, show_change, self._bounds(behind, asked))
        shown = self._show(page, page.next[0] if page.next else None, asked)
        following = None if shown.next is None else (shown.next,)
        return structs.replace(shown, next=None, cursor=self._lookup.cursors.write(listed, following))

    def _bounds(self, behind: SortKey | None, asked: Question) -> PageBounds:
        return self._lookup.bounds(behind, min(asked[LIMIT], LARGEST_WHOLE) if asked[WHOLE] else asked[LIMIT])

    def _show(self, page: FoundPage, following: int | None, asked: Question) -> ChangePage:
        """Format a page without its cursor; with whole rows it may have fewer items."""
        horizon = UNSET if page.horizon is None else ChangeHorizon(page.horizon.key[0], page.horizon.looked_at)
        if not asked[WHOLE]:
            return ChangePage(page.items, following, horizon=horizon)
        changes = [decode(bytes(item)) for item in page.items]
        whole = self._rows_of(changes)
        if len(whole) < len(changes):
            following, horizon = changes[len(whole) - 1]["seq"], UNSET
        return ChangePage(page.items[: len(whole)], following, horizon=horizon, rows=whole)

    def _rows_of(self, changes: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The rows of these changes, up to the bytes of a page, but at least the first row."""
        found: dict[tuple[str, str, str], Raw | None] = {}
        whole: list[Raw | None] = []
        size = 0
        for change in changes:
            key = (change["table"], change["source"], change["external_id"])
            if key not in found:
                found[key] = self._row(*key)
            whole.append(found[key])
            size += len(bytes(found[key] or b""))
            if size >= self._lookup.page_bytes:
                break
        return whole

    def _row(self, name: str, source: str, external_id: str) -> Raw | None:
        table = self._tables.get(name)
        row = None if table is None else rows.row(self._lookup.database, table, source, external_id)
        return None if table is None or row is None else Raw(encode(show_row(row_shape(table), row)))

    def _place(self, listed: ListedIn, asked: Question) -> int:
        """The number of the change after which the page begins. Raises `NotThisFeed` for a cursor of another feed."""
        cursor = asked[FEED_CURSOR]
        if cursor is None or cursor == BEGIN:
            return asked[AFTER] or 0
        after, mark, is_of_here = self._lookup.cursors.read_feed(listed, cursor)
        if is_of_here and after:
            with self._lookup.database.read() as connection:
                is_of_here = mark_of(connection, after) == mark
        if not is_of_here:
            raise NotThisFeed(
                f"`cursor` comes from another database, or from the time before this one was restored. {BEGIN_ANEW}",
                names=("cursor", *NAMED_TO_BEGIN_ANEW),
            )
        return after

    def _wanted(self, asked: Question, now: datetime) -> ChangeFilter:
        table = asked[TABLE]
        if table is not None and table not in self._tables:
            raise BadRequest(
                f"There is no table {table[:64]!r}: `table` takes one of {', '.join(sorted(self._tables))}.",
                names=("table",),
            )
        source = self._lookup.source(asked[SOURCE])
        since = asked[SINCE]
        return ChangeFilter(table=table, source=source, since=since and since.at(now), delivery=asked[DELIVERY])
