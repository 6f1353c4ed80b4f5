"""Sessions that end while a page is open: nothing is done, and typed text comes back after signing in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from browsing import Browsing, Page, operating, path_of
from planning import BOTH_BROWSERS, REASON, START, actions, planned_replay, press
from playwright.sync_api import expect
from serving import Served, serving
from sqlalchemy import select
from visiting import new_link

from receiver.console import live
from receiver.runs.actions import Asked, By, Via
from receiver.sessions import sessions
from receiver.sessions.tables import SESSIONS

#: What a person types into a form, with characters that an address must escape.
TYPED = "Preise & Mengen: 50% #1"


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[Served]:
    """A console whose streams look at once whether their sessions have ended."""
    monkeypatch.setattr(live, "SIGN_OF_LIFE", 0.2)
    with serving(f"sqlite:///{tmp_path}/sessions.db", with_worker=True, console=True) as running:
        yield running


@pytest.fixture
def looking(chromium, served) -> Iterator[Browsing]:
    with operating(chromium, served, expected={401, 403}) as opened:
        yield opened


def end_sessions(served: Served) -> None:
    """End all sessions, as `hookmirror sessions --end` does."""
    with served.beside.read() as connection:
        ids = connection.execute(select(SESSIONS.c.id)).scalars().all()
    for each in ids:
        asked = Asked(by=By("ops-2", Via.COMMAND), what="end session")
        assert sessions.end(served.beside, asked, each, now=datetime.now(UTC))


def open_link(page: Page, link: str) -> None:
    page.goto(f"{page.url.partition('/console')[0]}/console/sign-in?link={quote(link)}")


def sign_in_at(page: Page, *, link: str | None = None) -> None:
    """Sign in with a link in this tab."""
    open_link(page, link or new_link())
    press(page, "Sign in")


def starts(served: Served) -> list[str | None]:
    return [reason for what, reason in actions(served) if what == "start run"]


@BOTH_BROWSERS
def test_a_form_pressed_after_the_end_does_nothing_and_comes_back_filled_in_after_signing_in(served, looking, scripts):
    run = planned_replay(served)
    page = looking.open(f"/console/runs/{run}", scripts=scripts)
    page.get_by_label(REASON).fill(TYPED)
    end_sessions(served)
    press(page, START)
    said = page.locator("main").inner_text()
    assert "Your session has ended. Nothing was done." in said
    assert "this browser shows the form again with what you typed" in said
    assert "hookmirror console-link" in said
    assert starts(served) == []

    sign_in_at(page)
    assert path_of(page).startswith(f"/console/runs/{run}/start?reason=")
    assert page.get_by_label("reason").input_value() == TYPED
    assert starts(served) == []
    press(page, "Start")
    assert starts(served) == [TYPED]


def test_a_form_of_the_session_before_does_nothing_and_is_shown_again_with_what_was_typed(served, looking):
    run = planned_replay(served)
    page = looking.open(f"/console/runs/{run}", scripts=False)
    page.get_by_label(REASON).fill(TYPED)
    end_sessions(served)
    other = page.context.new_page()
    other.goto(page.url)
    sign_in_at(other)
    press(page, START)
    assert "you may have signed in anew since it was opened" in page.locator("main").inner_text()
    assert starts(served) == []
    assert page.get_by_label("reason").input_value() == TYPED
    press(page, "Start")
    assert starts(served) == [TYPED]


def test_a_button_without_fields_pressed_after_the_end_leads_to_its_form(served, looking):
    run = planned_replay(served)
    page = looking.open(f"/console/runs/{run}", scripts=False)
    end_sessions(served)
    press(page, "Drop the plan")
    assert "Nothing was done." in page.locator("main").inner_text()
    assert served.get(f"/api/v1/runs/{run}").json()["state"] == "planned"
    sign_in_at(page)
    assert path_of(page) == f"/console/runs/{run}/drop"
    press(page, "Drop the plan")
    assert served.get(f"/api/v1/runs/{run}").json()["state"] == "cancelled"


def test_a_live_page_says_that_its_session_has_ended_while_a_person_types_and_keeps_what_was_typed(served, looking):
    run = planned_replay(served)
    page = looking.context().new_page()
    page.clock.install(time=datetime.now(UTC))
    page.goto(f"{looking.site}/console/runs/{run}")
    page.locator("#live.on").wait_for()
    page.get_by_label(REASON).fill(TYPED)
    end_sessions(served)
    expect(page.locator("#live")).to_contain_text("you are not signed in any more")

    page.evaluate("document.activeElement.blur()")
    with page.expect_response(lambda answer: answer.status == 401 and answer.url == page.url):
        page.clock.fast_forward(16_000)
        page.clock.run_for(1_000)
    page.evaluate("() => new Promise(requestAnimationFrame)")
    expect(page.locator("#live")).to_contain_text("you are not signed in any more")
    assert page.get_by_label(REASON).input_value() == TYPED


def test_a_live_page_without_typed_text_becomes_the_page_for_signing_in_and_comes_back(served, looking):
    page = looking.context().new_page()
    page.clock.install(time=datetime.now(UTC))
    page.goto(f"{looking.site}/console/deliveries?source=sigma")
    page.locator("#live.on").wait_for()
    end_sessions(served)
    expect(page.locator("#live")).to_contain_text("you are not signed in any more")
    page.clock.fast_forward(16_000)
    page.clock.run_for(1_000)
    page.get_by_text("Your session has ended.").wait_for()
    sign_in_at(page)
    assert path_of(page) == "/console/deliveries?source=sigma"


@BOTH_BROWSERS
def test_a_page_opened_without_a_session_is_shown_after_signing_in_once(served, looking, scripts):
    page = looking.open("/console/runs?limit=5", scripts=scripts, stranger=True)
    assert "You are not signed in." in page.locator("main").inner_text()
    sign_in_at(page)
    assert path_of(page) == "/console/runs?limit=5"
    press(page, "Sign out")
    sign_in_at(page)
    assert path_of(page) == "/console/"


@BOTH_BROWSERS
def test_a_link_opened_in_two_tabs_begins_one_session_and_both_tabs_are_signed_in(served, looking, scripts):
    context = looking.context(scripts=scripts, stranger=True)
    first, second, link = context.new_page(), context.new_page(), new_link()
    for page in (first, second):
        page.goto(f"{looking.site}/console/deliveries")
        open_link(page, link)
    before = served.count("sessions")
    for page in (first, second):
        press(page, "Sign in")
        assert path_of(page) == "/console/deliveries"
    assert served.count("sessions") == before + 1


def test_a_link_that_another_browser_used_says_so_and_leads_on_who_is_signed_in(served, looking):
    link = new_link()
    pages = [looking.context(scripts=False, stranger=True).new_page() for _ in range(2)]
    for page in pages:
        page.goto(f"{looking.site}/console/")
        open_link(page, link)
    press(pages[0], "Sign in")
    press(pages[1], "Sign in")
    said = pages[1].locator("main").inner_text()
    assert "This link was used before, and works only once" in said
    assert "If you have signed in since, in another tab of this browser: go on." in said
