"""Kept bodies, as they are read again: verified, opened, and with those headers that an envelope reads."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import BigInteger, Connection, Text, bindparam, case, func, null, select, type_coerce

from receiver.codec import decode
from receiver.database.columns import Many, among
from receiver.header_values import SIGNED_MARK, KeptBody
from receiver.inbox.tables import BODIES

#: How the stored headers begin which an envelope reads.
_MARKED = '{"' + SIGNED_MARK + '"'


def bodies_of(connection: Connection, ids: Iterable[int]) -> dict[int, bytes]:
    """The verified bodies that are kept under these ids, which `BODY_ID` gives; those that have expired are missing."""
    found = connection.execute(_PLAIN, {"ids": sorted(set(ids))})
    return {
        row.delivery_id: row.plain if row.headers is None else KeptBody.of(row.plain, decode(row.headers))
        for row in found
    }


_HEADERS = type_coerce(BODIES.c.headers, Text)

#: Of the headers only those that an envelope reads.
_PLAIN = select(
    BODIES.c.delivery_id,
    func.coalesce(BODIES.c.plain, BODIES.c.body).label("plain"),
    case((func.substr(_HEADERS, 1, len(_MARKED)) == _MARKED, _HEADERS), else_=null()).label("headers"),
).where(among(BODIES.c.delivery_id, bindparam("ids", type_=Many(BigInteger))))
