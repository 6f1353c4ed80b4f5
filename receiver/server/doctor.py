"""`hookmirror doctor`: checks an installation before the first webhook, and says for each fault how to mend it.

It changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, groupby
from pathlib import Path
from typing import Literal

from sqlalchemy import RowMapping
from sqlalchemy.exc import SQLAlchemyError

from receiver.database.advice import advise_about_new_file
from receiver.database.database import Database
from receiver.database.engines import doubts_about_url
from receiver.database.errors import explain
from receiver.database.schema import Schema
from receiver.database.urls import absent_file
from receiver.dialects.dialect import Dialect
from receiver.dialects.doubts import doubts_about_sources
from receiver.dialects.sources import Source, build_source, survey_dialects
from receiver.errors import HookmirrorError, PoolerError, WiringError
from receiver.findings.standing import Standing, standing
from receiver.inbox.due import pending_sources
from receiver.inbox.inbox import Inbox
from receiver.logs.safe_text import whole_sentence
from receiver.mirror.rows import mirror_tables
from receiver.moments import time_text
from receiver.runs.schedule import statuses
from receiver.server.disk_room import shortages
from receiver.server.permissions import exposures, exposures_of_database
from receiver.server.registry import Reading
from receiver.server.upkeep import facts_of
from receiver.settings import environment
from receiver.settings.settings import Settings
from receiver.shadowing import doubts_about
from receiver.worker.processes import Kind, Wiring, describe_silence, differences, running, shown, silent, unread_files


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its result."""

    subject: str
    good: bool
    #: The result of the check. For a fault or a doubt it says what to do.
    says: str
    #: Whether the result is a doubt: not a fault, but a person should look at it.
    doubtful: bool = False

    @property
    def verdict(self) -> Literal["ok", "LOOK", "MEND"]:
        """The result in one word."""
        if not self.good:
            return "MEND"
        return "LOOK" if self.doubtful else "ok"


def examine(load: Callable[[], Settings], *, beside: Path) -> Iterator[Check]:
    """Run all checks in order, except those that depend on a failed one."""
    try:
        settings = load()
    except HookmirrorError as error:
        yield Check("settings", False, str(error))
        return
    yield Check("settings", True, f"sources: {len(settings.sources)}")
    yield from _exposed(settings)
    yield from _secret_key(settings)
    sources: dict[str, Source] = {}
    yield from _sources(settings, beside, sources)
    yield from _database(settings, sources)


def examine_running(settings: Settings, sources: Mapping[str, Source], database: Database) -> Iterator[Check]:
    """Run the checks that a running process can make of itself: they read no settings and import no code.

    Unlike `examine`, they take no lock of the database. Raises SQLAlchemy's error.
    """
    yield from _exposed(settings)
    yield from _secret_key(settings)
    for source in sources.values():
        yield from _of_source(source)
    yield from (Check("secrets", True, doubt, doubtful=True) for doubt in doubts_about_sources(sources))
    yield from _work(database, settings, sources)


def _exposed(settings: Settings) -> Iterator[Check]:
    """Check that other users cannot read or write settings, secrets and the database, whose disk must have room."""
    for exposure in (*chain(*map(exposures, settings.files)), *exposures_of_database(settings.database_url)):
        yield Check("files", not exposure.writable, exposure.says, doubtful=not exposure.writable)
    for found in shortages(settings.database_url):
        yield Check("disk", not found.is_urgent, found.says, doubtful=not found.is_urgent)


def _secret_key(settings: Settings) -> Iterator[Check]:
    try:
        keys = settings.secret_keys
    except HookmirrorError as error:
        yield Check("secret key", False, str(error))
        return
    yield Check("secret key", True, f"{len(keys)} in use")


def _sources(settings: Settings, beside: Path, sources: dict[str, Source]) -> Iterator[Check]:
    """Check each source, and add the usable ones to `sources`."""
    dialects, refused = survey_dialects(settings.dialects, beside=beside)
    wrong = [*refused, *_misfits(dialects)]
    yield from (Check("wiring", False, str(error)) for error in wrong)
    if not wrong:
        yield Check("wiring", True, f"dialects {', '.join(sorted(dialects))}")
    yield from (Check("wiring", True, doubt, doubtful=True) for doubt in doubts_about(settings.dialects, beside))
    if not settings.sources:
        file = environment.settings_file()
        yield Check("sources", False, f"there is no source: add a table [sources.<name>] to {file}")
    for name, source in settings.sources.items():
        if refused and source.dialect not in dialects:
            yield Check(f"source {name}", False, f"speaks `{source.dialect}`, an unknown dialect: mend the wiring")
            continue
        try:
            built = sources[name] = build_source(source, dialects, limits=settings, secret_key=settings.secret_key)
        except HookmirrorError as error:
            yield Check(f"source {name}", False, str(error))
            continue
        yield from _of_source(built)
    yield from (Check("secrets", True, doubt, doubtful=True) for doubt in doubts_about_sources(sources))


def _of_source(source: Source) -> Iterator[Check]:
    """Describe one usable source, with its doubts."""
    settings, subject = source.settings, f"source {source.name}"
    secrets = len(source.credentials.secrets)
    api = "with its API" if settings.api_url else "without an API, so it can be neither hydrated nor reconciled"
    unsigned = ", takes unsigned webhooks" if settings.allow_unsigned else ""
    yield Check(subject, True, f"speaks {source.dialect.name}, secrets: {secrets}{unsigned}, {api}")
    yield from (Check(subject, True, doubt, doubtful=True) for doubt in settings.doubts)
    yield from _trust(source)


def _trust(source: Source) -> Iterator[Check]:
    """Report a header that a dialect trusts although no signature covers it."""
    trusted = source.dialect.trusts_header
    if trusted is not None:
        says = (
            f"trusts the header {trusted}, which its signature does not cover: it chooses the handler, and nothing else"
        )
        yield Check(f"source {source.name}", True, says, doubtful=True)


def _misfits(dialects: Mapping[str, Dialect]) -> Iterator[WiringError]:
    """The errors of `build_sources` that do not depend on the sources."""
    for check in (mirror_tables, *(dialect.check for dialect in dialects.values())):
        try:
            check()
        except WiringError as error:
            yield error


def _database(settings: Settings, sources: Mapping[str, Source]) -> Iterator[Check]:
    try:
        database = Database(settings.database_url, setting=settings.place_of("database_url"))
    except HookmirrorError as error:
        yield Check("database", False, str(error))
        return
    doubts = doubts_about_url(settings.database_url, database.setting)
    yield from (Check("database", True, doubt, doubtful=True) for doubt in doubts)
    try:
        absent = absent_file(database.engine.url)
        if absent is None:
            yield from _contents(database, settings, sources)
        else:
            yield _to_be_made(absent, database.setting)
    except PoolerError as error:
        yield Check("database", False, str(error))
    except HookmirrorError as error:
        yield Check("schema", False, str(error))
    except SQLAlchemyError as error:
        yield Check("database", False, explain(error, settings.database_url, setting=database.setting))
    finally:
        database.close()


def _to_be_made(file: Path, setting: str) -> Check:
    # SQLite creates the target of a link.
    folder = Path(os.path.realpath(file)).parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        return Check("database", True, f"{file} does not exist yet: the first start creates it")
    mend = advise_about_new_file(str(file)).replace("{setting}", setting)
    return Check("database", False, f"{file} does not exist and cannot be created: {mend}")


def _contents(database: Database, settings: Settings, sources: Mapping[str, Source]) -> Iterator[Check]:
    schema = Schema(database)
    plan = schema.plan()
    if plan.is_needed:
        yield Check("database", True, "answers")
        behind = " ".join(plan.lines(dry_run=True))
        mend = "run `hookmirror migrate`" if database.is_postgresql else "the next start does it"
        yield Check("schema", not database.is_postgresql, f"is behind this release. {behind} To do it, {mend}")
        return
    schema.check()
    yield Check("database", True, "answers")
    yield Check("schema", True, f"is this release's: {schema.release}")
    yield from _work(database, settings, sources)


def _work(database: Database, settings: Settings, sources: Mapping[str, Source]) -> Iterator[Check]:
    """Check what the processes do with the database."""
    yield _backlog(database, settings)
    yield from _strangers(database, settings)
    yield from _reconciles(database, sources)
    yield from _findings(database, settings, sources)
    yield from _processes(database, Wiring.of(sources))


def _backlog(database: Database, settings: Settings) -> Check:
    waited = Inbox(database).oldest_due_seconds(settings.sources, now=datetime.now(UTC))
    late = waited > settings.max_backlog_seconds
    says = f"the oldest due delivery has waited {waited:.0f} s"
    return Check("backlog", not late, says + (": start a worker" if late else ""))


def _reconciles(database: Database, sources: Mapping[str, Source]) -> Iterator[Check]:
    """Report the latest and the next reconcile of each source."""
    for status in statuses(database, sources, now=datetime.now(UTC)):
        if status.schedule is None and status.began_at is None:
            continue
        said = [f"last began {_shown(status.began_at)}"]
        reason = None if status.error is None else status.error.rstrip(".")
        if status.under_way:
            said.append("is under way" if reason is None else f"is under way, and waits: {reason}")
        elif reason is not None:
            said.append(f"failed: {reason}")
        elif status.ended_at is not None:
            said.append(f"ended {_shown(status.ended_at)}")
        said.append("next by hand" if status.next_at is None else f"next {_shown(status.next_at)}")
        is_unwanted = status.schedule is not None and status.next_at is None
        if is_unwanted:
            said[-1] = f"never by the schedule {status.schedule!r}: its dialect has no list, or it has no `api_url`"
        yield Check(f"reconcile {status.source}", True, ", ".join(said), doubtful=is_unwanted or bool(status.error))


def _shown(moment: datetime | None) -> str:
    return "never" if moment is None else time_text(moment)


def _findings(database: Database, settings: Settings, sources: Mapping[str, Source]) -> Iterator[Check]:
    """Report the open findings, worded as in API, log and command; those with the same advice as one check."""
    found = standing(database, facts_of(settings, sources), now=datetime.now(UTC)).items
    for (rule, mend), some in groupby(found, lambda each: (each.rule, each.mend)):
        yield Check(f"finding {rule}", True, " ".join([*map(_said, some), mend]), doubtful=True)


def _said(finding: Standing) -> str:
    known = f" Acknowledged by {finding.acknowledged_by}." if finding.acknowledged_by is not None else ""
    return f"{whole_sentence(finding.says)}{known}"


def _strangers(database: Database, settings: Settings) -> Iterator[Check]:
    """Report pending deliveries of sources that are not in the settings."""
    for source in pending_sources(database):
        if source not in settings.sources:
            says = "is not in the settings, and deliveries of it are pending: add it until they are done"
            yield Check(f"source {source}", False, says)


def _processes(database: Database, wiring: Wiring) -> Iterator[Check]:
    """Check that running processes agree. A difference from these settings is reported, but is not a fault."""
    with database.read() as connection:
        now = datetime.now(UTC)
        found, still = running(connection, now), silent(connection, now)
    yield from (Check("processes", True, describe_silence(each, now), doubtful=True) for each in still)
    if not found:
        if not still:
            yield Check("processes", True, "no endpoint and no worker runs on this database yet")
        return
    among = differences(Wiring(tuple(found[0]["wiring"])), found)
    if among:
        yield Check("processes", False, f"compared with {shown(found[0])}: {' '.join(among)}")
    else:
        says = f"{', '.join(map(shown, found))}"
        # What a process that refused these settings has instead is explained by `_refusals`.
        otherwise = " ".join(differences(wiring, [each for each in found[:1] if not _refused(each)]))
        # Of edited modules, `_edited` says more.
        doubtful = bool(otherwise) and not wiring.edited(found[0]["wiring"])
        says += f"; compared with these settings: {otherwise}" if otherwise else ""
        yield Check("processes", True, says, doubtful=doubtful)
    yield from _refusals(found)
    yield from _unread(found)
    yield from _waiting(found)
    yield from _edited(wiring, found)
    yield from _missing({Kind(process["kind"]) for process in found})


def _refused(process: RowMapping) -> bool:
    reading = Reading.of(process)
    return reading is not None and reading.refused is not None


def _refusals(found: Iterable[RowMapping]) -> Iterator[Check]:
    """Report processes that refused their latest settings."""
    for process in found:
        reading = Reading.of(process)
        if reading is not None and reading.refused is not None:
            says = f"{shown(process)} refused the settings that it read last, and has older ones: {reading.refused}"
            yield Check("processes", False, f"{says} Correct them, and run `hookmirror reload`")


def _unread(found: Iterable[RowMapping]) -> Iterator[Check]:
    """Report processes of this machine that have not read their settings since one of their files changed.

    Uses the files that each process registered, which may differ from the files of these settings.
    """
    for process in found:
        changed = unread_files(process)
        if changed:
            says = f"{shown(process)} has not read {', '.join(changed)} since the last change there"
            yield Check("processes", True, f"{says}: run `hookmirror reload`", doubtful=True)


def _waiting(found: Iterable[RowMapping]) -> Iterator[Check]:
    """Report processes that have read settings which they adopt only at a start."""
    for process in found:
        reading = Reading.of(process)
        if reading is not None and reading.needs_restart:
            says = f"{shown(process)} has read new values of {', '.join(reading.needs_restart)}, and has the old ones"
            yield Check("processes", True, f"{says}: restart it", doubtful=True)


def _edited(wiring: Wiring, found: Iterable[RowMapping]) -> Iterator[Check]:
    """Report processes that have loaded another text of a dialect's module than this process."""
    for process in found:
        modules = wiring.edited(process["wiring"])
        if modules:
            says = f"{shown(process)} has loaded another text of {', '.join(modules)} than this process"
            yield Check("processes", True, f"{says}: restart it if the file was edited since then", doubtful=True)


def _missing(kinds: set[Kind]) -> Iterator[Check]:
    """Report a missing endpoint or worker, because either alone does half of the work."""
    if not any(kind.works for kind in kinds):
        mend = "start `hookmirror worker`, or let `serve` run one"
        yield Check("worker", False, f"no worker runs, so accepted deliveries wait: {mend}")
    if not any(kind.serves for kind in kinds):
        yield Check("endpoint", False, "no endpoint runs, so no webhook is received: start `hookmirror serve`")
