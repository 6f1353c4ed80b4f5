"""Guests: the people who ask for pages, recognised by a session's cookie or by the headers of a trusted proxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import quote, unquote

import structlog
from starlette.datastructures import Headers
from starlette.requests import Request

from receiver.console.hosts import port_of
from receiver.errors import Forbidden, NotAuthorized
from receiver.logs.repeats import Repeats
from receiver.sessions.roles import Guest, Role
from receiver.sessions.sessions import Sessions
from receiver.settings.console import ConsoleSettings

log = Repeats(structlog.get_logger(__name__))

#: The cookie's name without and with TLS, before the port. The prefix `__Host-` keeps other hosts and paths from
#: setting it.
COOKIE, SECURE_COOKIE = "hookmirror-console", "__Host-hookmirror-console"

NOT_SIGNED_IN = "You are not signed in."

FOREIGN_FORM = "This form is not from your session, so nothing was done: load the page, and press again."

#: The suffix of the cookie that keeps the page to come back to after signing in, and the time for which it is kept.
WANTED_PAGE, WANTED_PAGE_KEPT = "-next", timedelta(hours=1)

#: The longest name that a proxy gives, in characters: that of an email address.
LONGEST_PROXY_NAME = 254

PROXY_SECRET_HEADER = "X-Hookmirror-Proxy-Secret"  # noqa: S105 (a name)


class Guests:
    """Recognises the person who sent a request."""

    def __init__(self, sessions: Sessions, settings: ConsoleSettings) -> None:
        self._sessions = sessions
        self._settings = settings
        self._networks = [ip_network(each, strict=False) for each in settings.console_trusted_proxies]
        secret = settings.console_proxy_secret
        self._secret = b"" if secret is None else secret.get_secret_value().encode()

    def _cookie_name(self, request: Request) -> str:
        """The cookie's name, with the port at which the browser asks.

        Browsers send a cookie to all ports of a host, where the console of another installation may be.
        """
        name, port = SECURE_COOKIE if self._settings.console_is_secure else COOKIE, port_of(request.headers)
        return f"{name}-{port}" if port else name

    def _cookie_of(self, request: Request) -> str:
        return request.cookies.get(self._cookie_name(request), "")

    def guest(self, request: Request, *, now: datetime, by_itself: bool = False) -> Guest | None:
        """The person who sent a request; None for a stranger. Reads the database.

        A request that an open page makes `by_itself`, or with that page's header, does not count as use of the session.
        """
        by_proxy = self._by_proxy(request)
        if by_proxy is not None:
            return by_proxy
        cookie = self._cookie_of(request)
        notes = not by_itself and not fetches_itself(request)
        return self._sessions.recognise(cookie, now=now, notes=notes) if cookie else None

    def signed_in(self, request: Request, *, now: datetime, by_itself: bool = False) -> Guest:
        """The person as `guest` finds them. Reads the database. Raises `NotAuthorized` for a stranger."""
        guest = self.guest(request, now=now, by_itself=by_itself)
        if guest is None:
            raise NotAuthorized(NOT_SIGNED_IN)
        return guest

    def is_still_there(self, request: Request, *, now: datetime) -> bool:
        """Whether the person who sent a request is still signed in. Reads the database."""
        if self._by_proxy(request) is not None:
            return True
        return self._sessions.recognise(self._cookie_of(request), now=now, notes=False) is not None

    def key_of(self, request: Request) -> str:
        """A key for each person, made without the database; empty for a stranger."""
        by_proxy = self._by_proxy(request)
        if by_proxy is not None:
            return _by_word(by_proxy.name)
        return self._sessions.session_of(self._cookie_of(request)) or ""

    def bound_to(self, guest: Guest) -> str:
        """The id to which a person's forms and streams belong: that of the session, or one made of a proxy's name."""
        return guest.session or _by_word(guest.name)

    def refuse_foreign_form(self, guest: Guest, token: str, *, says: str = FOREIGN_FORM) -> None:
        """Raise `Forbidden`, which says this, unless the form with this token was made for this person."""
        if not self._sessions.is_form_token(token, self.bound_to(guest)):
            raise Forbidden(says)

    def seal(self, guest: Guest, said: str) -> str:
        """Make the seal that proves, for this person only, that the console wrote the message."""
        # No form's id has a line break, so a seal never equals the token of a form.
        return self._sessions.form_token(f"{self.bound_to(guest)}\n{said}")

    def is_sealed(self, guest: Guest, said: str, seal: str) -> bool:
        return self._sessions.is_form_token(seal, f"{self.bound_to(guest)}\n{said}")

    def brings_session(self, request: Request) -> bool:
        """Whether the browser has the cookie of a session, which may have ended."""
        return bool(self._cookie_of(request))

    def wanted_page(self, request: Request) -> str:
        """The page that the browser requested without a session; empty if it requested none."""
        return unquote(request.cookies.get(self._cookie_name(request) + WANTED_PAGE, ""))

    def keep_wanted_page(self, request: Request, page: str) -> str:
        """The header `Set-Cookie` that keeps this page in the browser until somebody signs in; "" drops it."""
        ends = WANTED_PAGE_KEPT if page else timedelta()
        return self.cookie(request, quote(page, safe=""), ends=ends, suffix=WANTED_PAGE)

    def cookie(self, request: Request, content: str, *, ends: timedelta, suffix: str = "") -> str:
        """The header `Set-Cookie` that keeps a session in the browser. Empty content ends the session there.

        With `suffix` it is another cookie of the console.
        """
        parts = [
            f"{self._cookie_name(request)}{suffix}={content}",
            "Path=/",
            f"Max-Age={int(ends.total_seconds())}",
            "HttpOnly",
        ]
        # With `Lax` the browser sends the cookie when a person opens an address of the console from a chat.
        parts.append("SameSite=Lax")
        return "; ".join([*parts, "Secure"] if self._settings.console_is_secure else parts)

    def _by_proxy(self, request: Request) -> Guest | None:
        if not self._networks or request.client is None or not self._is_trusted(request.client.host, request.headers):
            return None
        header = self._settings.console_user_header
        names = _texts_of(request.headers, header)
        if not any(names):
            return None
        flaw = _flaw_of(names)
        if flaw is not None:
            log.warning("a trusted proxy names a person in an unusable way", about={"header": header, "why": flaw})
            return None
        name = names[0]
        roles = [text.lower() for text in _texts_of(request.headers, self._settings.console_role_header)]
        role = Role.OPERATOR if roles == [Role.OPERATOR.value] else Role.VIEWER
        return Guest(name, role, self._sessions.form_token(_by_word(name)))

    def _is_trusted(self, peer: str, headers: Mapping[str, str]) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            # A socket that serves both families writes an IPv4 address in this form.
            address = address.ipv4_mapped
        given = headers.get(PROXY_SECRET_HEADER, "").encode("latin-1", "replace")
        return compare_digest(given, self._secret) and any(address in network for network in self._networks)


def fetches_itself(request: Request) -> bool:
    """Whether an open page fetches itself. Only `console.js` uses htmx, which sends this header."""
    return "HX-Request" in request.headers


def _texts_of(headers: Headers, name: str) -> list[str]:
    """The values of a header. Proxies write UTF-8, or else Latin-1."""
    values = [value.encode("latin-1") for value in headers.getlist(name)]
    return [_decoded(value).strip() for value in values]


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _flaw_of(names: Sequence[str]) -> str | None:
    """Why these values of one header do not name a person; None if they do."""
    if len(names) > 1:
        # The browser may have sent one of them itself.
        return "the header stands there twice"
    if not names[0].isprintable():
        return "it has characters that cannot be printed"
    # Cut names could make one person of two.
    return None if len(names[0]) <= LONGEST_PROXY_NAME else f"it is longer than {LONGEST_PROXY_NAME} characters"


def _by_word(name: str) -> str:
    return f"proxy:{name}"
