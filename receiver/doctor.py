"""`hookmirror doctor`: look at everything that must hold before the first webhook, and say what to mend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from receiver.database import Database, explain
from receiver.errors import HookmirrorError
from receiver.inbox import Inbox
from receiver.settings import Settings
from receiver.sources import build_source, find_dialects


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    good: bool
    #: What was found; for something wrong, with the mend.
    says: str


def examine(load: Callable[[], Settings], *, beside: Path) -> Iterator[Finding]:
    """Everything in turn. What rests on something broken is left out."""
    try:
        settings = load()
    except HookmirrorError as error:
        yield Finding("settings", False, str(error))
        return
    yield Finding("settings", True, f"{len(settings.sources)} sources")
    yield from _secret_key(settings)
    yield from _sources(settings, beside)
    yield from _database(settings)


def _secret_key(settings: Settings) -> Iterator[Finding]:
    try:
        keys = settings.secret_keys
    except HookmirrorError as error:
        yield Finding("secret key", False, str(error))
        return
    short = min(len(key) for key in keys) < 16
    says = "shorter than 16 characters: make a longer one, or tokens can be forged" if short else f"{len(keys)} in use"
    yield Finding("secret key", not short, says)


def _sources(settings: Settings, beside: Path) -> Iterator[Finding]:
    try:
        dialects = find_dialects(settings.dialects, beside=beside)
        for dialect in dialects.values():
            dialect.check()
    except HookmirrorError as error:
        yield Finding("wiring", False, str(error))
        return
    yield Finding("wiring", True, f"dialects {', '.join(sorted(dialects))}")
    if not settings.sources:
        yield Finding("sources", False, "there is none: add a table [sources.<name>] to the settings file")
    for name, source in settings.sources.items():
        try:
            built = build_source(source, dialects)
        except HookmirrorError as error:
            yield Finding(f"source {name}", False, str(error))
            continue
        secrets = len(built.credentials.secrets)
        api = "with its API" if source.api_url else "without an API, so it can be neither hydrated nor reconciled"
        unsigned = ", takes unsigned webhooks" if source.allow_unsigned else ""
        yield Finding(f"source {name}", True, f"speaks {built.dialect.name}, {secrets} secrets{unsigned}, {api}")


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        database = Database(settings.database_url)
    except HookmirrorError as error:
        yield Finding("database", False, str(error))
        return
    try:
        database.create_tables()
        backlog = Inbox(database).oldest_due_seconds(datetime.now(UTC))
    except SQLAlchemyError as error:
        yield Finding("database", False, explain(error, settings.database_url))
    else:
        late = backlog > settings.max_backlog_seconds
        says = f"can be written; the oldest due delivery has waited {backlog:.0f} s"
        yield Finding("database", not late, says + (": start a worker" if late else ""))
    finally:
        database.close()
