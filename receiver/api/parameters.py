"""Parameters that several operations share, and parsers of their text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from receiver.api.operations import NOBODY, Operation, Parameter, Question
from receiver.codec import storable
from receiver.database.page_sizes import LARGEST_PAGE, USUAL_PAGE
from receiver.envelope import LONGEST_NAME
from receiver.errors import BadRequest, NotFound
from receiver.runs.actions import By
from receiver.search import arguments
from receiver.search.arguments import WrittenTime, is_id
from receiver.search.pages import MOST_COUNTED

if TYPE_CHECKING:
    # Only for types: a worker answers for its metrics by these modules, too, without Starlette.
    from starlette.requests import Request

Word = TypeVar("Word", bound=StrEnum)

CURSOR_DESCRIPTION = "The value of `next` on the previous page."


def ask(request: Request, operation: Operation, *, by: By = NOBODY) -> Question:
    """Parse a request, whose parameters must be known, in the address, and given at most once. Raises `BadRequest`.

    Operations without a token ignore the query, because probes may add other parameters.
    """
    if operation.scope is None:
        return Question({})
    _refuse_parameters_elsewhere(request, operation)
    # Unknown names are refused first: an error names parameters in a header, which cannot hold every text.
    for parameter in operation.query:
        name = parameter.name
        if len(request.query_params.getlist(name)) > 1:
            raise BadRequest(f"`{name}` is given more than once: give it once.", names=(name,))
    return question(operation, request.path_params, request.query_params, by=by)


def _refuse_parameters_elsewhere(request: Request, operation: Operation) -> None:
    """Raise `BadRequest` for a body and for a key in a header: overlooked, they would widen or repeat an action."""
    headers = request.headers
    if headers.get("content-length", "0").strip("0") or "transfer-encoding" in headers:
        raise BadRequest("This address reads no body: write the parameters into the address, after a question mark.")
    if "idempotency-key" in headers and any(parameter.name == "idempotency_key" for parameter in operation.query):
        raise BadRequest(
            "The header Idempotency-Key is not read: write the key into the address, as `idempotency_key`.",
            names=("idempotency_key",),
        )


def question(operation: Operation, path: Mapping[str, str], query: Mapping[str, str], *, by: By = NOBODY) -> Question:
    """Parse the parameters of a path and a query. Raises `BadRequest`, and `NotFound`."""
    known = [parameter.name for parameter in operation.query]
    unknown = sorted(set(query) - set(known))
    if unknown:
        allowed = ", ".join(known) or "none"
        raise BadRequest(f"There is no parameter {unknown[0][:64]!r} here; the parameters are: {allowed}.")
    given = {**query, **path}
    return Question(
        {
            parameter.name: parameter.read(storable(given[parameter.name]))
            if parameter.name in given
            else parameter.default
            for parameter in operation.parameters
        },
        by=by,
    )


def number(name: str) -> Callable[[str], int]:
    """Make a parser of whole numbers that fit a database column."""

    def read(text: str) -> int:
        if not is_id(text):
            raise BadRequest(f"`{name}` takes a whole number, as returned by this API.", names=(name,))
        return int(text)

    return read


def flag(name: str) -> Callable[[str], bool]:
    """Make a parser of true and false."""

    def read(text: str) -> bool:
        if text not in ("true", "false"):
            raise BadRequest(f"`{name}` takes true or false.", names=(name,))
        return text == "true"

    return read


def one_of(kind: type[Word], name: str) -> Callable[[str], Word]:
    """Make a parser of these words."""

    def read(text: str) -> Word:
        try:
            return kind(text)
        except ValueError:
            raise BadRequest(f"`{name}` takes one of {', '.join(kind)}.", names=(name,)) from None

    return read


def plain_text(name: str, description: str, *, longest: int = LONGEST_NAME) -> Parameter[str | None]:
    """Make a parameter that takes any text except the empty one."""

    def read(text: str) -> str:
        return arguments.parse_text(name, text, longest=longest)

    return Parameter(name, {"type": "string", "minLength": 1, "maxLength": longest}, description, read, None)


def moment(name: str, description: str) -> Parameter[WrittenTime | None]:
    """Make a parameter that takes a time, or a span before now. Its value is a moment only at a given time."""

    def read(text: str) -> WrittenTime:
        written = WrittenTime(name, text)
        written.at(datetime.now(UTC))
        return written

    return Parameter(name, {"type": "string"}, f"{description} ISO 8601 with its offset, or such as `2h`.", read, None)


def table_in_path(names: Collection[str]) -> Parameter[str]:
    """Make the parameter of a path that names one of these tables of the mirror."""

    def read(text: str) -> str:
        return known_table(text, names)

    return Parameter("table", {"type": "string"}, "The name of a table.", read, "")


def known_table(name: str, names: Collection[str]) -> str:
    """Return the name if it is one of these tables'. Raises `NotFound` for any other."""
    if name not in names:
        raise NotFound(f"There is no table {name[:64]!r}: choose one of {', '.join(sorted(names))}.")
    return name


def relative_times(
    asked: Question, parameters: Iterable[Parameter[WrittenTime | None]], now: datetime
) -> dict[str, datetime]:
    """The moments that these parameters meant at `now`, by name; those alone that were given as a relative time."""
    given = ((parameter.name, asked[parameter]) for parameter in parameters)
    return {name: written.at(now) for name, written in given if written is not None and written.is_relative}


def _limit(text: str) -> int:
    if not is_id(text) or not 1 <= int(text) <= LARGEST_PAGE:
        raise BadRequest(f"`limit` takes a whole number from 1 to {LARGEST_PAGE}.", names=("limit",))
    return int(text)


LIMIT = Parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": USUAL_PAGE},
    "Items of a page.",
    _limit,
    USUAL_PAGE,
)
SOURCE = plain_text("source", "The name of a source.")

CURSOR: Parameter[str | None] = Parameter("cursor", {"type": "string"}, CURSOR_DESCRIPTION, str, None)
COUNT: Parameter[bool | None] = Parameter(
    "count", {"type": "boolean"}, f"Whether to count the matches, up to {MOST_COUNTED:,}.", flag("count"), None
)
