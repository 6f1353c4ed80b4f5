"""Operations: the description of each method of each address, from which routes and OpenAPI document are made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, cast

from receiver.api.tokens import Scope
from receiver.errors import Refused
from receiver.runs.actions import By, Via

Value = TypeVar("Value")

Method = Literal["get", "options", "post"]

#: The author of requests that need no token.
NOBODY = By("", Via.API)


@dataclass(frozen=True, slots=True, eq=False)
class Parameter(Generic[Value]):
    """A parameter in the path or the query."""

    name: str
    #: The JSON Schema of its value.
    schema: Mapping[str, Any]
    description: str
    #: Parses the text. Raises `BadRequest`, or `NotFound` for a parameter in the path.
    read: Callable[[str], Value]
    #: The value of an absent parameter.
    default: Value
    #: Whether the operation refuses a request without it. Those in the path always belong to a request.
    is_required: bool = False


class Question:
    """One request: the values of the operation's parameters, and its author."""

    def __init__(self, values: Mapping[str, Any], *, by: By = NOBODY) -> None:
        """`by` is the name in the token."""
        self._values = values
        self.by = by

    def __getitem__(self, parameter: Parameter[Value]) -> Value:
        return cast("Value", self._values[parameter.name])


#: A function that answers a request with an instance of one of the operation's schemas, or with bytes. A plain `def`
#: reads the database, on a thread and in its turn; an `async def` runs in the event loop and must not read it.
Answerer = Callable[[Question], Any] | Callable[[Question], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address."""

    #: The `operationId`.
    name: str
    #: The path in Starlette's notation.
    path: str
    summary: str
    #: The function that answers; None if the webhook endpoint answers.
    answer: Answerer | None
    #: The schemas of successful answers by status.
    answers: Mapping[int, Any] = field(default_factory=dict)
    refusals: tuple[type[Refused], ...] = ()
    method: Method = "get"
    #: Parameters whose names occur in the path belong to it, the others to the query.
    parameters: tuple[Parameter[Any], ...] = ()
    #: The scope that the token needs; None if no token is needed.
    scope: Scope | None = None
    media_type: str = "application/json"
    takes_body: bool = False
    #: For an address with `{table}`, the `answers` of each table, since the document shows one address per table.
    by_table: Mapping[str, Mapping[int, Any]] | None = None
    #: Whether the answer has an ETag, so that an unchanged answer is not sent again.
    tagged: bool = False
    #: Headers of the answer in addition to those of every answer.
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `ValueError` if a part of the path has no parameter."""
        undescribed = self.parts_of_path - {parameter.name for parameter in self.parameters}
        if undescribed:
            raise ValueError(f"{self.path} has parts without a parameter: {', '.join(sorted(undescribed))}.")

    @property
    def parts_of_path(self) -> set[str]:
        return set(re.findall(r"{(\w+)", self.path))

    @property
    def shown_path(self) -> str:
        """The path in OpenAPI's notation."""
        return re.sub(r":\w+}", "}", self.path)

    @property
    def query(self) -> tuple[Parameter[Any], ...]:
        """The parameters of the query."""
        return tuple(parameter for parameter in self.parameters if parameter.name not in self.parts_of_path)

    def status_of(self, content: Any) -> int:
        """The status of an answer, found by its schema if there are several."""
        if self.by_table is not None or len(self.answers) == 1:
            return next(status for answers in (self.answers, *(self.by_table or {}).values()) for status in answers)
        return next(status for status, schema in self.answers.items() if type(content) is schema)

    def described(self) -> Iterator[Operation]:
        """Yield the operation for the document: once, or once for each table."""
        if self.by_table is None:
            yield self
            return
        parameters = tuple(parameter for parameter in self.parameters if parameter.name != "table")
        for table, answers in self.by_table.items():
            yield replace(
                self,
                name=f"{self.name}_of_{table}",
                path=self.path.replace("{table}", table),
                summary=self.summary.format(table=table),
                parameters=parameters,
                answers=answers,
                by_table=None,
            )
