"""The top of every page: its name, its menu, the search and the person, on one line of a wide screen."""

from __future__ import annotations

from browsing import Browsing

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
