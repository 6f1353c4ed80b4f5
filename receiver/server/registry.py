"""The registry of processes. Every process that serves or works has a row in the database and reads the other rows.
Processes that are wired differently treat the same deliveries differently, so the operator is warned.

A process that cannot write its row, or writes it late, continues to work. Only if its leases are much longer than those
of other workers do these shorten them meanwhile (`receiver.worker.reclaiming`).
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, RowMapping, delete, insert, update

from receiver.database.database import Database
from receiver.database.schema import Schema
from receiver.dialects.sources import Source
from receiver.release import release
from receiver.worker.liveness import deregister, new_name
from receiver.worker.processes import PROCESSES, Kind, Wiring, differences, drop_stale, running, settings_read

log = structlog.get_logger(__name__)

#: Seconds between two heartbeats.
HEARTBEAT = 10.0

#: The time limit of deregistering at the end of a process, in seconds.
DEREGISTER_TIMEOUT = 2.0

NEWER_SCHEMA = (
    "The database has the schema of a later release than this process, which continues as before. Install that "
    "release here, too, and restart."
)


class Reading(NamedTuple):
    """The result of a process's last reading of its settings."""

    #: The time at which the process began to read its settings.
    read_at: datetime
    #: The reason for which the process refused the settings; None if they are in force.
    refused: str | None = None
    #: The names of the settings that wait for a restart.
    needs_restart: tuple[str, ...] = ()
    #: The stamps of the files that were read, by their absolute paths (`receiver.settings.files`).
    stamps: Mapping[str, str] = {}

    @classmethod
    def of(cls, process: RowMapping) -> Reading | None:
        """The reading that is stored in the row of a process; None for a process that cannot reload."""
        said = settings_read(process)
        if said is None:
            return None
        read_at = datetime.fromisoformat(said["read_at"])
        return cls(read_at, said["refused"], tuple(said["needs_restart"]), said.get("stamps", {}))

    def as_json(self) -> dict[str, Any]:
        return {
            "read_at": self.read_at.isoformat(),
            "refused": self.refused,
            "needs_restart": list(self.needs_restart),
            "stamps": dict(self.stamps),
        }


class Registration:
    """Keeps the row of this process up to date while it runs, and warns of differing processes."""

    def __init__(
        self,
        database: Database,
        schema: Schema,
        sources: Mapping[str, Source],
        *,
        kind: Kind,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = new_name()
        #: Warnings for operators, a sentence each, as of the last heartbeat.
        self.warnings: list[str] = []
        #: The warnings that lasted from one heartbeat to the next, and are in the log.
        self._logged: list[str] = []
        #: The URLs at which programs on this machine reach this process and its console; None without one.
        self.url: str | None = None
        self.console_url: str | None = None
        #: The monotonic time of the last successful write.
        self.wrote_at = -math.inf
        self._database = database
        self._schema = schema
        self._wiring = Wiring.of(sources)
        self._kind = kind
        self._clock = clock
        self._started_at = clock()
        self._settings: dict[str, Any] | None = None
        self._stopping = threading.Event()
        #: Set when the row must be written at once.
        self._turn = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Deregister this process, without a retry: if the database fails, its last heartbeat expires."""
        self._stopping.set()
        self._turn.set()
        self._thread.join(DEREGISTER_TIMEOUT)
        deregister(self.name)

    def renew(self, sources: Mapping[str, Source]) -> None:
        """Replace the wiring in this process's row."""
        self._wiring = Wiring.of(sources)

    def note_settings(self, reading: Reading) -> None:
        """Record the result of reading the settings. From the first time on, this process may be asked to reload.

        Safe to call from any thread.
        """
        self._settings = reading.as_json()
        self._turn.set()

    def heartbeat(self) -> None:
        """Write a heartbeat, and compare the wiring with that of the other processes. Raises SQLAlchemy's errors."""
        now = self._clock()
        with self._database.write() as connection:
            self._write_heartbeat(connection, now)
            others = [each for each in running(connection, now) if each["name"] != self.name]
        self.wrote_at = time.monotonic()
        warnings = [NEWER_SCHEMA] if self._schema.is_ahead() else []
        warnings += differences(self._wiring, others)
        # While a reload or a release goes round, the processes differ for a moment, which calls for nobody.
        lasting = [each for each in warnings if each in self.warnings or each == NEWER_SCHEMA]
        for warning in lasting:
            if warning not in self._logged:
                log.warning(warning)
        self.warnings, self._logged = warnings, lasting

    def _run(self) -> None:
        while True:
            # Cleared before the check, so that a stop between the two also ends the wait.
            self._turn.clear()
            if self._stopping.is_set():
                break
            self._try(self.heartbeat)
            self._turn.wait(HEARTBEAT)
        self._try(self._leave)

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception:
            # Every error is caught, because the others reclaim the leases of a process without a heartbeat. Other parts
            # of the process report the database's errors. The heartbeat waits for its next turn.
            log.debug("cannot write the heartbeat or read the other processes", exc_info=True)

    def _leave(self) -> None:
        with self._database.write() as connection:
            connection.execute(delete(PROCESSES).where(PROCESSES.c.name == self.name))

    def _write_heartbeat(self, connection: Connection, now: datetime) -> None:
        mine = update(PROCESSES).where(PROCESSES.c.name == self.name)
        news: dict[str, Any] = {
            "fingerprint": self._wiring.fingerprint,
            "wiring": list(self._wiring.lines),
            "settings": None
            if self._settings is None
            else {**self._settings, "url": self.url, "console": self.console_url},
            "seen_at": now,
        }
        if connection.execute(mine.values(news)).rowcount:
            return
        drop_stale(connection, now)
        connection.execute(
            insert(PROCESSES).values(
                name=self.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                kind=self._kind.value,
                release=release(),
                revision=self._schema.release,
                started_at=self._started_at,
                **news,
            )
        )
