"""Marks of secrets: short keyed digests by which uses of a secret are counted, wherever it stands in the settings."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence

from receiver.verify.verifiers import Credentials, Secret

#: The length of a mark in bytes; few, because it only distinguishes the secrets of one source.
MARK_BYTES = 6


def secret_marks(key: str, source: str, secrets: Sequence[Secret]) -> tuple[str, ...]:
    """The marks of a source's secrets, in their order.

    Only the holder of the key can try whether a guessed secret has a mark. The digest covers the source, too, so that
    equal secrets of two sources have different marks.
    """
    return tuple(_digest(key, source.encode() + b"\n" + secret.value) for secret in secrets)


def mark_of(credentials: Credentials, position: int | None) -> str:
    """The mark of the secret at this position; empty for an unsigned body, and for a position without a secret."""
    if position is None or position < 0:
        return ""
    try:
        return credentials.marks[position]
    except IndexError:
        return ""


def all_marks(credentials: Credentials) -> Iterator[tuple[str, ...]]:
    """The marks of all secrets by each key, the newest key first; nothing without a key."""
    if credentials.marks:
        yield from (credentials.marks, *credentials.former_marks)


def present_marks(credentials: Credentials) -> dict[str, str]:
    """The mark by the newest key for each mark that a secret has by any of the keys."""
    return {
        mark: present
        for marks in all_marks(credentials)
        for mark, present in zip(marks, credentials.marks, strict=True)
    }


def mark_of_all(marks: Sequence[str]) -> str:
    """The mark of a whole list of secrets, which changes with the secrets and with their order."""
    return hashlib.blake2s("\n".join(marks).encode(), digest_size=MARK_BYTES).hexdigest()


def _digest(key: str, content: bytes) -> str:
    return hmac.new(b"mark of a secret\n" + key.encode(), content, hashlib.sha256).hexdigest()[: 2 * MARK_BYTES]
