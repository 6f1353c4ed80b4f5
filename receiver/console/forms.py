"""Forms: the fields that a browser posts, within bounds, and the check that one of our pages sent them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from starlette.requests import Request

from receiver.errors import BadRequest, BodyTooLarge, Forbidden
from receiver.http_urls import without_port
from receiver.ingest.heads import HELD
from receiver.ingest.incoming import Incoming

#: Most bytes and most fields of a form.
LARGEST_FORM, MOST_FIELDS = 65_536, 120

FORM_MEDIA_TYPE = "application/x-www-form-urlencoded"

#: The field that ties a form to its session.
TOKEN_FIELD = "form_token"  # noqa: S105 (a name)

#: The field with the key by which a form that is pressed twice is recognised.
KEY_FIELD = "idempotency_key"

#: Fields that a form may have several times: the marks in a list. Their values are joined with commas. Such a
#: form has an empty value, too, by which one in which nothing is marked is recognised.
MARKS = ("ids",)

ELSEWHERE = (
    "This request came from a page of another site, or from a program, so nothing was done: open the console "
    "and press the button there."
)

OTHER_PORT = (
    "A proxy changed the port in the header Host, so this cannot be told from a page of another site, and nothing was "
    "done: set `console_url` to the address at which browsers find the console, or let the proxy pass Host as it came."
)


class Forms:
    """Reads posted forms, within the limits of bodies that are not complete."""

    def __init__(self, incoming: Incoming, *, origin: str) -> None:
        """`origin` is that of the console's pages, besides the host that a request names."""
        self._incoming, self._origin = incoming, origin

    async def read(self, request: Request) -> dict[str, str]:
        """Read the fields. Raises `Forbidden` and `BadRequest` if no page of ours can have sent this.

        Raises `BodyTooLarge`, `Limited` if it arrives too slowly, and `ClientDisconnect` if its sender has gone.
        """
        refuse_other_sites(request.headers, self._origin)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_MEDIA_TYPE:
            raise BadRequest("This address takes a form: press the button on the page.")
        chunks = []
        with self._incoming.body(request.scope.get(HELD, 0)) as body:
            async for chunk in request.stream():
                chunks.append(chunk)
                body.grow(len(chunk))
                if body.size > LARGEST_FORM:
                    raise BodyTooLarge(f"A form has at most {LARGEST_FORM:,} bytes: write less.", size=body.size)
        return parsed(b"".join(chunks))


def parsed(content: bytes) -> dict[str, str]:
    """The fields of a form as browsers write it. Raises `BadRequest`."""
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise BadRequest("The form is not written as browsers write forms: press the button on the page.") from None
    return joined(pairs)


def joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The fields by name, with the values of marks joined. Raises `BadRequest` if another field is given twice."""
    fields: dict[str, str] = {}
    for name, text in pairs:
        if name not in fields:
            fields[name] = text
        elif name in MARKS:
            fields[name] = ",".join(filter(None, (fields[name], text)))
        else:
            raise BadRequest("A field of the form is given twice: go back to the page, and press the button again.")
    return fields


def refuse_without_marks(fields: Mapping[str, str]) -> None:
    """Raise `BadRequest` for the form of a list in which nothing is marked."""
    if any(fields.get(name) == "" for name in MARKS):
        raise BadRequest("Nothing is marked, so nothing was done: go back to the list, and mark at least one line.")


def refuse_other_sites(headers: Mapping[str, str], ours: str) -> None:
    """Raise `Forbidden` unless a page of this host, or of the origin `ours`, posted the form.

    Browsers send `Sec-Fetch-Site` for this. Over plain HTTP they leave it out, and `Origin` must name the host. A proxy
    may have changed the port in `Host`, or left it out.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise Forbidden(ELSEWHERE)
        return
    origin, host = headers.get("origin", "").lower(), headers.get("host", "").lower()
    _, _, netloc = origin.partition("://")
    if not netloc or (netloc != host and origin != ours):
        raise Forbidden(OTHER_PORT if netloc and without_port(netloc) == without_port(host) else ELSEWHERE)
