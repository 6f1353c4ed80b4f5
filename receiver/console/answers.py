"""Answers of the console: pages with strict headers, redirects, downloads, and error pages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from receiver.console.headers import BARE_HEADERS, DOWNLOAD_HEADERS, strict_headers
from receiver.console.live import NO_TURN
from receiver.console.page import CONSOLE_PATH, filled, written_part
from receiver.console.rendering import render
from receiver.errors import Refused, Unavailable

#: Bytes of a nonce.
NONCE_BYTES = 16

#: The query parameter with the name of the pressed button, in the address of the page after it.
DONE = "done"

#: The query parameter with the time of the action, in seconds of Unix, after which the message is shown for a while.
WHEN = "when"

#: The query parameters with the button's message, if it depends on the answer, and with the seal that proves the
#: message.
SAID, SEAL = "said", "seal"

HTML = "text/html; charset=utf-8"

#: The header with the reason why a page cannot be read. An open page that fetches itself shows it, like its stream's.
REASON_HEADER = "X-Hookmirror-Reason"

#: Characters that stay as they are in an address. A header carries only ASCII, so all others are percent-encoded.
ADDRESS_CHARACTERS = "/?#&=%:@!$'()*+,;[]~"


class Addresses:
    """Makes addresses of the console, below the path that a proxy adds."""

    def __init__(self, request: Request) -> None:
        self._root = f"{request.scope.get('root_path', '').rstrip('/')}{CONSOLE_PATH}"

    def to(self, path: str, query: Mapping[str, Any] | None = None, /, **parts: Any) -> str:
        """The address of a path below the console: `parts` fill its `{names}`, and `query` is appended."""
        whole = self._root + filled(path, {name: written_part(str(part)) for name, part in parts.items()})
        named = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        return f"{whole}?{urlencode(named)}" if named else whole


class SeeOther(NamedTuple):
    """A redirect to another address below the console, returned instead of a page."""

    address: str


class Attachment(NamedTuple):
    """A file for download, returned instead of a page."""

    content: bytes
    name: str


def page_answer(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """A rendered page."""
    nonce = secrets.token_urlsafe(NONCE_BYTES)
    common = {"visit": None, "page": None, "footer": None, "notice": None, "now": datetime.now(UTC)}
    content = render(template, **(common | {"nonce": nonce, "to": Addresses(request).to} | values))
    return Response(content, status, strict_headers(nonce) | dict(headers or {}), HTML)


def redirect(request: Request, path: str, *, cookie: str = "", done: Mapping[str, str] | None = None) -> Response:
    """Redirect (303) to another page. `done` has the parameters of that page's message about the action."""
    address = Addresses(request).to(path)
    if done:
        address += ("&" if "?" in address else "?") + urlencode(done)
    headers = BARE_HEADERS | {"Location": quote(address, safe=ADDRESS_CHARACTERS)}
    return Response(b"", 303, headers | ({"Set-Cookie": cookie} if cookie else {}))


def attachment(found: Attachment) -> Response:
    """A file that the browser saves without showing it."""
    headers = DOWNLOAD_HEADERS | {"Content-Disposition": f'attachment; filename="{found.name}"'}
    return Response(found.content, headers=headers, media_type="application/octet-stream")


def fault_answer(request: Request) -> Response:
    """The page of status 500, for an error of Hookmirror. The log has the details."""
    says = "This page failed because of an error in Hookmirror: read the details in its log."
    return page_answer(request, "error.html", status=500, says=says, away=False, is_page=True, has_filters=False)


def refusal_answer(
    request: Request,
    refusal: Refused,
    *,
    reason: str = NO_TURN,
    has_filters: bool = False,
    is_page: bool = True,
) -> Response:
    """The page about a refused request, with its message. `reason` is told to an open page that fetches itself.

    With `has_filters`, the page leads to its address without them, because one of them may be what was refused. What is
    not a page, a pressed button or a file, is not asked for again by itself.
    """
    away = isinstance(refusal, Unavailable)
    headers = {"Connection": "close"} if refusal.ends_connection else {}
    if isinstance(refusal, Unavailable):
        headers |= {"Retry-After": str(refusal.retry_after), REASON_HEADER: reason}
    pressed = request.method == "POST"
    told = {"says": refusal.message, "away": away, "pressed": pressed, "is_page": is_page, "has_filters": has_filters}
    return page_answer(request, "error.html", status=refusal.status, headers=headers, **told)
