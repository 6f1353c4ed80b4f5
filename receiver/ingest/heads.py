"""Heads: the memory that the head of a request holds, and the requests whose heads are counted."""

from __future__ import annotations

from receiver.verify.request import RawHeaders

#: The key in a request's scope for the bytes of memory that its head holds, if they are counted.
HELD = "hookmirror.held"

#: The most received bytes of a request whose head is not counted, unless the request waits in a queue. A connection has
#: one such request at a time, so these heads are bounded by the number of connections.
USUAL_HEAD = 4_096

#: Measured bytes of memory for the objects of a request, and for those of each header, besides its name and value.
REQUEST_MEMORY, HEADER_MEMORY = 3_000, 150


def head_memory(headers: RawHeaders) -> int:
    """Estimate the bytes of memory that a request with these headers holds, besides its body."""
    return REQUEST_MEMORY + HEADER_MEMORY * len(headers) + len(b"".join(map(b"".join, headers)))
