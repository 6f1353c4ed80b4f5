"""Immediate actions on a few deliveries, without a run: replays them, or makes their next attempts due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.errors import is_fault_of_values
from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import DELIVERIES, HAS_BODY, HAS_ENDED, IDS
from receiver.logs.safe_text import told
from receiver.runs.actions import Asked, Done, Effect, perform

#: The most deliveries that are replayed without a run: half a batch, which delays live work little.
LARGEST_IMMEDIATE_REPLAY = 100


def lock_replayable(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Lock those deliveries that have ended and have a body, and return their ids, ascending."""
    return list(connection.execute(_REPLAYABLE, {"ids": list(ids)}).scalars())


def begin_rounds(
    inbox: Inbox,
    connection: Connection,
    ids: Sequence[int],
    *,
    run: int | None = None,
    action: int | None = None,
    now: datetime,
) -> dict[int, str]:
    """Begin a round of each delivery, and return the reasons for those that the database refuses to change."""
    try:
        with connection.begin_nested():
            inbox.begin_round(connection, ids, cause="replay", run=run, action=action, now=now)
        return {}
    except SQLAlchemyError as error:
        if not is_fault_of_values(error):
            raise
        if len(ids) == 1:
            return {ids[0]: f"The database refuses to change it: {told(error)}"}
    halves = ids[: len(ids) // 2], ids[len(ids) // 2 :]
    first, second = (begin_rounds(inbox, connection, half, run=run, action=action, now=now) for half in halves)
    return first | second


class _SomeRefused(Exception):
    """The database refuses to change some of the deliveries, so that their action would have a wrong number."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__()
        self.reasons = reasons


def replay_now(inbox: Inbox, asked: Asked, ids: Sequence[int], *, now: datetime) -> Done | None:
    """Replay those deliveries that have ended and have a body; None if there are none.

    Those that the database refuses to change are left out, and counted in the result, with one reason. Raises the
    errors of `perform`, and the database's if it refuses all.
    """
    refused: dict[int, str] = {}

    def begin(connection: Connection) -> Effect | None:
        can = [each for each in lock_replayable(connection, ids) if each not in refused]
        result: dict[str, Any] = {"status": "pending", "deliveries": len(can)}
        if refused:
            result |= {"refused": len(refused), "reason": next(iter(refused.values()))}

        def begin_round(action: int) -> None:
            if len(can) > 1:
                reasons = begin_rounds(inbox, connection, can, action=action, now=now)
                if not reasons:
                    return
                if len(reasons) < len(can):
                    raise _SomeRefused(reasons)
            # For a single delivery, or if the database refuses all, its own error is the answer.
            inbox.begin_round(connection, can, cause="replay", action=action, now=now)

        return Effect(len(can), result, then=begin_round) if can else None

    while True:
        try:
            return perform(inbox.database, asked, begin, now=now)
        except _SomeRefused as some:
            refused |= some.reasons


def try_now(inbox: Inbox, asked: Asked, ids: Sequence[int], *, more: bool = False, now: datetime) -> Done | None:
    """Make the next attempt of pending deliveries due now; None if no delivery waits for one.

    `more`, whether others wait, is part of the answer. Raises the errors of `perform`.
    """

    def hurry(connection: Connection) -> Effect | None:
        tried = inbox.try_now(connection, ids, now=now)
        return Effect(tried, {"status": "pending", "deliveries": tried, "more": more}) if tried else None

    return perform(inbox.database, asked, hurry, now=now)


_REPLAYABLE = select(DELIVERIES.c.id).where(IDS, HAS_ENDED, HAS_BODY).order_by(DELIVERIES.c.id).with_for_update()
