"""The search: finds the rows and deliveries that a text names."""

from __future__ import annotations

from receiver.api.search import FoundRow, SearchResult
from receiver.console.answers import SeeOther
from receiver.console.page import Button, ConsolePage
from receiver.console.pages.row import path_of_row
from receiver.console.visit import Visit


def show_search(visit: Visit) -> SearchResult | SeeOther | None:
    """The hits; a redirect for a single hit; None without a text to search."""
    if not visit.query.get("q", "").strip():
        return None
    found = visit.ask(SearchResult, "search", q=visit.query["q"])
    only = _only_hit(found)
    return found if only is None else SeeOther(only)


def _only_hit(found: SearchResult) -> str | None:
    """The path of the only row, or of the only delivery if no row was found."""
    # Beside a large row, others may be left out.
    if len(found.rows) == found.rows_found == 1:
        return _path_of(found.rows[0])
    if not found.rows and len(found.deliveries) == 1:
        return f"/deliveries/{found.deliveries[0].delivery.id}"
    return None


def _path_of(hit: FoundRow) -> str:
    return path_of_row(hit.table, str(hit.row["source"]), str(hit.row["external_id"]))


PAGES = (
    ConsolePage(
        name="search",
        path="/search",
        title="Search",
        template="search.html",
        operation="search",
        command="hookmirror search",
        show=show_search,
        options=(("q", ""),),
    ),
)

BUTTONS: tuple[Button, ...] = ()
