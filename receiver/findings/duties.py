"""Duties: work that one process at a time does for all, under a lease in the database."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import insert, or_, update
from sqlalchemy.exc import IntegrityError

from receiver.database.database import Database
from receiver.findings.tables import DUTIES


def take(database: Database, name: str, holder: str, *, now: datetime, lease: timedelta) -> bool:
    """Take or renew the lease on a duty; return whether `holder` now has it.

    A lease that ends later than one that begins now does not count, because the clock has been set back since.
    """
    free = or_(DUTIES.c.holder == holder, DUTIES.c.until <= now, DUTIES.c.until > now + 2 * lease)
    values = {"holder": holder, "until": now + lease}
    try:
        with database.write() as connection:
            if connection.execute(update(DUTIES).where(DUTIES.c.name == name, free).values(values)).rowcount:
                return True
            if connection.execute(DUTIES.select().where(DUTIES.c.name == name)).first() is not None:
                return False
            connection.execute(insert(DUTIES).values(name=name, **values))
    except IntegrityError:
        # Another process inserted the duty's first row at the same moment.
        return False
    return True


def leave(database: Database, name: str, holder: str, *, now: datetime) -> None:
    """Release the duty, so that another process can take it at once."""
    with database.write() as connection:
        connection.execute(update(DUTIES).where(DUTIES.c.name == name, DUTIES.c.holder == holder).values(until=now))
