"""Batch sizes: how many deliveries a worker claims at once."""

from __future__ import annotations

#: How many times its usual size a batch may have while no webhook arrives, and the most deliveries of such a batch.
LARGER_WHEN_CALM, LARGEST_WHEN_CALM = 4, 1_000

#: The most deliveries that are claimed at once on SQLite while requests arrive (docs/decisions/0014).
CLAIMED_BESIDE_REQUESTS = 50

#: The longest pass in seconds after which a batch may grow, so that slow handlers leave deliveries to other workers.
QUICK_PASS = 0.5


class BatchSize:
    """The number of deliveries that one worker claims next.

    It doubles from pass to pass, up to the usual number, and beyond on SQLite while no webhook arrives: an ack would
    wait for a larger transaction. After an error it is 1, because one of the deliveries may have caused the error.
    """

    def __init__(self, usual: int, *, grows: bool) -> None:
        """`grows` permits larger batches than usual, except if each delivery shall be claimed alone."""
        may_grow = grows and usual > 1
        self._largest_when_calm = max(usual, min(usual * LARGER_WHEN_CALM, LARGEST_WHEN_CALM)) if may_grow else usual
        self._usual = usual
        self._number = usual
        self._may_grow = False

    def next(self, *, is_calm: bool, requests_wait: bool) -> int:
        """The number for the pass that begins.

        `is_calm` says that no webhook has arrived for a moment, and `requests_wait` that requests wait for the claim.
        """
        self._may_grow = is_calm
        number = min(self._number, self._largest)
        return min(number, CLAIMED_BESIDE_REQUESTS) if requests_wait else number

    def passed(self, *, seconds: float, is_done: bool) -> None:
        """Note that a pass took this long; `is_done` says that it left no delivery for a later pass."""
        self._may_grow = self._may_grow and is_done and seconds < QUICK_PASS
        self._number = min(self._number * 2, self._largest)

    def failed(self) -> None:
        """Note that a pass has failed."""
        self._number = 1

    @property
    def _largest(self) -> int:
        return self._largest_when_calm if self._may_grow else self._usual
