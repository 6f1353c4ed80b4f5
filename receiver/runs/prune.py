"""Prune as a run: drops expired bodies and deliveries, batch after batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from receiver.database.database import Database
from receiver.inbox.retention import Retention
from receiver.runs.run_kind import OnDatabase, Progress, RunLease

#: The name of the kind in commands and the API.
PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Prune(OnDatabase):
    """The kind of run that drops expired bodies, and deliveries with their dedup keys."""

    database: Database
    retention: Retention
    clock: Callable[[], datetime]

    @property
    def name(self) -> str:
        return PRUNE

    def plan(self, held: RunLease) -> Progress:
        """Freeze nothing, because an expired body stays expired."""
        return held.commit(lambda _: Progress(None, sources=[""], is_last=True))

    def step(self, held: RunLease) -> Progress:
        """Drop one batch in a separate transaction: a kill right after it loses only that batch's part of the count."""
        dropped = self.retention.prune(self.database, now=self.clock())
        tally = {"pruned": dropped} if dropped else {}
        # How much has expired is not known in advance.
        total = held.run.done + dropped
        return held.commit(lambda _: Progress(None, done=dropped, tally=tally, total=total, is_last=not dropped))
