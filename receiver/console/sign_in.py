"""Signing in with a one-time link, and out again.

Opening a link shows a button, and only pressing the button uses the link up. Chat programs that preview links do not
press buttons.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from receiver.console.answers import DONE, REASON_HEADER, SAID, SEAL, WHEN, page_answer, redirect
from receiver.console.forms import KEY_FIELD, TOKEN_FIELD, Forms
from receiver.console.guests import NOT_SIGNED_IN, Guests, fetches_itself
from receiver.console.live import NO_SESSION
from receiver.console.page import CONSOLE_PATH
from receiver.console.page_reads import PageReads
from receiver.errors import NotAuthorized
from receiver.runs.actions import Asked, By, Via
from receiver.sessions import sessions
from receiver.sessions.links import Invitation, Links
from receiver.sessions.sessions import Sessions

#: The beginnings of addresses to which a browser does not come back.
NO_PAGES = ("/sign-in", "/live", "/static/")

#: The suffixes of the addresses of files.
FILES = (".csv", ".jsonl", "/body")

#: Parameters and fields of one request, which a page does not get again: the message about an action, and the key and
#: the token of a form.
OF_ONE_REQUEST = (DONE, WHEN, SAID, SEAL, KEY_FIELD, TOKEN_FIELD)

#: The longest page that a cookie keeps, in characters of the cookie. Browsers drop cookies of more than 4,096 bytes.
LONGEST_WANTED_PAGE = 3_500

#: The parameters of a link: its secret, and the page to go to.
LINK, NEXT_PAGE = "link", "next"


class SignIn:
    """The pages of signing in."""

    def __init__(self, kept: Sessions, links: Links, guests: Guests, reads: PageReads, forms: Forms) -> None:
        self._sessions = kept
        self._links = links
        self._guests = guests
        self._reads = reads
        self._forms = forms

    async def show(self, request: Request) -> Response:
        """The name and role of the link, and a button. Raises `NotAuthorized` if the link is unknown or has expired."""
        secret = request.query_params.get(LINK, "")
        if not secret:
            raise NotAuthorized(NOT_SIGNED_IN)
        invitation = self._links.read(secret, now=datetime.now(UTC))
        return page_answer(
            request,
            "sign_in.html",
            # The address holds the link, so the referrer must not have its path. With `no-referrer` browsers would post
            # the form with the origin `null`, and over plain HTTP the origin alone shows that the form is ours.
            headers={"Referrer-Policy": "strict-origin"},
            invitation=invitation,
            secret=secret,
            next_page=_page_of_ours(request.query_params.get(NEXT_PAGE, "") or self._guests.wanted_page(request)),
        )

    async def begin(self, request: Request) -> Response:
        """Begin a session, and redirect to the page. Raises `NotAuthorized`, also for a link that was used before."""
        fields = await self._forms.read(request)
        now = datetime.now(UTC)
        invitation = self._links.read(fields.get(LINK, ""), now=now)
        # Only who has a link gets this far.
        cookie = await self._reads.run(
            request, "sign in", lambda: self._begun(request, invitation, now), for_strangers=True
        )
        answer = redirect(request, _page_of_ours(fields.get(NEXT_PAGE, "")), cookie=cookie)
        if self._guests.wanted_page(request):
            answer.headers.append("Set-Cookie", self._guests.keep_wanted_page(request, ""))
        return answer

    def _begun(self, request: Request, invitation: Invitation, now: datetime) -> str:
        """Begin a session, and return its cookie; empty if another tab of this browser has used the link already."""
        try:
            begun = self._sessions.begin(invitation, now=now)
        except NotAuthorized:
            guest = self._guests.guest(request, now=now)
            if guest is None or guest.session is None or not self._sessions.was_begun_by(invitation, guest.session):
                raise
            return ""
        return self._guests.cookie(request, begun.cookie, ends=begun.ends_at - now)

    async def end(self, request: Request) -> Response:
        """End the session. It is not an error if it has ended already. Raises `Forbidden` for another's form."""
        fields = await self._forms.read(request)
        now = datetime.now(UTC)

        def end_session() -> None:
            guest = self._guests.guest(request, now=now)
            if guest is not None:
                self._guests.refuse_foreign_form(guest, fields.get(TOKEN_FIELD, ""))
            if guest is not None and guest.session is not None:
                asked = Asked(by=By(guest.name, Via.CONSOLE), what="sign out")
                sessions.end(self._sessions.database, asked, guest.session, now=now)

        if self._guests.key_of(request):
            await self._reads.run(request, "sign out", end_session)
        return redirect(request, "/sign-in", cookie=self._guests.cookie(request, "", ends=timedelta()))

    def wanted(self, request: Request, refusal: NotAuthorized, *, form: str | None = None) -> Response:
        """The page that explains how to sign in. The browser comes back to it, or to the page with the pressed `form`.

        An empty `form` was pressed, too, but cannot be kept.
        """
        was_pressed = form is not None
        page = _page_asked_for(request) if form is None else form
        ended = (page or was_pressed) and self._guests.brings_session(request)
        # A page that fetches itself does not displace the page or form that a person asked for in another window.
        displaces = self._guests.wanted_page(request) not in ("", page)
        comes_back = bool(page) and not (displaces and fetches_itself(request))
        says = "Your session has ended." if ended else refusal.message
        answer = page_answer(
            request,
            "closed.html",
            status=refusal.status,
            headers={REASON_HEADER: NO_SESSION},
            says=f"{says} Nothing was done." if was_pressed else says,
            was_pressed=was_pressed,
            comes_back=comes_back,
            wanted=page,
        )
        if comes_back:
            answer.headers.append("Set-Cookie", self._guests.keep_wanted_page(request, page))
        return answer


def _page_asked_for(request: Request) -> str:
    """Path and query of the page of this request, below the console; empty if the browser must not come back to it."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", "").rstrip("/"))
    path = path.removeprefix(CONSOLE_PATH)
    if request.method != "GET" or path.startswith(NO_PAGES):
        return ""
    # A browser would save a file and stay where it is, so the person comes back to the page with the link to the file.
    # An id may end in the same way.
    for end in FILES:
        if not any(str(part).endswith(end) for part in request.path_params.values()):
            path = path.removesuffix(end)
    path = quote(path)
    return page_with(path, request.query_params.multi_items()) or page_with(path)


def page_with(path: str, fields: Iterable[tuple[str, str]] = ()) -> str:
    """A page with these parameters, without those of one request only; empty if it is too long to keep."""
    query = urlencode([(name, text) for name, text in fields if name not in OF_ONE_REQUEST])
    page = f"{path}?{query}" if query else path
    return page if len(quote(page, safe="")) <= LONGEST_WANTED_PAGE else ""


def _page_of_ours(path: str) -> str:
    """The path, if it lies below the console; otherwise the overview's."""
    plain = path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path
    return path if plain and not path.startswith(CONSOLE_PATH) else "/"
