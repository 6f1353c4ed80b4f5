"""The client that asks the API of another receiver."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from receiver.codec import decode, storable
from receiver.commands.client_protocol import NoAnswer, in_words, kind_of_error
from receiver.commands.wording import command_words
from receiver.errors import NAMES_HEADER, ConfigurationError, HookmirrorError, Unreadable
from receiver.http_calls import CALL_ERRORS, usable_environment
from receiver.http_urls import flaw_for_calls, quoted_part, shown_url
from receiver.logs.safe_text import told_with_type

#: The timeout of a request in seconds.
ANSWER_TIMEOUT = 60.0


class RemoteClient:
    """Answers from the API of another receiver."""

    def __init__(self, to: str, token: str) -> None:
        """Raise `ConfigurationError` for an invalid address or token."""
        flaw = flaw_for_calls(to)
        if flaw is not None:
            raise ConfigurationError(f"--to {flaw}: it takes the URL of a receiver, such as http://127.0.0.1:8000.")
        if not (token.isascii() and token.isprintable()):
            raise ConfigurationError("The token is not valid: give exactly the line that `hookmirror token` printed.")
        self._to = to.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        return self._answer("get", path, parts, query)

    def do(self, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        return self._answer("post", path, parts, query)

    def _answer(self, method: str, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        place = path.replace(":path", "").format_map({name: _escaped(part) for name, part in parts.items()})
        words = {name: storable(word) for name, word in in_words(query).items()}
        try:
            with usable_environment("The receiver cannot be asked"):
                response = httpx.request(
                    method, self._to + place, params=words, headers=self._headers, timeout=ANSWER_TIMEOUT
                )
        except CALL_ERRORS as error:
            raise NoAnswer(
                f"No server answers at {shown_url(self._to)} ({told_with_type(error)}): start it, or correct --to."
            ) from None
        try:
            answer = decode(response.content)
        except Unreadable:
            answer = None
        if response.is_success and isinstance(answer, dict) and _are_objects(answer.get("items", [])):
            return self._checked(answer)
        if isinstance(answer, dict) and isinstance(answer.get("message"), str):
            names = response.headers.get(NAMES_HEADER, "").split()
            raise kind_of_error(response.status_code)(command_words(answer["message"], names))
        no_receiver = NoAnswer if response.status_code >= 500 else HookmirrorError
        raise no_receiver(
            f"The server at {shown_url(self._to)} is not a receiver (status {response.status_code}): correct --to."
        )

    def _checked(self, answer: Any) -> Any:
        """Let every object of the answer report its missing members."""
        if isinstance(answer, dict):
            members = ((name, self._checked(value)) for name, value in answer.items())
            return RemoteObject(members, server=shown_url(self._to))
        return [self._checked(each) for each in answer] if isinstance(answer, list) else answer


class RemoteObject(dict[str, Any]):
    """A JSON object of a server that may be no receiver, or one of another release."""

    def __init__(self, members: Iterable[tuple[str, Any]], *, server: str) -> None:
        super().__init__(members)
        self._server = server

    def __missing__(self, name: str) -> Any:
        """Raise `HookmirrorError` for a member that an answer of this release has."""
        raise HookmirrorError(
            f"The server at {self._server} is not a receiver of this release (its answer has no {name!r}): correct "
            "--to."
        )


def _escaped(part: str) -> str:
    return quoted_part(storable(part))


def _are_objects(items: Any) -> bool:
    """Whether this is a list of objects, as every list of the API is."""
    return isinstance(items, list) and all(isinstance(each, dict) for each in items)
