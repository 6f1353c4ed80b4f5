"""The client that reads the database in the settings, with the operations of the API."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from receiver.api.ask import SourceQuestions
from receiver.api.operations import Method
from receiver.api.parameters import question
from receiver.api.resources import ApiParts
from receiver.codec import decode, encode, storable
from receiver.commands.client_protocol import in_words, kind_of_error
from receiver.commands.wording import words_of
from receiver.errors import Refused
from receiver.inbox.retries import RetrySchedule
from receiver.provenance.why import explainer
from receiver.runs.actions import by_command
from receiver.runs.schedule import statuses
from receiver.search.cursors import Cursors
from receiver.server.runtime import Runtime
from receiver.worker.processes import Wiring

#: The key that signs the cursors of commands. It is no secret, because only the same user passes a cursor back.
OWN_KEY = "cursors of commands"


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
            return decode(encode(operation.answer(question(operation, given, in_words(query), by=by_command()))))
        except Refused as error:
            raise kind_of_error(error.status)(words_of(error)) from None
