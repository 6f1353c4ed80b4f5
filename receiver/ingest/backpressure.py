"""Backpressure: bounds the bytes of complete bodies that wait in memory for their commit."""

from __future__ import annotations

from receiver.errors import Unavailable
from receiver.ingest.utilisation import Utilisation

#: Seconds from such a refusal to its answer. Meanwhile its sender sends nothing more over the connection. If it tried
#: again at once, an overloaded server would be busy with refusals instead of acks (docs/decisions/0056).
REFUSAL_PAUSE = 1.0


class Backpressure:
    """Counts the bytes of waiting bodies. Used by one event loop, so it needs no lock."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.utilisation = Utilisation()

    def hold(self, size: int) -> None:
        """Count a body of `size` bytes until its release.

        Raises `Unavailable` if the bound would be exceeded, unless nothing else waits: a body is bounded by itself, and
        its head may not shut it out for good.
        """
        if self.bytes and self.bytes + size > self.max_bytes:
            raise Unavailable("Too much is waiting to be stored. Send this again later.")
        if not self.bytes:
            self.utilisation.begin()
        self.bytes += size

    def release(self, size: int) -> None:
        """Stop counting an answered body."""
        self.bytes -= size
        if not self.bytes:
            self.utilisation.end()
