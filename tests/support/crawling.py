"""A crawl opens every address of a page once and records everything that the tests examine."""

from __future__ import annotations

from dataclasses import dataclass, field

from browsing import DESKTOP, HEIGHTS, PHONE, Browsing, Page, Scheme, barriers, bring_axe, overflow, shorten, widest
from console_addresses import addresses
from console_stock import ConsoleStock

from receiver.console.page import ConsolePage

#: The addresses that the page's forms post to, one for each button.
POSTS = """() => [...document.querySelectorAll('form[method=post] button')]
    .map(button => new URL(button.hasAttribute('formaction') ? button.formAction : button.form.action).pathname)"""


#: The schemes and widths in which axe looks at a page. A scheme changes the colors and a width the layout, so that each
#: is looked at once: axe takes most of the time.
COMBINATIONS = ((Scheme.LIGHT, DESKTOP), (Scheme.DARK, PHONE))


@dataclass
class SeenPage:
    """The record of one opened address."""

    address: str
    heading: str
    footer: str
    #: The paths that the page's buttons post to.
    posts: frozenset[str]
    #: Bytes of the page and of everything that it loads.
    weight: int
    #: Elements that stick out of the window, by the window's width.
    wide: dict[str, list[str]] = field(default_factory=dict)
    #: axe's findings, by width and color scheme.
    barriers: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class SeenPages:
    """The records of all addresses of one page of the console."""

    pages: list[SeenPage]
    #: Faults of the pages that no page may have.
    faults: list[str]


class Crawler:
    """Opens pages in one window, because each further one takes as long as several pages."""

    def __init__(self, browsing: Browsing) -> None:
        self._browsing = browsing
        context = browsing.context()
        bring_axe(context)
        self._opened = context.new_page()
        #: The bytes of each file that pages have loaded and that the browser keeps.
        self._assets: dict[str, int] = {}

    def crawl(self, page: ConsolePage, stock: ConsoleStock) -> SeenPages:
        """Open each address, and let axe examine the page at both widths and in both schemes in turn."""
        found = list(addresses(page, stock))
        seen = [
            _look(self._opened, self._browsing, each, combinations_at(turn, len(found)), self._assets)
            for turn, each in enumerate(found)
        ]
        faults, self._browsing.watch.faults = self._browsing.watch.faults, []
        return SeenPages(seen, faults)


def combinations_at(turn: int, addresses: int) -> list[tuple[Scheme, int]]:
    """Return the schemes and widths in which axe looks at the address with this number, counted from 0.

    Each address gets one at least, and all addresses of a page together get all.
    """
    turns = range(turn, max(addresses, len(COMBINATIONS)), addresses)
    return [COMBINATIONS[each % len(COMBINATIONS)] for each in turns]


def _look(
    page: Page, browsing: Browsing, address: str, combinations: list[tuple[Scheme, int]], assets: dict[str, int]
) -> SeenPage:
    # What the page before has fetched meanwhile does not count for this one.
    browsing.watch.responses.clear()
    page.goto(browsing.site + address)
    weights = browsing.watch.weights()
    # The browser caches what it loads once, which counts for each page.
    assets.update({url: weight for url, weight in weights.items() if "/static/" in url})
    seen = SeenPage(
        address=address,
        heading=page.locator("main h1").inner_text(),
        footer=page.locator("footer").inner_text(),
        posts=frozenset(page.evaluate(POSTS)),
        weight=sum({**weights, **assets}.values()),
    )
    for width in (DESKTOP, PHONE):
        page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        if overflow(page):
            seen.wide[f"{width} px"] = widest(page)
    shorten(page)
    for scheme, width in combinations:
        page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
        page.emulate_media(color_scheme=scheme.value)
        if found := barriers(page):
            seen.barriers[f"{width} px, {scheme}"] = found
    return seen
