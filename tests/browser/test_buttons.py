"""Buttons: each that a page shows is in the console's table, which names its address and its command."""

from __future__ import annotations

import pytest
from browsing import Browsing
from console_addresses import addresses, pages_by_name

from receiver.console.contents import BUTTONS

PAGES = pages_by_name()

#: What does nothing to deliveries, rows or sources: a search, filters, signing out, and copying.
NO_DEEDS = {"Find", "Sign out", "copy"}

LABELS = {button.label for button in BUTTONS}


@pytest.fixture
def as_viewer(chromium, stock, viewer):
    opened = Browsing(chromium, stock.site, viewer)
    yield opened
    opened.close()
    opened.watch.check()


def labels(page) -> set[str]:
    shown = page.locator("button:visible, a.button:visible").all_inner_texts()
    return {text.strip() for text in shown} - NO_DEEDS


@pytest.mark.parametrize("name", PAGES)
def test_every_button_of_a_page_is_in_the_table(browsing, stock, name):
    page = browsing.context().new_page()
    for address in addresses(PAGES[name], stock):
        page.goto(stock.site + address)
        links = {text.strip() for text in page.locator("a.button:visible:not([href*='?'])").all_inner_texts()}
        pressed = {text.strip() for text in page.locator("form[method=post] button:visible").all_inner_texts()}
        assert (pressed | links) - NO_DEEDS - LABELS - {"See"} == set(), address


@pytest.mark.parametrize("name", PAGES)
def test_a_viewer_sees_no_button_that_acts(as_viewer, stock, name):
    page = as_viewer.context().new_page()
    for address in addresses(PAGES[name], stock):
        page.goto(stock.site + address)
        assert labels(page) & LABELS == set(), address


@pytest.mark.parametrize("name", PAGES)
def test_no_page_changes_anything_by_being_opened(browsing, stock, name):
    before = stock.ask("/api/v1/actions")["items"]
    page = browsing.context().new_page()
    for address in addresses(PAGES[name], stock):
        page.goto(stock.site + address)
    assert stock.ask("/api/v1/actions")["items"] == before
