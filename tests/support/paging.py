"""A source whose list has pages and whose rows can be looked up one by one, with faults between requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from email.utils import format_datetime
from typing import Any

import httpx

from handlers.catalog import Product
from receiver import Dialect, Listed, ListPage, SourceSettings, Wanted
from receiver.testing import TEST_SECRET, Webhooks


def nothing(_: int) -> None:
    """Do nothing at a request."""


class PagedSource:
    """The rows that one source holds, and its answers. It counts the requests and calls hooks around each."""

    def __init__(self, *, size: int = 3) -> None:
        self.names: dict[str, str] = {}
        self.size = size
        self.requests: list[Any] = []
        #: Called with the number of the request, before and after the source reads its rows.
        self.before: Callable[[int], None] = nothing
        self.after: Callable[[int], None] = nothing
        #: The clock behind the `Date` header of its answers; None for answers without one.
        self.clock: Callable[[], datetime] | None = None
        self.tells_total = True

    def hold(self, ids: Iterable[str], name: str = "Lamp") -> None:
        self.names |= dict.fromkeys(ids, name)

    def speak(self, dialect: Dialect, *, lookup: bool = True) -> None:
        """Register list and lookup of this source with the dialect."""

        @dialect.connect
        def connect(source: SourceSettings) -> httpx.Client:
            return httpx.Client(transport=httpx.MockTransport(self._answer), base_url=source.api_url or "")

        @dialect.pages(Product)
        def read(api: httpx.Client, start: int | None) -> ListPage:
            rows, total, following = self._ask(api, start or 0, lambda: self.page(start or 0))
            return ListPage([self.row(each) for each in rows], following, total if self.tells_total else None)

        if lookup:

            @dialect.lookup(Product)
            def ask(api: httpx.Client, wanted: Wanted) -> list[Listed]:
                return self._ask(api, wanted.external_id, lambda: self.look_up(wanted.external_id))

    def page(self, start: int) -> tuple[list[tuple[str, str]], int, int | None]:
        """Return the rows of a page, the total, and the position of the next page."""
        found = sorted(self.names.items())
        end = start + self.size
        return found[start:end], len(found), end if end < len(found) else None

    def look_up(self, external_id: str) -> list[Listed]:
        return [self.row((external_id, self.names[external_id]))] if external_id in self.names else []

    def row(self, each: tuple[str, str]) -> Listed:
        return Listed(Product, each[0], {"name": each[1]})

    def _ask(self, api: httpx.Client, what: Any, look: Callable[[], Any]) -> Any:
        self.requests.append(what)
        number = len(self.requests)
        self.before(number)
        api.get("/")
        answer = look()
        self.after(number)
        return answer

    def _answer(self, _: httpx.Request) -> httpx.Response:
        headers = {} if self.clock is None else {"date": format_datetime(self.clock(), usegmt=True)}
        return httpx.Response(200, headers=headers)


def listened_to(kit: Webhooks, **settings: Any) -> Any:
    """Return the kit's source `shop`, with an API."""
    return kit.source("shop", **{"api_url": "http://api.test", "secrets": [TEST_SECRET], **settings})


def mirrored(kit: Webhooks) -> dict[str, str | None]:
    """Return the names of the active products by their ids."""
    return {row.external_id: row.name for row in kit.rows(Product) if row.active}
