"""The note of a copy that has begun and not ended, in the database that is copied to.

It is a table that is there only meanwhile: it says how far the copy is, and keeps everybody else from using half of a
database.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select

from receiver import codec
from receiver.errors import ConfigurationError

#: Not among the tables of this release: no migration makes it, and it goes with the copy's last transaction.
UNFINISHED = Table(
    "unfinished_copy", MetaData(), Column("runner", Text, nullable=False), Column("note", Text, nullable=False)
)


@dataclass(slots=True)
class Part:
    """One table of a copy."""

    #: In the database that is copied from.
    rows: int
    digest: str
    copied: int = 0
    #: The key of the last row that is copied, in JSON; None if none is.
    after: str | None = None


@dataclass(slots=True)
class Note:
    """How far a copy is."""

    #: Where it comes from, without its password.
    source: str
    began_at: str
    #: By table, in the order in which they are copied.
    parts: dict[str, Part] = field(default_factory=dict)

    def is_of(self, parts: dict[str, Part]) -> bool:
        """Whether what is to be copied is still what it was when the copy began."""
        return {name: (part.rows, part.digest) for name, part in self.parts.items()} == {
            name: (part.rows, part.digest) for name, part in parts.items()
        }

    def told(self) -> str:
        """The copy and how far it is, for people."""
        copied, rows = (sum(getattr(part, name) for part in self.parts.values()) for name in ("copied", "rows"))
        return f"an unfinished copy of {self.source} ({copied} of {rows} rows)"


def read_note(connection: Connection) -> Note | None:
    """The note, if there is one."""
    if not inspect(connection).has_table(UNFINISHED.name):
        return None
    text = connection.execute(select(UNFINISHED.c.note)).scalar()
    if text is None:
        return None
    found: dict[str, Any] = codec.decode(text)
    parts = {name: Part(**part) for name, part in found["parts"].items()}
    return Note(found["source"], found["began_at"], parts)


def write_note(connection: Connection, note: Note, runner: str) -> None:
    """Make the note, or make an older one this runner's."""
    UNFINISHED.create(connection, checkfirst=True)
    connection.execute(UNFINISHED.delete())
    connection.execute(UNFINISHED.insert().values(runner=runner, note=_text(note)))


def keep_note(connection: Connection, note: Note, runner: str) -> bool:
    """Record the progress of the copy. False if another process has continued it meanwhile."""
    mine = UNFINISHED.update().where(UNFINISHED.c.runner == runner)
    return connection.execute(mine.values(note=_text(note))).rowcount == 1


def drop_note(connection: Connection) -> None:
    UNFINISHED.drop(connection)


def refuse_unfinished(connection: Connection) -> None:
    """Raises `ConfigurationError` if the database holds half of a copy."""
    note = read_note(connection)
    if note is not None:
        raise ConfigurationError(
            f"The database holds {note.told()}: run the same `hookmirror copy` again, which goes on where it was, or "
            "name another database."
        )


def _text(note: Note) -> str:
    return codec.encode(asdict(note)).decode()
