"""Older keys: dedup keys that an earlier release stored in another form, and that still identify duplicates.

Older keys are not rewritten. They have no lead, or a long fingerprint as it is. Only changes that occurred before the
upgrade are looked up by keys without a lead (docs/decisions/0042); the few with a long fingerprint always are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import select

from receiver.database.database import Database
from receiver.database.identity import older_keys_until
from receiver.envelope import LONGEST_FINGERPRINT
from receiver.inbox.arrival import Arrival
from receiver.inbox.tables import DEDUP_KEYS, dedup_keys_in


class OlderKeys:
    """Recognises arrivals whose changes occurred before the upgrade by their older keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_known = False
        self._until: datetime | None = None

    def recognise(self, arrivals: Sequence[Arrival]) -> None:
        """Give each arrival the older key under which its change is stored. Raises SQLAlchemy's errors."""
        self._recognise_long_fingerprints(arrivals)
        if not self._is_known:
            with self._database.read() as connection:
                self._until = older_keys_until(connection)
            self._is_known = True
        if self._until is None:
            return
        until = self._until
        old = [each for each in arrivals if each.lead and each.occurred_at and each.occurred_at <= until]
        if old:
            stored = self._stored((each.source, each.dedup_key) for each in old)
            for each in old:
                if (each.source, each.dedup_key) in stored:
                    each.drop_lead()

    def _recognise_long_fingerprints(self, arrivals: Sequence[Arrival]) -> None:
        # By a slice, because this runs for each webhook, and a call takes longer.
        long = [(each, each.unhashed_key) for each in arrivals if each.fingerprint[LONGEST_FINGERPRINT:]]
        if not long:
            return
        keys = [(each.source, key) for each, key in long if key is not None]
        stored = self._stored(keys) if keys else set()
        for each, key in long:
            if key is not None and (each.source, key) in stored:
                each.take_older_key(key)

    def _stored(self, keys: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Select those of these keys that are stored, each with its source."""
        stored: set[tuple[str, str]] = set()
        with self._database.read() as connection:
            for condition in dedup_keys_in(keys):
                found = connection.execute(select(DEDUP_KEYS.c.source, DEDUP_KEYS.c.dedup_key).where(condition))
                stored.update((row.source, row.dedup_key) for row in found)
        return stored
