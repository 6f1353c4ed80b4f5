"""Doubts about sources: what is allowed, and hardly ever meant."""

from __future__ import annotations

from collections.abc import Mapping

from receiver.dialects.sources import Source
from receiver.loading import foreign_code
from receiver.verify.secret_forms import doubtful_secrets, shared_secrets


def doubts_about_sources(sources: Mapping[str, Source]) -> list[str]:
    """Warnings, a sentence each: secrets that do not look like their sender's, or that two sources share."""
    found: list[str] = []
    for name, source in sources.items():
        with foreign_code(f"The verifier of {source.dialect.name}", holds_secrets=True):
            found += doubtful_secrets(name, source.dialect.verifier, source.credentials)
    return [*found, *shared_secrets({name: source.credentials for name, source in sources.items()})]
