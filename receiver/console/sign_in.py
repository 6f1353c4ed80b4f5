"""Signing in with a one-time link, and out again.

Opening a link shows a button, and only pressing the button uses the link up. Chat programs that preview links do not
press buttons.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from receiver.console import forms
from receiver.console.answers import page_answer, redirect
from receiver.console.guests import Guests
from receiver.console.page import CONSOLE_PATH
from receiver.console.page_reads import PageReads
from receiver.errors import NotAuthorized
from receiver.runs.actions import Asked, By, Via
from receiver.sessions import sessions
from receiver.sessions.links import Links
from receiver.sessions.sessions import Sessions

#: The parameters of a link: its secret, and the page to go to.
LINK, NEXT_PAGE = "link", "next"


class SignIn:
    """The pages of signing in."""

    def __init__(self, kept: Sessions, links: Links, guests: Guests, reads: PageReads) -> None:
        self._sessions = kept
        self._links = links
        self._guests = guests
        self._reads = reads

    async def show(self, request: Request) -> Response:
        """The name and role of the link, and a button. Raises `NotAuthorized` if the link is unknown or has expired."""
        secret = request.query_params.get(LINK, "")
        if not secret:
            raise NotAuthorized("You are not signed in.")
        invitation = self._links.read(secret, now=datetime.now(UTC))
        return page_answer(
            request,
            "sign_in.html",
            # The address holds the link, so the referrer must not have its path. With `no-referrer` browsers would post
            # the form with the origin `null`, and over plain HTTP the origin alone shows that the form is ours.
            headers={"Referrer-Policy": "strict-origin"},
            invitation=invitation,
            secret=secret,
            next_page=_page_of_ours(request.query_params.get(NEXT_PAGE, "")),
        )

    async def begin(self, request: Request) -> Response:
        """Begin a session, and redirect to the page. Raises `NotAuthorized`, also for a link that was used before."""
        forms.refuse_other_sites(request.headers)
        fields = await forms.read_form(request)
        now = datetime.now(UTC)
        invitation = self._links.read(fields.get(LINK, ""), now=now)
        begun = await self._reads.run(request, "sign in", lambda: self._sessions.begin(invitation, now=now))
        cookie = self._guests.cookie(request, begun.cookie, ends=begun.ends_at - now)
        return redirect(request, _page_of_ours(fields.get(NEXT_PAGE, "")), cookie=cookie)

    async def end(self, request: Request) -> Response:
        """End the session. It is not an error if it has ended already. Raises `Forbidden` for another's form."""
        forms.refuse_other_sites(request.headers)
        fields = await forms.read_form(request)
        now = datetime.now(UTC)

        def end_session() -> None:
            guest = self._guests.guest(request, now=now)
            if guest is not None:
                self._guests.refuse_foreign_form(guest, fields.get(forms.TOKEN_FIELD, ""))
            if guest is not None and guest.session is not None:
                asked = Asked(by=By(guest.name, Via.CONSOLE), what="sign out")
                sessions.end(self._sessions.database, asked, guest.session, now=now)

        await self._reads.run(request, "sign out", end_session)
        return redirect(request, "/sign-in", cookie=self._guests.cookie(request, "", ends=timedelta()))

    def wanted(self, request: Request, refusal: NotAuthorized) -> Response:
        """The page that explains how to sign in."""
        return page_answer(request, "closed.html", status=refusal.status, says=refusal.message)


def _page_of_ours(path: str) -> str:
    """The path, if it lies below the console; otherwise the overview's."""
    plain = path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path
    return path if plain and not path.startswith(CONSOLE_PATH) else "/"
