"""New settings while a process runs: read whole, and refused whole or in force from one moment on.

Code stays as it is: of dialects, those are there that were there at the start.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue

import structlog

from receiver.dialects.dialect import Dialect
from receiver.dialects.doubts import doubts_about
from receiver.dialects.sources import Source, build_sources
from receiver.errors import ConfigurationError, HookmirrorError
from receiver.settings.settings import Settings, load

log = structlog.get_logger(__name__)

#: Settings that are taken while a process runs; every other one needs a restart.
TAKEN = (
    "secret_key",
    "max_body_bytes",
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

#: Seconds that a reload may hold up the end of its process.
RELOAD_STOP_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Renewal:
    """The settings as they are now, and their changes."""

    #: As they are to be in force: what needs a restart is as it was.
    settings: Settings
    sources: Mapping[str, Source]
    #: Names of settings, and of sources as `sources.<name>`; a source whose file of secrets changed among them.
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


def read_anew(old: Settings, sources: Mapping[str, Source], dialects: Mapping[str, Dialect]) -> Renewal:
    """The settings as they are now. Raises `ConfigurationError` for settings that a start would refuse."""
    new = load()
    changed = [name for name in Settings.model_fields if getattr(new, name) != getattr(old, name)]
    needs_restart = [name for name in changed if name not in TAKEN]
    built = _built(new, dialects, needs_restart)
    differing = [name for name in {**sources, **built} if sources.get(name) != built.get(name)]
    new = new.keeping({name: getattr(old, name) for name in needs_restart})
    if new.max_body_bytes > new.max_incomplete_bytes:
        raise ConfigurationError(
            "max_body_bytes is more than max_incomplete_bytes, which needs a restart to be changed."
        )
    if old.secret_key is not None:
        _ = new.secret_keys
    taken = [name for name in changed if name in TAKEN and name != "sources"]
    return Renewal(new, built, (*taken, *(f"sources.{name}" for name in differing)), tuple(needs_restart))


def _built(settings: Settings, dialects: Mapping[str, Dialect], needs_restart: list[str]) -> dict[str, Source]:
    if not settings.sources:
        raise ConfigurationError("There is no source in the settings any more: a process without any does nothing.")
    try:
        return build_sources(settings, dialects)
    except ConfigurationError as error:
        if "dialects" not in needs_restart:
            raise
        raise ConfigurationError(f"{error} What is new in `dialects` needs a restart.") from None


class Requests:
    """The requests to reload that were not served yet: one for each SIGHUP since `listen`."""

    def __init__(self) -> None:
        # Of all queues this one may be put to from a signal handler.
        self._queue: SimpleQueue[bool] = SimpleQueue()

    def listen(self) -> None:
        """From now on, SIGHUP asks. To be called by the main thread, before the settings are read."""
        signal.signal(signal.SIGHUP, lambda *_: self.ask())

    def ask(self) -> None:
        self._queue.put(True)

    def end(self) -> None:
        """End the wait of the waiting thread."""
        self._queue.put(False)

    def wait(self) -> bool:
        """Wait for the next request; several requests meanwhile count as one. False at the end."""
        going_on = self._queue.get()
        while going_on and not self._queue.empty():
            going_on = self._queue.get()
        return going_on


def stop_listening() -> None:
    """SIGHUP does nothing any more: a process that ends would die of it, with all that it has still to do."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class Reloader:
    """A thread that reads the settings again at every request."""

    def __init__(
        self,
        requests: Requests,
        *,
        read: Callable[[], Renewal],
        adopt: Callable[[Renewal], None],
        note: Callable[[datetime, str | None, tuple[str, ...]], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`adopt` puts a renewal in force.

        `note` gets the time of the reading, the reason if the settings were refused, and those that need a restart.
        """
        self._requests = requests
        self._read = read
        self._adopt = adopt
        self._note = note
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name="reloader", daemon=True)

    def start(self) -> None:
        self._note(self._clock(), None, ())
        self._thread.start()

    def stop(self) -> None:
        self._requests.end()
        self._thread.join(RELOAD_STOP_TIMEOUT)

    def reload(self) -> None:
        """Read the settings, put them in force or refuse them, and say so."""
        began = self._clock()
        try:
            renewal = self._read()
            if renewal.changed:
                self._adopt(renewal)
        except Exception as error:
            said = str(error) if isinstance(error, HookmirrorError) else f"An error here: {type(error).__name__}."
            log.error("the new settings are refused, and the old ones stay", reason=said)
            if not isinstance(error, HookmirrorError):
                log.exception("they could not be read")
            self._note(began, said, ())
        else:
            _tell(renewal)
            self._note(began, None, renewal.needs_restart)

    def _run(self) -> None:
        while self._requests.wait():
            self.reload()


def _tell(renewal: Renewal) -> None:
    if renewal.changed:
        log.info("the new settings are in force", changed=", ".join(renewal.changed))
    else:
        log.info("the settings were read again, and nothing is new that can be taken")
    for doubt in [*renewal.settings.doubts, *doubts_about(renewal.sources)]:
        log.warning(doubt)
    if renewal.needs_restart:
        log.warning("some new settings need a restart", settings=", ".join(renewal.needs_restart))
