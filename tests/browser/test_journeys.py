"""The journeys of the person on call, in the browser: the cause is at most three clicks away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import Browsing, Page, path_of, sign_in
from console_stock import SKU, ConsoleStock, console_stock

from receiver.sessions.roles import Role

#: Most clicks to the cause, and to its repair if there is one.
MOST_CLICKS = 3

BOTH = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])


class OnCall:
    """A person who looks for a cause. Clicks are counted, typing is not."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    def click(self, role: str, name: str) -> None:
        """Click the element with this name, and wait for the next page."""
        self.clicks += 1
        with self.page.expect_navigation():
            self.page.get_by_role(role, name=name).first.click()  # type: ignore[arg-type]

    def look_for(self, text: str) -> None:
        """Type into the search box, and press Enter."""
        self.page.get_by_role("searchbox").fill(text)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def sees(self, *texts: str) -> None:
        said = self.page.locator("main").inner_text()
        assert all(text in said for text in texts), said


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory) -> Iterator[ConsoleStock]:
    """Serve a console for these tests alone, because they repair."""
    with console_stock(f"sqlite:///{tmp_path_factory.mktemp('journeys') / 'hookmirror.db'}") as stocked:
        yield stocked


@pytest.fixture(scope="module")
def on_duty(chromium, bad_day) -> object:
    return sign_in(chromium, bad_day.site, bad_day.link(Role.OPERATOR))


@pytest.fixture
def at_work(chromium, bad_day, on_duty) -> Iterator[Browsing]:
    opened = Browsing(chromium, bad_day.site, on_duty)
    yield opened
    opened.close()
    opened.watch.check()


# ── 1: the ERP says that a product has the wrong value ───────────────────────────────────────────────────────────


@BOTH
def test_a_wrong_value_leads_to_the_delivery_that_brought_it_the_one_that_lost_and_the_source_s_value(
    at_work, bad_day, scripts
):
    on_call = OnCall(at_work.open("/console/", scripts=scripts))
    on_call.look_for(SKU)
    assert path_of(on_call.page) == f"/console/mirror/products/iimmpact/{SKU}"
    name = on_call.page.get_by_role("row").filter(has=on_call.page.get_by_role("rowheader", name="name", exact=True))
    assert "Bright lamp" in name.inner_text()
    assert "Old lamp" in name.inner_text()
    assert f"…{bad_day.deliveries['newest'][-4:]}" in name.inner_text()

    on_call.click("button", "Ask the source")
    on_call.sees("Brightest lamp", "No delivery has the source's values")
    assert on_call.clicks <= MOST_CLICKS


def test_a_delivery_that_lost_is_one_click_away_from_the_row(at_work, bad_day):
    on_call = OnCall(at_work.open("/console/"))
    on_call.look_for(SKU)
    on_call.click("link", f"delivery …{bad_day.deliveries['late'][-4:]}")
    on_call.sees("stale")
    assert on_call.clicks == 1


def test_a_row_is_repaired_by_the_third_click(at_work, bad_day):
    on_call = OnCall(at_work.open("/console/", scripts=False))
    on_call.look_for(SKU)
    on_call.click("button", "Ask the source")
    on_call.click("link", "Repair this row")
    on_call.page.get_by_role("textbox", name="reason").fill("the ERP showed an old name")
    on_call.click("button", "Repair this row")
    on_call.sees("Repaired: 1 row changed.", "Bright lamp → Brightest lamp")
    assert on_call.clicks == MOST_CLICKS
    (action,) = [each for each in bad_day.ask("/api/v1/actions")["items"] if each["what"] == "repair"]
    assert (action["who"], action["via"], action["reason"]) == ("operator-1", "console", "the ERP showed an old name")


# ── 2 to 5: from the overview ────────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_the_overview_explains_without_a_click_why_nothing_came_from_a_source(at_work, scripts):
    on_call = OnCall(at_work.open("/console/", scripts=scripts))
    on_call.sees("every signature of indexed fails", "was the secret changed at the sender?")
    assert on_call.clicks == 0


@BOTH
def test_deliveries_without_a_handler_are_one_click_away_from_the_overview(at_work, scripts):
    on_call = OnCall(at_work.open("/console/", scripts=scripts))
    on_call.sees("1 delivery product.painted of iimmpact was ignored")
    finding = on_call.page.get_by_role("listitem").filter(has_text="product.painted")
    with on_call.page.expect_navigation():
        finding.get_by_role("link", name="See").click()
    on_call.sees("No handler takes product.painted.")


def test_the_finding_after_a_rotation_says_what_to_do(at_work):
    on_call = OnCall(at_work.open("/console/"))
    on_call.sees("Put the sender's new secret first", "12 refused requests are kept, and verified again then.")


@BOTH
def test_the_dead_deliveries_of_a_source_and_their_reason_are_one_click_away(at_work, bad_day, scripts):
    on_call = OnCall(at_work.open("/console/", scripts=scripts))
    row = on_call.page.get_by_role("row").filter(has_text="iimmpact")
    with on_call.page.expect_navigation():
        row.get_by_role("link", name="4", exact=True).click()
    on_call.sees("is_active: Input should be a valid boolean")
    assert path_of(on_call.page) == "/console/deliveries?source=iimmpact&state=dead"


def test_the_overview_shows_a_storm_by_the_pending_deliveries(at_work):
    on_call = OnCall(at_work.open("/console/"))
    (headings,) = [each.all_inner_texts() for each in [on_call.page.locator("thead").first.get_by_role("columnheader")]]
    assert {"Last delivery", "Pending", "Dead"} <= set(headings)
