"""Heads: the memory that the head of a request holds, and the requests whose heads are counted."""

from __future__ import annotations

#: The key in a request's scope for the bytes of memory that its head holds; 0 if they are not counted.
HELD = "hookmirror.held"

#: The most bytes of memory of a head that is not counted, unless its request waits in a queue. A connection has one
#: such request at a time, so these heads are bounded by the number of connections.
USUAL_HEAD = 8_192

#: Measured bytes of memory for the objects of a request, and for those of each header, besides its name and value.
REQUEST_MEMORY, HEADER_MEMORY = 3_000, 150
