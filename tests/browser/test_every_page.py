"""Every page of the console, at both widths and in both schemes: readable for all, and nothing that no page may do."""

from __future__ import annotations

from itertools import product

import pytest
from browsing import DESKTOP, HEAVIEST, HEIGHTS, PHONE, Scheme, barriers, overflow, shorten, widest
from console_addresses import addresses, pages_by_name

PAGES = pages_by_name()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_readable_at_both_widths_and_in_both_schemes(browsing, stock, name):
    page = browsing.context().new_page()
    first, *others = addresses(PAGES[name], stock)
    for address in (first, *others):
        page.goto(stock.site + address)
        whole = overflow(page)
        shorten(page)
        for scheme, width in product(Scheme, (DESKTOP, PHONE)) if address == first else [(Scheme.DARK, PHONE)]:
            page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
            page.emulate_media(color_scheme=scheme.value)
            assert (whole, overflow(page)) == (0, 0), f"{address} at {width} px: {widest(page)}"
            assert barriers(page) == [], f"{address} at {width} px, {scheme}"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_without_scripts_says_the_same(browsing, stock, name):
    address = next(addresses(PAGES[name], stock))
    said = [browsing.open(address, scripts=scripts).locator("main h1").inner_text() for scripts in (True, False)]
    assert said[0] == said[1] != ""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_weighs_at_most_120_kilobytes_with_all_that_it_loads(browsing, stock, name):
    for address in addresses(PAGES[name], stock):
        browsing.watch.responses.clear()
        browsing.open(address)
        weights = browsing.watch.weights()
        assert sum(weights.values()) <= HEAVIEST, weights


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_as_of_when_and_how_else_to_ask(browsing, stock, name):
    page = browsing.open(next(addresses(PAGES[name], stock)))
    assert page.locator("footer").get_by_text("/api/v1/").first.is_visible()
    assert page.locator("footer").get_by_text("hookmirror ").first.is_visible()
    assert page.get_by_text("as of").first.is_visible()
