"""A browser for tests: the system's Chromium, watched pages, and accessibility checks with axe.

A watched page fails its test if it writes an error to the console, breaks its content security policy, has a script
that fails, loads anything from another host, or gets an answer that means a fault of ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright
from playwright.sync_api import Error as PlaywrightError
from serving import Served
from visiting import Visitor, new_link

#: Names of Chromium, the fastest first: the headless shell opens a page in a third of the time that the full browser
#: needs.
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

#: Widths of a window in pixels: a small phone's and a small laptop's.
PHONE, DESKTOP = 360, 1280
HEIGHTS = {PHONE: 740, DESKTOP: 800}

#: Milliseconds that the browser waits for anything on a page.
TIMEOUT_MS = 60_000

#: Most bytes that a page and everything it loads may have.
HEAVIEST = 120_000

#: Severities of axe's findings that fail a test.
SERIOUS = {"serious", "critical"}

#: The first rows of a table that axe examines whatever they look like: two, so that it notices what may not stand twice
#: on a page.
FIRST_FOR_AXE = 2

#: Switches of Chromium. It resolves no host name, so that no page can fetch anything from another host.
SWITCHES = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-gpu",
    "--disable-lcd-text",
)


class Scheme(StrEnum):
    LIGHT = "light"
    DARK = "dark"


def find_chromium() -> str:
    """Find the path of Chromium. Without Chromium the test is skipped; with CI=true it fails."""
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        missing = "there is no Chromium: run `sudo make browser` once, or install it in your system's way"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return path


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run one browser until the end of the block. Meanwhile no asyncio event loop can run in this thread."""
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(SWITCHES), timeout=60_000)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """Records the faults of the watched pages."""

    #: The only site that pages may load from, such as `http://127.0.0.1:8000`.
    site: str
    faults: list[str] = field(default_factory=list)
    #: Statuses of 400 and above that the test expects.
    expected: set[int] = field(default_factory=set)
    #: The responses to everything that pages loaded. Each response knows its size on the wire.
    responses: list[Response] = field(default_factory=list)

    def attach(self, context: BrowserContext) -> None:
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.faults.append(f"script failed: {error.error}"))
        context.on("request", self._on_request)
        context.on("response", self._on_response)

    def check(self) -> None:
        """Fail if faults were recorded, and forget them."""
        faults, self.faults = self.faults, []
        assert not faults, "\n".join(faults)

    def weights(self) -> dict[str, int]:
        """Return the bytes of everything loaded since the last call, by address. Call it before leaving the page."""
        responses, self.responses = self.responses, []
        weights = {}
        # A stream never ends. The content of a request that was cut off by leaving the page cannot be read.
        for each in (each for each in responses if each.status == 200 and not _is_stream(each)):
            with suppress(PlaywrightError):
                weights[each.url] = len(each.body())
        return weights

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        # `_on_response` judges the status, because it knows which ones are expected.
        if message.text.startswith("Failed to load resource: the server responded with a status of"):
            return
        self.faults.append(f"console {message.type} at {message.location.get('url')}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.site}/", "data:image/")):
            self.faults.append(f"request elsewhere: {request.url}")

    def _on_response(self, response: Response) -> None:
        self.responses.append(response)
        if response.status >= 400 and response.status not in self.expected:
            self.faults.append(f"status {response.status}: {response.request.method} {response.url}")


def _is_stream(response: Response) -> bool:
    return response.headers.get("content-type", "").startswith("text/event-stream")


@dataclass
class Browsing:
    """Opens pages of one site and watches each."""

    browser: Browser
    site: str
    #: The session's cookies; empty for a visitor who is not signed in.
    state: Any = None
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.site)
        self._contexts: list[BrowserContext] = []
        self._window: Page | None = None

    def context(
        self,
        *,
        width: int = DESKTOP,
        scheme: Scheme = Scheme.LIGHT,
        scripts: bool = True,
        still: bool = False,
        stranger: bool = False,
        zone: str = "Europe/Berlin",
        **more: Any,
    ) -> BrowserContext:
        """Open a separate context with cookies and a window, in this zone. With `still`, it prefers reduced motion."""
        made = self.browser.new_context(
            viewport={"width": width, "height": HEIGHTS.get(width, 800)},
            color_scheme=scheme.value,
            java_script_enabled=scripts,
            reduced_motion="reduce" if still else "no-preference",
            storage_state=None if stranger else self.state,
            locale="en-GB",
            timezone_id=zone,
            **more,
        )
        made.set_default_timeout(TIMEOUT_MS)
        self.watch.attach(made)
        self._contexts.append(made)
        return made

    def open(self, path: str = "/", **context: Any) -> Page:
        """Open the page at this path in a new context."""
        page = self.context(**context).new_page()
        page.goto(urljoin(self.site, path))
        return page

    def turn_to(self, path: str = "/", **context: Any) -> Page:
        """Open the page at this path in one window, which the first call opens; each context takes a while."""
        if self._window is None:
            self._window = self.context(**context).new_page()
        self._window.goto(urljoin(self.site, path))
        return self._window

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self._contexts.clear()
        self._window = None


def sign_in(browser: Browser, site: str, link: str) -> Any:
    """Open a one-time link, press its button, and return the session's cookies."""
    opened = Browsing(browser, site)
    page = opened.open(link)
    page.locator("main").get_by_role("button").click()
    page.wait_for_url("**/console/")
    state = page.context.storage_state()
    opened.close()
    opened.watch.check()
    return state


def signed_in(served: Served, link: str) -> Any:
    """Sign in by requests with the secret part of a link, as `sign_in` does in the browser, which takes longer."""
    visitor = Visitor(str(served.client.base_url).rstrip("/"))
    assert visitor.sign_in(link=link).status_code == 303
    cookies = [
        {"name": each.name, "value": each.value, "domain": "127.0.0.1", "path": each.path, "expires": -1}
        | {"httpOnly": True, "secure": False, "sameSite": "Lax"}
        for each in visitor.client.cookies.jar
    ]
    visitor.close()
    return {"cookies": cookies, "origins": []}


@contextmanager
def operating(
    browser: Browser, served: Served, *, name: str = "ops-1", expected: Collection[int] = ()
) -> Iterator[Browsing]:
    """Give an operator's view of a served console; at the end of the block, fail if a page had faults.

    `expected` are statuses of 400 and above that the test expects.
    """
    opened = Browsing(browser, str(served.client.base_url).rstrip("/"), signed_in(served, new_link(name=name)))
    opened.watch.expected.update(expected)
    yield opened
    opened.close()
    opened.watch.check()


def path_of(page: Page) -> str:
    """Return path and query of the page's address."""
    parts = urlsplit(page.url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


# ── accessibility ─────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def axe_source() -> str:
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


#: Removes rows, items, options and bars that look like earlier ones beside them: the same elements with the same
#: attributes, the same classes, and text at the same places.
SHORTEN = """most => {
    const told = {class: true, role: true, style: true, type: true, scope: true}
    const look = one => [
        one.tagName,
        ...[...one.attributes].map(each => [each.name, told[each.name] ? each.value : each.value.trim() !== '']).sort(),
        ...[...one.childNodes].map(each => each.nodeType === Node.ELEMENT_NODE ? look(each) : each.data.trim() !== ''),
    ]
    for (const parent of document.querySelectorAll('tbody, ul, ol, select, svg')) {
        const seen = new Set()
        for (const [place, each] of [...parent.children].entries()) {
            const found = JSON.stringify(look(each))
            if (place >= most && seen.has(found)) each.remove()
            seen.add(found)
        }
    }
}"""


def shorten(page: Page) -> None:
    """Keep one of all that look alike in a list, and the first ones: axe takes much time, and sees no words."""
    page.evaluate(SHORTEN, FIRST_FOR_AXE)


#: Runs the rules of these ranks alone, since the findings of other rules would be left out below.
AXE_RUN = """ranks => {
    const others = axe._audit.rules.filter(rule => rule.impact && !ranks.includes(rule.impact))
    const rules = Object.fromEntries(others.map(rule => [rule.id, {enabled: false}]))
    return axe.run(document, {rules, resultTypes: ['violations'], elementRef: false})
}"""


def bring_axe(context: BrowserContext) -> None:
    """Give axe to every page of the context, instead of sending it to each page when it is needed."""
    context.add_init_script(axe_source())


def barriers(page: Page) -> list[str]:
    """List axe's serious and critical findings: the rule, its advice, and the first elements."""
    # Run axe through the debugging protocol, which a content security policy does not block.
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(axe_source())
    found = page.evaluate(AXE_RUN, [*SERIOUS])
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: "
        + "; ".join(f"{node['html'][:160]} {_colors(node)}" for node in each["nodes"][:3])
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]


def _colors(node: dict[str, Any]) -> str:
    data = next((check["data"] for check in node["any"] if check["id"] == "color-contrast"), None)
    return f"[{data['fgColor']} on {data['bgColor']}: {data['contrastRatio']}]" if data else ""


# ── layout ────────────────────────────────────────────────────────────────────────────────────────────────────────


def overflow(page: Page) -> int:
    """Return the pixels by which the page is wider than its window, or 0."""
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(page.evaluate(wide))


def widest(page: Page) -> list[str]:
    """Describe the elements that stick out of the window, for the message of a failed test."""
    return list(
        page.evaluate(
            """() => [...document.body.querySelectorAll('*')]
                .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
                .slice(0, 5).map(one => one.outerHTML.slice(0, 120))"""
        )
    )
