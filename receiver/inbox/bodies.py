"""Kept bodies: reads them with the headers that an envelope function reads."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import BigInteger, Connection, Text, bindparam, case, func, null, select, type_coerce

from receiver.codec import decode
from receiver.database.columns import Many, among
from receiver.database.postgresql import BINARY_RESULTS
from receiver.header_values import SIGNED_MARK, KeptBody
from receiver.inbox.tables import BODIES

#: The prefix of the stored headers that an envelope function reads.
_MARKED = '{"' + SIGNED_MARK + '"'


def bodies_of(connection: Connection, ids: Iterable[int]) -> dict[int, bytes]:
    """Read the verified bodies that are kept under these ids, which `BODY_ID` gives; expired bodies are left out."""
    found = connection.execute(_PLAIN, {"ids": sorted(set(ids))}).all()
    return {
        body_id: plain if headers is None else KeptBody.of(plain, decode(headers)) for body_id, plain, headers in found
    }


_HEADERS = type_coerce(BODIES.c.headers, Text)

#: Only those stored headers that an envelope function reads.
_PLAIN = (
    select(
        BODIES.c.delivery_id,
        func.coalesce(BODIES.c.plain, BODIES.c.body).label("plain"),
        case((func.substr(_HEADERS, 1, len(_MARKED)) == _MARKED, _HEADERS), else_=null()).label("headers"),
    )
    .where(among(BODIES.c.delivery_id, bindparam("ids", type_=Many(BigInteger))))
    .execution_options(**{BINARY_RESULTS: True})
)
