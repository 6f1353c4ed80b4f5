"""Lists of deliveries, newest first, and single deliveries with body, headers and rounds.

A filter with an index determines the way through the inbox; the other filters are checked on each row of that way
(`receiver.search.windows`). A time of arrival is a range of ids, since ids are arrival numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, RowMapping, func, literal, select, text

from receiver.database.columns import Many, among, place_of
from receiver.database.database import Database
from receiver.inbox.ids import first_id_at
from receiver.inbox.rounds import history
from receiver.inbox.tables import BODIES, BODY_ID, DELIVERIES, State, in_state
from receiver.search.filters import DeliveryFilter
from receiver.search.pages import Count, FoundPage, Items, PageBounds, count, read_found_page
from receiver.search.windows import SECONDS, Few, Look, Path, SortKey, equals

#: The most pending deliveries that are sorted; if there are more, the list examines all deliveries instead.
MOST_SORTED_PENDING = 10_000

#: Seconds for counting the deliveries of all states.
BY_STATE = 0.03

#: The states in the order in which they are counted.
COUNTED_STATES = (State.PENDING, State.PROCESSING, State.DEAD, State.PROCESSED, State.IGNORED)

#: The largest number that an integer column holds.
LARGEST_ID = 2**63 - 1


class KeptDelivery(NamedTuple):
    """One delivery with its body, headers and rounds."""

    #: The columns of `deliveries`, and those of `bodies`, which are null if the body has expired.
    row: RowMapping
    #: The rounds, oldest first.
    rounds: list[dict[str, Any]]


def delivery(database: Database, delivery_id: int) -> KeptDelivery | None:
    """One delivery with its body, headers and rounds; None for an unknown id."""
    found = select(DELIVERIES, BODIES.c.body, BODIES.c.plain, BODIES.c.headers)
    found = found.outerjoin(BODIES, BODIES.c.delivery_id == BODY_ID).where(DELIVERIES.c.id == delivery_id)
    with database.read() as connection:
        row = connection.execute(found).mappings().first()
        if row is None:
            return None
        return KeptDelivery(row, history(connection, row))


def list_deliveries(
    database: Database,
    wanted: DeliveryFilter,
    show: Callable[[RowMapping], Any],
    bounds: PageBounds,
) -> FoundPage:
    """List deliveries, newest first, each formatted by `show`."""
    items = Items(columns=list(DELIVERIES.columns), with_keys=_with_keys, show=show, are_short=True)
    with database.read() as connection:
        return read_found_page(connection, ways_to(connection, wanted), items, bounds)


def count_deliveries(database: Database, wanted: DeliveryFilter, *, seconds: float = SECONDS) -> Count:
    """Count the deliveries, within `seconds` and up to `MOST_COUNTED`."""
    with database.read() as connection:
        return count(connection, _ways_to_count(connection, wanted), seconds=seconds)


def count_by_state(database: Database, wanted: DeliveryFilter, *, seconds: float = BY_STATE) -> dict[State, Count]:
    """Count the deliveries of each state that match the other filters: each up to `MOST_COUNTED`, within `seconds`."""
    end = monotonic() + seconds
    counts = {}
    with database.read() as connection:
        # States with an index come first, because their counts are quick and leave the time to the others.
        for place, state in enumerate(COUNTED_STATES):
            share = max(end - monotonic(), 0) / (len(COUNTED_STATES) - place)
            counts[state] = count(connection, _ways_to_count(connection, replace(wanted, state=state)), seconds=share)
    return counts


def _ways_to_count(connection: Connection, wanted: DeliveryFilter) -> list[Path | Few]:
    """Ways that need not be in order: an index has the pending ones, and those that were ignored, by source."""
    if wanted == DeliveryFilter(state=State.PENDING):
        return [_only(in_state(State.PENDING))]
    if wanted == DeliveryFilter(state=State.IGNORED, source=wanted.source):
        of_it = () if wanted.source is None else (DELIVERIES.c.source == wanted.source,)
        return [_only(in_state(State.IGNORED), *of_it)]
    return ways_to(connection, wanted)


def _only(*conditions: ColumnElement[bool]) -> Few:
    return Few(table=DELIVERIES, key=("id",), conditions=conditions, descending=True)


def ways_to(connection: Connection, wanted: DeliveryFilter) -> list[Path | Few]:
    """The ways that together lead to each of these deliveries exactly once."""
    if wanted.ids is not None:
        return [_few(wanted)]
    if wanted.state is State.PENDING:
        return [_pending(connection, wanted)]
    if wanted.state is State.PROCESSING:
        return [_few(wanted, in_state(State.PROCESSING))]
    if wanted.entity is not None:
        return _ways_to_entity(connection, wanted, wanted.entity)
    if wanted.state is State.DEAD:
        return [_path(wanted, in_state(State.DEAD), looks=_looks(wanted, but={"state"}))]
    if wanted.source is not None:
        return [_path(wanted, DELIVERIES.c.source == wanted.source, looks=_looks(wanted, but={"source"}))]
    return [_path(wanted, looks=_looks(wanted))]


def _ways_to_entity(connection: Connection, wanted: DeliveryFilter, entity: str) -> list[Path | Few]:
    """Ways to the deliveries about an entity: an index has the ended ones, and the others are few."""
    looks = _looks(wanted, but={"entity"})
    ways: list[Path | Few] = [_path(wanted, DELIVERIES.c.entity_id == entity, _HAS_ENDED, looks=looks)]
    kind, colon, entity_id = entity.partition(":")
    if colon:
        of_kind = Look(("entity_kind",), lambda column: column == kind)
        ways.append(_path(wanted, DELIVERIES.c.entity_id == entity_id, _HAS_ENDED, looks=(of_kind, *looks)))
    if wanted.state is None:
        ways += [_pending(connection, wanted), _few(wanted, in_state(State.PROCESSING))]
    return ways


def _pending(connection: Connection, wanted: DeliveryFilter) -> Path | Few:
    """A way to pending deliveries: few are sorted; many are found among all, because the newest are likely pending."""
    some = (
        select(literal(1))
        .select_from(DELIVERIES)
        .where(in_state(State.PENDING))
        .limit(MOST_SORTED_PENDING + 1)
        .subquery()
    )
    if connection.execute(select(func.count()).select_from(some)).scalar_one() <= MOST_SORTED_PENDING:
        return _few(wanted, in_state(State.PENDING))
    source = [] if wanted.source is None else [DELIVERIES.c.source == wanted.source]
    pending = Look(("state",), lambda column: column == State.PENDING.value)
    return _path(wanted, *source, looks=(pending, *_looks(wanted, but={"state", "source"})))


def _path(wanted: DeliveryFilter, *conditions: ColumnElement[bool], looks: tuple[Look, ...]) -> Path:
    conditions = (*conditions, *_between(wanted))
    return Path(table=DELIVERIES, key=("id",), conditions=conditions, looks=looks, descending=True)


def _few(wanted: DeliveryFilter, *conditions: ColumnElement[bool]) -> Few:
    named = () if wanted.ids is None else (among_ids(wanted.ids),)
    conditions = (*conditions, *named, *_between(wanted))
    return Few(table=DELIVERIES, key=("id",), conditions=conditions, looks=_looks(wanted), descending=True)


def conditions_of(wanted: DeliveryFilter) -> list[ColumnElement[bool]]:
    """The whole filter as conditions, for callers that read every matching delivery."""
    named = [] if wanted.ids is None else [among_ids(wanted.ids)]
    return [*named, *_between(wanted), *(look.of(DELIVERIES.c) for look in _looks(wanted))]


def _between(wanted: DeliveryFilter) -> list[ColumnElement[bool]]:
    """The condition on the time of arrival, as a range of ids."""
    conditions = []
    if wanted.begin is not None:
        conditions.append(DELIVERIES.c.id >= _id_at(wanted.begin))
    if wanted.end is not None:
        conditions.append(DELIVERIES.c.id < _id_at(wanted.end))
    return conditions


def _id_at(moment: datetime) -> int:
    return max(0, min(first_id_at(moment), LARGEST_ID))


def _looks(wanted: DeliveryFilter, *, but: Collection[str] = ()) -> tuple[Look, ...]:
    """The checks of each delivery, without the filters in `but`, which the way has applied already."""
    named = {
        name: getattr(wanted, name) for name in ("source", "state", "outcome", "event_type", "conflict", "dedup_key")
    }
    looks = [Look((name,), equals(value)) for name, value in named.items() if value is not None and name not in but]
    if wanted.entity is not None and "entity" not in but:
        looks.append(Look(("entity_kind", "entity_id"), partial(_is_entity, wanted.entity)))
    if wanted.reason is not None:
        looks.append(Look(("reason",), partial(_occurs_in, wanted.reason)))
    return tuple(looks)


def _is_entity(entity: str, kinds: ColumnElement[Any], ids: ColumnElement[Any]) -> ColumnElement[bool]:
    kind, colon, entity_id = entity.partition(":")
    if not colon:
        return ids == entity
    # The list of ids is redundant, but only for a list does the database use its index.
    return ids.in_([entity, entity_id]) & ((ids == entity) | ((ids == entity_id) & (kinds == kind)))


def _occurs_in(sought: str, column: ColumnElement[Any]) -> ColumnElement[bool]:
    return place_of(sought, column) > 0


def among_ids(ids: Sequence[int]) -> ColumnElement[bool]:
    """The condition that finds the deliveries with these ids."""
    return among(DELIVERIES.c.id, literal(list(ids), Many(BigInteger)))


def _with_keys(keys: list[SortKey]) -> ColumnElement[bool]:
    return among_ids([key[0] for key in keys])


_HAS_ENDED: Any = text("deliveries.ended_at IS NOT NULL")
