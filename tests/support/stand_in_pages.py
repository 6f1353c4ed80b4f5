"""A site of a few pages, for tests of the tests' own browser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from stub_servers import Stub, answering

STRICT = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:"


class StandIn(NamedTuple):
    """The answer to one path: a page, or a file that a page loads."""

    content: str
    type: str = "text/html; charset=utf-8"
    policy: str | None = STRICT


def page(body: str, *, head: str = "", policy: str | None = STRICT) -> StandIn:
    """Make a page around this content. Without the content, axe finds nothing in it."""
    whole = f"<!doctype html><html lang=en><title>A page</title>{head}<main><h1>A page</h1>{body}</main></html>"
    return StandIn(whole, policy=policy)


@contextmanager
def site(pages: Mapping[str, StandIn]) -> Iterator[str]:
    """Serve the pages until the end of the block; give the address of the site."""

    class Answering(Stub):
        def get(self) -> None:
            found = pages.get(self.path)
            content = b"" if found is None else found.content.encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "text/plain" if found is None else found.type)
            if found is not None and found.policy:
                self.send_header("Content-Security-Policy", found.policy)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with answering(Answering) as url:
        yield url
