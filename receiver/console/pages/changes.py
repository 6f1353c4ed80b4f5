"""Changes: the change feed, newest first, with filters; and one change with its columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from receiver.api.changes import DELIVERY, SINCE, TABLE, ChangePage
from receiver.api.parameters import SOURCE
from receiver.console.lists import FilterField, Listing, filter_fields, listing
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.search.changes import Change

#: Changes on a page.
CHANGES_SHOWN = "50"


class TypedChangePage(ChangePage, frozen=True):
    """A page with its items decoded from JSON."""

    items: list[Change]


class ColumnOfChange(NamedTuple):
    """One column that changed."""

    name: str
    #: None in an insert, and for a column without a value.
    before: Any
    after: Any


class ChangeList(NamedTuple):
    """The values for the template of the feed."""

    items: list[Change]
    fields: list[FilterField]
    listing: Listing
    #: The oldest change that the search reached; None if it reached the end of the feed.
    looked_back_to: int | None
    #: The moments of filters that were given as relative times.
    times: Mapping[str, datetime]


class ChangeShown(NamedTuple):
    """The values for the template of one change."""

    change: Change
    columns: list[ColumnOfChange]


def show_changes(visit: Visit) -> ChangeList:
    """The newest changes that match."""
    page = visit.ask_listed(TypedChangePage, "list_changes", limit=CHANGES_SHOWN, newest="true")
    following = page.cursor if isinstance(page.cursor, str) else None
    return ChangeList(
        items=page.items,
        fields=filter_fields(visit, (TABLE, SOURCE, SINCE, DELIVERY)),
        listing=listing(visit, CHANGES_PAGE, following=following, follows_in="cursor"),
        looked_back_to=page.horizon.seq if page.horizon else None,
        times=page.times or {},
    )


def show_one_change(visit: Visit) -> ChangeShown:
    """One change, column by column."""
    change = visit.ask(Change, "show_change", seq=visit.path["seq"])
    names = [*change.after, *(name for name in change.before if name not in change.after)]
    return ChangeShown(
        change, [ColumnOfChange(name, change.before.get(name), change.after.get(name)) for name in names]
    )


CHANGES_PAGE = ConsolePage(
    name="changes",
    path="/changes",
    title="Changes",
    template="changes.html",
    operation="list_changes",
    command="hookmirror changes",
    show=show_changes,
    menu="Changes",
    given=(("newest", "true"),),
    leaves_out=("after", "whole"),
    # A download begins with the oldest change, and follows the feed.
    follows_in="after",
    live=("changes",),
)

PAGES = (
    CHANGES_PAGE,
    ConsolePage(
        name="change",
        path="/changes/{seq}",
        title="A change",
        template="change.html",
        operation="show_change",
        command="hookmirror changes {seq}",
        show=show_one_change,
    ),
)

BUTTONS: tuple[Button, ...] = ()
