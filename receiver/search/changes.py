"""Lists of the change feed: oldest first, to follow it, or newest first, to look back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta
from sqlalchemy import BigInteger, ColumnElement, Connection, RowMapping, literal, select

from receiver.codec import canonical
from receiver.database.columns import Many, among, iso_text, raw_columns
from receiver.database.damage import damage_of
from receiver.database.database import Database
from receiver.mirror.changes import CHANGES, feed_end
from receiver.moments import FIRST_MOMENT
from receiver.schemas import Moment, Shape
from receiver.search.filters import ChangeFilter
from receiver.search.pages import FoundPage, Items, PageBounds, read_found_page
from receiver.search.windows import Few, Look, Path, SortKey, equals

#: The most by which `recorded_at` may lie before that of the preceding change, because the clocks of processes differ.
CLOCKS_APART = timedelta(minutes=5)

#: The columns that distinguish two changes of the same number in different feeds.
MARKED = ("table", "source", "external_id", "operation", "delivery_id", "recorded_at")


class Change(Shape, frozen=True):
    """One change of one row of the mirror."""

    seq: Annotated[int, Meta(description="Grows in commit order; numbers may be missing, changes never are.")]
    table: str
    source: str
    external_id: str
    operation: Literal["insert", "update", "deactivate", "reactivate"]
    before: Annotated[dict[str, Any], Meta(description="The old values of changed columns; empty for an insert.")]
    after: Annotated[dict[str, Any], Meta(description="The new values of these columns.")]
    delivery_id: Annotated[str | None, Meta(description="The delivery that brought the news; null for a reconcile.")]
    changed_at: Annotated[Moment, Meta(description="At the source.")]
    recorded_at: Annotated[Moment, Meta(description="Here.")]
    run: Annotated[str | None, Meta(description="The run that repaired the row; null for a delivery's news.")]


class FeedPage(NamedTuple):
    """One page of the feed, oldest first."""

    listing: FoundPage
    #: The number after which the next page begins, which may be that of a change that did not match.
    next: int
    #: The number of the newest change in the feed; 0 in an empty feed.
    end: int


def follow_changes(
    database: Database, wanted: ChangeFilter, show: Callable[[RowMapping], Any], bounds: PageBounds
) -> FeedPage:
    """List changes in commit order."""
    with database.read() as connection:
        # Read before the page, so that the page includes every change up to this one.
        end = feed_end(connection)
        listing = read_found_page(connection, [_way_to(connection, wanted, descending=False)], _items(show), bounds)
    begin = bounds.behind[0] if bounds.behind else 0
    return FeedPage(listing, listing.next[0] if listing.next else max(begin, end), end)


def newest_changes(
    database: Database, wanted: ChangeFilter, show: Callable[[RowMapping], Any], bounds: PageBounds
) -> FoundPage:
    """List changes, newest first."""
    with database.read() as connection:
        return read_found_page(connection, [_way_to(connection, wanted, descending=True)], _items(show), bounds)


def mark_of(connection: Connection, seq: int) -> str:
    """The mark of the change with this number, which differs from feed to feed; empty for an unknown number."""
    columns = [CHANGES.c[name] for name in MARKED]
    found = connection.execute(select(*columns).where(CHANGES.c.seq == seq)).mappings().first()
    return "" if found is None else mark(found)


def mark(change: RowMapping) -> str:
    """The mark of this change."""
    named = [change[name] for name in MARKED]
    values = [iso_text(value) if isinstance(value, datetime) else value for value in named]
    return sha256(canonical(values)).hexdigest()[:16]


def show_change(row: RowMapping) -> Change:
    """Format a change for the API, with its JSON columns copied unparsed."""
    delivery, run = row["delivery_id"], row["run"]
    return Change(
        seq=row["seq"],
        table=row["table"],
        source=row["source"],
        external_id=row["external_id"],
        operation=row["operation"],
        before=row["before"],
        after=row["after"],
        delivery_id=str(delivery) if delivery is not None else None,
        changed_at=row["changed_at"],
        recorded_at=row["recorded_at"],
        run=str(run) if run is not None else None,
    )


def _items(show: Callable[[RowMapping], Any]) -> Items:
    return Items(columns=raw_columns(CHANGES), with_keys=_with_keys, show=show)


def _with_keys(keys: Sequence[SortKey]) -> ColumnElement[bool]:
    return among(CHANGES.c.seq, literal([key[0] for key in keys], Many(BigInteger)))


def _way_to(connection: Connection, wanted: ChangeFilter, *, descending: bool) -> Path | Few:
    named = {name: getattr(wanted, name) for name in ("table", "source")}
    looks = [Look((name,), equals(value)) for name, value in named.items() if value is not None]
    if wanted.since is not None:
        looks.append(Look(("recorded_at",), _at_or_after(wanted.since)))
    if wanted.delivery is not None:
        brought = (CHANGES.c.delivery_id == wanted.delivery,)
        return Few(table=CHANGES, key=("seq",), conditions=brought, looks=tuple(looks), descending=descending)
    since = () if wanted.since is None else (CHANGES.c.seq >= _first_at(connection, wanted.since),)
    return Path(table=CHANGES, key=("seq",), conditions=since, looks=tuple(looks), descending=descending)


def _at_or_after(moment: datetime) -> Callable[[ColumnElement[Any]], ColumnElement[bool]]:
    return lambda column: column >= moment


def _first_at(connection: Connection, moment: datetime) -> int:
    """The number of the first change recorded at this moment or later, allowing for clocks that differ.

    A binary search over the primary key, since numbers and times grow together: about thirty queries at most.
    """
    # No moment lies before the first one, which programs give to mean "from the beginning".
    earliest = max(moment, FIRST_MOMENT + CLOCKS_APART) - CLOCKS_APART
    low, high = 1, feed_end(connection) + 1
    while low < high:
        middle = (low + high) // 2
        following = select(CHANGES.c.seq, CHANGES.c.recorded_at).where(CHANGES.c.seq >= middle)
        found = connection.execute(following.order_by(CHANGES.c.seq).limit(1)).one()
        # A damaged time says nothing, so the search goes on before it: every change behind is examined, too.
        if damage_of(found.recorded_at) is None and found.recorded_at < earliest:
            low = found.seq + 1
        else:
            high = middle
    return low
