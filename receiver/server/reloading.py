"""`hookmirror reload`: ask the processes of this machine to read their settings again, and wait for the results.

The registry names the processes. A process gets a signal only if it can reload and is certainly the process that
registered, because another process may have got its process id since.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import RowMapping

from receiver.database.database import Database
from receiver.errors import ConfigurationError
from receiver.logs.safe_text import sentence
from receiver.server.registry import Reading
from receiver.worker import liveness
from receiver.worker.processes import running, shown

#: Seconds that a process may take to report its result, and seconds between two polls.
RELOAD_TIMEOUT, RELOAD_POLL = 15.0, 0.05


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The result of asking one process."""

    process: str
    #: Whether the process adopted its settings; None for one of another machine or container, which was not asked.
    taken: bool | None
    says: str


def ask_all(database: Database, *, pid: int | None = None, timeout: float = RELOAD_TIMEOUT) -> list[ReloadResult]:
    """Ask every process, or the one with this process id, and wait for their results.

    Raises `ConfigurationError` if no such process runs.
    """
    asked_at = datetime.now(UTC)
    found = [row for row in _registered(database) if pid is None or pid in (row["pid"], _parent_of(row))]
    if not found:
        which = "No process" if pid is None else f"No process with the id {pid}"
        raise ConfigurationError(
            f"{which} serves or works on this database: start one, which then reads the settings, or run `reload` with "
            "the settings of the running processes."
        )
    unasked = {row["name"]: answer for row in found if (answer := _ask(row)) is not None}
    heard = _wait(database, [row["name"] for row in found if row["name"] not in unasked], asked_at, timeout)
    return [unasked.get(row["name"]) or _answer(row, heard.get(row["name"])) for row in found]


def _parent_of(process: RowMapping) -> int | None:
    """The process that started it, such as the first one of `serve --processes`; None if that is on another machine."""
    if not liveness.is_here(process["name"]):
        return None
    try:
        status = Path(f"/proc/{process['pid']}/stat").read_text("utf-8")
    except OSError:
        return None
    # The state and the parent follow the program's name, which stands in brackets.
    return int(status.rpartition(")")[2].split()[1])


def _registered(database: Database) -> list[RowMapping]:
    with database.read() as connection:
        return running(connection, datetime.now(UTC))


def _ask(process: RowMapping) -> ReloadResult | None:
    """Send the signal, or return the reason why it cannot be sent."""
    if not liveness.is_here(process["name"]):
        return ReloadResult(
            shown(process), None, "runs on another machine or in another container: run this command there"
        )
    if Reading.of(process) is None:
        return ReloadResult(
            shown(process), False, "cannot reload while it runs: restart it, or let its server restart it"
        )
    try:
        liveness.signal_to(process["name"], signal.SIGHUP)
    except ProcessLookupError:
        return ReloadResult(shown(process), None, "has ended")
    except PermissionError:
        return ReloadResult(shown(process), False, "belongs to another user: run this command as that user")
    return None


def _wait(database: Database, names: Iterable[str], asked_at: datetime, timeout: float) -> Mapping[str, Reading]:
    """Wait for readings that began after `asked_at`, by the process's name. A process that has ended has no reading."""
    heard: dict[str, Reading] = {}
    waiting = set(names)
    end = time.monotonic() + timeout
    while waiting and time.monotonic() < end:
        time.sleep(RELOAD_POLL)
        rows = {row["name"]: row for row in _registered(database)}
        for name in list(waiting):
            reading = Reading.of(rows[name]) if name in rows else None
            if reading is not None and reading.read_at >= asked_at:
                heard[name] = reading
            if name not in rows or name in heard:
                waiting.discard(name)
    return heard


def _answer(process: RowMapping, reading: Reading | None) -> ReloadResult:
    if reading is None:
        return ReloadResult(shown(process), False, "has not reported a result: check its log")
    if reading.refused is not None:
        return ReloadResult(shown(process), False, f"refused them, and keeps the old ones: {reading.refused}")
    if reading.needs_restart:
        waits = f"needs a restart for {', '.join(reading.needs_restart)}; all other settings are in force"
        return ReloadResult(shown(process), True, waits)
    return ReloadResult(shown(process), True, "has the present settings of its environment and its file")


def lines(answers: Sequence[ReloadResult]) -> list[str]:
    """Format the results as lines of text."""
    return [sentence(f"{answer.process} {answer.says}") for answer in answers]
