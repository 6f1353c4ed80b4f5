"""Browsers with a wrong clock or in another zone: ages, `live` and `not live since` are those of the server's clock."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from browsing import Browsing, Page, operating
from playwright.sync_api import Locator, Route, expect
from serving import Served, serving

from receiver.console import live

#: By how much the browser's clock is wrong.
WRONG = {
    "a day ahead": timedelta(days=1),
    "a day and some hours behind": -timedelta(days=1, hours=5),
    "in 1970": datetime(1970, 1, 2, tzinfo=UTC) - datetime.now(UTC),
    "in summer": timedelta(days=182),
}

#: Zones behind and ahead of UTC, by parts of an hour, with daylight saving and without it.
ZONES = ("Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe")

#: The longest time between two clocks that a test reads one after the other.
NEAR = timedelta(seconds=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "LOOK_INTERVAL", 0.1)
        url = f"sqlite:///{tmp_path_factory.mktemp('clocks')}/clocks.db"
        with serving(url, with_worker=True, console=True) as running:
            yield running


@pytest.fixture
def served(server) -> Served:
    """The server, with a delivery of this moment."""
    server.ended(server.send("sigma", key=f"delivery {server.count()}"))
    return server


@pytest.fixture
def looking(chromium, served) -> Iterator[Browsing]:
    with operating(chromium, served, expected={503}) as opened:
        yield opened


def page_in(looking: Browsing, path: str, *, wrong: timedelta = timedelta(), zone: str = "Europe/Berlin") -> Page:
    """Open a page in a browser of this zone, whose clock is wrong by so much."""
    page = looking.context(zone=zone).new_page()
    page.clock.install(time=datetime.now(UTC) + wrong)
    page.goto(f"{looking.site}{path}")
    return page


def checked_time(time: Locator, zone: str) -> datetime:
    """Check that a time of a page is shown in the reader's zone, and return it."""
    exact = datetime.fromisoformat(time.get_attribute("datetime") or "")
    assert time.inner_text() == exact.astimezone(ZoneInfo(zone)).strftime("%d/%m/%Y, %H:%M:%S")
    return exact


@pytest.mark.parametrize("wrong", WRONG.values(), ids=[*WRONG])
def test_ages_and_times_are_those_of_the_server(looking, wrong):
    page = page_in(looking, "/console/", wrong=wrong)
    page.locator("#live.on").wait_for()
    assert abs(checked_time(page.locator("#live time"), "Europe/Berlin") - datetime.now(UTC)) < NEAR
    assert re.search(r"Last delivery \d+ s ago", page.locator("main").inner_text())


@pytest.mark.parametrize("name", ["a day and some hours behind", "in summer"])
def test_a_page_is_not_live_since_a_time_of_the_server(served, looking, name):
    page = looking.context().new_page()
    page.clock.install(time=datetime.now(UTC) + WRONG[name])

    def refuse(route: Route) -> None:
        route.fulfill(status=503)

    page.route("**/console/live*", refuse)
    page.goto(f"{looking.site}/console/deliveries")
    expect(page.locator("#live")).to_contain_text("not live since")
    text = page.locator("#live span").inner_text()
    assert near_now(text, "Europe/Berlin"), text

    page.unroute("**/console/live*")
    page.clock.fast_forward(16_000)
    page.clock.run_for(2_000)
    page.locator("#live.on").wait_for()
    expect(page.locator("#live span")).to_have_text(re.compile(r"^\s*· live\s*$"))


def near_now(text: str, zone: str) -> bool:
    """Whether the time of day in the text is that of now in the zone."""
    found = re.search(r"(\d\d):(\d\d):(\d\d)", text)
    assert found is not None, text
    now = datetime.now(ZoneInfo(zone))
    hour, minute, second = map(int, found.groups())
    apart = abs(now - now.replace(hour=hour, minute=minute, second=second))
    return min(apart, timedelta(days=1) - apart) < NEAR


def test_a_clock_that_is_set_while_the_page_is_open_changes_nothing(looking):
    page = looking.context().new_page()
    page.goto(f"{looking.site}/console/deliveries")
    page.locator("#live.on").wait_for()
    page.evaluate("() => { const right = Date.now; Date.now = () => right() - 86_400_000 * 400; }")
    page.get_by_role("button", name="pause").click()
    page.route("**/console/live*", lambda route: route.fulfill(status=503))
    page.get_by_role("button", name="continue").click()
    expect(page.locator("#live")).to_contain_text("not live since")
    text = page.locator("#live span").inner_text()
    assert near_now(text, "Europe/Berlin"), text


def test_an_answer_that_a_paused_page_does_not_show_sets_no_time(served, looking):
    page = looking.context().new_page()
    page.goto(f"{looking.site}/console/deliveries")
    page.locator("#live.on").wait_for()
    earlier = (datetime.now(UTC) - timedelta(hours=6)).isoformat()
    page.evaluate("earlier => document.querySelector('#page footer time').dateTime = earlier", earlier)
    held: list[Route] = []
    page.route("**/console/deliveries", lambda route: held.append(route))
    with page.expect_request("**/console/deliveries"):
        served.send("sigma", key="a change")
    page.get_by_role("button", name="pause").click()
    with page.expect_response("**/console/deliveries"):
        held[0].continue_()
    page.evaluate("() => new Promise((done) => setTimeout(done, 200))")
    page.unroute("**/console/deliveries")
    page.route("**/console/live*", lambda route: route.fulfill(status=503))
    page.get_by_role("button", name="continue").click()
    expect(page.locator("#live")).to_contain_text("not live since")
    text = page.locator("#live span").inner_text()
    assert near_now(text, "Europe/Berlin"), text


@pytest.mark.parametrize("zone", ZONES)
def test_times_are_shown_in_the_zone_of_the_reader_and_their_titles_in_utc(looking, zone):
    # The browser's date is half a year away, when another offset holds in zones with daylight saving.
    page = page_in(looking, "/console/deliveries", wrong=timedelta(days=182), zone=zone)
    page.locator("#live.on").wait_for()
    times = page.locator("main time:not(.ago)").all()
    assert times
    for each in times:
        exact, title = checked_time(each, zone), each.get_attribute("title") or ""
        assert title.startswith(exact.strftime("%Y-%m-%d %H:%M:%S"))
        assert title.endswith(" UTC")
    # Browsers call some zones by an older name.
    named = page.evaluate("new Intl.DateTimeFormat().resolvedOptions().timeZone")
    expect(page.locator("footer")).to_contain_text(f"Times are those of {named}.")
