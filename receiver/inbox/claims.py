"""Claims: changes or returns deliveries that a worker has claimed, except rows that the database refuses to change."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy import Update, select, update

from receiver.database.database import Database
from receiver.database.errors import is_fault_of_values, retry_transaction
from receiver.inbox import leases
from receiver.inbox.tables import DELIVERIES, IDS
from receiver.logs.safe_text import told

log = structlog.get_logger(__name__)

#: Changes those of the deliveries `ids` that `worker` has claimed, and that no other session has locked.
CHANGE_HELD = update(DELIVERIES).where(leases.unlocked(IDS))

#: Returns them as if they had not been claimed. Built once, because that costs as much as running it.
PUT_BACK = CHANGE_HELD.values(**leases.UNCLAIMED)


def held_ids(database: Database, worker: str) -> Sequence[int]:
    """The deliveries that the worker has claimed."""

    def read() -> Sequence[int]:
        with database.read() as connection:
            return connection.execute(_HELD_IDS, {"worker": worker}).scalars().all()

    return retry_transaction(read)


def change_held(database: Database, worker: str, ids: Sequence[int], change: Update) -> Exception | None:
    """Change these deliveries of the worker together, or each by itself if the database refuses a row of them.

    Returns the database's error in that case. The refused rows stay as they are.
    """
    try:
        retry_transaction(lambda: _change_together(database, worker, ids, change))
    except Exception as error:
        if not is_fault_of_values(error):
            raise
        retry_transaction(lambda: _change_each(database, worker, ids, change))
        return error
    return None


def _change_together(database: Database, worker: str, ids: Sequence[int], change: Update) -> None:
    with database.write() as connection:
        connection.execute(change, {"ids": ids, "worker": worker})


def _change_each(database: Database, worker: str, ids: Sequence[int], change: Update) -> None:
    with database.write() as connection:
        for each in ids:
            try:
                with connection.begin_nested():
                    connection.execute(change, {"ids": [each], "worker": worker})
            except Exception as error:
                if not is_fault_of_values(error):
                    raise
                log.debug("cannot change a claimed delivery; skipping it", delivery=each, error=told(error))


_HELD_IDS = select(DELIVERIES.c.id).where(*leases.OF_WORKER)
