"""The pages of runs without scripts: plan, inspect, start, watch, and end one."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serving import Served, wait_until
from visiting import Visitor, hidden_fields, text_of, visiting

from receiver.api.runs import ForecastRow
from receiver.console.pages.run import _rate, foreseen
from receiver.runs.tables import RunState
from receiver.sessions.roles import Role

#: Three deliveries of one product, the last with another price.
SHOP = "iimmpact"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Visitor, Visitor]]:
    """Serve with three ended deliveries, and sign in an operator and a viewer."""
    folder: Path = tmp_path_factory.mktemp("runs")
    with visiting(f"sqlite:///{folder}/runs.db", with_worker=True) as (served, operator):
        for number in range(2):
            served.ended(served.send(SHOP, id=f"A{number}", key=f"k{number}"))
        served.ended(served.send(SHOP, b"not JSON"))
        viewer = Visitor(operator.base)
        assert viewer.sign_in(Role.VIEWER, "eve").status_code == 303
        yield served, operator, viewer
        viewer.close()


def planned(served: Served, operator: Visitor, answer) -> str:
    """Return the number of the run that a form planned, once its plan is made."""
    assert answer.status_code == 303, answer.text
    run = re.fullmatch(r"/console/runs/(\d+)\?done=plan_run&when=\d+", answer.headers["location"])[1]
    in_state(served, run, "planned")
    return run


def in_state(served: Served, run: str, state: str) -> None:
    wait_until(lambda: served.get(f"/api/v1/runs/{run}").json()["state"] == state, f"run {run} to be {state}")


def form(page: str, label: str) -> tuple[str, dict[str, str]]:
    """Return the address and the hidden fields of the form with this button."""
    found = re.findall(r"<form method=\"post\" action=\"/console([^\"]*)\"[^>]*>(.*?)</form>", page, re.S)
    address, inside = next((address, inside) for address, inside in found if f">{label}</button>" in inside)
    return address.replace("&amp;", "&"), hidden_fields(f"<form{inside}")


def press(operator: Visitor, path: str, label: str, **more: str):
    """Press a button of a page as a browser without scripts does."""
    address, fields = form(operator.page(path), label)
    return operator.post(address, **(fields | more))


def test_all_matching_deliveries_are_planned_started_and_replayed(desk) -> None:
    served, operator, _ = desk
    listed = "/deliveries?source=iimmpact"
    run = planned(served, operator, press(operator, listed, "Plan a replay of all 3 that match"))
    page = text_of(operator.page(f"/runs/{run}", done="plan_run"))
    assert "The plan is being made. Nothing is changed before you start it." in page
    assert f"Run {run}: replay of 3 deliveries of iimmpact" in page
    assert "2 unchanged , 1 dead" in page
    started = press(operator, f"/runs/{run}", "Start it", reason="the parser was mended")
    address = started.headers["location"]
    assert re.match(rf"/console/runs/{run}\?done=start_run&when=\d+&said=The\+run\+is\+started\.", address)
    in_state(served, run, "done")
    page = text_of(operator.page(f"/runs/{run}"))
    assert "Why: the parser was mended" in page
    assert "3 of 3" in page
    assert "ops-1 by console start run the parser was mended" in page


def test_the_deliveries_of_a_run_are_listed_page_by_page_with_forecast_and_outcome(desk) -> None:
    served, operator, viewer = desk
    run = planned(served, operator, press(operator, "/deliveries?source=iimmpact", "Plan a replay of all 3 that match"))
    listed = served.get(f"/api/v1/runs/{run}/deliveries?limit=2").json()
    rest = served.get(f"/api/v1/runs/{run}/deliveries?limit=2&after={listed['next']}").json()
    kept = sorted(each["id"] for each in served.get("/api/v1/deliveries?source=iimmpact").json()["items"])
    assert [each["delivery"] for each in (*listed["items"], *rest["items"])] == kept
    assert rest["next"] is None
    assert [each["forecast"] for each in (*listed["items"], *rest["items"])] == ["unchanged", "unchanged", "dead"]
    assert "Its deliveries" in operator.page(f"/runs/{run}")
    assert all(each in viewer.page(f"/runs/{run}/deliveries") for each in kept)
    press(operator, f"/runs/{run}", "Start it", reason="to see what becomes of each")
    in_state(served, run, "done")
    rows = list(csv.DictReader(io.StringIO(operator.page(f"/runs/{run}/deliveries.csv").lstrip("\ufeff"))))
    assert [(row["state"], row["outcome"]) for row in rows] == [
        ("ended", "unchanged"),
        ("ended", "unchanged"),
        ("ended", "dead"),
    ]


def test_a_run_without_deliveries_says_so(desk) -> None:
    served, operator, _ = desk
    run = planned(served, operator, press(operator, "/runs", "Plan a prune"))
    assert "It has no deliveries" in text_of(operator.page(f"/runs/{run}/deliveries"))
    press(operator, f"/runs/{run}", "Drop the plan")


def test_a_prune_is_planned_on_the_page_that_says_what_is_kept(desk) -> None:
    served, operator, _ = desk
    run = planned(served, operator, press(operator, "/system", "Plan a prune"))
    assert served.get(f"/api/v1/runs/{run}").json()["kind"] == "prune"
    press(operator, f"/runs/{run}", "Drop the plan")


def test_each_state_has_its_number_under_the_other_filters(desk) -> None:
    _, operator, _ = desk
    tabs = text_of(operator.page("/deliveries").partition('<p class="tabs">')[2].partition("</p>")[0])
    assert tabs == "all pending 0 processing 0 processed 2 ignored 0 dead 1 conflict"
    tabs = operator.page("/deliveries", entity="product:A1", state="dead").partition('<p class="tabs">')[2]
    assert "processed 1 ignored 0 dead 0" in text_of(tabs.partition("</p>")[0])


def test_only_the_marked_deliveries_are_planned(desk) -> None:
    served, operator, _ = desk
    ids = [each["id"] for each in served.get("/api/v1/deliveries?limit=2").json()["items"]]
    address, fields = form(operator.page("/deliveries"), "Plan a replay of the marked ones")
    answer = operator.client.post(address, data=fields | {"ids": ids}, headers={"Sec-Fetch-Site": "same-origin"})
    run = planned(served, operator, answer)
    assert sorted(served.get(f"/api/v1/runs/{run}").json()["arguments"]["ids"]) == sorted(ids)
    press(operator, f"/runs/{run}", "Drop the plan")


def test_a_form_without_any_filter_is_answered_with_a_page_that_says_what_to_choose(desk) -> None:
    _, operator, _ = desk
    _, fields = form(operator.page("/deliveries"), "Plan a replay of the marked ones")
    del fields["ids"]
    answer = operator.post("/runs/plan", **fields)
    assert answer.status_code == 400
    assert "No deliveries are selected" in text_of(answer.text)


def test_a_plan_with_a_blank_as_filter_selects_what_has_a_blank_there_and_not_everything(desk) -> None:
    served, operator, _ = desk
    _, fields = form(operator.page("/deliveries?source=iimmpact"), "Plan a replay of all 3 that match")
    run = planned(served, operator, operator.post("/runs/plan", **(fields | {"entity": " "})))
    assert served.get(f"/api/v1/runs/{run}").json()["total"] == 0


def test_a_form_posted_twice_plans_one_run_and_with_other_values_another(desk) -> None:
    served, operator, _ = desk
    address, fields = form(operator.page("/runs"), "Plan a prune")
    first, second = (operator.post(address, **fields) for _ in range(2))
    other = operator.post(address, **(fields | {"kind": "replay", "state": "dead"}))
    places = [re.sub(r"&when=\d+", "", each.headers["location"]) for each in (first, second, other)]
    assert places[0] == places[1] != places[2]
    for answer in (first, other):
        press(operator, f"/runs/{planned(served, operator, answer)}", "Drop the plan")


def test_a_run_ended_by_another_operator_is_answered_with_a_page_that_links_to_it(desk) -> None:
    served, operator, _ = desk
    run = planned(served, operator, press(operator, "/runs", "Plan a prune"))
    looked_at = operator.page(f"/runs/{run}")
    press(operator, f"/runs/{run}", "Drop the plan")
    address, fields = form(looked_at, "Start it")
    answer = operator.post(address, **fields, reason="the disk is full")
    assert answer.status_code == 409
    assert f"Run {run} is cancelled, so it cannot be started." in text_of(answer.text)
    assert f'href="/console/runs/{run}">See the present state' in answer.text


def test_a_plan_started_by_two_operators_starts_once_and_the_second_learns_by_whom(desk) -> None:
    served, operator, _ = desk
    other = Visitor(operator.base)
    assert other.sign_in(Role.OPERATOR, "ops-2").status_code == 303
    run = planned(served, operator, press(operator, "/runs", "Plan a prune"))
    forms = [(person, *form(person.page(f"/runs/{run}"), "Start it")) for person in (operator, other)]
    first, second = (person.post(path, **fields, reason="the disk is full") for person, path, fields in forms)
    assert first.status_code == 303
    assert (second.status_code, "started by ops-1" in text_of(second.text)) == (409, True)
    in_state(served, run, "done")
    other.close()


def test_a_start_without_a_reason_asks_for_one(desk) -> None:
    served, operator, _ = desk
    run = planned(served, operator, press(operator, "/runs", "Plan a prune"))
    answer = press(operator, f"/runs/{run}", "Start it", reason=" ")
    assert (answer.status_code, "A start needs a reason" in text_of(answer.text)) == (400, True)
    assert press(operator, f"/runs/{run}", "Start it", reason="the disk is full").status_code == 303
    in_state(served, run, "done")


def test_a_plan_can_be_made_again_with_the_same_filters(desk) -> None:
    served, operator, _ = desk
    listed = "/deliveries?state=dead&reason=JSON"
    run = planned(served, operator, press(operator, listed, "Plan a replay of all 1 that match"))
    again = planned(served, operator, press(operator, f"/runs/{run}", "Plan it again"))
    first, second = (served.get(f"/api/v1/runs/{each}").json() for each in (run, again))
    assert first["arguments"] == second["arguments"] == {"state": "dead", "reason": "JSON"}
    assert f"Run {run} , which is planned, has 1 delivery" in text_of(operator.page(f"/runs/{again}")).replace(
        f"Run {run}, which", f"Run {run} , which"
    )
    for each in (run, again):
        press(operator, f"/runs/{each}", "Drop the plan")


def test_a_viewer_sees_runs_without_buttons(desk) -> None:
    served, operator, viewer = desk
    run = planned(served, operator, press(operator, "/runs", "Plan a prune"))
    for path in ("/runs", f"/runs/{run}", f"/runs/{run}/rows", "/deliveries?source=iimmpact"):
        page = viewer.page(path)
        assert re.findall(r"<form method=\"post\" action=\"([^\"]*)\"", page) == ["/console/sign-out"], path
        assert 'type="checkbox"' not in page
    for address in ("/runs/plan", f"/runs/{run}/start", f"/runs/{run}/cancel", "/deliveries/try"):
        token = hidden_fields(operator.page(f"/runs/{run}"))["form_token"]
        answer = viewer.post(address, form_token=token, kind="prune", reason="because")
        assert (answer.status_code, "is for operators" in text_of(answer.text)) == (403, True), address
    press(operator, f"/runs/{run}", "Drop the plan")


def test_the_forecast_shows_each_row_and_can_be_downloaded_whole(desk) -> None:
    served, operator, _ = desk
    run = planned(served, operator, press(operator, "/runs", "Plan a prune"))
    with served.beside.write() as connection:
        for number in range(120):
            connection.exec_driver_sql(
                'INSERT INTO run_rows (run, "table", source, external_id, operation, before, after) VALUES '
                f"({run}, 'products', 'shop', 'A{number:03}', 'update', '{{\"price\": 4.50}}', '{{\"price\": 5.00}}')"
            )
        connection.exec_driver_sql(
            'UPDATE runs SET forecast = \'{"made_at": "2026-03-04T12:00:00+00:00", "outcomes": {"applied": 120}, '
            f'"partial": null, "reasons": [], "rows": {{"products": {{"update": 120}}}}}}\' WHERE id = {run}'
        )
    page = text_of(operator.page(f"/runs/{run}"))
    assert "products shop A000 update price 4.50 → 5.00" in page
    assert "90 more: all rows" in page
    second = operator.page(f"/runs/{run}/rows", after="100")
    assert "A100" in second
    assert "A099" not in second
    rows = list(csv.DictReader(io.StringIO(operator.page(f"/runs/{run}/rows.csv").lstrip("\ufeff"))))
    assert [row["external_id"] for row in rows] == [f"A{number:03}" for number in range(120)]
    press(operator, f"/runs/{run}", "Drop the plan")


def test_a_foreseen_boolean_in_place_of_a_number_is_shown() -> None:
    row = ForecastRow(
        "products", "shop", "A1", "update", {"data": {"on": 1}, "sku": "S"}, {"data": {"on": True}, "sku": "S"}
    )
    assert [each.name for each in foreseen(row).changes] == ["data"]


def test_a_run_that_started_before_the_clock_was_set_back_shows_no_rate() -> None:
    noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    run: Any = SimpleNamespace(state=RunState.RUNNING, started_at=noon, done=600)
    assert _rate(run, noon + timedelta(minutes=1)) == 10
    assert _rate(run, noon - timedelta(days=1)) is None


def test_an_impossible_plan_is_answered_with_a_page_that_says_what_to_do(desk) -> None:
    _, operator, _ = desk
    form_of_plan = operator.page("/runs/plan", kind="reconcile", source="indexed")
    answer = operator.post("/runs/plan", **hidden_fields(form_of_plan), kind="reconcile", source="indexed")
    assert (answer.status_code, "has no list of its source" in text_of(answer.text)) == (400, True)
    for path in ("/runs/999", "/runs/x", "/runs/999/rows", "/runs/999/deliveries"):
        answer = operator.get(path)
        assert (answer.status_code, "There is no run" in text_of(answer.text)) == (404, True)


@pytest.mark.parametrize("path", ["/runs/plan", "/deliveries/try"])
def test_a_list_in_which_nothing_is_marked_is_answered_with_what_to_do(desk, path: str) -> None:
    served, operator, _ = desk
    before = len(served.get("/api/v1/runs").json()["items"])
    _, fields = form(operator.page("/deliveries"), "Plan a replay of the marked ones")
    answer = operator.post(path, **fields)
    assert (answer.status_code, "mark at least one line" in text_of(answer.text)) == (400, True)
    assert len(served.get("/api/v1/runs").json()["items"]) == before


def test_several_waiting_deliveries_can_be_tried_now_with_a_reason(desk) -> None:
    served, operator, _ = desk
    ids = [each["id"] for each in served.get("/api/v1/deliveries?limit=2").json()["items"]]
    token = hidden_fields(operator.page("/runs"))
    answer = operator.client.post(
        "/deliveries/try",
        data=token | {"ids": ids, "reason": "the API is back"},
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert (answer.status_code, "None of these deliveries waits" in text_of(answer.text)) == (409, True)
    assert f"hookmirror retry {' '.join(ids)} --reason" in text_of(answer.text)


def test_the_page_of_a_forecast_that_is_not_made_yet_does_not_say_that_no_row_would_change(tmp_path: Path) -> None:
    with visiting(f"sqlite:///{tmp_path}/c.db") as (served, visitor):
        served.send("sigma", b"not JSON")
        # No worker makes the plan.
        visitor.press("/runs/plan", kind="replay", state="dead")
        assert "it is not known yet which rows would change" in text_of(visitor.page("/runs/1/rows"))
        visitor.press("/runs/1/cancel", reason="not wanted")
        assert "This run has no forecast." in text_of(visitor.page("/runs/1/rows"))
