"""The questions and requests of commands, which one of two clients answers: from the database, or over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from receiver.errors import HookmirrorError, NotFound


class NoAnswer(HookmirrorError):
    """Raised when a receiver cannot be reached or cannot answer at present; a retry may succeed."""


class Client(Protocol):
    """Answers questions."""

    def ask(self, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        """Call the operation at this path, and return its answer. Raises `HookmirrorError` with the reason."""

    def do(self, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        """Run the operation at this path, and return its answer. Raises the same errors as `ask`."""


def kind_of_error(status: int) -> type[HookmirrorError]:
    """The class of the error for an answer with this status."""
    if status == NotFound.status:
        return NotFound
    return NoAnswer if status >= 500 else HookmirrorError


def in_words(query: Mapping[str, Any]) -> dict[str, str]:
    """The given parameters of the query, as text for an address."""
    said = {True: "true", False: "false"}
    return {
        name: said[value] if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }
