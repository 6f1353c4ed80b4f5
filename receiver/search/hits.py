"""One search for any identifier: a SKU, an external id, an entity, a delivery's id, a dedup key.

Matches are exact and found by indexes alone. An empty answer names the places that were searched.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Text, literal, select, union_all

from receiver.codec import encode, storable
from receiver.database.columns import Many, among, raw_columns
from receiver.database.database import Database
from receiver.database.pages import LARGEST_PAGE_BYTES, read_within_on
from receiver.inbox.tables import DEDUP_KEYS, DELIVERIES
from receiver.logs.escapes import visible
from receiver.logs.wording import counted
from receiver.mirror.rows import MirrorRow, sql_table
from receiver.search.arguments import LONGEST_ENTITY, is_id, parse_text
from receiver.search.deliveries import among_ids, ways_to
from receiver.search.filters import DeliveryFilter
from receiver.search.pages import MOST_COUNTED, Count, count_of, find_on_all, find_on_each
from receiver.search.rows import HIDDEN, has_indexed_sku, with_keys
from receiver.search.sources import stored_sources
from receiver.search.windows import SECONDS, SortKey, seconds_left

#: The most hits of one kind that are shown: rows of one table, and the newest deliveries about an entity.
MOST_HITS = 20

#: Seconds after the beginning of a search at which the examination of deliveries for a dedup key ends. They are
#: examined only if no other place has the text.
KEY_SECONDS = SECONDS

#: The note of an empty answer: no index has names, and a search reads no table.
NAMES = "Names are not searched."

#: Characters of the sought text that a sentence quotes.
QUOTED_CHARACTERS = 64


class HitKind(StrEnum):
    """The role that the sought text has in a hit."""

    SKU = "SKU"
    EXTERNAL_ID = "external id"
    DELIVERY = "delivery id"
    DEDUP_KEY = "dedup key"
    ENTITY = "entity of deliveries"


class SearchedPlace(NamedTuple):
    """A place that was searched."""

    #: The role in which the text was sought there.
    kind: HitKind
    #: Names of the tables.
    where: tuple[str, ...]
    found: int


class RowHit(NamedTuple):
    """A row of the mirror with the sought SKU or id."""

    kind: HitKind
    table: str
    row: RowMapping


class DeliveryHit(NamedTuple):
    """A delivery with the sought id or key, or about an entity with the sought id."""

    kind: HitKind
    row: RowMapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """The results of a search."""

    text: str
    #: The first rows, which together have about the bytes of a page.
    rows: list[RowHit]
    #: The deliveries, newest first and without repetitions.
    deliveries: list[DeliveryHit]
    #: The number of deliveries about an entity with the sought id.
    about: Count
    looked: list[SearchedPlace]
    #: The number of rows that were found, and whether it is a lower bound.
    found_rows: int = 0
    more_rows: bool = False
    #: The number of the newest deliveries that were examined for the dedup key; None if all, or if an index has the
    #: key.
    examined: int | None = None

    @property
    def says(self) -> str:
        """Sum the results up in one sentence."""
        naming = _deliveries(self.about)
        if self.rows:
            return visible(f"In the mirror: {self._named_rows()}; {naming}.{self._left_out()}")
        if self.about.number:
            return f"Not in the mirror; {naming}."
        if self.deliveries:
            kinds = " and ".join(dict.fromkeys(hit.kind for hit in self.deliveries))
            return f"Not in the mirror, but the {kinds} of {counted(len(self.deliveries), 'delivery')}."
        quoted = visible(self.text[:QUOTED_CHARACTERS])
        said = [f"{quoted!r} was not found, neither as {', nor as '.join(HitKind)}."]
        if self.about.horizon is not None:
            said.append(
                "Not all deliveries could be examined for such an entity in time: filter the list of deliveries by "
                "`entity` to continue."
            )
        if self.examined is not None:
            said.append(
                f"For a dedup key, only the newest {self.examined:,} deliveries were examined: filter the list of "
                "deliveries by `dedup_key` to continue."
            )
        return " ".join([*said, NAMES])

    def _named_rows(self) -> str:
        """Name the first rows, and say how many others there are."""
        named = ", ".join(f"{hit.table}/{hit.row['source']}/{hit.row['external_id']}" for hit in self.rows[:3])
        others = self.found_rows - len(self.rows[:3])
        if not others:
            return named
        return f"{named} and {'at least ' if self.more_rows else ''}{others} more"

    def _left_out(self) -> str:
        """Say that rows were found that do not fit on a page; empty if all fit."""
        if len(self.rows) == self.found_rows:
            return ""
        return f" Only {len(self.rows)} of these {self.found_rows} rows are shown, because they are large."


def search(
    database: Database,
    tables: Mapping[str, type[MirrorRow]],
    sought: str,
    *,
    most_bytes: int = LARGEST_PAGE_BYTES,
) -> Hits:
    """Find everything with this identifier, or, if nothing has it exactly, without the blanks around it.

    Rows end after `most_bytes`, like a page. Raises `BadRequest` for an empty or too long text.
    """
    bare = parse_text("q", sought.strip(), longest=LONGEST_ENTITY)
    text, exact = bare, storable(sought)
    with database.read() as connection:
        sources = stored_sources(connection)
        # An id may begin or end with a blank, and a pasted text often does: so the text with its blanks is only looked
        # up, without time for what no index finds.
        if exact != bare and len(exact) <= LONGEST_ENTITY:
            found = _hits_of(connection, tables, exact, sources, most_bytes=1, share=0.0)
            text = exact if found.rows or found.deliveries else bare
        return _hits_of(connection, tables, text, sources, most_bytes=most_bytes)


def _hits_of(
    connection: Connection,
    tables: Mapping[str, type[MirrorRow]],
    text: str,
    sources: Sequence[str],
    *,
    most_bytes: int,
    share: float = 1.0,
) -> Hits:
    one_search = _Search(connection, text, sources, share=share)
    rows = one_search.for_rows(tables, most_bytes)
    deliveries = one_search.for_deliveries(elsewhere=bool(rows))
    return Hits(
        text=text,
        rows=rows,
        found_rows=one_search.found_rows,
        more_rows=one_search.more_rows,
        deliveries=deliveries,
        about=one_search.about,
        looked=one_search.looked,
        examined=one_search.examined,
    )


class _Search:
    """One search, inside a transaction."""

    def __init__(self, connection: Connection, text: str, sources: Sequence[str], *, share: float) -> None:
        """`share` is that of the usual time for what no index finds. Without time, only the newest are examined."""
        self._began = time.monotonic()
        self._connection, self._share = connection, share
        self._text = text
        #: The text as sought, and its id alone if it has the form `kind:id`.
        kind, _, entity_id = text.partition(":")
        self._ids = [text, entity_id] if kind and entity_id else [text]
        self._sources = literal(list(sources), Many(Text))
        self.looked: list[SearchedPlace] = []
        #: The number of deliveries about the entity.
        self.about = Count(0, False, None)
        #: As in `Hits`.
        self.examined: int | None = None
        self.found_rows, self.more_rows = 0, False

    def for_rows(self, tables: Mapping[str, type[MirrorRow]], most_bytes: int) -> list[RowHit]:
        found: dict[tuple[str, HitKind], list[SortKey]] = defaultdict(list)
        statements = [each for name, table in tables.items() for each in self._keys_in(name, sql_table(table))]
        for kind, name, source, external_id in self._connection.execute(union_all(*statements)) if statements else ():
            found[name, HitKind(kind)].append((source, external_id))
        with_sku = tuple(name for name, table in tables.items() if has_indexed_sku(sql_table(table)))
        for kind, where in ((HitKind.SKU, with_sku), (HitKind.EXTERNAL_ID, tuple(tables))):
            self.looked.append(SearchedPlace(kind, where, sum(len(found[name, kind]) for name in where)))
        self.found_rows = sum(len(set(found[name, HitKind.SKU] + found[name, HitKind.EXTERNAL_ID])) for name in tables)
        self.more_rows = any(len(keys) == MOST_HITS for keys in found.values())
        hits: list[RowHit] = []
        size = 0
        for name, table in tables.items():
            for hit in self._rows_of(name, sql_table(table), found, most_bytes - size):
                hits.append(hit)
                size += len(encode(dict(hit.row)))
                if size >= most_bytes:
                    return hits
        return hits

    def _keys_in(self, name: str, table: Any) -> Iterator[Select[Any]]:
        def keys(kind: HitKind, *conditions: ColumnElement[bool]) -> Select[Any]:
            columns = (
                literal(kind.value).label("kind"),
                literal(name).label("name"),
                table.c.source,
                table.c.external_id,
            )
            return select(select(*columns).where(*conditions).limit(MOST_HITS).subquery())

        if has_indexed_sku(table):
            yield keys(HitKind.SKU, table.c.sku == self._text)
        yield keys(HitKind.EXTERNAL_ID, among(table.c.source, self._sources), table.c.external_id.in_(self._ids))

    def _rows_of(
        self, name: str, table: Any, found: Mapping[tuple[str, HitKind], list[SortKey]], most_bytes: int
    ) -> Iterator[RowHit]:
        kind_of = {key: kind for kind in (HitKind.SKU, HitKind.EXTERNAL_ID) for key in found.get((name, kind), ())}
        if kind_of:
            statement = select(*raw_columns(table, but=HIDDEN)).where(with_keys(table, list(kind_of)))
            ordered = statement.order_by(table.c.source, table.c.external_id)
            for row in read_within_on(self._connection, ordered, limit=len(kind_of), most_bytes=most_bytes):
                yield RowHit(kind_of[row["source"], row["external_id"]], name, row)

    def for_deliveries(self, *, elsewhere: bool) -> list[DeliveryHit]:
        """Find deliveries; `elsewhere` says that rows were found."""
        kind_of: dict[int, HitKind] = {}
        ways = ways_to(self._connection, DeliveryFilter(entity=self._text))
        about = find_on_each(self._connection, ways, limit=MOST_COUNTED + 1, seconds=SECONDS * self._share)
        self.about = count_of(about)
        kind_of.update(dict.fromkeys((key[0] for key in about.keys[:MOST_HITS]), HitKind.ENTITY))
        named = (among(DEDUP_KEYS.c.source, self._sources), DEDUP_KEYS.c.dedup_key == self._text)
        by_key = (
            self._connection.execute(select(DEDUP_KEYS.c.delivery_id).where(*named).limit(MOST_HITS)).scalars().all()
        )
        kind_of.update(dict.fromkeys(by_key, HitKind.DEDUP_KEY))
        if is_id(self._text):
            kind_of[int(self._text)] = HitKind.DELIVERY
        hits = self._hits(kind_of)
        if not hits and not elsewhere:
            hits = self._hits(dict.fromkeys(self._with_lead(), HitKind.DEDUP_KEY))
        for kind, where in ((HitKind.DELIVERY, DELIVERIES.name), (HitKind.DEDUP_KEY, DEDUP_KEYS.name)):
            self.looked.append(SearchedPlace(kind, (str(where),), sum(hit.kind == kind for hit in hits)))
        self.looked.append(SearchedPlace(HitKind.ENTITY, (str(DELIVERIES.name),), self.about.number))
        return hits

    def _hits(self, kind_of: Mapping[int, HitKind]) -> list[DeliveryHit]:
        """The deliveries with these ids, newest first."""
        statement = select(DELIVERIES).where(among_ids(list(kind_of))).order_by(DELIVERIES.c.id.desc())
        return [DeliveryHit(kind_of[row["id"]], row) for row in self._connection.execute(statement).mappings()]

    def _with_lead(self) -> list[int]:
        """The newest deliveries whose dedup key is the text behind a lead, which no index finds."""
        ways = ways_to(self._connection, DeliveryFilter(dedup_key=self._text))
        found = find_on_all(
            self._connection,
            ways,
            behind=None,
            limit=MOST_HITS,
            seconds=seconds_left(self._began, KEY_SECONDS * self._share),
        )
        self.examined = None if found.horizon is None else found.looked_at
        return [key[0] for key in found.keys]


def _deliveries(about: Count) -> str:
    if about.more:
        return f"more than {about.number:,} deliveries name it"
    least = "at least " if about.number and about.horizon is not None else ""
    verb = "names" if about.number <= 1 else "name"
    number = counted(about.number, "delivery") if about.number else "no delivery"
    examined = " of those that could be examined in time" if not about.number and about.horizon is not None else ""
    return f"{least}{number}{examined} {verb} it"
