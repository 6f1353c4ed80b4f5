"""The note of an unfinished copy, stored in the target database.

The note is a table that exists only while the copy is unfinished. It records the progress of the copy, and keeps other
processes from using an incomplete database.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select

from receiver import codec
from receiver.errors import ConfigurationError

#: The table does not belong to the schema: no migration creates it, and the last transaction of the copy drops it.
UNFINISHED = Table(
    "unfinished_copy", MetaData(), Column("runner", Text, nullable=False), Column("note", Text, nullable=False)
)


@dataclass(slots=True)
class Part:
    """One table of a copy."""

    #: The number and the digest of the rows in the source database.
    rows: int
    digest: str
    copied: int = 0
    #: The key of the last copied row, as JSON; None before the first.
    after: str | None = None


@dataclass(slots=True)
class Note:
    """The progress of a copy."""

    #: The URL of the source database, without its password.
    source: str
    began_at: str
    #: The progress by table, in the order of copying.
    parts: dict[str, Part] = field(default_factory=dict)

    def is_of(self, parts: dict[str, Part]) -> bool:
        """Whether the source database still has the rows that it had when the copy began."""
        return {name: (part.rows, part.digest) for name, part in self.parts.items()} == {
            name: (part.rows, part.digest) for name, part in parts.items()
        }

    def told(self) -> str:
        """Describe the copy and its progress."""
        copied, rows = (sum(getattr(part, name) for part in self.parts.values()) for name in ("copied", "rows"))
        return f"an unfinished copy of {self.source} ({copied} of {rows} rows)"


def read_note(connection: Connection) -> Note | None:
    """Read the note; None in a database without an unfinished copy."""
    if not inspect(connection).has_table(UNFINISHED.name):
        return None
    text = connection.execute(select(UNFINISHED.c.note)).scalar()
    if text is None:
        return None
    found: dict[str, Any] = codec.decode(text)
    parts = {name: Part(**part) for name, part in found["parts"].items()}
    return Note(found["source"], found["began_at"], parts)


def write_note(connection: Connection, note: Note, runner: str) -> None:
    """Write the note of this runner in place of any other."""
    UNFINISHED.create(connection, checkfirst=True)
    connection.execute(UNFINISHED.delete())
    connection.execute(UNFINISHED.insert().values(runner=runner, note=_text(note)))


def keep_note(connection: Connection, note: Note, runner: str) -> bool:
    """Record the progress of the copy; False if another process has continued the copy meanwhile."""
    mine = UNFINISHED.update().where(UNFINISHED.c.runner == runner)
    return connection.execute(mine.values(note=_text(note))).rowcount == 1


def drop_note(connection: Connection) -> None:
    UNFINISHED.drop(connection)


def refuse_unfinished(connection: Connection) -> None:
    """Raise `ConfigurationError` if the database holds an unfinished copy."""
    note = read_note(connection)
    if note is not None:
        raise ConfigurationError(
            f"The database holds {note.told()}: run the same `hookmirror copy` again, which continues this copy, or "
            "name another database."
        )


def _text(note: Note) -> str:
    return codec.encode(asdict(note)).decode()
