"""Candidates: the deliveries that may have brought news about one row.

No table records the deliveries whose news about a row lost. They are found by their entity: the row itself, its
parents, and the entities of deliveries that are known to have changed the row. Each query uses an index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Row, Select, Subquery, Text, bindparam, func, literal, select, text

from receiver.codec import encode
from receiver.database.columns import Many, among
from receiver.database.pages import read_within_on
from receiver.inbox.tables import BODY_ID, BODY_SIZE, DELIVERIES, IDS, OF_SOURCES, ROUNDS, State, in_state
from receiver.mirror.changes import CHANGES, about
from receiver.mirror.rows import Key, table_name
from receiver.provenance.stored import StoredRow

#: The most deliveries that are run for one row, and the most bytes of their bodies together.
MOST_CANDIDATES, MOST_CANDIDATE_BYTES = 2_000, 16 * 1024 * 1024

#: The most changes of the row that are read for their deliveries, the bytes of JSON at which reading them ends, and the
#: most entities besides the row's own.
MOST_CHANGES, MOST_CHANGE_BYTES, MOST_ENTITIES = 500, 16 * 1024 * 1024, 16

#: The most pending deliveries that are searched for news about the row: those that have been due for longest.
MOST_PENDING = 10_000


class RecordedChange(NamedTuple):
    """One change of the row. The fields are columns of `Change`."""

    seq: int
    delivery_id: int | None
    run: int | None
    changed_at: datetime
    recorded_at: datetime
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates for one row, in the order in which they took effect."""

    #: The deliveries that were processed at least once, and so contributed to the row.
    processed: Sequence[Row[Any]]
    #: By id, the time at which each of them was first processed, which may be long after newer news came.
    took_effect: Mapping[int, datetime]
    #: The deliveries about the row that were never processed: dead, ignored, or unfinished.
    others: Sequence[Row[Any]]
    #: The newest changes of the row, the newest first.
    changes: Sequence[RecordedChange]
    #: The reason for which some candidates were left out; None if no omission is known.
    partial: str | None
    #: Whether there are more pending deliveries than were searched.
    more_pending: bool = False

    @property
    def changed_it(self) -> frozenset[int]:
        """The deliveries that changed the row according to its changes, including those that are not kept."""
        return _brought(self.changes)


def find_candidates(connection: Connection, row: StoredRow) -> Candidates:
    """Find the deliveries that may have brought news about the row, within the bounds above."""
    changes = list(_newest_changes(connection, row.key))
    winners = {version.arrival for version in row.registers.versions.values()}
    winners |= {row.children_gone.arrival} if row.children_gone is not None else set()
    known = _brought(changes) | winners
    by_id = connection.execute(_BY_ID, {"ids": sorted(known)})
    found = {each.id: each for each in by_id if each.source == row.key.source}
    own = _names(row.key.external_id)
    names = dict.fromkeys([*own, *_parents(row, changes)])
    names |= dict.fromkeys([each.entity_id for each in found.values() if each.entity_id is not None])
    wanted, left_out = list(names)[: MOST_ENTITIES + len(own)], len(names) > MOST_ENTITIES + len(own)
    for name in wanted:
        about = {"source": row.key.source, "name": name, "limit": MOST_CANDIDATES + 1}
        found |= {each.id: each for each in connection.execute(_ABOUT, about)}
    found |= {each.id: each for each in _not_ended(connection, row.key.source, wanted)}
    took_effect = _first_processed(connection, found)
    others = [each for each in found.values() if each.id not in took_effect and each.entity_id in own]
    processed = sorted(took_effect, key=lambda each: (took_effect[each], each))
    run, partial = _bounded([found[each] for each in processed], winners)
    if partial is None and left_out:
        partial = f"of the {len(names)} entities whose deliveries may be about it, {len(wanted)} were searched"
    newest_last = sorted(others, key=lambda each: each.id)
    return Candidates(run, took_effect, newest_last, changes, partial, more_pending=_has_more_pending(connection))


def _bounded(processed: Sequence[Row[Any]], winners: Collection[int]) -> tuple[list[Row[Any]], str | None]:
    """Keep the newest deliveries within the bounds, and those that brought the row's values."""
    size = number = 0
    newest: set[int] = set()
    for each in reversed(processed):
        size, number = size + (each.size or 0), number + 1
        if number > MOST_CANDIDATES or size > MOST_CANDIDATE_BYTES:
            break
        newest.add(each.id)
    if len(newest) == len(processed):
        return list(processed), None
    first = min(newest, default=0)
    partial = f"of {len(processed)} deliveries or more, the newest {len(newest)} were run, back to {first}"
    return [each for each in processed if each.id in newest or each.id in winners], partial


def _newest_changes(connection: Connection, key: Key) -> Iterator[RecordedChange]:
    """The changes of the row, newest first, within the bounds above: each may hold a large document twice."""
    found = about(**_named(key)).with_only_columns(*_CHANGE_COLUMNS)
    size = 0
    for row in read_within_on(connection, found, limit=MOST_CHANGES, most_bytes=MOST_CHANGE_BYTES):
        yield RecordedChange(**row)
        size += len(encode(row["before"])) + len(encode(row["after"]))
        if size >= MOST_CHANGE_BYTES:
            return


def _brought(changes: Iterable[RecordedChange]) -> frozenset[int]:
    return frozenset(change.delivery_id for change in changes if change.delivery_id is not None)


def _names(external_id: str) -> list[str]:
    """The possible entity ids of a row: its external id, and the part after a kind in it."""
    kind, colon, rest = external_id.partition(":")
    return [external_id, rest] if colon and kind and rest else [external_id]


def _parents(row: StoredRow, changes: Iterable[RecordedChange]) -> list[str]:
    """The external ids of the row's present and former parents."""
    if row.key.table.parent_table is None:
        return []
    told = [row.registers.values.get("parent")]
    for change in changes:
        told += [change.before.get("parent"), change.after.get("parent")]
    return [parent for parent in dict.fromkeys(told) if isinstance(parent, str) and parent]


def _not_ended(connection: Connection, source: str, names: Sequence[str]) -> list[Row[Any]]:
    given = {"sources": [source], "names": list(names), "limit": MOST_CANDIDATES, "pending": MOST_PENDING}
    # Their ids first, because PostgreSQL would read the whole history to join the rows of a long backlog.
    ids = [found for waiting in _WAITING for found in connection.execute(waiting, given).scalars()]
    return list(connection.execute(_BY_ID, {"ids": sorted(ids)})) if ids else []


def _first_processed(connection: Connection, found: Mapping[int, Row[Any]]) -> dict[int, datetime]:
    """The time at which each delivery first ended as processed, by id; only for deliveries that did."""
    ended = {each.id: each.ended_at or each.received_at for each in found.values() if each.state == State.PROCESSED}
    again = [each.id for each in found.values() if each.round > 1]
    if again:
        ended |= {
            row.delivery_id: row.ended_at for row in connection.execute(_PROCESSED_BEFORE, {"ids": sorted(again)})
        }
    return ended


def _has_more_pending(connection: Connection) -> bool:
    return connection.execute(_MORE_PENDING, {"pending": MOST_PENDING}).first() is not None


def _named(key: Key) -> dict[str, str]:
    return {"table": table_name(key.table), "source": key.source, "external_id": key.external_id}


# ── the statements, built once ────────────────────────────────────────────────────────────────────────────────────

_COLUMNS = (
    *DELIVERIES.c["id", "source", "event_type", "entity_kind", "entity_id", "occurred_at", "received_at", "state"],
    *DELIVERIES.c["outcome", "reason", "attempts", "round", "ended_at"],
    DELIVERIES.c.item,
    BODY_ID.label("body_id"),
    BODY_SIZE.label("size"),
)

_BY_ID = select(*_COLUMNS).where(IDS)

_ABOUT = (
    select(*_COLUMNS)
    .where(DELIVERIES.c.source == bindparam("source"), DELIVERIES.c.entity_id == bindparam("name"))
    # Exactly the condition of the partial index, so that databases use the index.
    .where(text("deliveries.ended_at IS NOT NULL"))
    .order_by(DELIVERIES.c.id.desc())
    .limit(bindparam("limit"))
)


_NAMES = bindparam("names", type_=Many(Text))


def _ids_about(waiting: Subquery) -> Select[Any]:
    """Select the ids of those deliveries that belong to the source and have one of the names."""
    of_source = among(waiting.c.source, bindparam("sources", type_=Many(Text)))
    return select(waiting.c.id).where(of_source, among(waiting.c.entity_id, _NAMES)).limit(bindparam("limit"))


def _pending(suspect: bool) -> Subquery:
    """The pending deliveries that have been due for longest: the ordinary ones, or the suspects."""
    some = select(*DELIVERIES.c["id", "source", "entity_id"])
    some = some.where(in_state(State.PENDING), DELIVERIES.c.suspect == literal(suspect))
    return some.order_by(DELIVERIES.c.due_at).limit(bindparam("pending")).subquery()


_PROCESSING = select(DELIVERIES.c.id).where(in_state(State.PROCESSING), OF_SOURCES)

#: One query per state, because each has a partial index of its few rows.
_WAITING = [
    *(_ids_about(_pending(suspect)) for suspect in (False, True)),
    _PROCESSING.where(among(DELIVERIES.c.entity_id, _NAMES)).limit(bindparam("limit")),
]

_MORE_PENDING = (
    select(literal(1)).select_from(DELIVERIES).where(in_state(State.PENDING)).offset(bindparam("pending")).limit(1)
)

_PROCESSED_BEFORE = (
    select(ROUNDS.c.delivery_id, func.min(ROUNDS.c.ended_at, type_=ROUNDS.c.ended_at.type).label("ended_at"))
    .where(
        among(ROUNDS.c.delivery_id, bindparam("ids", type_=Many(BigInteger))), ROUNDS.c.state == State.PROCESSED.value
    )
    .group_by(ROUNDS.c.delivery_id)
)

_CHANGE_COLUMNS = [CHANGES.c[name] for name in RecordedChange._fields]
