"""The installation over HTTP: its processes, the checks of `doctor`, its database, and its retention periods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta
from sqlalchemy import Column, Connection, RowMapping, func, select, text

from receiver.api.lookup import Lookup
from receiver.api.operations import Operation, Question
from receiver.api.tokens import Scope
from receiver.database.schema import Schema
from receiver.errors import BadRequest, Unavailable
from receiver.findings.tables import TALLIES
from receiver.inbox.ids import arrived
from receiver.inbox.tables import BODIES, DELIVERIES
from receiver.schemas import Moment, Shape
from receiver.worker.liveness import dead, short_name
from receiver.worker.processes import PROCESSES, Kind, Wiring, recent_heartbeats, settings_read

#: The time after its last tally after which a process counts as hung; it writes one every minute.
HUNG_FOR = timedelta(minutes=3)


class ProcessState(StrEnum):
    """The state of a process, as far as it is known."""

    ALIVE = "alive"
    #: It is alive, but one of its workers hangs in a handler.
    HUNG = "hung"
    #: It has shown no sign of life for a while.
    SILENT = "silent"
    ENDED = "ended"


class CheckShown(Shape, frozen=True):
    """One check of the installation and its result."""

    subject: str
    verdict: Literal["ok", "LOOK", "MEND"]
    says: Annotated[str, Meta(description="The result; for `LOOK` and `MEND`, with advice.")]


class ProcessStanding(Shape, frozen=True):
    """One process, and its differences to the others."""

    host: str
    pid: int
    kind: Kind
    state: ProcessState
    release: str
    started_at: Moment
    seen_at: Moment
    differs: Annotated[
        str | None, Meta(description="The difference of its sources and handlers to the longest running process.")
    ]
    can_reload: bool
    read_at: Annotated[Moment | None, Meta(description="The time at which it last read its settings since its start.")]
    refused: Annotated[str | None, Meta(description="The reason why it refused the settings that it read last.")]
    needs_restart: Annotated[list[str], Meta(description="Settings that wait for its restart.")]


class DatabaseShown(Shape, frozen=True):
    """The database, without its address."""

    kind: Literal["SQLite", "PostgreSQL"]
    bytes: int
    schema_release: Annotated[str, Meta(description="The revisions that this release needs.")]
    is_ahead: Annotated[bool, Meta(description="Whether its schema is of a later release than this process.")]


class KeptFor(Shape, frozen=True):
    """One kind of data with its retention period."""

    what: str
    days: float
    oldest_at: Annotated[Moment | None, Meta(description="The time of the oldest stored one, if known.")]


class SystemShown(Shape, frozen=True):
    checks: list[CheckShown]
    processes: list[ProcessStanding]
    database: DatabaseShown
    retention: list[KeptFor]
    as_of: Moment


@dataclass(frozen=True, slots=True)
class InstallationFacts:
    """The facts that a process knows without the database."""

    #: A function that runs the checks, which write nothing.
    checks: Callable[[], Sequence[CheckShown]] = list
    #: The days of retention by kind of data: `bodies`, `deliveries`, and others.
    days_kept: tuple[tuple[str, float], ...] = ()


class System:
    """Shows the installation: `/api/v1/system`."""

    def __init__(self, lookup: Lookup, facts: InstallationFacts) -> None:
        self._database = lookup.database
        self._facts = facts

    def operations(self) -> list[Operation]:
        return [
            Operation(
                name="show_system",
                path="/api/v1/system",
                summary="The installation: checks, processes, database and retention",
                answer=self.show,
                answers={200: SystemShown},
                scope=Scope.READ,
                refusals=(BadRequest, Unavailable),
            )
        ]

    def show(self, _: Question) -> SystemShown:
        now = datetime.now(UTC)
        with self._database.read() as connection:
            processes = _processes(connection, now)
            size = connection.execute(_SIZE[self._database.is_postgresql]).scalar_one()
            oldest = {"bodies": _arrival(connection, BODIES.c.delivery_id)}
            oldest["deliveries"] = _arrival(connection, DELIVERIES.c.id)
        # After the transaction above, because with a single connection two reads cannot overlap.
        schema = Schema(self._database)
        kind: Literal["SQLite", "PostgreSQL"] = "PostgreSQL" if self._database.is_postgresql else "SQLite"
        return SystemShown(
            checks=list(self._facts.checks()),
            processes=processes,
            database=DatabaseShown(kind, int(size), schema.release, schema.is_ahead()),
            retention=[KeptFor(what, days, oldest.get(what)) for what, days in self._facts.days_kept],
            as_of=now,
        )


#: Bytes of the database, by whether it is PostgreSQL.
_SIZE = {
    True: text("SELECT pg_database_size(current_database())"),
    False: text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"),
}


def _arrival(connection: Connection, column: Column[int]) -> datetime | None:
    """The arrival of the oldest delivery, by its id."""
    oldest: int | None = connection.execute(select(func.min(column))).scalar()
    return None if oldest is None else datetime.fromtimestamp(arrived(oldest) / 1e6, UTC)


def _processes(connection: Connection, now: datetime) -> list[ProcessStanding]:
    """All registered processes, the longest running first."""
    rows = connection.execute(select(PROCESSES).order_by(PROCESSES.c.started_at)).mappings().all()
    ended = set(dead(row["name"] for row in rows))
    hung = set(
        connection.execute(
            select(TALLIES.c.process).where(
                TALLIES.c.span == 60, TALLIES.c.source == "", TALLIES.c.kind == "hung", TALLIES.c.at > now - HUNG_FOR
            )
        ).scalars()
    )
    states = [_state(row, ended, hung, now) for row in rows]
    first = next((row for row, state in zip(rows, states, strict=True) if state is ProcessState.ALIVE), None)
    return [_standing(row, state, first) for row, state in zip(rows, states, strict=True)]


def _state(row: RowMapping, ended: set[str], hung: set[str], now: datetime) -> ProcessState:
    """The state of a process. `ended` has whole names, and `hung` short ones."""
    if row["name"] in ended:
        return ProcessState.ENDED
    earliest, latest = recent_heartbeats(now)
    if not earliest <= row["seen_at"] <= latest:
        return ProcessState.SILENT
    return ProcessState.HUNG if short_name(row["name"]) in hung else ProcessState.ALIVE


def _standing(row: RowMapping, state: ProcessState, first: RowMapping | None) -> ProcessStanding:
    said = settings_read(row)
    differs = None
    if first is not None and first["fingerprint"] != row["fingerprint"]:
        differs = Wiring(tuple(first["wiring"])).difference(row["wiring"])
    return ProcessStanding(
        host=row["host"],
        pid=row["pid"],
        kind=Kind(row["kind"]),
        state=state,
        release=row["release"],
        started_at=row["started_at"],
        seen_at=row["seen_at"],
        differs=differs,
        can_reload=said is not None,
        read_at=None if said is None else datetime.fromisoformat(said["read_at"]),
        refused=None if said is None else said["refused"],
        needs_restart=[] if said is None else list(said["needs_restart"]),
    )
