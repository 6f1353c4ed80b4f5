"""The newest deliveries of each source: its last arrival, and its newest processed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Row, Select, Text, bindparam, case, column, func, select, tuple_

from receiver.database.columns import Many, among
from receiver.inbox.tables import DELIVERIES, ROUNDS, State

#: The number of a source's newest deliveries, by id, that are searched for the latest and for the newest processed one.
NEWEST_LOOKED_AT = 200

#: An id above that of every delivery.
BEYOND_IDS = 2**63 - 1


class NewestDeliveries(NamedTuple):
    """The newest deliveries of a source: the last arrival, and the newest processed one."""

    last: datetime | None
    processed: Row[Any] | None


def newest_of(
    connection: Connection, names: Sequence[str], first_unfinished: Mapping[str, int]
) -> dict[str, NewestDeliveries]:
    """The newest deliveries of these sources.

    The processed one is searched among the newest, otherwise among those before the first unfinished one, behind the
    backlog.
    """
    newest = _looked_up(connection, dict.fromkeys(names, BEYOND_IDS))
    ids = {name: processed for name, (_, processed) in newest.items()}
    behind = {name: first_unfinished[name] for name in names if ids[name] is None and name in first_unfinished}
    if behind:
        ids |= {name: processed for name, (_, processed) in _looked_up(connection, behind).items()}
    times = connection.execute(_TIMES, {"ids": [each for each in ids.values() if each is not None]}).all()
    by_id = {row.id: row for row in times}
    return {name: NewestDeliveries(newest[name][0], by_id.get(ids[name])) for name in names}


def _looked_up(connection: Connection, before: Mapping[str, int]) -> dict[str, tuple[datetime | None, int | None]]:
    """The last arrival and the newest processed one of each of these sources, among its deliveries before this id."""
    given = {"names": list(before), "before": list(before.values()), "most": NEWEST_LOOKED_AT}
    rows = connection.execute(_newest(connection.dialect.name == "postgresql"), given)
    return {name: (last, processed) for name, last, processed in rows}


@cache
def _newest(is_postgresql: bool) -> Select[Any]:
    """Select the last arrival, and the newest processed one, of the newest `most` deliveries of each of `names`.

    Only those count whose ids are below the source's one in `before`.
    """
    names, before = bindparam("names", type_=Many(Text)), bindparam("before", type_=Many(BigInteger))
    if is_postgresql:
        lists = func.unnest(names, before).table_valued(column("name", Text), column("before", BigInteger))
        each: Any = select(*lists.render_derived().c).subquery()
        # A range, and an order that only the index over both columns has. For `=` and the order of ids, PostgreSQL
        # might walk through all deliveries along their primary key: it does not know the sources while it plans.
        below = tuple_(DELIVERIES.c.source, DELIVERIES.c.id) < tuple_(each.c.name, each.c.before)
        of_it: Any = (below, DELIVERIES.c.source >= each.c.name)
        order: Any = (DELIVERIES.c.source.desc(), DELIVERIES.c.id.desc())
    else:
        first, second = (func.json_each(many).table_valued("key", "value") for many in (names, before))
        pairs = select(first.c.value.label("name"), second.c.value.label("before")).where(first.c.key == second.c.key)
        each = pairs.subquery()
        # SQLite would walk along a range of two columns from the end of the source on, through the whole backlog.
        of_it = (DELIVERIES.c.source == each.c.name, DELIVERIES.c.id < each.c.before)
        order = (DELIVERIES.c.id.desc(),)
    some = select(*DELIVERIES.c["id", "state", "received_at"]).where(*of_it).correlate(each).order_by(*order)
    newest = some.limit(bindparam("most")).subquery()
    # The newest ids may belong to requests that were refused hours ago and accepted now.
    last = func.max(newest.c.received_at, type_=DELIVERIES.c.received_at.type)
    processed = func.max(case((newest.c.state == State.PROCESSED.value, newest.c.id)))
    return select(each.c.name, *(select(found).scalar_subquery() for found in (last, processed)))


# A replay does not make the news in the mirror older, so the first round that applied it counts.
_FIRST_PROCESSED = (
    select(func.min(ROUNDS.c.ended_at, type_=ROUNDS.c.ended_at.type))
    .where(ROUNDS.c.delivery_id == DELIVERIES.c.id, ROUNDS.c.state == State.PROCESSED.value)
    .scalar_subquery()
)
_TIMES: Select[Any] = select(
    *DELIVERIES.c["id", "occurred_at"], func.coalesce(_FIRST_PROCESSED, DELIVERIES.c.ended_at).label("ended_at")
).where(among(DELIVERIES.c.id, bindparam("ids", type_=Many(BigInteger))))
