"""Doubts about sources: what is allowed, and hardly ever meant."""

from __future__ import annotations

from collections.abc import Mapping

from receiver.dialects.capturing import CAPTURE_DIALECT
from receiver.dialects.sources import Source
from receiver.loading import foreign_code
from receiver.verify.secret_forms import doubtful_secrets, shared_secrets


def doubts_about_sources(sources: Mapping[str, Source]) -> list[str]:
    """Warnings, a sentence each: secrets that do not look like their sender's, or that two sources share."""
    found: list[str] = []
    for name, source in sources.items():
        if source.dialect.name == CAPTURE_DIALECT:
            found.append(
                f"The source {name} captures what anybody posts to it, unverified, and processes nothing: write its "
                f"dialect from what `hookmirror capture {name}` shows, and name that as its dialect."
            )
        with foreign_code(f"The verifier of {source.dialect.name}", holds_secrets=True):
            found += doubtful_secrets(name, source.dialect.verifier, source.credentials)
    return [*found, *shared_secrets({name: source.credentials for name, source in sources.items()})]
