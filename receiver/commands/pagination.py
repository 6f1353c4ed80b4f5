"""Prints lists over several pages, with the cursor for the rest."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from receiver.codec import encode
from receiver.commands.client_protocol import Client
from receiver.commands.tables import print_table, tell_cut
from receiver.database.page_sizes import LARGEST_PAGE
from receiver.errors import HookmirrorError
from receiver.logs.escapes import visible

#: The default number of items.
USUAL_LIMIT = 20

#: The most characters of a text in a table, so that one long id does not push the other columns aside.
LONGEST_TEXT = 64

LimitOption = Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="The most items to print.")]
CursorOption = Annotated[
    str | None, typer.Option("--cursor", help="Continue after a list, with the cursor it printed.")
]
JsonLines = Annotated[bool, typer.Option("--json", help="One line of JSON per item, for machines.")]


def show_list(
    asked: Client,
    path: str,
    query: Mapping[str, Any],
    *,
    parts: Mapping[str, str] | None = None,
    limit: int,
    as_json: bool,
    columns: Sequence[str],
    besides: Collection[str] | None = None,
) -> None:
    """Print the first `limit` items of a list, and on standard error the cursor for the rest.

    `parts` fill the path. A column that the items do not have is left out. With `besides`, all further members that
    hold a text, a number or a flag are columns, except these.
    """
    shown, number = list[Mapping[str, Any]](), 0
    page, times = dict[str, Any](), dict[str, str]()
    # The feed is paged by numbers when read oldest first, and by cursors when read newest first.
    place = "cursor" if query.get("after") is None else "after"
    following = query.get(place)
    while number < limit:
        size = min(limit - number, LARGEST_PAGE)
        page = asked.ask(path, parts or {}, {**query, **times, place: following, "limit": size})
        if place == "after":
            # A cursor keeps relative times at the moments of the first page. A number does not, so they are repeated.
            times = page.get("times", times)
        number += len(page["items"])
        if as_json:
            for item in page["items"]:
                typer.echo(encode(item))
        else:
            # The widths of a table depend on all of its rows.
            shown += page["items"]
        following = following_of(page)
        if following is None or "horizon" in page or not page["items"]:
            break
    if not as_json:
        _show(shown, [*columns, *_further(shown, {*columns, *besides})] if besides is not None else columns)
    _tell_more(page, place, following, times, as_json)


def all_pages(asked: Client, path: str, query: Mapping[str, Any], *, place: str) -> Iterator[Mapping[str, Any]]:
    """Yield each page of a list; `place` is the parameter that takes the `next` of a page.

    Raises `HookmirrorError` for a page that leads back to one before it, as no receiver answers.
    """
    been, further = {str(query.get(place))}, dict(query)
    while True:
        page = asked.ask(path, {}, further)
        yield page
        following = page["next"]
        if following is None:
            return
        if str(following) in been:
            raise HookmirrorError(
                f"This server is not a receiver of this release (its list {path} never ends): correct --to."
            )
        been.add(str(following))
        further[place] = following


def following_of(page: Mapping[str, Any]) -> str | None:
    """The cursor of the next page; None on the last."""
    cursor = page.get("cursor", page["next"])
    return None if cursor is None else str(cursor)


def _show(shown: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    if shown:
        there = [name for name in columns if name in shown[0]]
        print_table(there, [[_cut(name, item[name]) for name in there] for item in shown])
        tell_cut((item[name] for item in shown for name in there if name != "reason"), longest=LONGEST_TEXT)
    else:
        typer.echo("None.")


def _further(shown: Sequence[Mapping[str, Any]], known: Collection[str]) -> list[str]:
    """The other members that have a value in one of these items, and an object or a list in none."""
    found = {name: [item[name] for item in shown if item[name] is not None] for name in (shown or [{}])[0]}
    return [
        name
        for name, values in found.items()
        if name not in known and values and not any(isinstance(value, (dict, list)) for value in values)
    ]


def _cut(name: str, value: Any) -> Any:
    """Cut a long text, unless it is a reason, which stands at the end of its line."""
    if name == "reason" or not isinstance(value, str) or len(value) <= LONGEST_TEXT:
        return value
    return f"{value[: LONGEST_TEXT - 1]}…"


def _tell_more(
    page: Mapping[str, Any], place: str, following: str | None, times: Mapping[str, str], as_json: bool
) -> None:
    horizon, matching = page.get("horizon"), page.get("matching")
    if as_json:
        if following is not None or matching is not None:
            told = {"next": following, "horizon": horizon} | ({} if matching is None else {"matching": matching})
            sys.stderr.write(encode(told | ({"times": times} if times else {})).decode() + "\n")
        return
    if matching is not None:
        sys.stderr.write(f"Matching: {matching['says']}.\n")
    if horizon is not None:
        back = ", ".join(str(value) for name, value in horizon.items() if name != "looked_at")
        sys.stderr.write(visible(f"Examined {horizon['looked_at']:,} items, as far as {back}.") + "\n")
    if following is not None:
        same = "".join(f" --{name} {moment}" for name, moment in times.items())
        sys.stderr.write(f"There may be more: --{place} {visible(following)}{same}\n")
