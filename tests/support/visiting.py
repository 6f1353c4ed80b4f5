"""The console without scripts: sign in, get pages, post forms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx
from serving import SECRET_KEY, TIMEOUT, Served, serving

from receiver.console.rendering import HTMX_ATTRIBUTES
from receiver.sessions.links import Links
from receiver.sessions.roles import Role

#: The header that browsers send with a form posted by one of our own pages.
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: The elements and attributes that our templates write.
ELEMENTS = words("""
    a bdi body button code dd details div dl dt em fieldset footer form h1 h2 h3 head header html input label
    legend li link main meta nav ol option p path pre progress rect script section select small span strong
    summary svg table tbody td textarea tfoot th thead time title tr ul
""")
ATTRIBUTES = HTMX_ATTRIBUTES | words("""
    action aria-controls aria-current aria-describedby aria-label aria-live autocomplete autofocus charset
    checked class colspan content cols data-address data-label data-live data-marks
    datetime defer dir download for formaction
    height hidden href http-equiv id inputmode lang max maxlength method min minlength name nonce open pattern
    placeholder preserveaspectratio rel required reversed role rows scope selected src tabindex title type value viewbox
    width x y
""")


class Visitor:
    """One person who uses the console."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.client = httpx.Client(base_url=f"{base}/console", timeout=TIMEOUT)

    def sign_in(self, role: Role = Role.OPERATOR, name: str = "ops-1", *, link: str | None = None) -> httpx.Response:
        return self.client.post("/sign-in", data={"link": link or new_link(role, name)}, headers=SAME_ORIGIN)

    def get(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> httpx.Response:
        return self.client.get(path, params=query or None, headers=headers)

    def page(self, path: str, **query: Any) -> str:
        """Get a page, which must exist."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, headers: Mapping[str, str] = SAME_ORIGIN, **fields: str) -> httpx.Response:
        """Post a form with exactly these fields."""
        return self.client.post(path, data=fields, headers=headers)

    def press(self, path: str, **fields: str) -> httpx.Response:
        """Open the form of a button, fill it in, and post it."""
        return self.post(path, **(hidden_fields(self.page(path)) | fields))

    def close(self) -> None:
        self.client.close()


def cookie_name(visitor: Visitor) -> str:
    """The name of the cookie that this visitor's console sets."""
    return f"hookmirror-console-{visitor.client.base_url.port}"


def new_link(role: Role = Role.OPERATOR, name: str = "ops-1", *, now: datetime | None = None) -> str:
    """Make the secret part of a sign-in link."""
    return Links([SECRET_KEY]).issue(name, role, now=now or datetime.now(UTC))


def hidden_fields(page: str) -> dict[str, str]:
    """Return the hidden fields of the last form on the page."""
    form = page.rpartition("<form")[2]
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form)
    return {unescape(name): unescape(text) for name, text in found}


class _Markup(HTMLParser):
    """Collects the elements and attributes that none of our templates writes."""

    def __init__(self) -> None:
        super().__init__()
        self.strange: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        if tag not in ELEMENTS or names - ATTRIBUTES or (tag == "script" and "nonce" not in names):
            self.strange.append(f"{tag} {sorted(names)}")


def strange_markup(page: str) -> list[str]:
    """List the elements of the page that none of our templates writes, with their attributes."""
    parser = _Markup()
    parser.feed(page)
    return parser.strange


def text_of(page: str) -> str:
    """Return the words of a page, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@contextmanager
def visiting(
    database_url: str, *, role: Role | None = Role.OPERATOR, **settings: Any
) -> Iterator[tuple[Served, Visitor]]:
    """Serve the console, and yield it with a visitor, who is signed in unless the role is None."""
    with serving(database_url, console=True, **settings) as served:
        site = str(served.client.base_url).rstrip("/")
        with visitor_at(site, role=role) as visitor:
            yield served, visitor


@contextmanager
def visitor_at(site: str, *, role: Role | None = Role.OPERATOR) -> Iterator[Visitor]:
    """Give a visitor of the console at this address, who is signed in unless the role is None."""
    visitor = Visitor(site)
    if role is not None:
        assert visitor.sign_in(role).status_code == 303
    yield visitor
    visitor.close()
