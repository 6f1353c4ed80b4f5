"""The top of every page: its name, its menu and the person on one line of a wide screen, and the search below."""

from __future__ import annotations

import pytest
from browsing import PHONE, Browsing, overflow, widest

#: The distances of the middles of the parts from the upper edge, and the number of lines that the menu takes.
PARTS = """() => {
  const parts = [...document.querySelector("header.top").children].map((part) => part.getBoundingClientRect());
  const links = [...document.querySelectorAll("header.top nav a")].map((link) => link.getBoundingClientRect().top);
  return { middles: parts.map((part) => part.top + part.height / 2), lines: new Set(links).size };
}"""


def test_the_top_takes_one_line_of_a_screen_of_1280_pixels(browsing: Browsing):
    page = browsing.open("/console/deliveries")
    found = page.evaluate(PARTS)
    assert found["lines"] == 1
    assert max(found["middles"]) - min(found["middles"]) < 8, found["middles"]


def test_the_field_of_the_search_shows_its_whole_hint(browsing: Browsing):
    page = browsing.open("/console/deliveries")
    field = page.locator(".search input")
    assert field.get_attribute("placeholder") == "/ SKU, id, entity…"
    # A field shows a value like its hint, and tells the width only of a value.
    field.fill("/ SKU, id, entity…")
    assert field.evaluate("field => field.scrollWidth <= field.clientWidth")


@pytest.mark.parametrize(("width", "letters"), [(320, "100%"), (PHONE, "200%")])
def test_no_page_is_wider_than_a_narrow_screen_or_one_with_large_letters(browsing: Browsing, width: int, letters: str):
    page = browsing.context(width=width).new_page()
    for path in ("/", "/deliveries?source=sigma", "/sources/sigma", "/mirror/products/iimmpact/4711", "/runs/plan"):
        page.goto(f"{browsing.site}/console{path}")
        page.evaluate("size => { document.documentElement.style.fontSize = size }", letters)
        assert overflow(page) == 0, f"{path}: {widest(page)}"
