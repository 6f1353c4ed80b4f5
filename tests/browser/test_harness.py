"""The tests' own browser notices the faults that no page may have, with and without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browsing import DESKTOP, PHONE, Browsing, Scheme, barriers, overflow, widest
from stand_in_pages import StandIn, page, site
from waiting import wait_until

SCRIPT = "text/javascript"

PAGES = {
    "/": page("<p>Well.</p>"),
    "/favicon.ico": StandIn("", "image/png"),
    "/icon": page("<img alt='' src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>"),
    "/inline-script": page("<script>document.title = 'ran'</script>"),
    "/inline-style": page("<p style='color: red'>Red</p>"),
    "/elsewhere": page("<img alt='' src='http://elsewhere.test/x.png'>", policy=None),
    "/neighbour": page("<img alt='' src='http://127.0.0.1:9/x.png'>", policy=None),
    "/throws": page("<script src='/throws.js'></script>"),
    "/throws.js": StandIn("throw new Error('a script of ours')", SCRIPT),
    "/says": page("<script src='/says.js'></script>"),
    "/says.js": StandIn("console.error('a message of ours')", SCRIPT),
    "/lacks": page("<script src='/gone.js'></script>"),
    "/wide": page("<div style='width: 500px'>A wide thing</div>", policy=None),
    "/schemes": page(
        "<p>Hard to read</p>",
        head="<style>@media (prefers-color-scheme: dark) { body { background: #000; color: #222 } }</style>",
        policy=None,
    ),
    "/nameless": page("<form><input name=q></form>"),
    "/moves": page(
        "<p>Moves</p>", head="<style>@media (prefers-reduced-motion) { p { display: none } }</style>", policy=None
    ),
}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[str]:
    with site(PAGES) as address:
        yield address


@pytest.fixture
def browsing(chromium, stand_in) -> Iterator[Browsing]:
    opened = Browsing(chromium, stand_in)
    yield opened
    opened.close()


@pytest.mark.parametrize("path", ["/", "/icon"])
@pytest.mark.parametrize("scripts", [True, False])
def test_a_page_without_faults_passes(browsing, path, scripts):
    browsing.open(path, scripts=scripts)
    browsing.watch.check()


@pytest.mark.parametrize(
    ("path", "scripts", "reason"),
    [
        ("/inline-script", True, "Content Security Policy"),
        ("/inline-style", True, "Content Security Policy"),
        ("/inline-style", False, "Content Security Policy"),
        ("/elsewhere", True, "request elsewhere: http://elsewhere.test/x.png"),
        ("/elsewhere", False, "request elsewhere: http://elsewhere.test/x.png"),
        ("/neighbour", True, "request elsewhere: http://127.0.0.1:9/x.png"),
        ("/throws", True, "a script of ours"),
        ("/says", True, "console error .*a message of ours"),
        ("/lacks", True, "status 404: GET .*/gone.js"),
        ("/nowhere", False, "status 404: GET .*/nowhere"),
    ],
)
def test_each_fault_of_a_page_is_noticed(browsing, path, scripts, reason):
    opened = browsing.open(path, scripts=scripts)
    # The browser may report a fault after the page is loaded, and a report is received during a call.
    wait_until(lambda: opened.title() is not None and re.search(reason, "\n".join(browsing.watch.faults)), reason)
    with pytest.raises(AssertionError, match=reason):
        browsing.watch.check()


def test_an_expected_status_is_not_a_fault(browsing):
    browsing.watch.expected.add(404)
    browsing.open("/nowhere")
    browsing.watch.check()


def test_a_page_wider_than_a_phone_is_noticed(browsing):
    opened = browsing.open("/wide", width=PHONE)
    assert overflow(opened) > 0
    assert "A wide thing" in "".join(widest(opened))
    opened.set_viewport_size({"width": DESKTOP, "height": 800})
    assert overflow(opened) == 0


def test_axe_reads_the_colors_of_each_scheme(browsing):
    opened = browsing.open("/schemes")
    assert barriers(opened) == []
    opened.emulate_media(color_scheme=Scheme.DARK.value)
    (found,) = barriers(opened)
    assert "color-contrast" in found
    assert "#222222 on #000000" in found


def test_axe_finds_a_field_without_a_name_under_a_strict_policy(browsing):
    assert any(found.startswith("label (critical)") for found in barriers(browsing.open("/nameless")))
    browsing.watch.check()


def test_a_page_can_tell_that_a_person_wants_no_motion(browsing):
    assert browsing.open("/moves").get_by_text("Moves").is_visible()
    assert not browsing.open("/moves", still=True).get_by_text("Moves").is_visible()
