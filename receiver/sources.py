"""Sources: each a dialect with the settings of one account. Building them is the wiring check of the whole program."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from receiver.dialects import Dialect
from receiver.errors import ConfigurationError, HookmirrorError, WiringError
from receiver.mirror import mirror_tables
from receiver.settings import Settings, SourceSettings
from receiver.signatures import Credentials

#: Where installed packages announce their dialects.
ENTRY_POINTS = "hookmirror.dialects"


@dataclass(frozen=True, slots=True)
class Source:
    """One account of one system that we listen to."""

    name: str
    dialect: Dialect
    credentials: Credentials
    settings: SourceSettings


def find_dialects(references: Iterable[str] = (), *, beside: Path | None = None) -> dict[str, Dialect]:
    """The dialects of installed packages and those named by `references`, each "module:name", by their names.

    Modules may lie in the folder `beside`. Raises `WiringError` naming what cannot be imported.
    """
    if beside is not None and str(beside) not in sys.path:
        sys.path.insert(0, str(beside))
    installed = [point.value for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)]
    dialects: dict[str, Dialect] = {}
    for reference in [*installed, *references]:
        dialect = _import(reference)
        if dialects.setdefault(dialect.name, dialect) is not dialect:
            raise WiringError(f"There are two dialects named {dialect.name}: rename the one in {reference}.")
    return dialects


def build_sources(settings: Settings, dialects: Mapping[str, Dialect]) -> dict[str, Source]:
    """The sources by name, ready to be listened to.

    Raises `ConfigurationError` or `WiringError` for a source without its secret, an unknown dialect, handlers that do
    not fit together, or a mirror table that cannot work.
    """
    mirror_tables()
    for dialect in dialects.values():
        dialect.check()
    return {name: build_source(source, dialects) for name, source in settings.sources.items()}


def build_source(settings: SourceSettings, dialects: Mapping[str, Dialect]) -> Source:
    """One source, ready to be listened to. Raises `ConfigurationError`."""
    dialect = dialects.get(settings.dialect)
    if dialect is None:
        raise ConfigurationError(
            f"The source {settings.name} speaks `{settings.dialect}`, which is no dialect here: choose one of "
            f"{', '.join(sorted(dialects))}, or name your own under `dialects`."
        )
    credentials = settings.credentials()
    wrong = dialect.verifier.check(credentials)
    if wrong is not None:
        raise ConfigurationError(f"The source {settings.name} cannot be listened to: {wrong}.")
    _try_client(settings, dialect)
    return Source(settings.name, dialect, credentials, settings)


def _try_client(settings: SourceSettings, dialect: Dialect) -> None:
    """Make a client of the source's API only to see that it can be: what is missing is found now, not at a webhook."""
    try:
        client = dialect.client(settings)
    except HookmirrorError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"The API of the source {settings.name} cannot be called with these settings ({type(error).__name__}): "
            "check api_url, api_key and api_secret, which travel as ASCII."
        ) from None
    if client is not None:
        client.close()


def _import(reference: str) -> Dialect:
    module, _, name = reference.partition(":")
    try:
        found = getattr(import_module(module), name or "dialect")
    except (ImportError, AttributeError) as error:
        raise WiringError(
            f'The dialect {reference!r} cannot be imported ({error}): write it as "module:name", with the module in '
            "an installed package or beside the settings file."
        ) from error
    if not isinstance(found, Dialect):
        raise WiringError(f"{reference!r} is no Dialect: name the object made by Dialect(…).")
    return found
