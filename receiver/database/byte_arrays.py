"""Lists of bytes for PostgreSQL, in its binary form of an array, which the server takes over without parsing it.

In a JSON document, bytes would be base64 text that both sides convert (docs/decisions/0058).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from psycopg import Connection

#: The type of the elements.
ELEMENT = "bytea"

#: The head of an array with one dimension: the number of dimensions, whether elements may be NULL, the type of the
#: elements, their number, and the index of the first one. Each element follows with its size in four bytes before it.
_HEAD = struct.Struct("!iiIii")

#: The size that stands for NULL.
_NULL = (-1).to_bytes(4, signed=True)


class ByteArray(Struct, frozen=True):
    """A parameter `%b` of the type `bytea[]`."""

    elements: Sequence[bytes | None]


def write_byte_arrays(connection: Connection[Any]) -> None:
    """Let this connection of psycopg's take a `ByteArray` as a parameter."""
    connection.adapters.register_dumper(ByteArray, _dumper())


@cache
def _dumper() -> type[Any]:
    """The class that writes. psycopg is imported only where PostgreSQL is used."""
    import psycopg
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    kind = psycopg.adapters.types[ELEMENT]

    class WrittenBytes(Dumper):
        format = Format.BINARY

        def dump(self, obj: ByteArray) -> bytes:
            return _packed(obj.elements, kind.oid)

    WrittenBytes.oid = kind.array_oid
    return WrittenBytes


def _packed(elements: Sequence[bytes | None], kind: int) -> bytes:
    """Write the elements, which are of this type, as the server's `array_recv` reads them."""
    parts = [_HEAD.pack(1, 1, kind, len(elements), 1)]
    for element in elements:
        if element is None:
            parts.append(_NULL)
        else:
            parts += (len(element).to_bytes(4), element)
    return b"".join(parts)
