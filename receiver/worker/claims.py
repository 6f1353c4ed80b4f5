"""Claims: decides whether a worker claims ordinary deliveries next, or a suspect."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from receiver.inbox.due import Due
from receiver.inbox.inbox import Inbox
from receiver.inbox.leases import Claimed
from receiver.worker.batch_sizes import BatchSize


class Claims:
    """The claims of one worker. Ordinary deliveries and suspects take turns, if both are due."""

    def __init__(self, inbox: Inbox, worker: str, *, max_bytes: int, lease: timedelta) -> None:
        self._inbox, self._worker = inbox, worker
        self._max_bytes, self._lease = max_bytes, lease
        #: Set initially, so that a worker that replaces a hung one begins with ordinary deliveries, not with suspects.
        self._suspects_turn = True
        #: Whether the last claim was full, so that the next one need not look for what is due.
        self._was_full = False

    def claim(
        self, sources: Collection[str], size: BatchSize, *, now: datetime, requests_wait: bool = False
    ) -> list[Claimed]:
        """Claim the due deliveries of these sources whose turn it is, at most as many as `size` permits.

        `requests_wait` says that requests wait for the claim, as on SQLite for every writer of their process.
        """
        if self._was_full:
            self._was_full = False
            claimed = self._claim(sources, size.next(is_calm=False, requests_wait=requests_wait), now=now)
            if claimed:
                return claimed
        due = self._inbox.due(sources, now=now)
        # A suspect may have ended its worker; claimed alone, it interrupts no other delivery.
        self._suspects_turn = due.suspect and not (due.ordinary and self._suspects_turn)
        if not due.ordinary and not due.suspect:
            return []
        limit = 1 if self._suspects_turn else size.next(is_calm=due.is_calm, requests_wait=requests_wait)
        claimed = self._claim(sources, limit, now=now, suspect=self._suspects_turn)
        self._was_full = len(claimed) == limit and self._may_claim_unseen(due)
        return claimed

    def _claim(self, sources: Collection[str], limit: int, *, now: datetime, suspect: bool = False) -> list[Claimed]:
        return self._inbox.claim(
            self._worker,
            sources,
            limit=limit,
            max_bytes=self._max_bytes,
            now=now,
            lease=self._lease,
            suspect=suspect,
        )

    def _may_claim_unseen(self, due: Due) -> bool:
        """Whether the claim after a full one may do without a look, which on PostgreSQL takes five round trips.

        On SQLite, the look also says whether webhooks arrive. A suspect waits for one batch more at most.
        """
        return self._inbox.database.is_postgresql and not due.suspect
