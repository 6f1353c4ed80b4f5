"""The journeys of the person on call, in the browser, to their end: the cause is at most three clicks away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from browsing import Browsing, Page, path_of, sign_in
from console_stock import SKU, SOURCE, ConsoleStock, console_stock, event_about
from playwright.sync_api import Locator
from pydantic import SecretStr
from senders import sent
from waiting import TIMEOUT, wait_for_a_later_date, wait_until

from handlers.iimmpact import iimmpact, upsert_product
from receiver.dialects.sources import build_sources
from receiver.sessions.roles import Role

#: Most clicks to the cause, and to its repair if there is one.
MOST_CLICKS = 3

BOTH = pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])


class OnCall:
    """A person who looks for a cause. Clicks are counted, typing is not."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    def click(self, role: str, name: str, *, within: Locator | None = None) -> None:
        """Click the element with this name, and wait for the next page."""
        self.clicks += 1
        with self.page.expect_navigation():
            (within or self.page).get_by_role(role, name=name).first.click()  # type: ignore[arg-type]

    def look_for(self, text: str) -> None:
        """Type into the search box, and press Enter."""
        self.page.get_by_role("searchbox").fill(text)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    @property
    def run(self) -> str:
        """The run whose page is open."""
        found = re.search(r"/runs/(\d+)", urlsplit(self.page.url).path)
        assert found is not None, self.page.url
        return found[1]

    def waits_for(self, state: str, stock: ConsoleStock, *, scripts: bool) -> None:
        """Stay on the page of a run until it says so: with scripts it does by itself."""
        stock.wait_for(self.run, state)
        if not scripts:
            self.page.reload()
        self.page.locator(".fate .state", has_text=re.compile(f"^{state}$")).wait_for()

    def starts(self, reason: str) -> None:
        """Say why, and press the button."""
        self.page.get_by_role("textbox", name="Why is it started?").fill(reason)
        self.click("button", "Start it")

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
    on_call.sees("Every signature of indexed fails", "was the secret changed at the sender?")
    assert on_call.clicks == 0


@BOTH
def test_deliveries_without_a_handler_are_one_click_away_from_the_overview(at_work, scripts):
    on_call = OnCall(at_work.open("/console/", scripts=scripts))
    on_call.sees("1 delivery product.painted of iimmpact was ignored")
    finding = on_call.page.get_by_role("listitem").filter(has_text="product.painted")
    on_call.click("link", "See", within=finding)
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


# ── 2: nothing came for a while ──────────────────────────────────────────────────────────────────────────────────


@BOTH
def test_a_test_event_proves_within_two_clicks_that_what_is_sent_arrives(at_work, bad_day, scripts):
    on_call = OnCall(at_work.open("/console/", scripts=scripts))
    on_call.click("link", "sigma")
    on_call.click("button", "Send a test event")
    on_call.sees(f"A test event arrived through {bad_day.site}/hooks/sigma", "hookmirror.test", "ignored")
    assert on_call.clicks <= MOST_CLICKS
    bad_day.examine()
    assert "hookmirror.test" not in str(bad_day.ask("/api/v1/findings")), "nobody is asked to write a handler for it"
    did = bad_day.ask("/api/v1/actions")["items"][0]
    assert (did["what"], did["via"], did["result"]["status"]) == ("send test event", "console", 200)


@BOTH
def test_a_source_is_reconciled_within_three_clicks_and_its_rows_are_right(at_work, bad_day, scripts):
    system = bad_day.systems[SOURCE]
    code, name = f"R{scripts}", f"Lamp as its source has it, {scripts}"
    lamp = system.create(kind="product", product_code=code, display_name="Lamp")
    system.wait(TIMEOUT)
    bad_day.settle()
    system.system.alter(lamp.family, datetime.now(UTC), display_name=name)
    wait_for_a_later_date(system.api_url)

    on_call = OnCall(at_work.open("/console/", scripts=scripts))
    on_call.click("link", SOURCE)
    on_call.click("button", "Plan a reconcile")
    on_call.waits_for("planned", bad_day, scripts=scripts)
    on_call.sees(code, f"name Lamp → {name}")
    on_call.starts("nothing came since this morning")
    assert on_call.clicks == MOST_CLICKS
    on_call.waits_for("done", bad_day, scripts=scripts)
    on_call.sees("Why: nothing came since this morning")
    on_call.look_for(code)
    on_call.sees(name)


# ── 3: a new handler takes what was ignored ──────────────────────────────────────────────────────────────────────


@contextmanager
def handled(event_type: str) -> Iterator[None]:
    """A handler for one more event type, as after its release."""
    before = list(iimmpact.handlers)
    iimmpact.on(event_type)(upsert_product)
    try:
        yield
    finally:
        iimmpact._handlers[:] = before
        iimmpact._found.clear()


@BOTH
def test_what_was_ignored_is_replayed_within_two_clicks_once_a_handler_takes_it(at_work, bad_day, scripts):
    event_type, name = f"product.lacquered{scripts}", f"Lacquered lamp, {scripts}"
    verb = event_type.partition(".")[2]
    ignored = bad_day.tell(event_about(SKU, {"display_name": name}, datetime.now(UTC), verb=verb))
    assert bad_day.served.delivery(ignored)["state"] == "ignored"
    with handled(event_type):
        bad_day.examine()
        on_call = OnCall(at_work.open("/console/", scripts=scripts))
        finding = on_call.page.get_by_role("listitem").filter(has_text=event_type)
        on_call.click("button", "Plan a replay of the ignored ones", within=finding)
        on_call.waits_for("planned", bad_day, scripts=scripts)
        on_call.sees("replay of 1 delivery", "1 applied", SKU, f"→ {name}")
        on_call.starts("a handler takes them now")
        assert on_call.clicks == 2
        on_call.waits_for("done", bad_day, scripts=scripts)
        on_call.sees("Became: 1 applied.")
        on_call.click("link", "Its deliveries")
        on_call.sees(ignored, "applied")
        on_call.look_for(SKU)
        on_call.sees(name)
        bad_day.examine()
        assert at_work.open("/console/").get_by_role("listitem").filter(has_text=event_type).count() == 0


# ── 4: the secret was rotated ────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def settings_with(stock: ConsoleStock, source: str, secret: str) -> Iterator[None]:
    """The console has read one secret more, and no endpoint has yet."""
    app = stock.served.app
    runtime, rest = app._runtime, app._rest
    old = runtime.settings.sources[source]
    new = old.model_copy(update={"secrets": [SecretStr(secret), *old.secrets]})
    settings = runtime.settings.model_copy(update={"sources": {**runtime.settings.sources, source: new}})
    app._rest = app._api(settings, build_sources(settings, runtime.dialects))
    try:
        yield
    finally:
        app._rest = rest


@BOTH
def test_verifying_again_with_the_old_secret_says_that_everything_stays_kept(at_work, bad_day, scripts):
    on_call = OnCall(at_work.open("/console/", scripts=scripts))
    on_call.click("link", "Refused")
    on_call.click("button", "Verify again")
    on_call.sees("No request verifies with the present secrets: 12 requests stay kept.")
    assert on_call.clicks == 2


@BOTH
def test_refused_requests_are_deliveries_two_clicks_after_the_secret_was_added(at_work, bad_day, scripts):
    secret = f"the new secret at the sender, {scripts}"
    kept = len(bad_day.ask("/api/v1/refused?source=indexed")["items"])
    for number in range(3):
        content = b'{"event": "product.updated", "number": "%s %d"}' % (str(scripts).encode(), number)
        content, headers = sent("indexed", content, secret)
        assert bad_day.served.post("indexed", content, headers).status_code == 401
    wait_until(lambda: len(bad_day.ask("/api/v1/refused?source=indexed")["items"]) == kept + 3, "the keeper")
    with settings_with(bad_day, "indexed", secret):
        on_call = OnCall(at_work.open("/console/", scripts=scripts))
        on_call.click("link", "Refused")
        on_call.sees(f"indexed: {kept + 3} kept")
        on_call.click("button", "Verify again")
        on_call.sees(f"3 requests verified: 3 new; {kept} requests stay kept.")
        assert on_call.clicks == 2
    did = bad_day.ask("/api/v1/actions")["items"][0]
    assert (did["what"], did["via"], did["result"]["accepted"]) == ("verify refused", "console", 3)
