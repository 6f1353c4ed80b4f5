"""Hostile texts of senders are shown as text: no script runs, nothing is requested, and no line is too wide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import DESKTOP, HEAVIEST, PHONE, Browsing, overflow, sign_in, widest
from console_addresses import addresses, pages_by_name
from console_stock import SOURCE, ConsoleStock, hostile_console
from hostile_texts import ELEMENT, HOSTILE_BODIES, LURE

from receiver.sessions.roles import Role

PAGES = pages_by_name()

#: Elements that exist only if a page took a text for markup.
BELIEVED = f"{ELEMENT}, [onerror], [hx-on\\:load], [href^='javascript:'], [hx-get='{LURE}']"


@pytest.fixture(scope="module")
def hostile(databases) -> Iterator[ConsoleStock]:
    """Serve a console with hostile texts, on PostgreSQL, which accepts fewer texts than SQLite does."""
    name = databases.create_with_tables()
    with hostile_console(databases.url(name)) as stocked:
        yield stocked
    databases.drop(name)


@pytest.fixture(scope="module")
def on_guard(chromium, hostile) -> object:
    return sign_in(chromium, hostile.site, hostile.link(Role.OPERATOR))


@pytest.fixture(scope="module")
def window(chromium, hostile, on_guard) -> Iterator[Browsing]:
    """Browse in one window, because each further one takes as long as several pages."""
    opened = Browsing(chromium, hostile.site, on_guard)
    page = opened.turn_to("/console/")
    page.on("dialog", lambda dialog: opened.watch.faults.append(f"dialog: {dialog.message}"))
    yield opened
    opened.close()


@pytest.fixture
def watched(window) -> Iterator[Browsing]:
    window.watch.responses.clear()
    yield window
    window.watch.check()


@pytest.mark.parametrize("name", PAGES)
def test_hostile_values_are_shown_as_text(watched, hostile, name):
    for address in addresses(PAGES[name], hostile):
        page = watched.turn_to(address)
        assert page.locator(BELIEVED).count() == 0, address
        assert page.title() != ELEMENT
        assert "\u202e" not in page.content()
        for width in (PHONE, DESKTOP):
            page.set_viewport_size({"width": width, "height": 800})
            assert overflow(page) == 0, f"{address} at {width} px: {widest(page)}"
    watched.watch.check()
    assert not [each.url for each in watched.watch.responses if LURE in each.url]


def test_hostile_values_are_shown_letter_for_letter(watched, hostile):
    said = watched.turn_to(f"/console/mirror/products?source={SOURCE}").locator("main").inner_text()
    for text in (f"<{ELEMENT}>", "{{ 7 * 7 }}", "javascript:alert(1)", "\\u202egpj.exe"):
        assert text in said


@pytest.mark.parametrize("body", HOSTILE_BODIES)
def test_the_page_of_a_hostile_body_is_small(watched, hostile, body):
    # A window of its own has nothing in its cache yet.
    watched.open(f"/console/deliveries/{hostile.deliveries[body]}")
    assert sum(watched.watch.weights().values()) <= HEAVIEST


def test_a_hostile_row_can_be_opened_and_asked_about(watched, hostile):
    """Whatever the row's id is, the list links to its page, and the page's buttons lead back to it."""
    page = watched.turn_to("/console/mirror/products")
    links = page.locator("main tbody th a")
    addresses = [links.nth(number).get_attribute("href") for number in range(links.count())]
    assert addresses
    for address in addresses:
        page.goto(hostile.site + address)
        form = page.locator("form[action$='/ask']")
        assert form.get_attribute("action") == f"{address}/ask"


def test_a_hostile_search_is_shown_as_text(watched, hostile):
    page = watched.turn_to("/console/search")
    page.get_by_role("searchbox").fill(f"<{ELEMENT}>")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=*")
    assert page.locator(ELEMENT).count() == 0
    assert f"<{ELEMENT}>" in page.locator("main").inner_text()
