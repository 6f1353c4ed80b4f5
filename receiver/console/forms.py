"""Forms: what a browser posts, within bounds, and whether one of our own pages sent it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from starlette.requests import Request

from receiver.errors import BadRequest, BodyTooLarge, Forbidden

#: Bytes of a form, and its fields.
LARGEST_FORM, MOST_FIELDS = 65_536, 120

FORM_MEDIA_TYPE = "application/x-www-form-urlencoded"

#: The field that ties a form to its session.
TOKEN_FIELD = "form_token"  # noqa: S105 (a name)

#: Fields that a form may have several times: the marks in a list. Their values are joined with commas.
MARKS = ("ids",)

ELSEWHERE = (
    "This came from a page of another site, or from a program, so nothing was done: open the console and press the "
    "button there."
)


async def read_form(request: Request) -> dict[str, str]:
    """The fields. Raises `BadRequest` for what no form of ours sends, and `BodyTooLarge`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_MEDIA_TYPE:
        raise BadRequest("This address takes a form: press the button on the page.")
    content = b""
    async for some in request.stream():
        content += some
        if len(content) > LARGEST_FORM:
            raise BodyTooLarge(f"A form has at most {LARGEST_FORM:,} bytes: write less.", size=len(content))
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise BadRequest("The form is not written as browsers write forms: press the button on the page.") from None
    return joined(pairs)


def joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The fields by name, marks as one. Raises `BadRequest` for another field that is given twice."""
    fields: dict[str, str] = {}
    for name, text in pairs:
        if name not in fields:
            fields[name] = text
        elif name in MARKS:
            fields[name] += f",{text}"
        else:
            raise BadRequest("A field of the form is given twice: go back to the page, and press the button again.")
    return fields


def refuse_other_sites(headers: Mapping[str, str]) -> None:
    """Raises `Forbidden` unless a page of this host posts.

    Browsers say so in `Sec-Fetch-Site`; where they do not, which is over plain HTTP, `Origin` must be this host.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise Forbidden(ELSEWHERE)
        return
    _, _, netloc = headers.get("origin", "").partition("://")
    if not netloc or netloc.lower() != headers.get("host", "").lower():
        raise Forbidden(ELSEWHERE)
