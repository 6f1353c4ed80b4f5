"""Filing: arrivals find their place in the inbox, or turn out to repeat what is there.

The database decides who comes first: a dedup key is inserted or it is not, and nobody looks before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, and_, bindparam, case, select, update

from receiver.database.bulk import insert_rows
from receiver.database.columns import UtcDateTime
from receiver.database.database import Database
from receiver.inbox.insert import Arrival, take, take_new
from receiver.inbox.tables import BODIES, DEDUP_KEYS, DELIVERIES, State, dedup_keys_in, in_state

BODY_COLUMNS = ("delivery_id", "body", "plain", "headers")

#: Separates a dedup key from the fingerprint that tells two bodies under one key apart.
CONFLICT_MARK = "#"


class Accepted(NamedTuple):
    """The answer to the sender: accepted or duplicate, and under which id it is kept."""

    status: str
    delivery_id: int


def file(database: Database, arrivals: Sequence[Arrival]) -> list[Accepted]:
    """Keep the arrivals durably, each under its id. The answers stand in the same order.

    If all of them are new, which is the rule, one statement does it; otherwise they are sorted out. To file the same
    arrivals again, as after a commit whose fate is unknown, does no harm: what was kept under its own id was no
    duplicate.
    """
    if take(database, arrivals):
        return [Accepted("accepted", arrival.id) for arrival in arrivals]
    with database.write() as connection:
        return _sort_out(connection, arrivals)


def _sort_out(connection: Connection, arrivals: Sequence[Arrival]) -> list[Accepted]:
    filings = [_Filing(arrival) for arrival in arrivals]
    _find_holders(connection, filings)
    _keep(connection, [filing for filing in filings if filing.holder is None])
    conflicting = [filing for filing in filings if filing.conflicts]
    for filing in conflicting:
        filing.mark_conflict()
    _keep(connection, conflicting)
    duplicates = [filing for filing in filings if not filing.is_new]
    if duplicates:
        _note_duplicates(connection, duplicates)
    return [filing.answer() for filing in filings]


@dataclass(slots=True)
class _Filing:
    """An arrival, and whoever holds its dedup key: a delivery of its own, or an earlier one."""

    arrival: Arrival
    holder: RowMapping | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.arrival.source, self.arrival.dedup_key

    @property
    def delivery_id(self) -> int:
        assert self.holder is not None, "its key was looked up"
        return int(self.holder["delivery_id"])

    @property
    def is_new(self) -> bool:
        return self.delivery_id == self.arrival.id

    @property
    def conflicts(self) -> bool:
        return self.holder is not None and self.holder["fingerprint"] != self.arrival.fingerprint

    def mark_conflict(self) -> None:
        self.arrival.dedup_key += CONFLICT_MARK + self.arrival.fingerprint.hex()
        self.arrival.conflict = True

    def answer(self) -> Accepted:
        return Accepted("accepted" if self.is_new else "duplicate", self.delivery_id)


def _keep(connection: Connection, filings: Sequence[_Filing]) -> None:
    if filings:
        take_new(connection, [filing.arrival for filing in filings])
        _find_holders(connection, filings)


def _find_holders(connection: Connection, filings: Sequence[_Filing]) -> None:
    holders: dict[tuple[str, str], RowMapping] = {}
    for condition in dedup_keys_in(filing.key for filing in filings):
        found = connection.execute(select(DEDUP_KEYS).where(condition)).mappings()
        holders |= {(row["source"], row["dedup_key"]): row for row in found}
    for filing in filings:
        filing.holder = holders.get(filing.key)


def _note_duplicates(connection: Connection, duplicates: Sequence[_Filing]) -> None:
    """Count them, and let the sender's insistence give a dead delivery one attempt more."""
    in_order = sorted(duplicates, key=lambda filing: filing.delivery_id)
    _restore_bodies(connection, in_order)
    noted = [{"known": filing.delivery_id, "now": filing.arrival.received_at} for filing in in_order]
    connection.execute(_NOTE, noted)


_DEAD = in_state(State.DEAD)

_NOTE = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id == bindparam("known"))
    .values(
        duplicates=DELIVERIES.c.duplicates + 1,
        due_at=case((_DEAD, bindparam("now", type_=UtcDateTime())), else_=DELIVERIES.c.due_at),
        attempts=case((and_(_DEAD, DELIVERIES.c.attempts > 0), DELIVERIES.c.attempts - 1), else_=DELIVERIES.c.attempts),
        ended_at=case((_DEAD, None), else_=DELIVERIES.c.ended_at),
        state=case((_DEAD, State.PENDING.value), else_=DELIVERIES.c.state),
    )
)


def _restore_bodies(connection: Connection, duplicates: Sequence[_Filing]) -> None:
    """Give dead deliveries their bodies back, if these have expired: here they come again."""
    ids = [filing.delivery_id for filing in duplicates]
    dead = set(connection.execute(select(DELIVERIES.c.id).where(DELIVERIES.c.id.in_(ids), _DEAD)).scalars())
    again = {filing.delivery_id: filing.arrival for filing in duplicates if filing.delivery_id in dead}
    rows = [(delivery_id, found.body, found.plain, found.headers) for delivery_id, found in again.items()]
    insert_rows(connection, BODIES, BODY_COLUMNS, rows, conflict="ON CONFLICT DO NOTHING")
