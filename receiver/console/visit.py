"""A visit: one person's request for one page, and the questions that the page may ask the API.

Pages call the operations of the API in the same process, so that both find, refuse and record the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from receiver.api import parameters
from receiver.api.operations import Operation, Parameter, Question
from receiver.codec import encode, storable
from receiver.console.decoders import decoded
from receiver.database.database import Database
from receiver.errors import BadRequest
from receiver.findings.past_hours import PastHours
from receiver.runs.actions import By, Via
from receiver.sessions.roles import Guest, Role

Answered = TypeVar("Answered")

#: Parameters that are not filters: the beginning of a page of a list, and the message about an action.
PLACES = ("cursor", "before", "after", "limit", "count", "done", "when", "said", "seal")


class MakeAddress(Protocol):
    """Makes addresses of the console, below the path that a proxy adds."""

    def __call__(self, path: str, query: Mapping[str, Any] | None = None, /, **parts: Any) -> str:
        """The address of a path below the console: `parts` fill its `{names}`, and `query` is appended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitedParts:
    """The parts of a process that every visit needs."""

    #: The operations of the API, by name.
    operations: Mapping[str, Operation]
    #: Has connections of its own for reads.
    database: Database
    #: The names of the sources in the settings.
    sources: Sequence[str]
    hides_bodies: bool
    #: The past hours of charts, which the process has read.
    past_hours: PastHours = field(default_factory=PastHours)


class Visit:
    """One request for a page or by a button."""

    def __init__(
        self,
        parts: VisitedParts,
        guest: Guest,
        *,
        to: MakeAddress,
        path: Mapping[str, str],
        query: Mapping[str, str],
        now: datetime,
    ) -> None:
        """`path` has the parts of the address, and `query` the filters, of which empty ones are dropped."""
        self.operations = parts.operations
        self.database = parts.database
        self.sources = sorted(parts.sources)
        self.past_hours = parts.past_hours
        #: Makes the address of a path below the console.
        self.to = to
        self.guest = guest
        self.path = dict(path)
        self.query = {name: storable(text) for name, text in query.items() if text}
        self.now = now
        self._hides_bodies = parts.hides_bodies

    @property
    def is_operator(self) -> bool:
        return self.guest.role is Role.OPERATOR

    @property
    def sees_bodies(self) -> bool:
        """Whether this person may see the bodies of webhooks."""
        return self.is_operator or not self._hides_bodies

    def ask(self, shape: type[Answered], name: str, **words: str) -> Answered:
        """Call the operation `name` with these words, and return its answer as a value of `shape`.

        Raises the errors of the operation.
        """
        operation = self.operations[name]
        assert operation.answer is not None
        return shaped(operation.answer(self.question(operation, words)), shape)

    def ask_listed(self, shape: type[Answered], name: str, **more: str) -> Answered:
        """Call the operation with the parts of this page's address and its filters in addition to these words."""
        known = {parameter.name for parameter in self.operations[name].parameters}
        words = {key: text for key, text in {**self.query, **self.path}.items() if key in known}
        return self.ask(shape, name, **(words | more))

    def question(self, operation: Operation, words: Mapping[str, str]) -> Question:
        """Parse the words into a question. Raises `BadRequest` and `NotFound`."""
        parts = operation.parts_of_path
        path = {name: text for name, text in words.items() if name in parts}
        query = {name: text for name, text in words.items() if name not in parts}
        return parameters.question(operation, path, query, by=By(self.guest.name, Via.CONSOLE))

    def with_(self, **words: str) -> dict[str, str]:
        """The filters with these added or replaced, from the first page on."""
        return {**self.without(*words), **{name: str(text) for name, text in words.items()}}

    def without(self, *names: str) -> dict[str, str]:
        """The filters without these, from the first page on."""
        return {name: text for name, text in self.query.items() if name not in (*names, *PLACES)}

    def value(self, parameter: Parameter[Answered]) -> Answered:
        """The value of one of the page's own parameters. Raises `BadRequest`."""
        return parameter.read(self.query[parameter.name]) if parameter.name in self.query else parameter.default

    def refuse_unknown(self, names: frozenset[str]) -> None:
        """Raise `BadRequest` for a filter that the page does not have."""
        unknown = sorted(set(self.query) - names)
        if unknown:
            raise BadRequest(f"This page has no filter {unknown[0][:64]!r}: remove it from the address.")


def shaped(answer: Any, shape: type[Answered]) -> Answered:
    """An answer of the API as a value of `shape`, with fractions as `Decimal`. Lists answer with items in JSON."""
    return decoded(shape, encode(answer))
