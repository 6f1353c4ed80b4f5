"""Live pages, in the browser: they show changes, and whether they are live; a page without scripts stays as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from away import acked_again, away
from browsing import TIMEOUT_MS, Browsing, Page, Scheme, operating
from playwright.sync_api import Route, expect
from serving import Served, serving
from waiting import wait_until

from receiver.console import live
from receiver.console.live import MOST_OF_ONE, NO_ANSWER

#: A pattern of the line at the top of a page that is not live.
NOT_LIVE = r"not live since \d\d:\d\d:\d\d"

#: A function of the page that hides it, as another tab in front of it does, or shows it.
HIDING = """
window.hide = (isHidden) => {
    Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
};
"""

#: The interval at which a page without a stream polls.
ASKS_EVERY_MS = 15_000


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[Served]:
    """A console of each test's own, since it changes, or ends its streams. It looks for changes more often."""
    monkeypatch.setattr(live, "LOOK_INTERVAL", 0.1)
    with serving(f"sqlite:///{tmp_path}/live.db", with_worker=True, console=True) as running:
        yield running


@pytest.fixture
def looking(chromium, served) -> Iterator[Browsing]:
    with operating(chromium, served) as opened:
        yield opened


def says(page: Page, words: str) -> None:
    """Wait until the line at the top says words of this pattern: the first reason may be followed by a better one."""
    expect(page.locator("#live span")).to_have_text(re.compile(rf"^\s*· {words}\s*$"), timeout=TIMEOUT_MS)


def arrives(page: Page, delivery: str) -> None:
    """Wait until the page shows this delivery."""
    page.locator(f"a[href$='/deliveries/{delivery}']").wait_for()


def test_a_live_page_says_so_and_shows_what_arrives(served, looking):
    page = looking.open("/console/deliveries")
    says(page, "live")
    assert "No delivery matches" in page.locator("main").inner_text()
    arrives(page, served.send("sigma", key="first"))
    arrives(page, served.send("sigma", key="second"))


def test_a_page_shows_what_arrived_before_its_stream_was_open(served, looking):
    page = looking.context().new_page()
    arrived = []

    def hold(route):
        if not arrived:
            arrived.append(served.send("sigma", key="between the page and its stream"))
            served.ended(arrived[0])
        route.continue_()

    page.route("**/console/live*", hold)
    page.goto(f"{looking.site}/console/deliveries")
    wait_until(lambda: page.evaluate("1") and arrived, "the request for a stream")
    arrives(page, arrived[0])


def test_every_page_of_somebody_who_goes_from_one_to_the_next_is_live(served, looking):
    page = looking.open("/console/")
    for path in ("deliveries", "runs", "findings", "changes"):
        page.locator("#live.on").wait_for()
        page.goto(f"{looking.site}/console/{path}")
    page.locator("#live.on").wait_for()
    assert {each.status for each in looking.watch.responses} == {200}


def test_a_live_page_on_which_nothing_changes_fetches_itself_once_a_minute_so_that_its_spans_stay_right(
    served, looking, monkeypatch
):
    served.ended(served.send("sigma", key="the last one"))
    # No hint comes.
    monkeypatch.setattr(live, "LOOK_INTERVAL", 3_600.0)
    context = looking.context()
    context.clock.install()
    page = context.new_page()
    page.goto(f"{looking.site}/console/")
    page.locator("#live.on").wait_for()
    as_of = page.locator("#live time").get_attribute("datetime")
    for _ in range(5):
        page.clock.fast_forward(ASKS_EVERY_MS)
        page.clock.run_for(1_000)
    expect(page.locator("#live time")).not_to_have_attribute("datetime", str(as_of), timeout=TIMEOUT_MS)
    says(page, "live")


def test_a_screen_reader_is_told_that_a_page_is_live_or_not_and_not_each_time_at_which_it_was_fetched(served, looking):
    page = looking.open("/console/deliveries")
    says(page, "live")
    page.evaluate(
        """() => {
            window.told = [];
            const note = (changes) => changes.forEach(({ target }) => told.push(target.textContent.trim()));
            const heard = { childList: true, characterData: true, subtree: true };
            for (const each of document.querySelectorAll("#live[role=status], #live [role=status]"))
                new MutationObserver(note).observe(each, heard);
        }"""
    )
    for key in ("first", "second"):
        arrives(page, served.send("sigma", key=key))
    page.get_by_role("button", name="pause").click()
    says(page, "paused")
    assert page.evaluate("told") == ["· paused"]


def test_a_paused_page_stays_as_it_was_until_it_goes_on(served, looking):
    paused, other = looking.open("/console/deliveries"), looking.open("/console/deliveries")
    other.locator("#live.on").wait_for()
    paused.get_by_role("button", name="pause").click()
    says(paused, "paused")
    delivery = served.send("sigma", key="meanwhile")
    arrives(other, delivery)
    assert "No delivery matches" in paused.locator("main").inner_text()
    paused.get_by_role("button", name="continue").click()
    arrives(paused, delivery)
    says(paused, "live")


def test_a_page_that_is_paused_while_it_fetches_itself_stays_as_it_was(served, looking):
    page = looking.open("/console/deliveries")
    says(page, "live")
    held: list[Route] = []
    page.route("**/console/deliveries", lambda route: held.append(route), times=1)
    delivery = served.send("sigma", key="a hint")
    wait_until(lambda: page.title() is not None and held, "the page's own request")
    page.get_by_role("button", name="pause").click()
    page.evaluate("document.addEventListener('htmx:finally:request', () => (document.body.id = 'fetched'))")
    held[0].continue_()
    page.locator("#fetched").wait_for()
    says(page, "paused")
    assert "No delivery matches" in page.locator("main").inner_text()
    page.get_by_role("button", name="continue").click()
    arrives(page, delivery)


def test_what_arrives_while_a_person_types_is_shown_when_they_leave_the_field(served, looking):
    typing, other = looking.open("/console/deliveries"), looking.open("/console/deliveries")
    for page in (typing, other):
        says(page, "live")
    typing.locator("#page details.filters summary").click()
    field = typing.locator("#page input[name=entity]")
    field.fill("product:1")
    delivery = served.send("sigma", key="meanwhile")
    arrives(other, delivery)
    field.blur()
    arrives(typing, delivery)
    assert field.input_value() == "product:1"


def test_filters_that_a_person_has_closed_stay_closed_when_the_page_fetches_itself(served, looking):
    page = looking.open("/console/deliveries?source=sigma")
    says(page, "live")
    filters = page.locator("#page details.filters")
    expect(filters).to_have_attribute("open", "")
    filters.locator("summary").click()
    arrives(page, served.send("sigma", key="first"))
    expect(filters).not_to_have_attribute("open", "")
    filters.locator("summary").click()
    arrives(page, served.send("sigma", key="second"))
    expect(filters).to_have_attribute("open", "")


def test_a_mark_stays_with_its_delivery_when_another_one_arrives_above_it(served, looking):
    first, second = (served.ended(served.send("sigma", key=key))["id"] for key in ("first", "second"))
    page = looking.open("/console/deliveries")
    says(page, "live")
    mark = page.locator(f"input[name=ids][value='{first}']")
    mark.check()
    mark.blur()
    arrives(page, served.send("sigma", key="third"))
    marked = [each.get_attribute("value") for each in page.locator("input[name=ids]:checked").all()]
    assert marked == [first] != [second]


def test_a_page_that_fetches_itself_leaves_the_row_of_the_keys_the_focus_the_selection_and_the_place(served, looking):
    first, _ = (served.ended(served.send("sigma", key=key))["id"] for key in ("first", "second"))
    page = looking.open("/console/deliveries")
    says(page, "live")
    page.set_viewport_size({"width": 500, "height": 300})
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.evaluate("scrollTo(0, 150); getSelection().selectAllChildren(document.querySelector('h1'))")
    arrives(page, served.send("sigma", key="third"))
    expect(page.locator("tr.here a").first).to_have_attribute("href", f"/console/deliveries/{first}")
    expect(page.locator("tr.here a").first).to_be_focused()
    assert page.evaluate("[String(getSelection()), scrollY]") == ["Deliveries", 150]


def test_a_page_ends_its_stream_while_it_is_hidden_and_is_live_again_when_it_is_shown(served, looking):
    page = looking.context().new_page()
    page.add_init_script(HIDING)
    page.goto(f"{looking.site}/console/deliveries")
    says(page, "live")
    streams = served.app._rest.console.live._streams
    assert len(streams) == 1
    page.evaluate("hide(true)")
    says(page, NOT_LIVE)
    wait_until(lambda: not streams, "the end of its stream")
    delivery = served.send("sigma", key="unseen")
    page.evaluate("hide(false)")
    arrives(page, delivery)
    says(page, "live")


def test_a_page_that_is_opened_in_the_background_has_no_stream_until_it_is_shown(looking):
    page = looking.context().new_page()
    page.add_init_script(HIDING)
    page.add_init_script("hide(true)")
    asked = []
    page.on("request", lambda request: asked.append(request.url.partition("?")[0]))
    page.goto(f"{looking.site}/console/deliveries")
    page.evaluate("hide(false)")
    says(page, "live")
    assert asked.count(f"{looking.site}/console/live") == 1


def test_a_page_that_lost_its_stream_says_since_when_and_asks_by_itself(served, looking):
    context = looking.context()
    context.clock.install()
    page = context.new_page()
    page.goto(f"{looking.site}/console/deliveries")
    page.locator("#live.on").wait_for()
    streams = served.app._rest.console.live
    # The browser comes back for another stream, and gets none.
    served.app.end_streams()
    says(page, rf"{NOT_LIVE}(: it has no stream, and asks every 15 seconds)?")
    delivery = served.send("sigma", key="unheard")
    page.clock.fast_forward(ASKS_EVERY_MS)
    page.clock.run_for(1_000)
    arrives(page, delivery)
    assert "lost" in page.locator("#live").get_attribute("class")
    streams._ending = False
    page.clock.fast_forward(ASKS_EVERY_MS)
    page.locator("#live.on").wait_for()


def test_a_page_beyond_the_streams_of_its_person_says_that_it_asks_by_itself(served, looking):
    context = looking.context()
    pages = [context.new_page() for _ in range(MOST_OF_ONE + 1)]
    for page in pages:
        page.goto(f"{looking.site}/console/deliveries")
        expect(page.locator("#live span")).to_have_text(re.compile("live"), timeout=TIMEOUT_MS)
    says(pages[-1], f"{NOT_LIVE}: it has no stream, and asks every 15 seconds")


def test_a_page_whose_database_is_away_keeps_its_content_and_says_since_when_it_is_not_live(
    served, looking, monkeypatch
):
    context = looking.context()
    context.clock.install()
    page = context.new_page()
    shown = served.send("sigma", key="shown")
    # No hint comes after that, so the time of the page stays as it is.
    served.ended(shown)
    page.goto(f"{looking.site}/console/deliveries")
    page.locator("#live.on").wait_for()
    as_of = page.locator("#live time").get_attribute("datetime")
    looking.watch.expected.add(503)
    with away(str(served.beside.engine.url)):
        monkeypatch.setattr(live, "LONGEST_SILENCE", 1.0)
        says(page, f"{NOT_LIVE}: {NO_ANSWER}")
        # The page asks by itself meanwhile, and does not show the error instead of its content.
        with page.expect_response(lambda answer: answer.status == 503):
            page.clock.fast_forward(ASKS_EVERY_MS)
            page.clock.run_for(1_000)
        arrives(page, shown)
        assert page.locator("#live time").get_attribute("datetime") == as_of
        says(page, f"{NOT_LIVE}: {NO_ANSWER}")
    says(page, "live")
    arrives(page, acked_again(served, key="after"))


def test_a_page_whose_stream_is_gone_gives_no_reason_that_has_passed(served, looking, monkeypatch):
    context = looking.context()
    context.clock.install()
    page = context.new_page()
    page.goto(f"{looking.site}/console/deliveries")
    page.locator("#live.on").wait_for()
    looking.watch.expected.add(503)
    with away(str(served.beside.engine.url)):
        monkeypatch.setattr(live, "LONGEST_SILENCE", 1.0)
        says(page, f"{NOT_LIVE}: {NO_ANSWER}")
        served.app.end_streams()
        # The browser asks for another stream, and the server has none to give.
        page.wait_for_event("requestfinished", lambda request: "/console/live" in request.url)
    delivery = acked_again(served, key="after")
    page.clock.fast_forward(ASKS_EVERY_MS)
    page.clock.run_for(1_000)
    arrives(page, delivery)
    says(page, f"{NOT_LIVE}: it has no stream, and asks every 15 seconds")


def gives(status: int) -> Callable[[Route], None]:
    """Answer with a page that is none of ours, as a proxy does that wants people to sign in there."""
    return lambda route: route.fulfill(status=status, content_type="text/html", body="<p>Sign in.</p>")


@pytest.mark.parametrize(
    "fail",
    [lambda route: route.fulfill(status=502), lambda route: route.abort(), gives(403), gives(200)],
    ids=["an error", "no answer", "a refusal of a proxy", "a page of a proxy"],
)
def test_a_page_that_cannot_be_loaded_again_keeps_its_content_and_is_not_live_although_its_stream_is(
    served, looking, fail
):
    page = looking.open("/console/deliveries")
    says(page, "live")
    looking.watch.expected |= {502, 403}
    page.route("**/console/deliveries", fail)
    served.send("sigma", key="a hint")
    says(page, f"{NOT_LIVE}: the page could not be loaded again")
    assert page.get_by_role("heading", name="Deliveries").is_visible()
    page.unroute_all()
    arrives(page, served.send("sigma", key="another hint"))
    says(page, "live")
    # The browser and htmx report a request without an answer, too.
    reported = re.compile("net::ERR_FAILED|Failed to fetch")
    looking.watch.faults = [each for each in looking.watch.faults if not reported.search(each)]


def test_a_page_whose_own_fetch_fails_first_gives_the_reason_of_that_answer(served, looking):
    page = looking.open("/console/deliveries")
    page.locator("#live.on").wait_for()
    looking.watch.expected.add(503)
    with ExitStack() as stack:

        def take_away(route: Route) -> None:
            stack.enter_context(away(str(served.beside.engine.url)))
            route.continue_()

        page.route("**/console/deliveries", take_away, times=1)
        served.send("sigma", key="a hint")
        says(page, f"{NOT_LIVE}: {NO_ANSWER}")


def test_a_reason_follows_a_vaguer_one_and_is_not_replaced_by_it(served, looking, monkeypatch):
    context = looking.context()
    context.clock.install()
    page = context.new_page()
    page.goto(f"{looking.site}/console/deliveries")
    page.locator("#live.on").wait_for()
    looking.watch.expected |= {502, 503}
    page.route("**/console/deliveries", lambda route: route.fulfill(status=502, body="of a proxy"))
    served.send("sigma", key="a hint")
    says(page, f"{NOT_LIVE}: the page could not be loaded again")
    with away(str(served.beside.engine.url)):
        monkeypatch.setattr(live, "LONGEST_SILENCE", 1.0)
        says(page, f"{NOT_LIVE}: {NO_ANSWER}")
        # One fetch follows the other: when the second one begins, the page has heard of the first.
        for _ in range(2):
            with page.expect_response(lambda answer: answer.status == 502):
                page.clock.fast_forward(ASKS_EVERY_MS)
                page.clock.run_for(1_000)
        says(page, f"{NOT_LIVE}: {NO_ANSWER}")
    page.unroute_all()
    page.locator("#live.on").wait_for()


def test_without_scripts_a_page_says_as_of_when_it_is_and_offers_no_pause(served, looking):
    page = looking.open("/console/deliveries", scripts=False)
    assert page.locator("#live").inner_text().startswith("As of ")
    assert page.locator("#live span").inner_text() == ""
    assert page.locator("button", has_text="pause").is_hidden()
    assert [each for each in page.locator("button.copy").all() if each.is_visible()] == []
    delivery = served.send("sigma", key="later")
    wait_until(lambda: served.delivery(delivery)["ended_at"], "its end")
    page.reload()
    arrives(page, delivery)


@pytest.mark.parametrize(("still", "seconds"), [(False, "0.15s"), (True, "0s")])
def test_nothing_moves_for_a_person_who_wants_no_motion(looking, still, seconds):
    page = looking.open("/console/", still=still)
    durations = page.evaluate(
        """() => [...document.querySelectorAll('*')].map(each => getComputedStyle(each))
            .flatMap(style => [style.transitionDuration, style.animationDuration])"""
    )
    assert set(durations) == {"0s", seconds}


def test_paper_gets_what_a_page_says_and_nothing_to_press(served, looking):
    served.ended(served.send("sigma", key="printed"))
    page = looking.open("/console/deliveries", scheme=Scheme.DARK)
    page.emulate_media(media="print")
    assert page.get_by_role("heading", name="Deliveries").is_visible()
    assert page.locator("main table tbody tr").first.is_visible()
    assert page.locator("footer").is_visible()
    for what in ("button", "input", "select", "nav", ".bar"):
        assert [each for each in page.locator(what).all() if each.is_visible()] == [], what
    # Ink is dark and paper is light, whatever the screen was.
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
