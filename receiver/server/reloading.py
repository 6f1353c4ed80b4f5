"""Reloads: ask the processes of this machine to read their settings again, wait for the results, and record the action.

The registry names the processes. A process gets a signal only if it can reload and is certainly the process that
registered, because another process may have got its process id since.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, RowMapping, select, text

from receiver.database.database import Database
from receiver.database.errors import retry_transaction
from receiver.errors import ConfigurationError
from receiver.logs.safe_text import sentence
from receiver.logs.wording import counted
from receiver.runs.actions import ACTIONS, Asked, By, Effect, Via, note_result, perform, record
from receiver.server.registry import Reading
from receiver.worker import liveness
from receiver.worker.processes import running, shown

#: Seconds that a process may take to report its result, and seconds between two polls.
RELOAD_TIMEOUT, RELOAD_POLL = 15.0, 0.05

#: The action, and the author of one that a signal alone began.
RELOAD, SIGNAL = "reload settings", "signal"

#: A reload that began within this time of a recorded one belongs to the same action.
SAME_RELOAD = timedelta(seconds=20)

#: The key of the advisory lock under which reloads by a signal are recorded on PostgreSQL.
RELOAD_LOCK = 0x686F6F6B0007


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The result of asking one process."""

    process: str
    #: Whether the process adopted its settings; None for a process of another machine or container, which was not
    #: asked.
    taken: bool | None
    says: str


def reload_settings(database: Database, by: By, *, pid: int | None = None) -> tuple[list[ReloadResult], str]:
    """Ask every process, or the one with this process id, and wait. Returns their results, and a summary in words.

    The action is recorded before the first process is asked, and completed with the results. Raises
    `ConfigurationError` if no such process runs.
    """
    asked_at = datetime.now(UTC)
    found = _wanted(database, pid)
    action = _record(database, Asked(by=by, what=RELOAD), len(found), now=asked_at)
    unasked = {row["name"]: answer for row in found if (answer := _ask(row)) is not None}
    heard = _wait(database, [row["name"] for row in found if row["name"] not in unasked], asked_at)
    answers = [unasked.get(row["name"]) or _answer(row, heard.get(row["name"])) for row in found]
    says = summary(answers)

    def complete() -> None:
        with database.write() as connection:
            note_result(connection, action, {"says": says})

    retry_transaction(complete)
    return answers, says


def note_signal(database: Database, began: datetime, says: str) -> None:
    """Record that a signal made this process read its settings again; commands and pages record their own requests.

    The signal to all processes of one server is one action: they begin at the same time, and may end far apart.
    """

    def unless_recorded(connection: Connection) -> Effect | None:
        if connection.dialect.name == "postgresql":
            # Two processes may get here at the same time. On SQLite, they take turns in any case.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": RELOAD_LOCK})
        # An action that lies further ahead was recorded before the clock was set back.
        about = ACTIONS.c.at.between(began - SAME_RELOAD, began + SAME_RELOAD)
        same = select(ACTIONS.c.id).where(ACTIONS.c.what == RELOAD, about).limit(1)
        return _effect(1, says) if connection.execute(same).first() is None else None

    perform(database, Asked(by=By(SIGNAL, Via.COMMAND), what=RELOAD), unless_recorded, now=began)


def summary(answers: Sequence[ReloadResult]) -> str:
    """Sum the results up in words."""
    taken, refused, elsewhere = (sum(each.taken is wanted for each in answers) for wanted in (True, False, None))
    said = [f"{counted(taken, 'process has', 'processes have')} the present settings." if taken else ""]
    if refused:
        said.append(f"{counted(refused, 'process', 'processes')} did not adopt them: the list of processes says why.")
    if elsewhere:
        said.append(f"{counted(elsewhere, 'process', 'processes')} of other machines must be asked there.")
    return " ".join(filter(None, said)) or "No process was asked."


def _record(database: Database, asked: Asked, number: int, *, now: datetime) -> int:
    def insert() -> int:
        with database.write() as connection:
            return record(connection, asked, _effect(number, "They were asked."), now=now)

    return retry_transaction(insert)


def _effect(number: int, says: str) -> Effect:
    # No delivery is changed, so no reason is required.
    return Effect(number, {"says": says}, thing="process", wants_reason=False)


def _wanted(database: Database, pid: int | None) -> list[RowMapping]:
    found = [row for row in _registered(database) if pid is None or pid in (row["pid"], _parent_of(row))]
    if not found:
        which = "No process" if pid is None else f"No process with the id {pid}"
        raise ConfigurationError(
            f"{which} serves or works on this database: start one, which then reads the settings, or run `reload` with "
            "the settings of the running processes."
        )
    return found


def _parent_of(process: RowMapping) -> int | None:
    """The parent of the process, such as the first process of `serve --processes`; None on another machine."""
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


def _wait(database: Database, names: Iterable[str], asked_at: datetime) -> Mapping[str, Reading]:
    """Wait for readings that began after `asked_at`, by the process's name. A process that has ended has no reading."""
    heard: dict[str, Reading] = {}
    waiting = set(names)
    end = time.monotonic() + RELOAD_TIMEOUT
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
