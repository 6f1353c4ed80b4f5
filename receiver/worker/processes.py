"""The processes that serve or work at the moment, by their own rows, and the wiring of each.

`receiver.server.registry` keeps the table; only warnings depend on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, delete, select
from sqlmodel import Field, SQLModel

from receiver.database.columns import Document, UtcDateTime
from receiver.dialects.sources import Source
from receiver.worker.liveness import dead
from receiver.worker.source_texts import source_texts

#: How long a process without a heartbeat counts as running.
STALE = timedelta(minutes=1)

#: Differences that a warning names; the table `processes` has them all.
MOST_WIRING_DIFFERENCES = 3


class Kind(StrEnum):
    ENDPOINT = "endpoint"
    WORKER = "worker"
    BOTH = "endpoint and worker"


class Process(SQLModel, table=True):
    """One process that serves or works."""

    __tablename__ = "processes"

    #: As `receiver.worker.liveness` makes them.
    name: str = Field(primary_key=True)
    host: str
    pid: int
    #: `endpoint`, `worker`, or `endpoint and worker`.
    kind: str
    #: Of hookmirror.
    release: str
    #: The revisions that this release wants, package by package.
    revision: str
    #: Tells another wiring from the same.
    fingerprint: str
    #: Its sources, and the handler of each event type, a line each.
    wiring: Any = Field(sa_type=Document)
    started_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    #: When it last read its settings, why it refused them, and what in them needs a restart; None for a process that
    #: takes none while it runs.
    settings: Any = Field(default=None, sa_type=Document, nullable=True)


PROCESSES: Table = Process.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Wiring:
    """What decides how a process treats a delivery: its sources, and which handler takes which event type.

    The texts of the modules that the dialects are written in, and of those that these use, belong to it: an edit of a
    helper changes what a handler does.
    """

    lines: tuple[str, ...]

    @classmethod
    def of(cls, sources: Mapping[str, Source]) -> Wiring:
        dialects = {source.dialect.name: source.dialect for source in sources.values()}
        listening = [f"source {source.name} speaks {source.dialect.name}" for source in sources.values()]
        handling = [
            f"{name} gives {handler.pattern.text} to {handler.name}"
            for name, dialect in dialects.items()
            for handler in dialect.handlers
        ]
        written = source_texts(each for dialect in dialects.values() for each in dialect.functions)
        return cls((*sorted(listening), *sorted(handling), *written))

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2s("\n".join(self.lines).encode(), digest_size=8).hexdigest()

    def difference(self, other: Sequence[str]) -> str:
        """What the other wiring lacks, and what it has in addition; empty if they are the same."""
        ours, theirs = set(self.lines), set(other)
        lacks = [line for line in self.lines if line not in theirs]
        has = [line for line in other if line not in ours]
        parts = [f"{verb}: {_some(lines)}" for verb, lines in (("lacks", lacks), ("has besides", has)) if lines]
        return "; ".join(parts)


def running(connection: Connection, now: datetime) -> list[RowMapping]:
    """The processes with a recent heartbeat, the longest running first."""
    found = select(PROCESSES).where(PROCESSES.c.seen_at >= now - STALE).order_by(PROCESSES.c.started_at)
    rows = connection.execute(found).mappings().all()
    ended = set(dead(row["name"] for row in rows))
    return [row for row in rows if row["name"] not in ended]


def drop_stale(connection: Connection, now: datetime) -> None:
    """Deregister the processes that ended without doing so."""
    names = dead(connection.execute(select(PROCESSES.c.name)).scalars())
    connection.execute(delete(PROCESSES).where((PROCESSES.c.seen_at < now - STALE) | PROCESSES.c.name.in_(names)))


def differences(wiring: Wiring, others: Iterable[RowMapping]) -> list[str]:
    """A sentence for every other wiring, that names who has it."""
    who: dict[str, list[str]] = {}
    for other in others:
        if other["fingerprint"] != wiring.fingerprint:
            who.setdefault(wiring.difference(other["wiring"]), []).append(shown(other))
    return [
        f"Wired differently: {_some(names, of=1)} {difference}. Give all processes the same sources and dialects, and "
        "restart them."
        for difference, names in who.items()
    ]


def shown(process: RowMapping) -> str:
    """A process as people look for it."""
    return f"{process['kind']} {process['host']}:{process['pid']} (hookmirror {process['release']})"


def _some(names: Sequence[str], *, of: int = MOST_WIRING_DIFFERENCES) -> str:
    more = f" and {len(names) - of} more" if len(names) > of else ""
    return ", ".join(names[:of]) + more
