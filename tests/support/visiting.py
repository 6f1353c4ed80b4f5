"""The console as people see it without scripts: signed in, pages got, forms posted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html import unescape
from typing import Any

import httpx
from serving import SECRET_KEY, TIMEOUT, Served, serving

from receiver.sessions.links import Links
from receiver.sessions.roles import Role

#: What browsers say of a form that a page of ours posts.
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


class Visitor:
    """One person at the console."""

    def __init__(self, base: str) -> None:
        self.client = httpx.Client(base_url=f"{base}/console", timeout=TIMEOUT)

    def sign_in(self, role: Role = Role.OPERATOR, name: str = "ops-1") -> httpx.Response:
        return self.client.post("/sign-in", data={"link": new_link(role, name)}, headers=SAME_ORIGIN)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.client.get(path, params=query or None)

    def page(self, path: str, **query: Any) -> str:
        """The page, which must be there."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
        """Post a form, as a page of ours would, with the token of this session."""
        fields.setdefault("form_token", self.form_token())
        return self.client.post(path, data=fields, headers=SAME_ORIGIN if headers is None else headers)

    def press(self, path: str, **fields: str) -> httpx.Response:
        """Open the form of a button, fill it in, post it, and follow to the page after it."""
        form = self.page(path)
        answer = self.post(path, **(hidden_fields(form) | fields))
        assert answer.status_code == 303, answer.text
        return self.client.get(answer.headers["location"].removeprefix("/console"))

    def form_token(self) -> str:
        """The token that the forms of this session carry."""
        found = re.search(r'name="form_token" value="([^"]*)"', self.page("/deliveries/0/replay"))
        return unescape(found[1]) if found else ""

    def close(self) -> None:
        self.client.close()


def new_link(role: Role = Role.OPERATOR, name: str = "ops-1", *, now: datetime | None = None) -> str:
    """The secret part of a link."""
    return Links([SECRET_KEY]).issue(name, role, now=now or datetime.now(UTC))


def hidden_fields(page: str) -> dict[str, str]:
    """The hidden fields of the page's last form."""
    form = page.rpartition("<form")[2]
    return {
        unescape(name): unescape(text)
        for name, text in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form)
    }


def text_of(page: str) -> str:
    """The words of a page, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


@contextmanager
def visiting(
    database_url: str, *, role: Role | None = Role.OPERATOR, **settings: Any
) -> Iterator[tuple[Served, Visitor]]:
    """A server with the console, and a person at it, who is signed in unless the role is None."""
    with serving(database_url, console=True, **settings) as served:
        visitor = Visitor(str(served.client.base_url).rstrip("/"))
        if role is not None:
            assert visitor.sign_in(role).status_code == 303
        yield served, visitor
        visitor.close()
