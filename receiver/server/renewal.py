"""Reads new settings while a process runs, and adopts or refuses them as a whole.

Code is not reloaded: the dialects stay as they were at the start.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from receiver.dialects.dialect import Dialect
from receiver.dialects.doubts import doubts_about_sources
from receiver.dialects.sources import Source, build_sources
from receiver.errors import ConfigurationError, HookmirrorError
from receiver.logs.safe_text import told
from receiver.server.registry import Reading
from receiver.server.signals import Requests
from receiver.settings.files import noting_stamps
from receiver.settings.settings import Settings, load

log = structlog.get_logger(__name__)

#: Settings that can change while a process runs; every other one needs a restart. Sources may depend on these alone.
TAKEN = (
    "secret_key",
    "public_url",
    "max_body_bytes",
    "max_events_per_body",
    "max_waiting_bytes",
    "batch_size",
    "lease_seconds",
    "max_attempts",
    "body_retention_days",
    "dedup_retention_days",
    "max_backlog_seconds",
    "keep_refused",
    "max_refused",
    "max_refused_bytes",
    "refused_retention_hours",
    "log_level",
    "log_format",
    "sources",
)

#: Seconds for the event loop to adopt new settings, between two requests.
TAKING = 10.0

#: Seconds that a reload may hold up the end of its process.
RELOAD_STOP_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Renewal:
    """The new settings, and their differences from the old ones."""

    #: The settings to adopt. Settings that need a restart keep their old values in it.
    settings: Settings
    sources: Mapping[str, Source]
    #: Names of changed settings, and of changed sources as `sources.<name>`, also if only the file of secrets changed.
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]
    #: Warnings about the settings, a sentence each.
    doubts: tuple[str, ...] = ()


def read_anew(old: Settings, sources: Mapping[str, Source], dialects: Mapping[str, Dialect]) -> Renewal:
    """Read the settings again. Raises `ConfigurationError` for settings that a start would refuse."""
    new = load()
    changed = [name for name in Settings.model_fields if getattr(new, name) != getattr(old, name)]
    needs_restart = [name for name in changed if name not in TAKEN]
    new = new.keeping({name: getattr(old, name) for name in needs_restart})
    built = _built(new, dialects, needs_restart)
    differing = [name for name in {**sources, **built} if sources.get(name) != built.get(name)]
    if new.max_body_bytes > new.max_incomplete_bytes:
        raise ConfigurationError(
            "max_body_bytes is more than max_incomplete_bytes, which needs a restart to be changed."
        )
    if old.secret_key is not None:
        _ = new.secret_keys
    taken = [name for name in changed if name in TAKEN and name != "sources"]
    changed = [*taken, *(f"sources.{name}" for name in differing)]
    return Renewal(new, built, tuple(changed), tuple(needs_restart), (*new.doubts, *doubts_about_sources(built)))


def _built(settings: Settings, dialects: Mapping[str, Dialect], needs_restart: list[str]) -> dict[str, Source]:
    if not settings.sources:
        raise ConfigurationError(
            "The settings have no source left: add one, because a process without sources does nothing."
        )
    try:
        return build_sources(settings, dialects)
    except ConfigurationError as error:
        if "dialects" not in needs_restart:
            raise
        raise ConfigurationError(
            "`dialects` has changed, and only a start loads new code: restart the process. Until then, its old "
            f"code cannot take the new settings: {error}"
        ) from None


def adopt_in(loop: asyncio.AbstractEventLoop, renew: Callable[[], None]) -> None:
    """Call `renew` in the event loop, between two requests, and wait for it. To be called in another thread.

    Raises `ConfigurationError` if the process is ending, and what `renew` raises.
    """
    done: Future[None] = Future()

    def adopt() -> None:
        if not done.set_running_or_notify_cancel():
            # The reload was reported as refused already, so these settings must not come into force later.
            return
        try:
            renew()
            done.set_result(None)
        except Exception as error:
            done.set_exception(error)

    try:
        loop.call_soon_threadsafe(adopt)
        done.result(TAKING)
    except (RuntimeError, TimeoutError):
        if done.cancel():
            raise ConfigurationError("This process is ending, or too busy to adopt new settings.") from None
        done.result()


class Reloader:
    """A thread that reads the settings again at every request."""

    def __init__(
        self,
        requests: Requests,
        *,
        read: Callable[[], Renewal],
        adopt: Callable[[Renewal], None],
        note: Callable[[Reading], None],
        record: Callable[[datetime, str], None],
        in_force: Reading,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`adopt` puts a renewal in force, and `note` gets the result of each reading.

        `record` gets the time of the reading and its result in words, for the record of actions. `in_force` is the
        reading at the start.
        """
        #: The stamps of the files whose settings are in force.
        self._in_force = in_force.stamps
        self._record = record
        self._requests = requests
        self._read = read
        self._adopt = adopt
        self._note = note
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name="reloader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._requests.end()
        self._thread.join(RELOAD_STOP_TIMEOUT)

    def reload(self) -> None:
        """Read the settings, adopt or refuse them, and log and record the result."""
        began, stamps = self._clock(), dict[str, str]()
        try:
            with noting_stamps() as stamps:
                renewal = self._read()
            if renewal.changed:
                self._adopt(renewal)
        except Exception as error:
            said = str(error) if isinstance(error, HookmirrorError) else f"An error here: {type(error).__name__}."
            log.error("refused the new settings; the old ones stay", reason=said)
            if not isinstance(error, HookmirrorError):
                log.exception("cannot read the new settings")
            # A reading that is refused may not have reached every file.
            self._note(Reading(began, said, stamps={**self._in_force, **stamps}))
            self._try_to_record(began, f"It refused them, and keeps the old ones: {said}")
        else:
            _tell(renewal)
            self._in_force = stamps
            self._note(Reading(began, None, renewal.needs_restart, stamps))
            waits = ", ".join(renewal.needs_restart)
            self._try_to_record(began, f"In force, except {waits}, which wait for a restart." if waits else "In force.")

    def _try_to_record(self, began: datetime, says: str) -> None:
        try:
            self._record(began, says)
        except (SQLAlchemyError, HookmirrorError) as error:
            log.warning("cannot record the reload as an action", error=told(error))

    def _run(self) -> None:
        while self._requests.wait():
            # Without memory even for a line of the log, the next request is heard all the same.
            with suppress(MemoryError):
                self.reload()


def _tell(renewal: Renewal) -> None:
    if renewal.changed:
        log.info("the new settings are in force", changed=", ".join(renewal.changed))
    else:
        log.info("read the settings again; no setting that can be adopted has changed")
    for doubt in renewal.doubts:
        log.warning(doubt)
    if renewal.needs_restart:
        log.warning("some new settings need a restart", settings=", ".join(renewal.needs_restart))
