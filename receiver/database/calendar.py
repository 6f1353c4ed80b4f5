"""Times of PostgreSQL that Python's calendar does not have, such as `infinity`: they are read as damage."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from receiver.database.damage import DamagedMoment, damaged_moment

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.abc import AdaptContext, Buffer

#: The type of `UtcDateTime`.
TIME = "timestamptz"


def read_any_time(connection: Connection[Any]) -> None:
    """Make this connection of psycopg's read every stored time, and write a damaged one as it is stored."""
    loader, dumper = _adapters()
    connection.adapters.register_loader(TIME, loader)
    connection.adapters.register_dumper(DamagedMoment, dumper)


@cache
def _adapters() -> tuple[type[Any], type[Any]]:
    """The classes for reading and for writing. psycopg is imported only where PostgreSQL is used."""
    import psycopg
    from psycopg.adapt import Dumper, Loader
    from psycopg.pq import Format

    oid = psycopg.adapters.types[TIME].oid
    usual: Any = psycopg.adapters.get_loader(oid, Format.TEXT)

    class StoredTime(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._load = usual(oid, context).load

        def load(self, data: Buffer) -> Any:
            try:
                return self._load(data)
            except psycopg.DataError:
                return damaged_moment(bytes(data).decode())

    class WrittenTime(Dumper):
        def dump(self, obj: DamagedMoment) -> bytes:
            return str(obj.isoformat() if obj.says is None else obj.stored).encode()

    WrittenTime.oid = oid
    return StoredTime, WrittenTime
