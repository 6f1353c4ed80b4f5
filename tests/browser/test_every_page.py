"""Every page of the console, at both widths and in both color schemes: it is accessible to all and has no faults."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain

import pytest
from browsing import HEAVIEST, Browsing
from console_addresses import addresses, pages_by_name
from crawling import Crawler, SeenPage, SeenPages

from receiver.console.contents import BUTTONS
from receiver.console.page import CONSOLE_PATH

PAGES = pages_by_name()

LABELS = {button.label for button in BUTTONS}

#: Patterns of the paths that buttons post to.
DEEDS = [re.compile(CONSOLE_PATH + re.sub(r"{\w+(:path)?}", "[^/]+", button.path)) for button in BUTTONS]

DATE = re.compile(r"\d{4}-\d{2}-\d{2} ")

EACH = pytest.mark.parametrize("name", PAGES)

See = Callable[[str], SeenPages]


@pytest.fixture(scope="module")
def see(chromium, stock, operator) -> Iterator[See]:
    """Return a function that opens all addresses of a page on its first call."""
    opened = Browsing(chromium, stock.site, operator)
    crawler = Crawler(opened)
    yield cache(lambda name: crawler.crawl(PAGES[name], stock))
    opened.close()


@pytest.fixture(scope="module")
def plainly(chromium, stock, operator) -> Iterator[Browsing]:
    """Browse as an operator without scripts."""
    opened = Browsing(chromium, stock.site, operator)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def as_viewer(chromium, stock, viewer) -> Iterator[Browsing]:
    opened = Browsing(chromium, stock.site, viewer)
    yield opened
    opened.close()


def is_in_the_table(path: str) -> bool:
    """Whether the path is that of a button or of signing out."""
    return path == f"{CONSOLE_PATH}/sign-out" or any(deed.fullmatch(path) for deed in DEEDS)


def those(seen: SeenPages, is_wrong: Callable[[SeenPage], object]) -> dict[str, object]:
    """Return the faults by address, without the addresses that have none."""
    return {page.address: wrong for page in seen.pages if (wrong := is_wrong(page))}


@EACH
def test_a_page_has_no_faults(see: See, name: str):
    assert see(name).faults == []


@EACH
def test_axe_finds_no_serious_barrier_at_both_widths_and_in_both_schemes(see: See, name: str):
    assert those(see(name), lambda page: page.barriers) == {}


@EACH
def test_a_page_is_not_wider_than_its_window(see: See, name: str):
    assert those(see(name), lambda page: page.wide) == {}


@EACH
def test_a_page_weighs_at_most_120_kilobytes_with_everything_it_loads(see: See, name: str):
    assert those(see(name), lambda page: page.weight > HEAVIEST and page.weight) == {}


@EACH
def test_a_page_shows_its_time_and_the_same_question_as_request_and_command(see: See, name: str):
    wanted = ("As of", "GET /api/v1/", "hookmirror ")
    assert those(see(name), lambda page: [words for words in wanted if words not in page.footer]) == {}


@EACH
def test_every_button_of_a_page_is_declared(see: See, name: str):
    assert those(see(name), lambda page: [path for path in page.posts if not is_in_the_table(path)]) == {}


@EACH
def test_a_page_without_scripts_has_the_same_heading(see: See, plainly: Browsing, name: str):
    first = see(name).pages[0]
    heading = plainly.turn_to(first.address, scripts=False).locator("main h1").inner_text()
    # A time of yesterday has its date, so a finding's heading differs once it is past midnight.
    assert DATE.sub("", heading) == DATE.sub("", first.heading) != ""
    plainly.watch.check()


@EACH
def test_a_viewer_sees_no_button_that_acts(as_viewer: Browsing, stock, name: str):
    page = as_viewer.turn_to(next(addresses(PAGES[name], stock)))
    shown = {text.strip() for text in page.locator("button:visible, a.button:visible").all_inner_texts()}
    assert shown & LABELS == set()


def test_opening_a_page_changes_nothing(see: See, stock):
    for name in PAGES:
        see(name)
    told = {each["what"] for each in stock.ask("/api/v1/actions")["items"]}
    assert told <= {"plan reconcile", "plan replay", "start run", "sign in"}
    assert [*chain.from_iterable(see(name).faults for name in PAGES)] == []
