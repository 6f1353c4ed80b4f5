"""Parameters that several addresses of the API take, and how the text of any parameter is read or refused."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from starlette.requests import Request

from receiver.api.operations import Operation, Parameter, Question
from receiver.api.queries import LARGEST_PAGE, USUAL_PAGE
from receiver.codec import decode, encode, storable
from receiver.errors import BadRequest, Unreadable

#: Characters of a cursor: the longest key, each of its characters escaped, has fewer.
LONGEST_CURSOR = 16_384

Word = TypeVar("Word", bound=StrEnum)

CURSOR_DESCRIPTION = "What `next` of the page before said."


def ask(request: Request, operation: Operation) -> Question:
    """What the request asks, each parameter given at most once and known to the operation. Raises `BadRequest`.

    Without a token there is nothing to ask, and what a probe adds to its address is ignored.
    """
    if operation.scope is None:
        return Question({})
    query = operation.query
    unknown = sorted(set(request.query_params) - {parameter.name for parameter in query})
    if unknown:
        allowed = ", ".join(parameter.name for parameter in query) or "none"
        raise BadRequest(f"There is no parameter {unknown[0][:64]!r} here; the parameters are: {allowed}.")
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise BadRequest(f"`{name}` is given more than once: give it once.")
    given = {**request.query_params, **request.path_params}
    return Question(
        {
            parameter.name: parameter.read(storable(given[parameter.name]))
            if parameter.name in given
            else parameter.default
            for parameter in operation.parameters
        }
    )


def is_number(text: str) -> bool:
    """Whether it is a whole number that a database column holds."""
    return len(text) <= 19 and text.isascii() and text.isdigit() and int(text) < 2**63


def number(name: str) -> Callable[[str], int]:
    """Reads a whole number that a database column holds."""

    def read(text: str) -> int:
        if not is_number(text):
            raise BadRequest(f"`{name}` takes a whole number, as this API gave it.")
        return int(text)

    return read


def flag(name: str) -> Callable[[str], bool]:
    """Reads true or false."""

    def read(text: str) -> bool:
        if text not in ("true", "false"):
            raise BadRequest(f"`{name}` takes true or false.")
        return text == "true"

    return read


def one_of(kind: type[Word], name: str) -> Callable[[str], Word]:
    """Reads one of these words."""

    def read(text: str) -> Word:
        try:
            return kind(text)
        except ValueError:
            raise BadRequest(f"`{name}` takes one of {', '.join(kind)}.") from None

    return read


def plain_text(name: str, description: str) -> Parameter[str | None]:
    """A parameter that is any text."""
    return Parameter(name, {"type": "string"}, description, str, None)


def _limit(text: str) -> int:
    items = number("limit")(text)
    if not 1 <= items <= LARGEST_PAGE:
        raise BadRequest(f"`limit` takes a whole number from 1 to {LARGEST_PAGE}.")
    return items


def write_key_cursor(source: str, external_id: str) -> str:
    """The cursor behind the row with this key."""
    return urlsafe_b64encode(encode([source, external_id])).decode()


def _key_cursor(cursor: str) -> tuple[str, str]:
    """The key that `write_key_cursor` wrote. Raises `BadRequest` for anything else."""
    try:
        key = decode(urlsafe_b64decode(cursor)) if len(cursor) <= LONGEST_CURSOR else None
    except (Base64Error, Unreadable, ValueError):
        key = None
    match key:
        case [str(source), str(external_id)]:
            return storable(source), storable(external_id)
    raise BadRequest("`cursor` takes what `next` of the page before said.")


LIMIT = Parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": USUAL_PAGE},
    "Items of a page.",
    _limit,
    USUAL_PAGE,
)
SOURCE = plain_text("source", "The name of a source.")

#: The cursor of a list in the order of source and external id.
KEY_CURSOR: Parameter[tuple[str, str] | None] = Parameter(
    "cursor", {"type": "string"}, CURSOR_DESCRIPTION, _key_cursor, None
)
