"""The pages of sources: their state in words, without secrets, and the plan of a reconcile."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from unittest.mock import ANY

import pytest
from senders import SOURCES, body, sent
from serving import SECRET_KEY, Served
from sqlalchemy import delete
from visiting import Visitor, text_of, visiting

from receiver.api.tokens import Scope
from receiver.findings import tallies
from receiver.findings.counting import KindCount, TallyKey
from receiver.inbox.tables import BODIES
from receiver.sessions.roles import Role

#: A source with a list, and with secrets in every setting that takes one.
SHOP = SOURCES["sigma"] | {
    "dialect": "sigma",
    "secrets": ["first-secret-here", "second-secret-here"],
    "api_url": "http://reader:hidden-password@127.0.0.1:9/api/v1?key=hidden-query",
    "api_key": "hidden-api-key",
}

#: A secret key that is being replaced.
OLD_KEY = "the-key-before-the-present-one"

TOLD = ("first-secret-here", "second-secret-here", "hidden-password", "hidden-query", "hidden-api-key")


def test_each_source_is_listed_and_one_that_never_sent_is_not_called_well(shown: Served, operator: Visitor) -> None:
    shown.send("sigma", key="a source's first")
    page = text_of(operator.page("/sources"))
    assert "GET /api/v1/sources" in page
    assert "hookmirror sources" in page
    items = {each["source"]: each for each in shown.get("/api/v1/sources").json()["items"]}
    assert items.keys() == SOURCES.keys()
    for name, each in items.items():
        assert (each["health"] == "unknown") == (each["last_delivery_at"] is None), name


@pytest.mark.parametrize(("content", "has"), [(b"not JSON", "dead"), (None, "unfinished")])
def test_a_source_that_left_the_settings_says_which_deliveries_it_has(
    tmp_path: Path, content: bytes | None, has: str
) -> None:
    database = f"sqlite:///{tmp_path}/c.db"
    with visiting(database) as (served, _):
        served.send("sigma", content)
        with served.beside.write() as connection:
            # A dead delivery whose body is kept is a finding.
            connection.execute(delete(BODIES))
    with visiting(database, sources={"iimmpact": SOURCES["iimmpact"]}) as (served, _):
        found = served.get("/api/v1/sources/sigma").json()
        assert (found["health"], found["says"]) == ("unwell", f"It is not in the settings, and has {has} deliveries.")


def test_the_pages_of_a_source_that_left_the_settings_give_no_advice_for_one_that_is_there(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/c.db"
    with visiting(database) as (served, _):
        dead, waiting = served.send("sigma", b"not JSON"), served.send("sigma")
    with visiting(database, sources={"iimmpact": SOURCES["iimmpact"]}) as (_, visitor):
        page = text_of(visitor.page("/sources/sigma").partition("<main")[2])
        assert "This source is not in the settings: its webhooks are refused" in page
        assert "cannot be reconciled: it is not in the settings." in page
        for wrong in ("Address", "/hooks/sigma", "has a handler", "api_url"):
            assert wrong not in page
        for delivery, told in ((dead, "a replay would wait"), (waiting, "it waits")):
            page = text_of(visitor.page(f"/deliveries/{delivery}"))
            assert f"Its source is not in the settings, so no worker takes it: {told} until" in page


def test_a_source_that_never_sent_shows_the_address_for_its_sender(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (_, visitor):
        page = text_of(visitor.page("/sources/sigma"))
        assert "unknown Nothing came yet. Address to give to the sender: /hooks/sigma" in page
        assert "No webhook has come yet from 4." in text_of(visitor.page("/sources"))


def test_webhooks_are_counted_by_the_secret_that_verified_them(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        for number, secret in enumerate(["first-secret-here", "second-secret-here", "second-secret-here"]):
            content, headers = sent_by(secret, number)
            assert served.post("shop", content, headers).status_code == 200
        served.app._watch.tally()
        [found] = served.get("/api/v1/sources").json()["items"]
        counted = [(each["position"], each["verified"], each["configured"]) for each in found["secrets"]]
        assert counted == [("0", 1, True), ("1", 2, True)]
        assert found["came"] == 3
        assert "secret 1, the newest 1" in text_of(visitor.page("/sources/shop"))


def test_the_uses_of_a_secret_follow_it_when_another_one_is_put_before_it(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/c.db"
    for before in (["first-secret-here"], ["removed-secret-here", "first-secret-here"]):
        with visiting(database, sources={"shop": SHOP | {"secrets": before}}) as (served, _):
            assert served.post("shop", *sent_by(before[0], len(before))).status_code == 200
            served.app._watch.tally()
    now = ["new-secret-here", "first-secret-here"]
    with visiting(database, sources={"shop": SHOP | {"secrets": now}}) as (served, visitor):
        served.app._watch.tally()
        assert uses(served) == {"0": (0, False), "1": (1, True), "removed": (1, True)}
        words = text_of(visitor.page("/sources/shop"))
        assert re.search(r"secret 1, the newest 0 not within .* secret 2 1 \d+ \w+ ago removed secrets 1 ", words)


@pytest.mark.parametrize(
    ("keys", "counted"),
    [
        ([OLD_KEY, f"{SECRET_KEY} {OLD_KEY}"], {"1": (1, True)}),
        ([OLD_KEY, f"{SECRET_KEY} {OLD_KEY}", f"{SECRET_KEY} {OLD_KEY}"], {"1": (2, True)}),
        ([OLD_KEY, f"{SECRET_KEY} {OLD_KEY}", SECRET_KEY], {"1": (1, True), "removed": (1, True)}),
    ],
)
def test_the_uses_of_a_secret_are_counted_on_while_the_secret_key_is_replaced(
    tmp_path: Path, keys: list[str], counted: dict[str, tuple[int, bool]]
) -> None:
    database = f"sqlite:///{tmp_path}/c.db"
    for number, key in enumerate(keys[:-1]):
        with visiting(database, role=None, sources={"shop": SHOP}, secret_key=key) as (served, _):
            assert served.post("shop", *sent_by("second-secret-here", number)).status_code == 200
            served.app._watch.tally()
    with visiting(database, role=None, sources={"shop": SHOP}, secret_key=keys[-1]) as (served, _):
        assert uses(served) == {"0": (0, False)} | counted


def uses(served: Served) -> dict[str, tuple[int, bool]]:
    """The number of uses of each secret of the source `shop`, and whether the time of the last one is known."""
    found = served.get("/api/v1/sources/shop").json()["secrets"]
    return {each["position"]: (each["verified"], each["last_at"] is not None) for each in found}


def test_of_many_secrets_without_use_only_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    secrets = [f"secret-number-{number}" for number in range(20)]
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP | {"secrets": secrets}}) as (served, visitor):
        content, headers = sent_by(secrets[15], 1)
        assert served.post("shop", content, headers).status_code == 200
        served.app._watch.tally()
        words = text_of(visitor.page("/sources/shop"))
        assert "secret 6 0 not within the last two weeks secret 16 1 " in words
        assert "13 more verified nothing within the last two weeks." in words
        assert "secret 1, the newest: 0, secret 16: 1" in text_of(visitor.page("/sources"))


def sent_by(secret: str, number: int) -> tuple[bytes, dict[str, str]]:
    return sent("sigma", body("sigma", key=f"by {number}"), secret)


def test_the_settings_of_a_source_are_shown_without_any_secret(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        page, answer = visitor.page("/sources/shop"), served.get("/api/v1/sources/shop").text
        for secret in TOLD:
            assert secret not in page
            assert secret not in answer
        assert "http://127.0.0.1:9/api/v1" in page
        assert served.get("/api/v1/sources/shop").json()["settings"] == {
            "dialect": "sigma",
            "allow_unsigned": False,
            "api_url": "http://127.0.0.1:9/api/v1",
            "api_lag_seconds": 60.0,
        }


def test_event_types_are_listed_with_their_handlers_and_those_without_one(tmp_path: Path) -> None:
    # Use another source name, because the process counts for all servers of the tests together.
    moons = {"moons": SOURCES["sigma"] | {"dialect": "sigma"}}
    with visiting(f"sqlite:///{tmp_path}/c.db", with_worker=True, sources=moons) as (served, visitor):
        content, headers = sent("sigma", body("sigma", key="moon", event_type="moon.<b>eclipsed"))
        served.ended(served.post("moons", content, headers).json()["delivery"])
        served.app._watch.tally()
        page = visitor.page("/sources/moons")
        assert "moon.&lt;b&gt;eclipsed" in page
        found = served.get("/api/v1/sources/moons").json()
        assert {"event_type": "entity.updated", "handler": ANY} in found["handlers"]
        assert [(each["event_type"], each["number"], each["handler"]) for each in found["ignored"]] == [
            ("moon.<b>eclipsed", 1, None)
        ]


def test_each_bar_of_a_source_links_to_its_deliveries_of_that_time(shown: Served, operator: Visitor) -> None:
    page = operator.page("/sources/sigma", period="day")
    assert (
        page.partition("<svg")[2].partition("</svg>")[0].count('href="/console/deliveries?source=sigma&amp;from=') == 72
    )
    assert operator.get("/sources/sigma", period="year").status_code == 400


def test_one_failed_attempt_is_counted_in_the_singular(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        with served.beside.write() as connection:
            counted = {TallyKey("sigma", "failed_attempt", ""): KindCount(1)}
            tallies.add(connection, "p1", counted, at=datetime.now(UTC) - timedelta(minutes=5))
        page = text_of(visitor.page("/sources/sigma"))
        assert "0 came, 0 refused, 1 failed attempt, 0 ended as dead." in page


def test_deliveries_that_end_on_arrival_are_counted_as_dead_and_shown_in_the_chart(tmp_path: Path) -> None:
    suns = {"suns": SOURCES["sigma"] | {"dialect": "sigma"}}
    with visiting(f"sqlite:///{tmp_path}/c.db", sources=suns) as (served, visitor):
        unhandled = body("sigma", key="unhandled", event_type="sun.set")
        for content in (b"not json 1", b"not json 2", unhandled):
            assert served.post("suns", *sent("sigma", content)).status_code == 200
        served.app._watch.tally()
        assert "3 came, 0 refused, 0 failed attempts, 2 ended as dead." in text_of(visitor.page("/sources/suns"))
        bar = visitor.page("/sources/suns", period="hour")
        assert "1 ignored, 2 dead" in bar


def test_dead_and_refused_ones_in_a_chart_lead_to_all_of_them_because_they_arrived_at_other_times(
    tmp_path: Path,
) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        counted = {"ended": "dead", "refused": "not_verified"}
        with served.beside.write() as connection:
            for minutes, kinds in ((30, ["ended"]), (20, ["refused"]), (10, ["ended", "refused"])):
                at = datetime.now(UTC) - timedelta(minutes=minutes)
                keys = {TallyKey("sigma", kind, counted[kind]): KindCount(1) for kind in kinds}
                tallies.add(connection, "p", keys, at=at)
        page = visitor.page("/sources/sigma", period="hour")
        dead, refused = "/console/deliveries?source=sigma&amp;state=dead", "/console/refused?source=sigma"
        bars = re.findall(r'<a href="([^"]*)" tabindex="-1" aria-label="[^"]*: 1 (.*?)"', page)
        arrived = bars[2][0]
        assert bars == [(dead, "dead"), (refused, "refused"), (arrived, "dead, 1 refused")]
        assert arrived.startswith("/console/deliveries?source=sigma&amp;from=")
        for link in (dead, refused):
            assert page.count(f'<a href="{link}">1</a>') == 2
            assert visitor.client.get(unescape(link).removeprefix("/console")).status_code == 200


def test_a_release_that_starts_is_marked_in_the_chart(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        now = datetime.now(UTC)
        with served.beside.write() as connection:
            for minutes, release in ((50, "0.1.0 a"), (20, "<i>0.2.0</i> b")):
                counted = {TallyKey("", "running", release): KindCount(1)}
                tallies.add(connection, f"p{minutes}", counted, at=now - timedelta(minutes=minutes))
        page = visitor.page("/sources/sigma")
        assert "release &lt;i&gt;0.2.0&lt;/i&gt; started" in page
        assert "release 0.1.0 started" not in page


def test_an_unknown_source_is_answered_with_a_page_that_says_so(operator: Visitor, shown: Served) -> None:
    for name in ("nobody", "%3Cb%3E", "x" * 300):
        answer = operator.get(f"/sources/{name}")
        assert answer.status_code in (400, 404), name
        assert '<p class="refusal" role="alert">' in answer.text
        assert "<b>" not in answer.text
    assert "There is no source 'nobody'" in shown.get("/api/v1/sources/nobody").json()["message"]


def test_one_button_plans_a_reconcile_without_starting_it(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", sources={"shop": SHOP}) as (served, visitor):
        token = {"form_token": form_token(visitor.page("/sources/shop"))}
        # Whatever the form contains, the plan is a reconcile of this source.
        answer = visitor.post("/sources/shop/reconcile", kind="replay", source="other", **token)
        assert answer.status_code == 303
        [run] = served.get("/api/v1/runs").json()["items"]
        assert answer.headers["location"].startswith(f"/console/runs/{run['id']}?done=plan_reconcile&when=")
        assert (run["kind"], run["sources"], run["started_at"]) == ("reconcile", ["shop"], None)
        [action] = served.get("/api/v1/actions").json()["items"][:1]
        assert (action["what"], action["via"], action["who"]) == ("plan reconcile", "console", "ops-1")


def form_token(page: str) -> str:
    return page.partition('action="/console/sources/shop/reconcile"')[2].partition('value="')[2].partition('"')[0]


def test_a_source_without_a_list_has_no_button_and_the_page_says_why(operator: Visitor) -> None:
    page = operator.page("/sources/sigma")
    assert "/sources/sigma/reconcile" not in page
    assert "This source cannot be reconciled" in page


def test_a_viewer_sees_no_button_and_cannot_plan(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db", role=Role.VIEWER, sources={"shop": SHOP}) as (served, visitor):
        page = visitor.page("/sources/shop")
        assert "Plan a reconcile" not in page
        assert "<button>" not in page.partition("<main")[2]
        assert visitor.post("/sources/shop/reconcile", kind="reconcile").status_code == 403
        assert served.get("/api/v1/runs", scope=Scope.READ).json()["items"] == []
