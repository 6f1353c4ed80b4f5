"""Keys for the search and the rows of a list, and the console without a mouse."""

from __future__ import annotations

import pytest
from browsing import path_of
from console_stock import SKU


def focused(page) -> str:
    return str(page.evaluate("() => document.activeElement.getAttribute('href') ?? document.activeElement.name"))


@pytest.mark.parametrize("address", ["/console/", "/console/deliveries", "/console/mirror/products"])
def test_a_slash_focuses_the_search_on_every_page(browsing, address):
    page = browsing.open(address)
    page.keyboard.press("/")
    assert focused(page) == "q"
    assert page.get_by_role("searchbox").input_value() == ""


def test_a_slash_in_a_field_is_typed(browsing):
    page = browsing.open("/console/")
    page.keyboard.press("/")
    page.keyboard.type("a/b")
    assert page.get_by_role("searchbox").input_value() == "a/b"


def test_a_search_by_keyboard_leads_to_the_row(browsing):
    page = browsing.open("/console/deliveries")
    page.keyboard.press("/")
    page.keyboard.type(SKU)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/mirror/products/iimmpact/{SKU}")


def test_j_and_k_move_through_the_rows_of_a_list_and_enter_opens_one(browsing):
    page = browsing.open("/console/deliveries")
    links = [each.get_attribute("href") for each in page.locator("table.keys tbody tr th a").all()]
    for key, number in (("j", 0), ("j", 1), ("j", 2), ("k", 1), ("k", 0), ("k", 0)):
        page.keyboard.press(key)
        assert focused(page) == links[number]
    page.keyboard.press("Enter")
    page.wait_for_url("**/deliveries/*")
    assert path_of(page) == links[0]


def test_the_first_tab_leads_to_a_link_past_the_navigation(browsing):
    page = browsing.open("/console/deliveries")
    page.keyboard.press("Tab")
    assert focused(page) == "#content"
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "content"


def test_the_focused_element_has_a_visible_outline(browsing):
    page = browsing.open("/console/deliveries")
    page.keyboard.press("j")
    outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_keys_with_ctrl_or_alt_are_left_to_the_browser(browsing):
    page = browsing.open("/console/deliveries")
    page.keyboard.press("Control+j")
    assert page.evaluate("() => document.activeElement === document.body")


def test_the_chart_is_passed_by_one_tab_and_its_numbers_lead_to_the_same_lists(browsing):
    page = browsing.open("/console/")
    page.get_by_role("navigation", name="Period").get_by_role("link", name="week").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "The numbers"
    bars = {each.get_attribute("href") for each in page.locator("svg.chart a").all()}
    numbers = {each.get_attribute("href") for each in page.locator("table.numbers tbody th a").all()}
    assert numbers
    assert numbers <= bars
