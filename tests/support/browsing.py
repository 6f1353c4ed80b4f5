"""A browser for tests: Chromium of the system, pages that are watched for what none may do, and axe's opinion of them.

A watched page may write no error to its console, break no rule of its content security policy, fail in no script, load
nothing from another host, and get no answer that means a fault of ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
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

#: Names of Chromium, the quickest first: the headless shell opens a page in a third of the time that the whole needs.
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

#: Widths of a window: a small phone's and a small laptop's.
PHONE, DESKTOP = 360, 1280
HEIGHTS = {PHONE: 740, DESKTOP: 800}

#: Milliseconds for whatever a page is waited for.
TIMEOUT_MS = 15_000

#: Bytes of a page with everything that it loads.
HEAVIEST = 120_000

#: Ranks of axe's findings that no page may have.
SERIOUS = {"serious", "critical"}

#: Rows of a table that axe looks at.
ROWS_FOR_AXE = 8

#: Switches of Chromium: no name is looked up, so that nothing is fetched from elsewhere whatever a page says.
SWITCHES = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-gpu",
    "--disable-lcd-text",
)


class Scheme(StrEnum):
    LIGHT = "light"
    DARK = "dark"


def find_chromium() -> str:
    """The path of Chromium. Skips the test where there is none, and fails it with CI=true."""
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        missing = "there is no Chromium: run `sudo make browser` once, or install it in your system's way"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return path


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """One browser until the end of the block, in which no event loop of asyncio can run in this thread."""
    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(SWITCHES), timeout=60_000)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watch:
    """Notes what pages do that none may."""

    #: The site that pages may load from, as `http://127.0.0.1:8000`.
    site: str
    faults: list[str] = field(default_factory=list)
    #: Statuses that the test expects, beside those below 400.
    expected: set[int] = field(default_factory=set)
    #: What every page loaded, by its address: the bytes on the wire are asked of the response.
    responses: list[Response] = field(default_factory=list)

    def attach(self, context: BrowserContext) -> None:
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.faults.append(f"script failed: {error.error}"))
        context.on("request", self._on_request)
        context.on("response", self._on_response)

    def check(self) -> None:
        """Fail with what was noted, once."""
        faults, self.faults = self.faults, []
        assert not faults, "\n".join(faults)

    def weights(self) -> dict[str, int]:
        """Bytes of everything that was loaded since this was asked, by address. Ask before going to another page."""
        responses, self.responses = self.responses, []
        weights = {}
        # A stream has no end. What a page that was left still asked for is gone.
        for each in (each for each in responses if each.status == 200 and not _is_stream(each)):
            with suppress(PlaywrightError):
                weights[each.url] = len(each.body())
        return weights

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        # The status itself is judged below, where it is known.
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
    """Opens pages of one site, each watched."""

    browser: Browser
    site: str
    #: Cookies of a session; empty for a stranger.
    state: Any = None
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.site)
        self._contexts: list[BrowserContext] = []

    def context(
        self,
        *,
        width: int = DESKTOP,
        scheme: Scheme = Scheme.LIGHT,
        scripts: bool = True,
        still: bool = False,
        stranger: bool = False,
        **more: Any,
    ) -> BrowserContext:
        """A browser of its own, in effect: its cookies, its window. `still`: its person wants no motion."""
        made = self.browser.new_context(
            viewport={"width": width, "height": HEIGHTS.get(width, 800)},
            color_scheme=scheme.value,
            java_script_enabled=scripts,
            reduced_motion="reduce" if still else "no-preference",
            storage_state=None if stranger else self.state,
            locale="en-GB",
            timezone_id="Europe/Berlin",
            **more,
        )
        made.set_default_timeout(TIMEOUT_MS)
        self.watch.attach(made)
        self._contexts.append(made)
        return made

    def open(self, path: str = "/", **context: Any) -> Page:
        """The page at this path, in a context of its own."""
        page = self.context(**context).new_page()
        page.goto(urljoin(self.site, path))
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self._contexts.clear()


def sign_in(browser: Browser, site: str, link: str) -> Any:
    """The cookies of somebody who opens this one-time link and presses the button there."""
    opened = Browsing(browser, site)
    page = opened.open(link)
    page.locator("main").get_by_role("button").click()
    page.wait_for_url("**/console/")
    state = page.context.storage_state()
    opened.close()
    opened.watch.check()
    return state


def path_of(page: Page) -> str:
    """Path and query of the address that the page is at."""
    parts = urlsplit(page.url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


# ── what axe says ─────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def axe_source() -> str:
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


def shorten(page: Page) -> None:
    """Leave the first rows of each table alone: the others have the same form, and axe takes long for each."""
    page.evaluate(
        f"() => document.querySelectorAll('tbody > tr:nth-child(n + {ROWS_FOR_AXE + 1})').forEach(row => row.remove())"
    )


def barriers(page: Page) -> list[str]:
    """What axe finds serious or critical: its rule, the advice, and the first elements."""
    # By the debugging protocol, which a content security policy does not stop.
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(axe_source())
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations'], elementRef: false})")
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: "
        + "; ".join(f"{node['html'][:160]} {_colors(node)}" for node in each["nodes"][:3])
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]


def _colors(node: dict[str, Any]) -> str:
    data = next((check["data"] for check in node["any"] if check["id"] == "color-contrast"), None)
    return f"[{data['fgColor']} on {data['bgColor']}: {data['contrastRatio']}]" if data else ""


# ── what a person sees ────────────────────────────────────────────────────────────────────────────────────────────


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window: 0 unless one must scroll sideways."""
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(page.evaluate(wide))


def widest(page: Page) -> list[str]:
    """The elements that stick out of the window, for the message of a failed test."""
    return list(
        page.evaluate(
            """() => [...document.body.querySelectorAll('*')]
                .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
                .slice(0, 5).map(one => one.outerHTML.slice(0, 120))"""
        )
    )
