"""Compression: recognises gzip and deflate by their first bytes, and decompresses bodies up to a largest size."""

from __future__ import annotations

import zlib

from receiver.errors import Unreadable
from receiver.sniffing import is_gzip, is_zlib

#: The most members of a gzip file, since each costs a copy of the rest.
MOST_MEMBERS = 16

#: Makes zlib detect whether the format is its own or gzip's.
_EITHER = zlib.MAX_WBITS | 32


def is_compressed(content: bytes) -> bool:
    """Whether the content begins like gzip or deflate, which JSON never does."""
    return is_gzip(content) or is_zlib(content)


def decompressed(content: bytes, *, largest: int) -> bytes:
    """Decompress the content. Raises `Unreadable` if it is damaged, too long, or larger than `largest` bytes.

    The size that the content claims is ignored: never much more than `largest` bytes are produced.
    """
    parts: list[bytes] = []
    left, room = content, largest
    for _ in range(MOST_MEMBERS):
        part, left = _member(left, room)
        room -= len(part)
        if room < 0:
            raise Unreadable(f"The compressed body holds more than {largest} bytes. Send less at once.")
        parts.append(part)
        if not left.strip(b"\0"):
            return b"".join(parts)
        if not is_gzip(left):
            raise Unreadable("The compressed body has bytes after its end. Let the sender send only the body.")
    raise Unreadable(f"The compressed body consists of more than {MOST_MEMBERS} parts. Let the sender send it as one.")


def _member(content: bytes, room: int) -> tuple[bytes, bytes]:
    """Decompress the first member, up to one byte beyond `room`; return it with the rest of the content."""
    reader = zlib.decompressobj(_EITHER)
    try:
        part = reader.decompress(content, room + 1)
        while not reader.eof and len(part) <= room:
            more = reader.decompress(reader.unconsumed_tail, room + 1 - len(part))
            if not more and not reader.eof:
                raise Unreadable("The compressed body ends in the middle. Let the sender send it whole.")
            part += more
    except zlib.error:
        raise Unreadable("The compressed body is damaged. Let the sender send it again, or uncompressed.") from None
    return part, reader.unused_data
