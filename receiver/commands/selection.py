"""Selections of a user: the source and the deliveries that a command is given, checked before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.errors import ConfigurationError
from receiver.inbox.tables import ENDED
from receiver.likeness import choice_of
from receiver.search.filters import DeliveryFilter, as_text
from receiver.search.replayable import unknown_ids
from receiver.search.sources import is_source
from receiver.settings.environment import CONFIG_VARIABLE

#: The most ids that an action lists one by one.
MOST_RECORDED = 100


def source_named(sources: Mapping[str, Source], name: str) -> Source:
    """The source with this name. Raises `ConfigurationError`, which lists the known sources."""
    if not sources:
        raise ConfigurationError(
            f"There is no source in the settings: name a TOML file in {CONFIG_VARIABLE} with a table [sources.{name}]. "
            "docs/operations.md has an example."
        )
    if name not in sources:
        raise ConfigurationError(
            f"There is no source {name[:64]!r} in the settings: {choice_of(name, sources, named='choose one of')}."
        )
    return sources[name]


def once_source(database: Database, sources: Mapping[str, Source], name: str | None) -> None:
    """Raise `ConfigurationError` for a source that is neither in the settings nor in the database."""
    if name is not None and name not in sources and not is_source(database, name):
        raise ConfigurationError(
            f"There is no source {name[:64]!r}, and no stored data of one: {choice_of(name, sources)}."
        )


def meant_deliveries(
    database: Database, sources: Mapping[str, Source], ids: Sequence[int], wanted: DeliveryFilter
) -> dict[str, Any]:
    """Make the recorded arguments of a replay. Raises `ConfigurationError` for deliveries that cannot be replayed."""
    if ids and wanted != DeliveryFilter():
        raise ConfigurationError("Ids and filters exclude each other: leave one of them out.")
    if not ids and wanted == DeliveryFilter():
        raise ConfigurationError(
            "No deliveries are selected: give ids, or at least one filter, such as --source, --state or --since."
        )
    if wanted.state not in (None, *ENDED):
        raise ConfigurationError(
            f"Deliveries that are {wanted.state} cannot be replayed: --state takes one of {', '.join(ENDED)} here."
        )
    unknown = unknown_ids(database, ids)
    if unknown:
        raise ConfigurationError(
            f"No delivery has the id {', '.join(map(str, unknown))}, so nothing is replayed: correct it or omit it. "
            "`hookmirror deliveries` lists the ids."
        )
    once_source(database, sources, wanted.source)
    if ids:
        return {"ids": [str(each) for each in sorted(set(ids))[:MOST_RECORDED]], "deliveries": len(set(ids))}
    return as_text(wanted)
