"""The search over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from receiver.api.delivery_shapes import Delivery, show_delivery
from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Parameter, Question
from receiver.api.pages import Matching, show_count
from receiver.api.row_shapes import row_shape, show_row
from receiver.api.tokens import Scope
from receiver.errors import BadRequest, Unavailable
from receiver.mirror.rows import MirrorRow
from receiver.schemas import Shape
from receiver.search.arguments import LONGEST_ENTITY, parse_text
from receiver.search.hits import MOST_HITS, HitKind, Hits, search


class FoundRow(Shape, frozen=True):
    """A row of the mirror with the sought SKU or id."""

    kind: HitKind
    table: str
    row: Annotated[dict[str, Any], Meta(description="The row as in the list of its table.")]


class FoundDelivery(Shape, frozen=True):
    """A delivery with the sought id or key, or about an entity with the sought id."""

    kind: HitKind
    delivery: Delivery


class LookedFor(Shape, frozen=True):
    """A place that was searched."""

    kind: HitKind
    where: Annotated[list[str], Meta(description="Names of tables.")]
    found: int


class SearchResult(Shape, frozen=True):
    """The results of a search."""

    text: Annotated[str, Meta(description="The sought text.")]
    says: Annotated[str, Meta(description="The answer in one sentence.")]
    rows: Annotated[list[FoundRow], Meta(description=f"At most {MOST_HITS} of a kind and table, and at most a page.")]
    rows_found: Annotated[int, Meta(description="The number of these rows, with those for which a page has no room.")]
    deliveries: Annotated[list[FoundDelivery], Meta(description=f"The newest first, at most {MOST_HITS} of a kind.")]
    about: Annotated[Matching, Meta(description="The number of deliveries about an entity with this id.")]
    looked: Annotated[list[LookedFor], Meta(description="The places that were searched.")]


def show_hits(hits: Hits, tables: Mapping[str, type[MirrorRow]]) -> SearchResult:
    """Format hits for the API."""
    return SearchResult(
        hits.text,
        hits.says,
        [FoundRow(hit.kind, hit.table, show_row(row_shape(tables[hit.table]), hit.row)) for hit in hits.rows],
        hits.found_rows,
        [FoundDelivery(hit.kind, show_delivery(hit.row)) for hit in hits.deliveries],
        show_count(hits.about),
        [LookedFor(each.kind, list(each.where), each.found) for each in hits.looked],
    )


def _sought(text: str) -> str:
    if not text.strip():
        raise BadRequest(NOTHING_SOUGHT, names=("q",))
    parse_text("q", text.strip(), longest=LONGEST_ENTITY)
    return text


NOTHING_SOUGHT = "`q` is empty: give a SKU, an external id, an entity, a delivery's id, or a dedup key."


Q = Parameter(
    "q",
    {"type": "string", "minLength": 1, "maxLength": LONGEST_ENTITY},
    "A SKU, an external id, an entity as `kind:id`, the id of a delivery, or a dedup key; exact.",
    _sought,
    "",
    is_required=True,
)


class Search:
    """The operation that finds rows and deliveries by any identifier."""

    def __init__(self, lookup: Lookup, tables: Mapping[str, type[MirrorRow]]) -> None:
        self._lookup = lookup
        self._tables = tables

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="search",
                path="/api/v1/search",
                summary="Rows and deliveries with this SKU, id, entity or dedup key",
                answer=self.search,
                answers={200: SearchResult},
                scope=Scope.READ,
                parameters=(Q,),
                refusals=(BadRequest, Unavailable),
            )
        ]

    def search(self, asked: Question) -> SearchResult:
        if not asked[Q]:
            raise BadRequest(NOTHING_SOUGHT, names=("q",))
        lookup = self._lookup
        return show_hits(search(lookup.database, self._tables, asked[Q], most_bytes=lookup.page_bytes), self._tables)
