"""ETags: hashes of answers, by which an unchanged answer is not sent again (RFC 9110, 8.8 and 13.1.2)."""

from __future__ import annotations

from hashlib import sha256

from starlette.responses import Response

#: Hexadecimal digits of a tag.
DIGITS = 32


def with_etag(response: Response, had: str | None) -> Response:
    """Make the response with its ETag; 304 without a body if `had`, the header If-None-Match, contains that ETag."""
    own = f'"{sha256(bytes(response.body)).hexdigest()[:DIGITS]}"'
    # A cache may store the answer, but must revalidate it each time.
    headers = {"ETag": own, "Cache-Control": "private, no-cache"}
    if had is not None and _names(had, own):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response


def _names(had: str, own: str) -> bool:
    """Whether the header contains this tag, also as a weak tag, into which a compressing proxy may turn it."""
    tags = {each.strip().removeprefix("W/") for each in had.split(",")}
    return own in tags or "*" in tags
