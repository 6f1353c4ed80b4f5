"""Rounds: the ways of a delivery from pending to its end, each with its attempts.

The latest round of a delivery is part of its row in `deliveries`, so that accepting and ending a delivery write no row
of a round. The previous round is copied into `rounds` only when another round begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Insert,
    RowMapping,
    Select,
    Text,
    bindparam,
    insert,
    literal,
    select,
    update,
)

from receiver.database.columns import UtcDateTime
from receiver.database.damage import damage_of
from receiver.inbox import attempts
from receiver.inbox.tables import DELIVERIES, HAS_BODY, HAS_ENDED, IDS, ROUNDS, State, in_state

#: The most rounds and the most attempts of one delivery that are read, counted from the newest.
MOST_READ = 1_000


class Cause(StrEnum):
    """The cause of a round."""

    ACCEPTED = "accepted"
    REPLAY = "replay"
    #: The sender repeated a dead delivery.
    DUPLICATE = "duplicate"


class Beginning(NamedTuple):
    """The cause of a round, with the run and the action to which it belongs."""

    cause: str
    run: int | None = None
    action: int | None = None


def begin(connection: Connection, ids: Sequence[int], beginning: Beginning, *, now: datetime) -> int:
    """Begin another round, with all attempts, for those that have ended and still have a body; return their number."""
    again = connection.execute(_ENDED_WITH_BODY, {"ids": ids}).scalars().all()
    supersede(connection, again, beginning, now=now)
    if again:
        connection.execute(_AGAIN, {"ids": again, "now": now})
    return len(again)


def supersede(connection: Connection, ids: Sequence[int], beginning: Beginning, *, now: datetime) -> None:
    """Copy the latest round of each delivery into `rounds`, and insert the next one.

    The caller must have locked the rows of these deliveries, and must set them to the new round.
    """
    if not ids:
        return
    connection.execute(_KEEP_FIRST, {"ids": ids})
    connection.execute(_KEEP_END, {"ids": ids})
    connection.execute(_FOLLOW, {"ids": ids, "began": now, **beginning._asdict()})


def try_now(connection: Connection, ids: Sequence[int], *, now: datetime) -> int:
    """Make the next attempt of pending deliveries due, and return their number; other deliveries stay as they are."""
    waiting = connection.execute(_WAITING, {"ids": ids, "now": now}).scalars().all()
    if waiting:
        connection.execute(_TRY_NOW, {"ids": waiting, "now": now})
    return len(waiting)


# ── history ───────────────────────────────────────────────────────────────────────────────────────────────────────


def history(connection: Connection, delivery: RowMapping) -> list[dict[str, Any]]:
    """The rounds of a delivery with their attempts, oldest first, at most `MOST_READ` of each."""
    kept = connection.execute(_ROUNDS, {"id": delivery["id"]}).mappings().all()[::-1]
    rounds = [dict(each) for each in kept] or [_only_round(delivery)]
    rounds[-1] |= _end(delivery)
    ends = {each["ended_at"]: each["number"] for each in rounds if each["ended_at"] is not None}
    made = attempts.history(connection, delivery["id"], ends, most=MOST_READ)
    for each in rounds:
        each["attempts"] = [_shown(attempt) for attempt in made if attempt["round"] == each["number"]]
    return rounds


def _only_round(delivery: RowMapping) -> dict[str, Any]:
    began = {"cause": Cause.ACCEPTED.value, "run": None, "action": None, "began_at": delivery["received_at"]}
    return {"number": delivery["round"], **began}


def _end(delivery: RowMapping) -> dict[str, Any]:
    return {name: delivery[name] for name in ("state", "outcome", "reason", "ended_at")}


def _shown(attempt: Mapping[str, Any]) -> dict[str, Any]:
    as_they_are = ("number", "ended_at", "failed", "reason", "worker", "release", "handler")
    spans = {f"{step}_ms": _milliseconds(attempt[f"{step}_us"]) for step in ("hydrate", "handle", "settle")}
    return {**{name: attempt[name] for name in as_they_are}, **spans, "traceback": attempt["traceback"]}


def _milliseconds(microseconds: int | None) -> float | None:
    return microseconds if microseconds is None or damage_of(microseconds) else microseconds / 1_000


# ── the statements, built once ────────────────────────────────────────────────────────────────────────────────────


def _locked(*conditions: Any) -> Select[Any]:
    """Select ids of deliveries, and lock the rows until the transaction ends."""
    return select(DELIVERIES.c.id).where(IDS, *conditions).order_by(DELIVERIES.c.id).with_for_update()


_NOW = bindparam("now", type_=UtcDateTime())

_ENDED_WITH_BODY = _locked(HAS_ENDED, HAS_BODY)

_AGAIN = (
    update(DELIVERIES)
    .where(IDS)
    .values(
        state=State.PENDING.value,
        round=DELIVERIES.c.round + 1,
        attempts=0,
        due_at=_NOW,
        reason=None,
        outcome=None,
        ended_at=None,
    )
)

_WAITING = _locked(in_state(State.PENDING), DELIVERIES.c.due_at > _NOW)

_TRY_NOW = update(DELIVERIES).where(IDS).values(due_at=_NOW)

_ENDS = ("state", "outcome", "reason", "ended_at")


def _insert(columns: dict[str, Any], *conditions: Any) -> Insert:
    chosen = select(*columns.values()).where(IDS, *conditions)
    return insert(ROUNDS).from_select(list(columns), chosen)


_KEEP_FIRST = _insert(
    {
        "delivery_id": DELIVERIES.c.id,
        "number": DELIVERIES.c.round,
        "cause": literal(Cause.ACCEPTED.value),
        "began_at": DELIVERIES.c.received_at,
        **{name: DELIVERIES.c[name] for name in _ENDS},
    },
    DELIVERIES.c.round == 1,
)

_KEEP_END = (
    update(ROUNDS)
    .where(IDS, ROUNDS.c.delivery_id == DELIVERIES.c.id, ROUNDS.c.number == DELIVERIES.c.round)
    .where(DELIVERIES.c.round > 1)
    .values({name: DELIVERIES.c[name] for name in _ENDS})
)

_FOLLOW = _insert(
    {
        "delivery_id": DELIVERIES.c.id,
        "number": DELIVERIES.c.round + 1,
        "cause": bindparam("cause", type_=Text()),
        "run": bindparam("run", type_=BigInteger()),
        "action": bindparam("action", type_=BigInteger()),
        "began_at": bindparam("began", type_=UtcDateTime()),
    }
)

_ROUNDS = (
    select(*ROUNDS.c["number", "cause", "run", "action", "began_at", "state", "outcome", "reason", "ended_at"])
    .where(ROUNDS.c.delivery_id == bindparam("id"))
    .order_by(ROUNDS.c.number.desc())
    .limit(MOST_READ)
)
