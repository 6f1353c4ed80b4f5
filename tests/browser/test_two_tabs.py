"""One plan in two tabs, or with two people, in the browser: one run begins, and the other tab says what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from browsing import Browsing, Page, operating, path_of
from planning import BOTH_BROWSERS, REASON, START, actions, planned_replay, press, wait_for_state
from playwright.sync_api import expect
from serving import Served, serving

from receiver.console import live
from receiver.runs.feeder import Feeder


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[Served]:
    monkeypatch.setattr(live, "LOOK_INTERVAL", 0.1)
    with serving(f"sqlite:///{tmp_path}/tabs.db", with_worker=True, console=True) as running:
        yield running


@pytest.fixture
def people(chromium, served) -> Iterator[dict[str, Browsing]]:
    """Two operators at one console."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(operating(chromium, served, name=name, expected={409}))
            for name in ("ops-1", "ops-2")
        }


@pytest.fixture
def standing(monkeypatch) -> Callable[[], None]:
    """Call it, and no run makes a step any more, so that a started run stays at work."""
    return lambda: monkeypatch.setattr(Feeder, "step", lambda *_: False)


def tabs(people: dict[str, Browsing], run: str, *, second: str = "ops-1", scripts: bool = True) -> tuple[Page, Page]:
    """Open the page of the run in two tabs: of one browser, or of two people."""
    first = people["ops-1"].context(scripts=scripts)
    other = first if second == "ops-1" else people[second].context(scripts=scripts)
    opened = first.new_page(), other.new_page()
    for page in opened:
        page.goto(f"{people['ops-1'].site}/console/runs/{run}")
    return opened


def start(page: Page, reason: str) -> None:
    page.get_by_label(REASON).fill(reason)
    press(page, START)


def started(served: Served) -> list[str | None]:
    return [reason for what, reason in actions(served) if what == "start run"]


def sees(page: Page, *texts: str) -> None:
    said = page.locator("main").inner_text()
    assert all(text in said for text in texts), said


@pytest.mark.parametrize(
    ("scripts", "second", "reason"),
    [
        (True, "ops-1", "the same"),
        (True, "ops-2", "another one"),
        (False, "ops-1", "another one"),
        (False, "ops-2", "the same"),
    ],
)
def test_the_second_tab_that_starts_a_plan_says_who_started_it_and_leads_to_the_run(
    served, people, standing, scripts, second, reason
):
    run = planned_replay(served)
    standing()
    first, other = tabs(people, run, second=second, scripts=scripts)
    # Its field has the focus, so the page stays as it is, also if it is live.
    other.get_by_label(REASON).fill(reason)
    start(first, "the same")
    press(other, START)
    sees(other, f"Run {run} is running, started by ops-1 at", "so it cannot be started")
    other.get_by_role("link", name="See the present state").click()
    other.wait_for_url(f"**/console/runs/{run}")
    sees(other, "running", "Started by ops-1", "Why: the same")
    assert started(served) == ["the same"]


def test_two_tabs_that_start_a_plan_at_the_same_moment_begin_one_run(served, people, standing):
    run = planned_replay(served)
    standing()
    pages = tabs(people, run, second="ops-2")
    for number, page in enumerate(pages):
        page.get_by_label(REASON).fill(f"reason {number}")
    for page in pages:
        page.evaluate("setTimeout(() => document.querySelector('form.reason').submit())")
    for page in pages:
        expect(page.locator("main")).to_contain_text("started by ops-", ignore_case=True)
        page.wait_for_load_state()
    said = " ".join(page.locator("main").inner_text() for page in pages)
    assert (said.count("The run is started."), said.count("so it cannot be started")) == (1, 1)
    assert len(started(served)) == 1


def test_a_live_tab_shows_that_another_person_has_started_the_plan(served, people, standing):
    run = planned_replay(served)
    standing()
    first, other = tabs(people, run, second="ops-2")
    other.locator("#live.on").wait_for()
    start(first, "a fix")
    expect(other.locator(".fate")).to_contain_text("Started by ops-1")
    assert other.get_by_role("button", name=START).count() == 0


@BOTH_BROWSERS
def test_dropping_a_plan_that_another_person_has_started_meanwhile_leaves_the_run_at_work(
    served, people, standing, scripts
):
    run = planned_replay(served)
    standing()
    first, other = tabs(people, run, second="ops-2", scripts=scripts)
    if scripts:
        other.get_by_label(REASON).focus()
    start(first, "a fix")
    press(other, "Drop the plan")
    sees(other, f"Run {run} is running, started by ops-1 at", "so it cannot be dropped as a plan")
    assert served.get(f"/api/v1/runs/{run}").json()["state"] == "running"
    other.get_by_role("link", name="See the present state").click()
    press(other, "Cancel")
    assert served.get(f"/api/v1/runs/{run}").json()["state"] == "cancelled"


def test_starting_a_plan_that_another_person_has_dropped_begins_nothing(served, people):
    run = planned_replay(served)
    first, other = tabs(people, run, second="ops-2", scripts=False)
    press(other, "Drop the plan")
    sees(other, "The plan is dropped. Nothing was changed.", "before it was started")
    start(first, "a fix")
    sees(first, f"Run {run} is cancelled, so it cannot be started.")
    assert started(served) == []


def test_a_plan_made_again_beside_a_started_one_is_another_run_which_waits_for_the_first(served, people, standing):
    run = planned_replay(served)
    first, other = tabs(people, run, second="ops-2", scripts=False)
    press(other, "Plan it again")
    again = path_of(other).rpartition("/")[2].partition("?")[0]
    assert again != run
    wait_for_state(served, again, "planned")
    standing()
    start(first, "a fix")
    other.goto(f"{people['ops-1'].site}/console/runs/{again}")
    start(other, "another fix")
    sees(other, f"Run {run} is a replay of the same source and has not ended: wait for it, or cancel it")
    assert started(served) == ["a fix"]


@BOTH_BROWSERS
def test_going_back_after_starting_shows_the_run_as_it_is(served, people, standing, scripts):
    run = planned_replay(served)
    standing()
    page, _ = tabs(people, run, scripts=scripts)
    start(page, "a fix")
    page.go_back()
    expect(page.locator(".fate")).to_contain_text("Started by ops-1")
    assert page.get_by_role("button", name=START).count() == 0


def kept(page: Page) -> None:
    """Show the page as it is when its address is opened next, as a browser does that keeps pages to go back to."""
    content, address = page.content(), page.url.partition("?")[0]
    page.route(address, lambda route: route.fulfill(body=content, content_type="text/html"), times=1)


def test_a_kept_page_pressed_again_does_nothing_and_says_so(served, people):
    run = planned_replay(served)
    page, _ = tabs(people, run, scripts=False)
    kept(page)
    start(page, "a fix")
    sees(page, "The run is started.")
    wait_for_state(served, run, "done")
    page.go_back()
    start(page, "a fix")
    sees(page, "This form was pressed before, and did its work then. Nothing was done now", "done")
    assert started(served) == ["a fix"]


def test_a_kept_button_does_not_say_that_it_paused_a_run_that_goes_on(served, people, standing):
    run = planned_replay(served)
    standing()
    first, other = tabs(people, run, scripts=False)
    start(first, "a fix")
    first.goto(f"{people['ops-1'].site}/console/runs/{run}")
    kept(first)
    press(first, "Pause")
    sees(first, "The run is paused")
    other.reload()
    press(other, "Go on")
    first.goto(f"{people['ops-1'].site}/console/runs/{run}")
    press(first, "Pause")
    sees(first, "This form was pressed before, and did its work then. Nothing was done now", "running")
    assert served.get(f"/api/v1/runs/{run}").json()["state"] == "running"
