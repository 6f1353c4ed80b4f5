"""Parameters of a question to the API: what its address says, as values, or the refusal that says what it takes."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

from starlette.requests import Request

from receiver.codec import decode, encode, storable
from receiver.database.pages import LARGEST_PAGE, USUAL_PAGE
from receiver.errors import BadRequest, NotFound, Unreadable
from receiver.inbox.tables import State

#: Characters of a cursor: the longest key, each of its characters escaped, has fewer.
LONGEST_CURSOR = 16_384


def read(request: Request, *known: str) -> dict[str, str]:
    """The parameters by name, each given once and known here. Raises `BadRequest`."""
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        allowed = ", ".join(known) or "none"
        raise BadRequest(f"There is no parameter {unknown[0][:64]!r} here; the parameters are: {allowed}.")
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise BadRequest(f"`{name}` is given more than once: give it once.")
    return {name: storable(value) for name, value in request.query_params.items()}


def number(name: str, value: str | None, default: int | None) -> int | None:
    """A whole number that a database column holds; `default` if there is none. Raises `BadRequest`."""
    if value is None:
        return default
    if not _is_number(value):
        raise BadRequest(f"`{name}` takes a whole number, as this API gave it.")
    return int(value)


def delivery_id(request: Request) -> int:
    """The delivery that the address names. Raises `NotFound` for what cannot be one."""
    text = request.path_params["id"]
    if not _is_number(text):
        raise NotFound(f"There is no delivery {text[:64]!r}.")
    return int(text)


def _is_number(text: str) -> bool:
    """Whether it is a whole number that a database column holds."""
    return len(text) <= 19 and text.isascii() and text.isdigit() and int(text) < 2**63


def limit(asked: dict[str, str]) -> int:
    """How many items a page may have. Raises `BadRequest`."""
    items = number("limit", asked.get("limit"), USUAL_PAGE)
    if items is None or not 1 <= items <= LARGEST_PAGE:
        raise BadRequest(f"`limit` takes a whole number from 1 to {LARGEST_PAGE}.")
    return items


def flag(name: str, value: str | None) -> bool | None:
    """True, false, or None for none. Raises `BadRequest`."""
    if value is None:
        return None
    if value not in ("true", "false"):
        raise BadRequest(f"`{name}` takes true or false.")
    return value == "true"


def one_of(kind: type[State], name: str, value: str | None) -> State | None:
    """One of these words. Raises `BadRequest`."""
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise BadRequest(f"`{name}` takes one of {', '.join(kind)}.") from None


def write_key_cursor(source: str, external_id: str) -> str:
    """The cursor behind the row with this key."""
    return urlsafe_b64encode(encode([source, external_id])).decode()


def key_cursor(cursor: str | None) -> tuple[str, str] | None:
    """The key that `write_key_cursor` wrote. Raises `BadRequest` for anything else."""
    if cursor is None:
        return None
    try:
        key = decode(urlsafe_b64decode(cursor)) if len(cursor) <= LONGEST_CURSOR else None
    except (Base64Error, Unreadable, ValueError):
        key = None
    match key:
        case [str(source), str(external_id)]:
            return storable(source), storable(external_id)
    raise BadRequest("`cursor` takes what `next` of the page before said.")
