"""Plans of a reconcile whose list is long or endless, in the browser: the page says how much was read, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from browsing import Browsing, Page, operating
from planning import BOTH_BROWSERS, press
from playwright.sync_api import expect
from serving import Served, serving
from stub_servers import Stub, answering
from waiting import wait_until

from receiver.console import live
from receiver.reconcile import endless, seen

#: The rows of a page, and a total that no offset reaches.
ROWS, TOTAL = 3, 10**9


def record(number: int) -> dict[str, Any]:
    return {"id": f"e{number}", "values": {"name": [{"scope": {}, "value": "Lamp"}]}}


class Endless(Stub):
    """An API whose list has no end. `repeats` says whether it ignores the offset."""

    repeats = False

    def get(self) -> None:
        offset = int(parse_qs(urlsplit(self.path).query)["offset"][0])
        first = 0 if self.repeats else offset
        items = [record(first + number) for number in range(ROWS)]
        self.answer(json.dumps({"items": items, "total": TOTAL}).encode())


@pytest.fixture
def api(monkeypatch, request) -> Iterator[str]:
    monkeypatch.setattr(Endless, "repeats", request.param)
    with answering(Endless) as url:
        yield f"{url}/api/v1"


@pytest.fixture
def served(tmp_path, api, monkeypatch) -> Iterator[Served]:
    """A console of a source with this list, of whose progress nothing waits long to be stored."""
    monkeypatch.setattr(live, "LOOK_INTERVAL", 0.1)
    monkeypatch.setattr(seen, "SECONDS_AT_ONCE", 0.1)
    monkeypatch.setattr(endless, "MOST_REPEATED_PAGES", 10)
    source = {"dialect": "sigma", "secrets": ["sign-of-these-tests"], "api_url": api, "api_key": "sk"}
    with serving(f"sqlite:///{tmp_path}/lists.db", with_worker=True, console=True, sources={"pim": source}) as running:
        yield running


@pytest.fixture
def looking(chromium, served) -> Iterator[Browsing]:
    with operating(chromium, served) as opened:
        yield opened


def plan(page: Page) -> str:
    """Plan a reconcile of the source on its page, and return the run."""
    press(page, "Plan a reconcile")
    return page.url.partition("?")[0].rpartition("/")[2]


@pytest.mark.parametrize("api", [True], indirect=True)
@BOTH_BROWSERS
def test_a_plan_of_a_list_that_repeats_its_rows_ends_with_what_to_correct(served, looking, scripts):
    page = looking.open("/console/sources/pim", scripts=scripts)
    run = plan(page)
    wait_until(lambda: served.get(f"/api/v1/runs/{run}").json()["state"] == "cancelled", "the end of the plan")
    if not scripts:
        page.reload()
    expect(page.locator(".fate .state")).to_have_text("cancelled")
    said = page.locator("main").inner_text()
    assert "The list of pim repeated only rows of earlier pages in its last 10 pages" in said
    assert "nothing was deactivated: correct its list function, which must ask for the page that start names" in said
    assert "Read so far: 33 rows in 11 pages of the source's list." in said


@pytest.mark.parametrize("api", [False], indirect=True)
@BOTH_BROWSERS
def test_a_plan_of_a_list_of_ever_new_rows_says_how_much_was_read_and_can_be_dropped(served, looking, scripts):
    page = looking.open("/console/sources/pim", scripts=scripts)
    run = plan(page)
    wait_until(lambda: (served.get(f"/api/v1/runs/{run}").json()["read"] or {"pages": 0})["pages"] >= 5, "some pages")
    if not scripts:
        page.reload()
    read = page.get_by_text("Read so far:")
    expect(read).to_contain_text("pages of the source's list.")
    assert "The source's list is being read" in page.locator("main").inner_text()
    press(page, "Drop the plan")
    assert served.get(f"/api/v1/runs/{run}").json()["state"] == "cancelled"
