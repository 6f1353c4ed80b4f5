"""The pages of findings, faults, refused requests and actions: their texts, their buttons, and hostile values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from senders import SECRETS, sent
from serving import Served, wait_until
from sqlalchemy import insert
from visiting import Visitor, hidden_fields, strange_markup, text_of, visiting

from receiver.api.findings import FaultShown, FindingShown
from receiver.console.remedies import remedy_of, remedy_of_fault
from receiver.findings.finding import Finding
from receiver.findings.record import update_record
from receiver.findings.tables import TALLIES
from receiver.inbox.refused import REQUESTS
from receiver.ingest import keeping
from receiver.runs.actions import Asked, By, Effect, Via, record
from receiver.runs.tables import RUN_ROWS, RUNS
from receiver.server.registry import Reading
from receiver.sessions.roles import Role
from receiver.settings.files import noting_stamps, read_bounded

#: Texts with which strangers try to change a page.
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(1)>{{ 7 * 7 }}\u202e\x1b[31m'

NOW = datetime.now(UTC)

FOUND = Finding(
    "one_cause",
    "iimmpact",
    NOW - timedelta(minutes=10),
    f"3 deliveries of iimmpact are dead, all for one cause: {HOSTILE}",
    f"Mend it. {HOSTILE}",
    {"dead": 3, "delivery": HOSTILE, "release": HOSTILE, "link": "/api/v1/faults?source=iimmpact"},
)

SILENT = Finding("silence", "sigma", NOW - timedelta(minutes=10), "nothing came from sigma", "Look there.", {})


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Visitor, Visitor]]:
    """Serve on a bad day, and sign in an operator and a viewer."""
    folder: Path = tmp_path_factory.mktemp("repair")
    with visiting(f"sqlite:///{folder}/repair.db", with_worker=True) as (served, operator):
        served.ended(served.send("iimmpact", HOSTILE.encode()))
        _find(served)
        for content in (HOSTILE.encode(), b"\xff\x00" * 2_000, b'{"price": 1.10}'):
            assert served.post("iimmpact", *sent("iimmpact", content, "a secret of before")).status_code == 401
        served.app._keeper.flush()
        viewer = Visitor(operator.base)
        assert viewer.sign_in(Role.VIEWER, "eve").status_code == 303
        yield served, operator, viewer
        viewer.close()


def _find(served: Served) -> None:
    with served.beside.write() as connection:
        other = Asked(by=By(HOSTILE, Via.COMMAND), what="replay", arguments={HOSTILE: HOSTILE}, reason=HOSTILE[:200])
        record(connection, other, Effect(2, {HOSTILE: HOSTILE}), now=FOUND.since - timedelta(minutes=1))
        tally = {"span": 60, "source": "", "kind": "running", "process": "p", "number": 1, "amount": 0.0}
        for release, minutes in (("0.2.9 a", 600), ("0.3.0 b", 2)):
            at = FOUND.since - timedelta(minutes=minutes)
            connection.execute(insert(TALLIES).values(**tally, detail=release, at=at.replace(second=0, microsecond=0)))
    update_record(served.beside, [FOUND, SILENT], now=NOW)


def newest_refused(served: Served, place: int) -> str:
    return str(served.get("/api/v1/refused").json()["items"][place]["id"])


def post_form(operator: Visitor, page: str, label: str, **more: str):
    """Press the button with this text on the page."""
    found = re.findall(r"<form method=\"post\" action=\"/console([^\"]*)\"[^>]*>(.*?)</form>", page, re.S)
    address, inside = next((address, inside) for address, inside in found if f">{label}</button>" in inside)
    return operator.post(address, **(hidden_fields(f"<form{inside}") | more))


def test_a_finding_shows_its_beginning_the_changes_at_that_time_and_its_remedy(desk) -> None:
    served, operator, _ = desk
    page = operator.page(f"/findings/{FOUND.id}")
    words = text_of(page)
    assert "3 deliveries of iimmpact are dead" in words
    assert "A process started with release 0.3.0" in words
    assert "release 0.2.9" not in words
    assert "did “replay” by command" in words
    assert 'href="/console/faults?source=iimmpact">See the details' in page
    answer = post_form(operator, page, "Plan a replay of all dead ones of iimmpact")
    run = re.fullmatch(r"/console/runs/(\d+)\?done=plan_run&when=\d+", answer.headers["location"])[1]
    wait_until(lambda: served.get(f"/api/v1/runs/{run}").json()["state"] == "planned", "the plan")
    assert served.get(f"/api/v1/runs/{run}").json()["arguments"] == {"source": "iimmpact", "state": "dead"}


def test_a_finding_is_acknowledged_and_keeps_the_note(desk) -> None:
    _, operator, _ = desk
    answer = post_form(operator, operator.page(f"/findings/{FOUND.id}"), "I know of it", reason="the sender mends it")
    assert answer.status_code == 303
    words = text_of(operator.page(f"/findings/{FOUND.id}"))
    assert "ops-1 knows of it" in words
    assert "I know of it" not in words
    assert "acknowledge finding" in text_of(operator.page("/actions"))
    assert "the sender mends it" in text_of(operator.page("/actions"))


def test_the_sentence_of_a_finding_begins_with_a_capital_wherever_it_stands_alone(desk) -> None:
    _, operator, _ = desk
    assert "<h1><bdi hx-ignore>Nothing came from sigma.</bdi></h1>" in operator.page(f"/findings/{SILENT.id}")
    assert "<strong><bdi hx-ignore>Nothing came from sigma.</bdi></strong>" in operator.page("/findings", all="true")


def test_an_unknown_finding_is_answered_with_a_page_that_says_so(desk) -> None:
    _, operator, _ = desk
    answer = operator.get("/findings/nothing")
    assert (answer.status_code, "There is no finding 'nothing'" in text_of(answer.text)) == (404, True)


def test_closed_findings_are_listed_on_request(desk) -> None:
    _, operator, _ = desk
    assert f"/console/findings/{FOUND.id}" in operator.page("/findings", all="true")


def test_faults_are_listed_by_cause_with_a_button_to_replay(desk) -> None:
    served, operator, _ = desk
    page = operator.page("/faults", source="iimmpact")
    (fault,) = served.get("/api/v1/faults").json()["items"]
    assert fault["cause"][:20] in text_of(page)
    assert "hookmirror faults --source iimmpact" in text_of(page)
    answer = post_form(operator, page, "Plan a replay of these")
    run = answer.headers["location"].removeprefix("/console/runs/").partition("?")[0]
    wait_until(lambda: served.get(f"/api/v1/runs/{run}").json()["state"] == "planned", "the plan")
    assert served.get(f"/api/v1/runs/{run}").json()["total"] == 1


def test_a_refused_request_is_shown_as_text_or_digits_and_never_parsed(desk) -> None:
    served, operator, _ = desk
    assert '{"price": 1.10}' in operator.page(f"/refused/{newest_refused(served, 0)}").replace("&#34;", '"')
    binary = operator.page(f"/refused/{newest_refused(served, 1)}")
    assert "2,048 bytes, not text: in hexadecimal digits" in text_of(binary)
    assert "ff 00 ff 00" in binary
    hostile = operator.page(f"/refused/{newest_refused(served, 2)}")
    assert "&lt;script&gt;alert(1)" in hostile


def test_refused_requests_are_counted_and_each_has_a_link(desk) -> None:
    served, operator, _ = desk
    page = operator.page("/refused", source="iimmpact")
    assert "iimmpact: 3 kept" in text_of(page).replace("iimmpact : ", "iimmpact: ")
    assert f"/console/refused/{newest_refused(served, 0)}" in page
    assert "hookmirror refused iimmpact" in text_of(page)
    assert "No refused request is kept of this source. Show all" in text_of(operator.page("/refused", source="sigma"))


def test_a_page_with_kept_requests_never_says_that_none_was_refused(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/n.db") as (served, operator):
        assert "No refused request was counted in the last day." in text_of(operator.page("/refused"))
        assert served.post("iimmpact", *sent("iimmpact", b"{}", "a secret of before")).status_code == 401
        served.app._keeper.flush()
        words = text_of(operator.page("/refused"))
        assert "No refused request was counted" not in words
        assert "Processes write the counts of the last day once a minute." in words


def test_settings_that_were_not_read_since_they_changed_are_read_before_requests_verify_again(tmp_path: Path) -> None:
    file = tmp_path / "hookmirror.toml"
    file.write_text("")
    with visiting(f"sqlite:///{tmp_path}/u.db") as (served, operator):
        assert served.post("iimmpact", *sent("iimmpact", b"{}", "a secret of before")).status_code == 401
        served.app._keeper.flush()
        with noting_stamps() as stamps:
            read_bounded(file)
        for stamp, is_told in (("of another content", True), (stamps[str(file)], False)):
            served.note_reading(Reading(NOW, stamps={str(file): stamp}))
            page = operator.page("/refused")
            assert (f"{file} changed since it was read." in text_of(page)) == is_told
            assert ("Read the settings again" in page) == is_told
        # A process that can reload would get a signal, and this one is the test's.
        served.note_reading(None)
        fields = {"form_token": hidden_fields(page)["form_token"], "then": "refused"}
        assert operator.post("/system/reload", **fields).headers["location"].startswith("/console/refused?done=")


def test_a_refused_request_that_is_gone_is_answered_with_a_page_that_says_why(desk) -> None:
    _, operator, _ = desk
    for path in ("/refused/1", "/refused/x"):
        answer = operator.get(path)
        assert (answer.status_code, "it was accepted since" in text_of(answer.text)) == (404, True)


def test_requests_of_a_source_that_left_the_settings_are_listed_by_its_name(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/c.db"
    with visiting(database) as (served, _):
        assert served.post("sigma", *sent("sigma", b"{}", "another secret")).status_code == 401
        served.app._keeper.flush()
    with visiting(database, sources={"iimmpact": {"secrets": [SECRETS["iimmpact"]]}}) as (served, operator):
        assert len(served.get("/api/v1/refused?source=sigma").json()["items"]) == 1
        assert "sigma : 1 kept" in text_of(operator.page("/refused", source="sigma"))
        assert served.get("/api/v1/refused?source=sigmo").status_code == 400


def test_requests_of_a_source_that_left_the_settings_can_be_dropped_on_their_page(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/c.db"
    with visiting(database) as (served, _):
        assert served.post("sigma", *sent("sigma", b"{}", "another secret")).status_code == 401
        served.app._keeper.flush()
    with visiting(database, sources={"iimmpact": {"secrets": [SECRETS["iimmpact"]]}}) as (served, operator):
        assert 'href="/console/refused/sigma/drop' in operator.page("/refused", source="sigma")
        answer = operator.press("/refused/sigma/drop", reason="the source is gone")
        after = operator.get(answer.headers["location"].removeprefix("/console"))
        assert (after.status_code, "1 request is dropped." in text_of(after.text)) == (200, True)
        assert served.get("/api/v1/refused").json()["items"] == []


def test_a_viewer_sees_these_pages_without_buttons(desk) -> None:
    served, operator, viewer = desk
    paths = ["/findings", f"/findings/{FOUND.id}", "/faults", "/refused", "/actions"]
    for path in [*paths, f"/refused/{newest_refused(served, 0)}"]:
        page = viewer.page(path)
        assert re.findall(r"<form method=\"post\" action=\"([^\"]*)\"", page) == ["/console/sign-out"], path
    token = hidden_fields(operator.page("/runs"))["form_token"]
    for address in ("/refused/iimmpact/verify", "/refused/iimmpact/drop", f"/findings/{FOUND.id}/acknowledge"):
        answer = viewer.post(address, form_token=token, reason="because")
        assert (answer.status_code, "is for operators" in text_of(answer.text)) == (403, True)


def test_hostile_values_are_shown_as_text_on_these_pages(desk) -> None:
    served, operator, _ = desk
    run = _hostile_run(served)
    paths = ["/findings?all=true", f"/findings/{FOUND.id}", "/faults", "/refused", "/actions", "/runs"]
    paths += [f"/refused/{newest_refused(served, place)}" for place in range(3)]
    for path in [*paths, f"/runs/{run}", f"/runs/{run}/rows", f"/actions?run={run}"]:
        page = operator.page(path)
        assert strange_markup(page) == [], path
        assert not set(page) & {"\u202e", "\x1b"}, path
        assert "alert(1)&gt;49" not in page, path


def _hostile_run(served: Served) -> int:
    values = {
        "kind": "replay",
        "sources": [HOSTILE],
        "arguments": {"event_type": HOSTILE, "source": HOSTILE},
        "state": "paused",
        "total": 1,
        "done": 0,
        "tally": {HOSTILE: 1},
        "forecast": {
            "made_at": "2026-03-04T12:00:00+00:00",
            "outcomes": {HOSTILE: 1},
            "partial": HOSTILE,
            "reasons": [{"reason": HOSTILE, "deliveries": 1}],
            "rows": {HOSTILE: {HOSTILE: 1}},
        },
        "release": HOSTILE,
        "wiring": "x",
        "planned_by": HOSTILE,
        "planned_at": NOW,
        "started_by": HOSTILE,
        "started_at": NOW,
        "reason": HOSTILE,
        "trouble": HOSTILE,
    }
    row = {"table": "products", "source": HOSTILE, "external_id": HOSTILE, "operation": "update"}
    with served.beside.write() as connection:
        run = int(connection.execute(insert(RUNS).values(**values).returning(RUNS.c.id)).scalar_one())
        changed = {"before": {HOSTILE: HOSTILE}, "after": {HOSTILE: [HOSTILE, 1]}}
        connection.execute(insert(RUN_ROWS).values(run=run, **row, **changed))
        asked = Asked(by=By(HOSTILE, Via.API), what=HOSTILE, arguments={HOSTILE: [HOSTILE]}, reason=HOSTILE)
        record(connection, asked, Effect(1, {HOSTILE: HOSTILE}, run=run), now=NOW)
    return run


def test_one_press_makes_deliveries_of_requests_that_verify_with_a_new_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The keeper's own look, which verifies the request by itself, comes after the end of the test.
    monkeypatch.setattr(keeping, "KEEPING_SECONDS", 3_600.0)
    with visiting(f"sqlite:///{tmp_path}/v.db", with_worker=False) as (served, operator):
        content, headers = sent("iimmpact", b"{}", "a secret of before")
        assert served.post("iimmpact", content, headers).status_code == 401
        served.app._keeper.flush()
        _sign_again(served)
        answer = post_form(operator, operator.page("/refused"), "Verify again")
        assert answer.headers["location"].startswith("/console/refused?source=iimmpact&done=verify_refused&when=")
        said = text_of(operator.page(answer.headers["location"].removeprefix("/console")))
        assert "1 request verified: 1 new; none is left." in said
        assert served.count("deliveries") == 1
        assert served.count("refused") == 0


def test_a_link_cannot_make_a_page_say_that_something_was_done(
    shown: Served, operator: Visitor, viewer: Visitor
) -> None:
    query = {"done": "verify_refused", "said": "Everything is well.", "seal": "x"}
    assert "Everything is well." not in operator.page("/refused", **query)
    shown.note_reading(None)
    answer = post_form(operator, operator.page("/system"), "Read the settings again")
    address = answer.headers["location"].removeprefix("/console")
    assert "1 process did not adopt them" in text_of(operator.page(address))
    # Only the operator saw the message.
    assert "did not adopt them" not in text_of(viewer.page(address))


def _sign_again(served: Served) -> None:
    """Sign the kept request with the present secret, as if that secret had been added since."""
    _, headers = sent("iimmpact", b"{}", SECRETS["iimmpact"])
    kept = [[name.lower(), value] for name, value in dict(headers).items()]
    with served.beside.write() as connection:
        connection.execute(REQUESTS.update().values(headers=kept))


def finding(rule: str, **evidence: object) -> FindingShown:
    return FindingShown("f", rule, "shop", NOW, "It is so", "Mend it.", evidence, NOW, None, None, None)


@pytest.mark.parametrize(
    ("found", "button", "fields"),
    [
        (finding("secret_changed"), "reload_settings", {"finding": "f"}),
        (finding("sender_not_switched"), "verify_refused", {}),
        (finding("one_cause", dead=2), "plan_run", {"kind": "replay", "source": "shop", "state": "dead"}),
        (
            finding("one_cause", dead=2, reason_has="is not a number"),
            "plan_run",
            {"kind": "replay", "source": "shop", "state": "dead", "reason_has": "is not a number"},
        ),
        (
            finding("handler_appeared", event_type="a"),
            "plan_run",
            {"kind": "replay", "source": "shop", "state": "ignored", "event_type": "a"},
        ),
        (finding("mirror_differs"), "plan_run", {"kind": "reconcile", "source": "shop"}),
        (finding("reconcile_fails", run="7"), "resume_run", {}),
    ],
)
def test_a_finding_has_exactly_one_button_as_its_remedy(
    found: FindingShown, button: str, fields: dict[str, str]
) -> None:
    remedy = remedy_of(found)
    assert (remedy.button, remedy.hidden) == (button, fields)


@pytest.mark.parametrize("found", [finding("one_cause", dead=0), finding("body_too_large"), finding("unknown_rule")])
def test_a_finding_without_a_remedy_has_no_button(found: FindingShown) -> None:
    assert remedy_of(found) is None


@pytest.mark.parametrize(
    ("cause", "example", "telling"),
    [
        ("… is not a number of the shop", "'5,00' is not a number of the shop", "is not a number of the shop"),
        ("…: …", "'a': 5", None),
        ("two  blanks were here once", "two   blanks were here once", None),
    ],
)
def test_a_fault_is_replayed_by_the_constant_part_of_its_cause(cause, example, telling) -> None:
    fault = FaultShown("f", "shop", cause, 2, 2, 0, NOW, NOW, None, None, "1", example)
    remedy = remedy_of_fault(fault)
    assert (None if remedy is None else remedy.hidden["reason_has"]) == telling
