"""Lists: their filter forms, and the addresses of the next page and of the downloads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from receiver.api.changes import SINCE
from receiver.api.deliveries import FROM, TO
from receiver.api.operations import Parameter
from receiver.console.page import ConsolePage
from receiver.console.visit import Visit

#: The filters that take a time, and what may be typed into them.
TIME_FILTERS: tuple[Parameter[Any], ...] = (FROM, TO, SINCE)
HINT_OF_TIMES = "2h, or 14:02 in UTC"


class FilterField(NamedTuple):
    """One field of the form that filters a list."""

    name: str
    #: The name that the form shows.
    label: str
    value: str
    #: The values to choose from; empty for free text.
    choices: tuple[str, ...]
    description: str
    #: Examples of what may be typed; empty without any.
    hint: str


class Listing(NamedTuple):
    """The addresses around one page of a list, and how far its search went."""

    #: The address of the next page; None on the last.
    next: str | None
    #: The address of the first page; None on the first page.
    first: str | None
    csv: str
    json_lines: str
    #: The time that the search has reached; None if it reached the end.
    horizon: datetime | None
    #: Whether the list is filtered, and its address without filters.
    is_filtered: bool
    unfiltered: str


def filter_fields(visit: Visit, parameters: Sequence[Parameter[Any]]) -> list[FilterField]:
    """A field for each parameter, with its present value."""
    return [
        FilterField(
            each.name,
            each.name.replace("_", " "),
            visit.query.get(each.name, ""),
            _choices(each),
            each.description.replace("`", ""),
            HINT_OF_TIMES if each in TIME_FILTERS else "",
        )
        for each in parameters
    ]


def listing(
    visit: Visit,
    page: ConsolePage,
    *,
    following: str | None,
    horizon: datetime | None = None,
    follows_in: str | None = None,
) -> Listing:
    """The addresses around a page of a list. `following` is the beginning of the next page, from the API's answer.

    `follows_in` is the parameter that takes it, where that differs from the parameter of the downloads.
    """
    follows_in = follows_in or page.follows_in
    around, here = visit.without(follows_in), visit.path
    is_first = follows_in not in visit.query
    return Listing(
        next=None if following is None else visit.to(page.path, {**around, follows_in: following}, **here),
        first=None if is_first else visit.to(page.path, around, **here),
        csv=visit.to(f"{page.path}.csv", around, **here),
        json_lines=visit.to(f"{page.path}.jsonl", around, **here),
        horizon=horizon,
        is_filtered=bool(around),
        unfiltered=visit.to(page.path, **here),
    )


def _choices(parameter: Parameter[Any]) -> tuple[str, ...]:
    if parameter.schema.get("type") == "boolean":
        return ("true", "false")
    return tuple(parameter.schema.get("enum", ()))
