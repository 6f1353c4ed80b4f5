"""The runtime of a process: its sources and its database, made from the settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

import receiver.server.own_tables  # noqa: F401 (the schema checks every declared table)
from receiver.api import exposition
from receiver.api.exposition import Exposition
from receiver.database.database import Database
from receiver.database.engines import doubts_about_url
from receiver.database.errors import explain
from receiver.database.schema import MIGRATE, Schema
from receiver.database.urls import absent_file
from receiver.dialects.doubts import doubts_about_sources
from receiver.dialects.sources import Source, build_sources, find_dialects
from receiver.errors import ConfigurationError
from receiver.findings.gathering import Facts
from receiver.inbox.inbox import Inbox
from receiver.inbox.retries import RetrySchedule
from receiver.logs import logs
from receiver.metrics import sharing
from receiver.mirror.rows import mirror_tables
from receiver.runs.feeder import Feeder
from receiver.runs.runs import Verbs
from receiver.server.feeder import new_feeder, new_reconciler
from receiver.server.registry import Reading, Registration
from receiver.server.reloading import note_signal
from receiver.server.renewal import Reloader, Renewal, read_anew
from receiver.server.signals import Requests
from receiver.server.upkeep import facts_of, retention_of
from receiver.settings.environment import CONFIG_VARIABLE
from receiver.settings.files import noting_stamps
from receiver.settings.settings import Settings, load, settings_folder
from receiver.shadowing import doubts_about
from receiver.system_limits import demand_open_files
from receiver.worker.processes import Kind, Wiring
from receiver.worker.worker import Worker

log = structlog.get_logger(__name__)


class Runtime:
    """The sources and the database of the settings, and the parts of the program that work on them."""

    def __init__(self, settings: Settings, *, beside: Path | None = None) -> None:
        """Raise `ConfigurationError` for mistakes in the settings. `beside` is the settings file's folder."""
        self.settings, self.beside = settings, beside
        #: The reading of the settings at the start.
        self.reading = Reading(datetime.now(UTC))
        self.dialects = find_dialects(settings.dialects, beside=beside)
        self.sources: Mapping[str, Source] = build_sources(settings, self.dialects)
        self.database = Database(settings.database_url, setting=settings.place_of("database_url"))
        self.schema = Schema(self.database)
        self.inbox = Inbox(self.database)
        measured = self.database.beside(connections=1, seconds=exposition.STATEMENT_SECONDS)
        #: Answers Prometheus, over a connection of its own.
        self.exposition = Exposition(Inbox(measured), sorted(self.sources))
        self.retention = retention_of(settings)

    def adopt(self, renewal: Renewal) -> None:
        """Adopt new settings. Objects that were made before keep the old ones."""
        self.settings, self.sources = renewal.settings, renewal.sources
        logs.configure(self.settings.log_level, self.settings.log_format)
        self.exposition.renew(sorted(self.sources))
        self.retention = retention_of(self.settings)

    def read_anew(self) -> Renewal:
        """Read the settings again, and compare them with those in force. Raises `ConfigurationError`."""
        return read_anew(self.settings, self.sources, self.dialects)

    def folder_now(self) -> Path | None:
        """The settings file's folder to which the links on its path lead now; None for a runtime without a folder."""
        return None if self.beside is None else settings_folder()

    def prepare(self) -> None:
        """Make the database ready for use. Raises `ConfigurationError` with the reason if it is not usable."""
        self._make_ready(self.schema.prepare)

    def _make_ready(self, prepare: Callable[[], None]) -> None:
        try:
            # The file may have become unusable since an earlier call, and must not be written then.
            if self.database.is_sound:
                prepare()
            self.database.look_after()
        except SQLAlchemyError as error:
            told = explain(error, self.settings.database_url, setting=self.database.setting)
            raise ConfigurationError(told) from error

    def open(self) -> None:
        """Make an existing database ready for a command, without writing to a file that is ready.

        Raises `ConfigurationError` as `prepare` does, and for a SQLite file that does not exist.
        """
        self.demand_existing()
        self._make_ready(self.schema.open)

    def open_to_serve(self) -> None:
        """Make an existing database ready for a process that stays, which a file that cannot be written would stop.

        Raises `ConfigurationError` as `open` does.
        """
        self.demand_existing()
        self.prepare()

    def open_to_read(self) -> None:
        """Check that an existing database has the migrations of this release, and change nothing.

        Raises `ConfigurationError` otherwise. Tables of new code may be missing.
        """
        self.demand_existing()
        if self.schema.plan().steps:
            raise ConfigurationError(f"The database is behind this release: {MIGRATE}.")

    def demand_existing(self) -> None:
        """Raise `ConfigurationError` for a SQLite file that does not exist, because opening would create it."""
        absent = absent_file(self.database.engine.url)
        if absent is not None:
            raise ConfigurationError(
                f"There is no database at {absent}: correct {self.database.setting}, or start `hookmirror serve`, "
                "which creates it."
            )

    def close(self) -> None:
        """Close the database. The runtime cannot be used any more."""
        self.database.close()

    def worker(self, requests_wait: Callable[[], bool] = lambda: False) -> Worker:
        """Make a worker; `requests_wait` is that of `Worker`."""
        return Worker(
            self.inbox,
            self.sources,
            batch_size=self.settings.batch_size,
            max_batch_bytes=self.settings.max_batch_bytes,
            lease=self.settings.lease,
            retries=RetrySchedule(attempts=self.settings.max_attempts),
            retention=self.retention,
            requests_wait=requests_wait,
        )

    def facts(self) -> Facts:
        """The part of the settings in force that the rules need."""
        return facts_of(self.settings, self.sources)

    @property
    def runs(self) -> Verbs:
        """The verbs of runs, with the wiring in force."""
        return Verbs(self.database, Wiring.of(self.sources))

    def feeder(self, claims_of: Callable[[], Collection[str]] = lambda: (), *, forecasts: bool = True) -> Feeder:
        """Make the feeder of runs on the database; `claims_of` returns the sources that the worker claims."""
        return new_feeder(
            self.inbox, self.sources, self.settings, self.retention, claims_of=claims_of, forecasts=forecasts
        )

    def reconciler(self, *, with_schedule: bool = False) -> Feeder:
        """Make the feeder of runs that call the sources' APIs; with `with_schedule`, it begins due reconciles."""
        return new_reconciler(self.inbox, self.sources, self.runs, with_schedule=with_schedule)

    def registration(self, kind: Kind, *, reloads: bool) -> Registration:
        """Make the registration of this process; `reloads` if it takes requests to reload, from its start on."""
        registration = Registration(self.database, self.schema, self.sources, kind=kind)
        if reloads:
            registration.note_settings(self.reading)
        return registration

    def reloader(self, requests: Requests, registration: Registration, *, adopt: Callable[[Renewal], None]) -> Reloader:
        """Make the thread that reads the settings again at every request; `adopt` puts new ones in force."""
        return Reloader(
            requests,
            read=self.read_anew,
            adopt=adopt,
            note=registration.note_settings,
            record=partial(note_signal, self.database),
            in_force=self.reading,
        )


def install(*, quiet: bool = False) -> Runtime:
    """Make the runtime from the settings, and set up logging. Raises `ConfigurationError` for mistakes.

    With `quiet`, as for a command that answers a person, the log has warnings and no lines of progress, unless the
    settings ask for `debug`. Doubts about the database's URL, about sources and about their code are left to `doctor`
    and to serving processes.
    """
    if not quiet:
        demand_open_files()
    began = datetime.now(UTC)
    with noting_stamps() as stamps:
        settings = load()
    logs.configure("warning" if quiet and settings.log_level == "info" else settings.log_level, settings.log_format)
    if sharing.unshared() is not None:
        log.warning("this process does not share its metrics", reason=sharing.unshared())
    if not settings.sources:
        raise ConfigurationError(
            f"The settings have no source: name a TOML file in {CONFIG_VARIABLE} with a table "
            "[sources.<name>] for each account. docs/operations.md has an example."
        )
    with noting_stamps() as stamps_of_secrets:
        runtime = Runtime(settings, beside=settings_folder())
    runtime.reading = Reading(began, stamps=stamps | stamps_of_secrets)
    about_code = [] if quiet else doubts_about(settings.dialects, settings_folder())
    about_sources = [] if quiet else doubts_about_sources(runtime.sources)
    about_url = [] if quiet else doubts_about_url(settings.database_url, runtime.database.setting)
    for doubt in [*settings.doubts, *about_url, *about_code, *about_sources]:
        log.warning(doubt)
    return runtime


def schema_of_packages() -> Schema:
    """The schema that installed packages and the dialects in the settings need. Sources and secrets are not read.

    Raises `ConfigurationError` for an unusable URL of the database, or an invalid mirror table.
    """
    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    find_dialects(settings.dialects, beside=settings_folder())
    mirror_tables()
    return Schema(Database(settings.database_url, setting=settings.place_of("database_url")))
