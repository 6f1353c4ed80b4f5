"""Watches how many deliveries other processes store, for a process that yields to them."""

from __future__ import annotations

import threading
from typing import Final

from sqlalchemy import func, literal, select

from receiver.database.database import Database
from receiver.inbox.tables import DELIVERIES

#: Seconds between two looks, and the arrivals between them from which the other processes count as busy.
WATCH_INTERVAL: Final = 0.5
MANY_ARRIVALS: Final = 50

#: The arrivals between two looks that count as all of the time of the other processes. A server on
#: one slow core acks about as many, and most servers ack several times that number (docs/benchmarks.md).
MOST_ARRIVALS: Final = 2_000

#: Seconds that the end of the watch waits for a look.
LONGEST_WATCH_END: Final = 2.0


class ArrivalWatch:
    """Looks at the newest deliveries twice a second, on a thread of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: int | None = None
        self._arrived = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="arrival-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the watch; a look at a database that does not answer is abandoned."""
        self._ending.set()
        self._thread.join(LONGEST_WATCH_END)

    def is_busy(self) -> bool:
        """Whether many deliveries arrived between the last two looks. Safe to call from any thread."""
        return self._arrived >= MANY_ARRIVALS

    def utilisation(self) -> float:
        """About what share of their time the other processes needed for them, from 0.0 to 1.0. Thread-safe."""
        return self._arrived / MOST_ARRIVALS

    def look(self) -> None:
        """Compare the inbox with the last look."""
        with self._database.read() as connection:
            newest = connection.execute(select(func.max(DELIVERIES.c.id))).scalar_one() or 0
            # Ids grow with arrival: deliveries since the last look have larger ids than the newest one of that look.
            since = select(literal(1)).where(DELIVERIES.c.id > (newest if self._newest is None else self._newest))
            arrived = connection.execute(
                select(func.count()).select_from(since.limit(MOST_ARRIVALS).subquery())
            ).scalar_one()
        self._newest, self._arrived = newest, arrived

    def _look_on(self) -> None:
        while not self._ending.wait(WATCH_INTERVAL):
            try:
                self.look()
            except Exception:
                # Every error is caught: nothing can be stored in a database that does not answer.
                self._arrived = 0
