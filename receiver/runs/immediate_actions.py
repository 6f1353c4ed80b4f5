"""Immediate actions on a few deliveries, without a run: replays them, or makes their next attempts due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from receiver.inbox.inbox import Inbox
from receiver.inbox.tables import DELIVERIES, HAS_BODY, HAS_ENDED, IDS
from receiver.runs.actions import Asked, Done, Effect, perform

#: The most deliveries that are replayed without a run: half a batch, which delays live work little.
LARGEST_IMMEDIATE_REPLAY = 100


def lock_replayable(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Lock those deliveries that have ended and have a body, and return their ids, ascending."""
    return list(connection.execute(_REPLAYABLE, {"ids": list(ids)}).scalars())


def replay_now(inbox: Inbox, asked: Asked, ids: Sequence[int], *, now: datetime) -> Done | None:
    """Replay those deliveries that have ended and have a body; None if there are none.

    Raises the errors of `perform`.
    """

    def begin(connection: Connection) -> Effect | None:
        can = lock_replayable(connection, ids)
        result = {"status": "pending", "deliveries": len(can)}

        def begin_round(action: int) -> None:
            inbox.begin_round(connection, can, cause="replay", action=action, now=now)

        return Effect(len(can), result, then=begin_round) if can else None

    return perform(inbox.database, asked, begin, now=now)


def try_now(inbox: Inbox, asked: Asked, ids: Sequence[int], *, now: datetime) -> Done | None:
    """Make the next attempt of pending deliveries due now; None if no delivery waits for one.

    Raises the errors of `perform`.
    """

    def hurry(connection: Connection) -> Effect | None:
        tried = inbox.try_now(connection, ids, now=now)
        return Effect(tried, {"status": "pending", "deliveries": tried}) if tried else None

    return perform(inbox.database, asked, hurry, now=now)


_REPLAYABLE = select(DELIVERIES.c.id).where(IDS, HAS_ENDED, HAS_BODY).order_by(DELIVERIES.c.id).with_for_update()
