"""Reads which processes are running, and how each of them is wired.

`receiver.server.registry` keeps the table. Warnings depend on it, and whether a lease that ends late dates from before
the clock was set back: `running_beside`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Literal, NotRequired, TypedDict

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, delete, select
from sqlmodel import Field, SQLModel

from receiver.database.columns import Document, UtcDateTime
from receiver.database.damage import damage_of
from receiver.dialects.sources import Source
from receiver.moments import time_text
from receiver.release import release
from receiver.settings.files import has_changed
from receiver.worker.liveness import dead, is_here
from receiver.worker.source_texts import HAS_TEXT, source_texts, texts_by_module

#: The time after its last heartbeat for which a process counts as running.
STALE = timedelta(minutes=1)

#: The most by which the clock of another machine may be ahead. A later heartbeat was written before the clock was set
#: back, by a process that has ended since, because any other has written a new one.
MOST_AHEAD = timedelta(minutes=5)

#: The most differences in one warning; the table `processes` has all.
MOST_WIRING_DIFFERENCES = 3


class Kind(StrEnum):
    ENDPOINT = "endpoint"
    WORKER = "worker"
    BOTH = "endpoint and worker"
    CONSOLE = "console"
    #: A kind that a later release has added, and of which this one knows nothing.
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Kind:  # noqa: ARG003 (signature is Python's)
        # Releases run beside each other during an upgrade.
        return cls.OTHER

    @property
    def works(self) -> bool:
        """Whether it drains the inbox, and makes and feeds runs."""
        return self in (Kind.WORKER, Kind.BOTH)

    @property
    def serves(self) -> bool:
        """Whether it receives webhooks."""
        return self in (Kind.ENDPOINT, Kind.BOTH)


class WrittenByProcess(Document):
    """The lines of the wiring of a process."""

    shape: ClassVar[Any] = list[str]
    mend = "While the process runs, it writes them again within ten seconds."


class SettingsRead(TypedDict):
    """The columns of a process about the last reading of its settings."""

    read_at: datetime
    refused: str | None
    needs_restart: list[str]
    #: The stamps of the files with the settings, by their absolute paths.
    stamps: NotRequired[dict[str, str]]
    #: The URLs at which programs on its machine reach the process and its console; None without one.
    url: NotRequired[str | None]
    console: NotRequired[str | None]


class ReadSettings(WrittenByProcess):
    """The last reading of a process's settings."""

    shape: ClassVar[Any] = SettingsRead


class Process(SQLModel, table=True):
    """One process that serves, works, or shows the console."""

    __tablename__ = "processes"

    #: The name made by `receiver.worker.liveness`.
    name: str = Field(primary_key=True)
    host: str
    pid: int
    #: `endpoint`, `worker`, `endpoint and worker`, `console`, or a kind that a later release has added.
    kind: str
    #: The release of hookmirror.
    release: str
    #: The revisions of the schema that this release needs, by package.
    revision: str
    #: A hash of the wiring.
    fingerprint: str
    #: The lines of the wiring: its sources, and the handler of each event type.
    wiring: Any = Field(sa_type=WrittenByProcess)
    started_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    #: The time at which it last read its settings, the reason for which it refused them, and the settings that need a
    #: restart; None for a process that cannot reload.
    settings: Any = Field(default=None, sa_type=ReadSettings, nullable=True)


PROCESSES: Table = Process.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Wiring:
    """The wiring of a process: its sources, and the handler of each event type.

    The source texts of the dialects' modules, and of the modules that these import, belong to it, because an edit of a
    helper may change the effect of a handler.
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
        """Describe what the other wiring lacks and adds; empty if both are equal."""
        # The hash of a text tells a person nothing.
        ours, theirs = (dict.fromkeys(line.partition(HAS_TEXT)[0] for line in lines) for lines in (self.lines, other))
        parts = {
            "lacks: ": [line for line in ours if line not in theirs],
            "has besides: ": [line for line in theirs if line not in ours],
            "has loaded another text of ": self.edited(other),
        }
        return "; ".join(f"{verb}{_some(names)}" for verb, names in parts.items() if names)

    def edited(self, other: Sequence[str]) -> list[str]:
        """The modules that both wirings have, with different source texts."""
        ours, theirs = texts_by_module(self.lines), texts_by_module(other)
        return sorted(module for module in ours.keys() & theirs.keys() if ours[module] != theirs[module])


def settings_read(process: RowMapping) -> Mapping[str, Any] | None:
    """The result of the process's last reading of its settings; None for a process that cannot reload."""
    said: Mapping[str, Any] | None = process["settings"]
    damage = damage_of(said)
    if damage is None:
        return said
    return {"read_at": process["seen_at"].isoformat(), "refused": damage, "needs_restart": []}


def unread_files(process: RowMapping) -> list[str]:
    """The files with the settings of a process of this machine that differ from those that it read."""
    said = settings_read(process)
    if said is None or not is_here(process["name"]):
        return []
    return [file for file, stamp in said.get("stamps", {}).items() if has_changed(file, stamp)]


def console_here(connection: Connection, now: datetime) -> str | None:
    """The URL of a console that runs on this machine; the newest of several, None without one."""
    return _url_here(running(connection, now), "console")


def endpoint_here(connection: Connection, now: datetime) -> str | None:
    """The URL of an endpoint that runs on this machine; the newest of several, None without one."""
    return _url_here((each for each in running(connection, now) if Kind(each["kind"]).serves), "url")


def _url_here(processes: Iterable[RowMapping], name: Literal["url", "console"]) -> str | None:
    here = [settings_read(each) for each in processes if is_here(each["name"])]
    urls = [said[name] for said in here if said is not None and said.get(name)]
    return urls[-1] if urls else None


def running(connection: Connection, now: datetime) -> list[RowMapping]:
    """The processes with a recent heartbeat, the longest running first."""
    found = select(PROCESSES).where(_is_recent(now)).order_by(PROCESSES.c.started_at)
    rows = connection.execute(found).mappings().all()
    ended = set(dead(row["name"] for row in rows))
    return [row for row in rows if row["name"] not in ended]


def silent(connection: Connection, now: datetime) -> list[RowMapping]:
    """The processes that may run without a recent heartbeat, the longest silent first.

    Those of which the last heartbeat is in the future are the last: they have ended before the clock was set back, or
    run on a machine whose clock is ahead.
    """
    found = select(PROCESSES).where(~_is_recent(now)).order_by(PROCESSES.c.seen_at)
    rows = connection.execute(found).mappings().all()
    ended = set(dead(row["name"] for row in rows))
    return [row for row in rows if row["name"] not in ended]


def running_beside(connection: Connection, now: datetime) -> list[str]:
    """The names of the processes with a heartbeat by the present clock, and not by one that was set back since."""
    found = select(PROCESSES.c.name).where(PROCESSES.c.seen_at.between(now - STALE, now + STALE))
    names = connection.execute(found).scalars().all()
    ended = set(dead(names))
    return [name for name in names if name not in ended]


def drop_stale(connection: Connection, now: datetime) -> None:
    """Delete the rows of processes that ended without deregistering."""
    names = dead(connection.execute(select(PROCESSES.c.name)).scalars())
    connection.execute(delete(PROCESSES).where(~_is_recent(now) | PROCESSES.c.name.in_(names)))


def recent_heartbeats(now: datetime) -> tuple[datetime, datetime]:
    """The earliest and the latest time of a last heartbeat with which a process counts as running."""
    return now - STALE, now + MOST_AHEAD


def _is_recent(now: datetime) -> ColumnElement[bool]:
    return PROCESSES.c.seen_at.between(*recent_heartbeats(now))


def differences(wiring: Wiring, others: Iterable[RowMapping]) -> list[str]:
    """Make a sentence for each differing wiring, with the processes that have it."""
    who: dict[str, list[str]] = {}
    for other in others:
        if other["fingerprint"] != wiring.fingerprint:
            who.setdefault(wiring.difference(other["wiring"]), []).append(shown(other))
    return [
        f"Wired differently: {_some(names, of=1)} {difference}. Give all processes the same settings and packages: "
        "`hookmirror reload` gives a running process its sources, and a restart its dialects and handlers."
        for difference, names in who.items()
    ]


def workers_unlike(connection: Connection, wiring: Wiring, now: datetime) -> list[RowMapping]:
    """The running workers with another release or wiring than this process; they make the attempts with their own."""
    ours = (release(), wiring.fingerprint)
    alive = running(connection, now)
    return [each for each in alive if Kind(each["kind"]).works and (each["release"], each["fingerprint"]) != ours]


def shown(process: RowMapping) -> str:
    """Format a process for people: kind, host, process id and release."""
    return f"{process['kind']} {process['host']}:{process['pid']} (hookmirror {process['release']})"


def describe_silence(process: RowMapping, now: datetime) -> str:
    """Say of a process that `silent` has found what is known, and what to do."""
    if process["seen_at"] > now:
        says = f"{shown(process)} gave its last sign of life at {time_text(process['seen_at'])}, in the future"
        return f"{says}: it has ended if the clock was set back since; otherwise set the clocks of both machines right"
    says = f"{shown(process)} has given no sign of life since {time_text(process['seen_at'])}"
    return (
        f"{says}: it stands still, cannot reach the database, or was lost with its machine: see its log, and restart it"
    )


def _some(names: Sequence[str], *, of: int = MOST_WIRING_DIFFERENCES) -> str:
    more = f" and {len(names) - of} more" if len(names) > of else ""
    return ", ".join(names[:of]) + more
