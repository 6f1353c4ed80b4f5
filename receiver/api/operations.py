"""Operations: each method of each address, described once. Routes and the OpenAPI document are both made from them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, cast

from receiver.api.tokens import Scope
from receiver.errors import Refused
from receiver.runs.actions import By, Via

Value = TypeVar("Value")

#: Who asks where no token is wanted.
NOBODY = By("", Via.API)


@dataclass(frozen=True, slots=True, eq=False)
class Parameter(Generic[Value]):
    """A part of an address or of its query."""

    name: str
    #: As JSON Schema.
    schema: Mapping[str, Any]
    description: str
    #: Makes a value of the text. Raises `BadRequest`, or `NotFound` for a part of an address.
    read: Callable[[str], Value]
    #: What counts where it is not given.
    default: Value


class Question:
    """What one request asks: the values of the operation's parameters."""

    def __init__(self, values: Mapping[str, Any], *, by: By = NOBODY) -> None:
        """`by` is who asks, as the token says."""
        self._values = values
        self.by = by

    def __getitem__(self, parameter: Parameter[Value]) -> Value:
        return cast("Value", self._values[parameter.name])


#: Answers a question with an instance of one of the operation's schemas, or with bytes. A plain function reads the
#: database, on a thread and when its turn comes; an `async def` runs in the event loop and must not wait for it.
Answerer = Callable[[Question], Any] | Callable[[Question], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address."""

    #: The `operationId`.
    name: str
    #: As Starlette writes it.
    path: str
    summary: str
    #: What answers it; None where the endpoint does.
    answer: Answerer | None
    #: The schema of what it answers unless it refuses, by status.
    answers: Mapping[int, Any] = field(default_factory=dict)
    refusals: tuple[type[Refused], ...] = ()
    method: Literal["get", "options", "post"] = "get"
    #: Those whose name stands in the path are parts of it, the others belong to the query.
    parameters: tuple[Parameter[Any], ...] = ()
    #: What the token must allow; None where no token is wanted.
    scope: Scope | None = None
    media_type: str = "application/json"
    takes_body: bool = False
    #: For an address with a `{table}` in it, the `answers` of each table: the document shows one address for each.
    by_table: Mapping[str, Mapping[int, Any]] | None = None
    #: Whether the answer has an ETag, and is left out for who has it already.
    tagged: bool = False
    #: Of the answer, beside those that every answer has.
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises `ValueError` if a part of the path has no parameter to say what it is."""
        undescribed = self.parts_of_path - {parameter.name for parameter in self.parameters}
        if undescribed:
            raise ValueError(f"{self.path} has parts without a parameter: {', '.join(sorted(undescribed))}.")

    @property
    def parts_of_path(self) -> set[str]:
        return set(re.findall(r"{(\w+)", self.path))

    @property
    def shown_path(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r":\w+}", "}", self.path)

    @property
    def query(self) -> tuple[Parameter[Any], ...]:
        """The parameters of the query."""
        return tuple(parameter for parameter in self.parameters if parameter.name not in self.parts_of_path)

    def status_of(self, content: Any) -> int:
        """The status that goes with an answer: that of its schema, if there are several."""
        if self.by_table is not None or len(self.answers) == 1:
            return next(status for answers in (self.answers, *(self.by_table or {}).values()) for status in answers)
        return next(status for status, schema in self.answers.items() if type(content) is schema)

    def described(self) -> Iterator[Operation]:
        """The operation as the document shows it: once, or once for each table."""
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
