"""Dead changes: changes that a follower's target refuses for good, and the later changes of the same rows.

A change has only the columns that changed, so the target must receive a row's changes in order. While one of them is
dead, later changes of its row wait, and changes of other rows are posted. Of each row only the first listed change is
`dead` or due again; the other ones are `waiting`.

Posting and repair both lock the follower first, so that no change waits for a change that was just removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Index, RowMapping, Table, delete, func, insert, select, tuple_, update
from sqlmodel import Field, SQLModel

from receiver.database.columns import UtcDateTime
from receiver.following.feed import FeedItem, MirrorKey

#: The longest stored reason, in characters.
LONGEST_REFUSAL = 1_000


class DeadState(StrEnum):
    """The state of a change on this list."""

    DEAD = "dead"
    WAITING = "waiting"
    RETRY = "retry"


class DeadChange(SQLModel, table=True):
    """One change that the target has not accepted. Its content stands in the change feed."""

    __tablename__ = "dead_changes"
    __table_args__ = (
        Index("ix_dead_changes_row", "follower", "table", "source", "external_id", "seq"),
        Index("ix_dead_changes_state", "follower", "state", "seq"),
    )

    follower: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    table: str
    source: str
    external_id: str
    state: str
    #: The status of the answer; None for a waiting change, and without an answer.
    status: int | None = None
    #: The target's answer as text.
    reason: str | None = None
    attempts: int = 0
    #: The time at which the change was put on the list.
    since: datetime = Field(sa_type=UtcDateTime)


DEAD_CHANGES: Table = DeadChange.__table__  # type: ignore[attr-defined]
_D = DEAD_CHANGES.c
_ROW = (_D.table, _D.source, _D.external_id)


class TargetRefusal(NamedTuple):
    """The reason for which a change is dead."""

    status: int | None
    reason: str
    attempts: int


def blocked(connection: Connection, follower: str, rows: Iterable[MirrorKey]) -> set[MirrorKey]:
    """Return those of the rows that have changes on the list."""
    asked = sorted(set(rows))
    if not asked:
        return set()
    found = select(*_ROW).distinct().where(_D.follower == follower, tuple_(*_ROW).in_(asked))
    return {MirrorKey(*row) for row in connection.execute(found)}


def bury(connection: Connection, follower: str, item: FeedItem, refusal: TargetRefusal, *, now: datetime) -> None:
    """Put a refused change on the list as dead."""
    _insert(connection, follower, item, DeadState.DEAD, refusal, now)


def park(connection: Connection, follower: str, item: FeedItem, *, now: datetime) -> bool:
    """List a change as waiting for earlier changes of its row; False if none of these is on the list."""
    if item.row not in blocked(connection, follower, [item.row]):
        return False
    _insert(connection, follower, item, DeadState.WAITING, TargetRefusal(None, "", 0), now)
    return True


def _insert(
    connection: Connection, follower: str, item: FeedItem, state: DeadState, refusal: TargetRefusal, now: datetime
) -> None:
    row = {"follower": follower, "seq": item.seq, **item.row._asdict(), "state": state.value, "since": now}
    told = {"status": refusal.status, "reason": refusal.reason[:LONGEST_REFUSAL] or None, "attempts": refusal.attempts}
    connection.execute(insert(DEAD_CHANGES), [{**row, **told}])


def due(connection: Connection, follower: str, *, limit: int) -> list[int]:
    """The numbers of the changes that are due to be posted again, in order."""
    found = select(_D.seq).where(_D.follower == follower, _D.state == DeadState.RETRY.value)
    return list(connection.execute(found.order_by(_D.seq).limit(limit)).scalars())


def refuse_again(connection: Connection, follower: str, seq: int, refusal: TargetRefusal) -> None:
    """Record that the target has refused the change again."""
    told = {"status": refusal.status, "reason": refusal.reason[:LONGEST_REFUSAL] or None}
    again = {"state": DeadState.DEAD.value, "attempts": _D.attempts + refusal.attempts}
    connection.execute(update(DEAD_CHANGES).where(_D.follower == follower, _D.seq == seq).values(**told, **again))


def remove(connection: Connection, follower: str, seq: int) -> bool:
    """Remove a change from the list, and make the next change of its row due; False if it is not the first there."""
    is_first = _D.state != DeadState.WAITING.value
    gone = delete(DEAD_CHANGES).where(_D.follower == follower, _D.seq == seq, is_first).returning(*_ROW)
    row = connection.execute(gone).first()
    if row is None:
        return False
    same_row = [column == value for column, value in zip(_ROW, row, strict=True)]
    following = select(func.min(_D.seq)).where(_D.follower == follower, *same_row).scalar_subquery()
    first = update(DEAD_CHANGES).where(_D.follower == follower, _D.seq == following)
    connection.execute(first.values(state=DeadState.RETRY.value))
    return True


def retry(connection: Connection, follower: str) -> int:
    """Make all dead changes due, and then the changes that wait for them; return the number of dead ones."""
    dead = update(DEAD_CHANGES).where(_D.follower == follower, _D.state == DeadState.DEAD.value)
    return connection.execute(dead.values(state=DeadState.RETRY.value)).rowcount


def forget_behind(connection: Connection, follower: str, seq: int) -> None:
    """Remove the changes after `seq`, which the follower will reach again."""
    connection.execute(delete(DEAD_CHANGES).where(_D.follower == follower, _D.seq > seq))


def numbers(connection: Connection) -> dict[tuple[str, str], int]:
    """Count the changes on the list by follower and state."""
    counted = select(_D.follower, _D.state, func.count()).group_by(_D.follower, _D.state)
    return {(follower, state): number for follower, state, number in connection.execute(counted)}


def first_dead(connection: Connection) -> dict[str, tuple[int, datetime]]:
    """By follower, the number of changes that its target refused, and the time of the first one."""
    dead = select(_D.follower, func.count(), func.min(_D.since)).where(_D.state == DeadState.DEAD.value)
    return {follower: (number, first) for follower, number, first in connection.execute(dead.group_by(_D.follower))}


def dead_since(connection: Connection, follower: str, moment: datetime) -> int:
    """Count the follower's changes that were refused for good after this moment, and are still on the list."""
    refused = _D.state != DeadState.WAITING.value
    # A change that has waited has no attempt before it is due itself.
    wanted = select(func.count()).where(_D.follower == follower, _D.since > moment, refused, _D.attempts > 0)
    return int(connection.execute(wanted).scalar_one())


def listed(connection: Connection, *, limit: int) -> Sequence[RowMapping]:
    """The first `limit` changes of the list, ordered by follower and number."""
    return connection.execute(select(DEAD_CHANGES).order_by(_D.follower, _D.seq).limit(limit)).mappings().all()
