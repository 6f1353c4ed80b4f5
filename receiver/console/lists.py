"""Lists: their filter forms, and the addresses of the next page and of the downloads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from receiver.api.operations import Parameter
from receiver.console.page import ConsolePage
from receiver.console.visit import Visit


class FilterField(NamedTuple):
    """One field of the form that filters a list."""

    name: str
    #: The name for people.
    label: str
    value: str
    #: What may be chosen; empty for text.
    choices: tuple[str, ...]
    description: str


class Listing(NamedTuple):
    """What lies around one page of a list."""

    #: The address of the next page; None on the last.
    next: str | None
    #: The address of the first page; None on it.
    first: str | None
    csv: str
    json_lines: str
    #: How far back was looked, where that was not to the end.
    horizon: datetime | None
    #: Whether anything is filtered, and the address without.
    is_filtered: bool
    unfiltered: str


def filter_fields(visit: Visit, parameters: Sequence[Parameter[Any]]) -> list[FilterField]:
    """A field for each parameter, with what is chosen now."""
    return [
        FilterField(
            each.name,
            each.name.replace("_", " "),
            visit.query.get(each.name, ""),
            _choices(each),
            each.description.replace("`", ""),
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
    """The addresses around a page of a list. `following` is what the API says goes on from here.

    `follows_in` is the parameter for it, where that is another than the one of the downloads.
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
