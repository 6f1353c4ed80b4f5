"""Clients of commands: one reads the database in the settings, the other the API of a receiver.

Both use the same operations, so a command has the same output either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any, Protocol
from urllib.parse import quote

import httpx
import typer

from receiver.api.ask import SourceQuestions
from receiver.api.operations import Method
from receiver.api.parameters import question
from receiver.api.resources import ApiParts
from receiver.codec import decode, encode, storable
from receiver.commands.wording import command_words, words_of
from receiver.errors import NAMES_HEADER, ConfigurationError, HookmirrorError, NotFound, Refused, Unreadable
from receiver.http_urls import url_flaw
from receiver.inbox.retries import RetrySchedule
from receiver.logs.safe_text import told_with_type
from receiver.provenance.why import explainer
from receiver.runs.actions import by_command
from receiver.runs.schedule import statuses
from receiver.search.cursors import Cursors
from receiver.server.runtime import Runtime, install
from receiver.server.sending import shown
from receiver.settings.environment import TOKEN_VARIABLE
from receiver.worker.processes import Wiring

#: The timeout of a request in seconds.
ANSWER_TIMEOUT = 60.0

#: The key that signs the cursors of commands. It is no secret, because only the same user passes a cursor back.
OWN_KEY = "cursors of commands"

ToOption = Annotated[
    str | None, typer.Option("--to", metavar="URL", help="Ask the receiver at this address, not the local database.")
]
TokenOption = Annotated[
    str | None, typer.Option("--token", envvar=TOKEN_VARIABLE, show_default=False, help="The token for `--to`.")
]


class NoAnswer(HookmirrorError):
    """Raised when a receiver cannot be reached or cannot answer at present; a retry may succeed."""


class Client(Protocol):
    """Answers questions."""

    def ask(self, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        """Call the operation at this path, and return its answer. Raises `HookmirrorError` with the reason."""

    def do(self, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        """Run the operation at this path, and return its answer. Raises the same errors as `ask`."""


def client_of(to: str | None, token: str | None) -> Client:
    """Make a client of the receiver at `to`, or without it of the database. Raises `ConfigurationError`."""
    if to is None:
        return LocalClient(install(quiet=True))
    if not token:
        raise ConfigurationError(
            f"--to needs a token: put the line that `hookmirror token` prints there into {TOKEN_VARIABLE}, or give "
            "--token."
        )
    return RemoteClient(to, token)


class LocalClient:
    """Answers from the database in the settings."""

    def __init__(self, runtime: Runtime) -> None:
        """Raise `ConfigurationError` if the database is not usable."""
        runtime.open()
        self.runtime = runtime
        settings = runtime.settings
        parts = ApiParts(
            inbox=runtime.inbox,
            sources=sorted(runtime.sources),
            cursors=Cursors(settings.secret_keys if settings.secret_key else [OWN_KEY]),
            page_bytes=settings.api_page_bytes,
            facts=runtime.facts(),
            wake=lambda: None,
            wiring=Wiring.of(runtime.sources),
            questions=SourceQuestions(runtime.database, lambda: runtime.sources),
            explain=explainer(runtime.sources, RetrySchedule(attempts=settings.max_attempts)),
            reconciles=lambda now: statuses(runtime.database, runtime.sources, now=now),
        )
        operations = chain.from_iterable(resource.operations() for resource in parts.resources())
        self._operations = {(each.method, each.path): each for each in operations}

    def ask(self, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        return self._answer("get", path, parts, query)

    def do(self, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        return self._answer("post", path, parts, query)

    def _answer(self, method: Method, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        operation = self._operations[method, path]
        assert operation.answer is not None
        given = {name: storable(part) for name, part in parts.items()}
        try:
            return decode(encode(operation.answer(question(operation, given, _words(query), by=by_command()))))
        except Refused as error:
            raise _kind_of(error.status)(words_of(error)) from None


class RemoteClient:
    """Answers from the API of another receiver."""

    def __init__(self, to: str, token: str) -> None:
        """Raise `ConfigurationError` for an invalid address or token."""
        flaw = url_flaw(to)
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

    def _answer(self, method: Method, path: str, parts: Mapping[str, str], query: Mapping[str, Any]) -> Any:
        place = path.replace(":path", "").format_map({name: _escaped(part) for name, part in parts.items()})
        words = {name: storable(word) for name, word in _words(query).items()}
        try:
            response = httpx.request(
                method, self._to + place, params=words, headers=self._headers, timeout=ANSWER_TIMEOUT
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(
                f"No server answers at {shown(self._to)} ({told_with_type(error)}): start it, or correct --to."
            ) from None
        try:
            answer = decode(response.content)
        except Unreadable:
            answer = None
        if response.is_success and isinstance(answer, dict):
            return answer
        if isinstance(answer, dict) and isinstance(answer.get("message"), str):
            names = response.headers.get(NAMES_HEADER, "").split()
            raise _kind_of(response.status_code)(command_words(answer["message"], names))
        no_receiver = NoAnswer if response.status_code >= 500 else HookmirrorError
        raise no_receiver(
            f"The server at {shown(self._to)} is not a receiver (status {response.status_code}): correct --to."
        )


def _kind_of(status: int) -> type[HookmirrorError]:
    if status == NotFound.status:
        return NotFound
    return NoAnswer if status >= 500 else HookmirrorError


def _words(query: Mapping[str, Any]) -> dict[str, str]:
    """The given parameters of the query, as text for an address."""
    said = {True: "true", False: "false"}
    return {
        name: said[value] if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }


def _escaped(part: str) -> str:
    return quote(storable(part), safe="")
