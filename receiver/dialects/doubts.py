"""Doubts: finds settings of sources that are allowed but probably a mistake."""

from __future__ import annotations

from collections.abc import Mapping

from receiver.dialects.capturing import CAPTURE_DIALECT
from receiver.dialects.sources import Source
from receiver.loading import foreign_code
from receiver.verify.secret_forms import doubtful_secrets, shared_secrets


def doubts_about_sources(sources: Mapping[str, Source]) -> list[str]:
    """List warnings, a sentence each: secrets of another form than their sender's, secrets that two sources share, and
    sources that capture.
    """
    found: list[str] = []
    for name, source in sources.items():
        if source.dialect.name == CAPTURE_DIALECT:
            found.append(
                f"The source {name} captures every request without verifying it, and processes none: write its "
                f"dialect from what `hookmirror capture {name}` shows, and name that dialect in its settings."
            )
        with foreign_code(f"The verifier of {source.dialect.name}", holds_secrets=True):
            found += doubtful_secrets(name, source.dialect.verifier, source.credentials)
    return [*found, *shared_secrets({name: source.credentials for name, source in sources.items()})]
