"""The form of a secret: finds likely mistakes in the settings before the first webhook. No message quotes a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from receiver.verify.verifiers import Credentials, Verifier

#: Beginnings of API keys, which people paste in place of the secret for signatures.
API_KEYS = (b"sk_", b"pk_", b"rk_", b"shpat_", b"shpca_", b"shppa_", b"xoxb-", b"xoxp-", b"ghp_", b"github_pat_")

#: The most sources with the same secret that a sentence names.
MOST_NAMED_SOURCES = 5

_WHOLE_ENTRY = b"v1,whsec_"


def doubtful_secrets(source: str, verifier: Verifier, credentials: Credentials) -> Iterator[str]:
    """Yield a sentence for each secret that is allowed but does not look like a secret of its sender."""
    for place, secret in enumerate(credentials.secrets, start=1):
        flaw = _flaw(secret.value.strip(), verifier)
        if flaw is not None:
            yield f"Secret {place} of the source {source} {flaw}."


def _flaw(secret: bytes, verifier: Any) -> str | None:
    looks_like, key = getattr(verifier, "looks_like", ""), getattr(verifier, "key", "text")
    if secret.startswith(_WHOLE_ENTRY):
        return "begins with `v1,`, which does not belong to the secret: remove it"
    for beginning in API_KEYS:
        if secret.startswith(beginning) and not _matches(looks_like, secret):
            return (
                f"begins with `{beginning.decode()}` like an API key: replace it by the secret that the sender shows "
                "for signatures"
            )
    if looks_like and not _matches(looks_like, secret):
        return "does not look like a secret of its sender: compare it with the secret that the sender shows"
    if secret.startswith(b"whsec_") and key == "text" and not looks_like:
        return (
            "begins with `whsec_`, while its dialect takes the secret as written: if the sender signs by the Standard "
            'Webhooks specification, write key="whsec" in the dialect'
        )
    return None


def _matches(pattern: str, secret: bytes) -> bool:
    return bool(pattern) and re.fullmatch(pattern.encode(), secret, re.DOTALL) is not None


def shared_secrets(credentials: Mapping[str, Credentials]) -> Iterator[str]:
    """Yield a sentence for each group of sources that share a secret, since a body for one verifies at the others."""
    holders: dict[bytes, list[str]] = {}
    for source, each in credentials.items():
        for value in dict.fromkeys(secret.value for secret in each.secrets):
            holders.setdefault(value, []).append(source)
    for names in dict.fromkeys(tuple(names) for names in holders.values() if len(names) > 1):
        yield (
            f"The sources {_named_sources(names)} have the same secret, so a webhook for one verifies at the "
            f"{'other' if len(names) == 2 else 'others'}: give each source a different secret, unless the sender has "
            "one secret for all accounts."
        )


def _named_sources(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMED_SOURCES:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:MOST_NAMED_SOURCES])} and {len(names) - MOST_NAMED_SOURCES} more"
