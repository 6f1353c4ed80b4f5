"""Runs and actions over HTTP, with a worker that feeds."""

from __future__ import annotations

import pytest
from serving import Served, error, serving, wait_until

from receiver.api.tokens import Scope


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    """Serve with a worker that has ended three deliveries, one of them as dead."""
    with lend_database(tmp_path_factory.mktemp("runs")) as url, serving(url, with_worker=True) as running:
        for number in range(2):
            running.send("iimmpact", id=f"A{number}", key=f"k{number}")
        running.send("iimmpact", b"not JSON")
        wait_until(lambda: running.count("deliveries", "ended_at IS NULL") == 0, "the worker")
        yield running


@pytest.fixture(scope="module")
def idle(lend_database, tmp_path_factory):
    """A server without a worker."""
    with lend_database(tmp_path_factory.mktemp("idle")) as url, serving(url) as running:
        yield running


def post(served: Served, path: str, scope: Scope = Scope.OPERATE):
    return served.get(f"/api/v1/{path}", scope=scope, method="POST")


def run_in(served: Served, run: str, *states: str) -> dict:
    """Wait until the run is in one of these states, and return it."""

    def look() -> dict | None:
        shown = served.get(f"/api/v1/runs/{run}").json()
        return shown if shown["state"] in states else None

    return dict(wait_until(look, f"run {run}"))


def test_a_run_is_planned_started_and_done_over_http(served: Served):
    begun = post(served, "runs?source=iimmpact")
    assert (begun.status_code, begun.json()["state"]) == (202, "planning")
    planned = run_in(served, begun.json()["run"], "planned")
    assert (planned["total"], planned["forecast"]["outcomes"]) == (3, {"unchanged": 2, "dead": 1})
    assert planned["rows"] == []
    started = post(served, f"runs/{planned['id']}/start?reason=the+parser+was+mended")
    assert (started.status_code, started.json()) == (200, {"run": planned["id"], "state": "running", "again": False})
    done = run_in(served, planned["id"], "done")
    assert (done["tally"], done["started_by"], done["reason"]) == (
        {"unchanged": 2, "dead": 1},
        "api",
        "the parser was mended",
    )
    assert served.get("/api/v1/runs").json()["items"][0]["id"] == planned["id"]


def test_every_request_that_changed_something_is_an_action(served: Served):
    delivery = served.get("/api/v1/deliveries?limit=1").json()["items"][0]["id"]
    assert post(served, f"deliveries/{delivery}/replay").status_code == 202
    newest = served.get("/api/v1/actions?limit=1").json()["items"][0]
    assert (newest["what"], newest["who"], newest["via"], newest["count"]) == ("replay", "api", "api", 1)
    assert newest["arguments"] == {"delivery": delivery}
    assert str(served.delivery(delivery)["rounds"][-1]["action"]) == newest["id"]


def test_a_replay_repeated_with_one_key_is_one_action(served: Served):
    delivery = served.get("/api/v1/deliveries?limit=1").json()["items"][0]["id"]
    served.ended(delivery)
    before = served.count("actions")
    answers = [post(served, f"deliveries/{delivery}/replay?idempotency_key=one") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert served.count("actions") == before + 1
    served.ended(delivery)


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("runs", (400, "bad_request")),
        ("runs?state=pending", (400, "bad_request")),
        ("runs?source=nobody", (400, "bad_request")),
        ("runs/1e9/start", (404, "not_found")),
        ("runs/99/start?reason=because", (404, "not_found")),
        ("runs/99/cancel", (404, "not_found")),
        ("deliveries/1/try", (404, "not_found")),
    ],
)
def test_an_impossible_request_is_refused(served: Served, path, refused):
    assert error(post(served, path)) == refused


def test_a_read_token_plans_and_starts_nothing(served: Served):
    assert error(post(served, "runs?source=iimmpact", Scope.READ)) == (403, "forbidden")


def test_a_run_without_a_reason_is_not_started(served: Served):
    run = post(served, "runs?state=dead").json()["run"]
    run_in(served, run, "planned")
    assert error(post(served, f"runs/{run}/start")) == (400, "reason_wanted")
    assert error(post(served, f"runs/{run}/pause")) == (409, "run_conflict")
    assert post(served, f"runs/{run}/cancel").json() == {"run": run, "state": "cancelled", "again": False}
    assert error(post(served, f"runs/{run}/start?reason=because")) == (409, "run_conflict")


def test_without_a_worker_a_plan_waits_to_be_made(idle: Served):
    begun = post(idle, "runs?source=iimmpact").json()
    assert begun["state"] == "planning"
    assert error(post(idle, f"runs/{begun['run']}/start?reason=because")) == (409, "run_conflict")


def test_a_delivery_that_waits_for_its_next_attempt_is_tried_now(idle: Served):
    delivery = idle.send("iimmpact", id="W1", key="w1")
    with idle.beside.write() as connection:
        connection.exec_driver_sql(
            f"UPDATE deliveries SET attempts = 1, due_at = '2099-01-01T00:00:00.000000Z' WHERE id = {delivery}"
        )
    assert post(idle, f"deliveries/{delivery}/try").status_code == 202
    assert idle.delivery(delivery)["next_attempt_at"] < "2099"
    assert error(post(idle, f"deliveries/{delivery}/try")) == (409, "not_waiting")
    assert idle.get("/api/v1/actions?limit=1").json()["items"][0]["what"] == "try now"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("kind=reconcile", "The source is missing"),
        ("kind=reconcile&source=nobody", "The source is missing"),
        ("kind=reconcile&source=iimmpact&state=dead", "leave `state` out"),
        ("kind=reconcile&source=iimmpact", "has no `api_url`: set it"),
        ("kind=reconcile&source=indexed", "has no list of its source"),
        ("source=iimmpact&force=true", "`force` is for a reconcile"),
        ("kind=everything", "`kind` takes one of"),
    ],
)
def test_a_reconcile_that_cannot_be_planned_is_refused_with_advice(idle: Served, query: str, told: str):
    answer = post(idle, f"runs?{query}")
    assert (answer.status_code, told in answer.json()["message"]) == (400, True), answer.text


def test_a_replay_of_named_deliveries_takes_exactly_these(served: Served):
    ids = [each["id"] for each in served.get("/api/v1/deliveries?limit=2").json()["items"]]
    planned = run_in(served, post(served, f"runs?ids={','.join(ids)}").json()["run"], "planned")
    assert (planned["total"], sorted(planned["arguments"]["ids"])) == (2, sorted(ids))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("ids=,", "takes ids of deliveries"),
        ("ids=1,x", "not 'x'"),
        ("ids=1", "There is no delivery 1"),
        (f"ids={','.join(['1'] * 201)}", "at most 200"),
        ("ids=1&source=iimmpact", "leave `source` out"),
        ("kind=prune&state=dead", "A prune drops all expired data"),
        ("kind=reconcile&source=iimmpact&ids=1", "leave `ids` out"),
    ],
)
def test_a_contradictory_selection_is_refused_with_advice(served: Served, query, told):
    answer = post(served, f"runs?{query}")
    assert (answer.status_code, told in answer.json()["message"]) == (400, True), answer.text


def test_a_replay_by_reason_takes_the_deliveries_that_the_list_finds(served: Served):
    (dead,) = served.get("/api/v1/deliveries?state=dead").json()["items"]
    planned = run_in(served, post(served, "runs?reason_has=JSON&state=dead").json()["run"], "planned")
    assert "JSON" in dead["reason"]
    assert planned["total"] == 1


def test_a_prune_is_planned_and_done_over_http(served: Served):
    run = post(served, "runs?kind=prune").json()["run"]
    run_in(served, run, "planned")
    assert post(served, f"runs/{run}/start?reason=the+disk+is+full").status_code == 200
    assert run_in(served, run, "done")["kind"] == "prune"


def test_the_rows_of_a_forecast_are_listed_page_by_page(served: Served):
    run = post(served, "runs?source=iimmpact").json()["run"]
    run_in(served, run, "planned")
    with served.beside.write() as connection:
        for number in range(5):
            connection.exec_driver_sql(
                'INSERT INTO run_rows (run, "table", source, external_id, operation, before, after) '
                f"VALUES ({run}, 'products', 'iimmpact', 'A{number}', 'update', '{{}}', '{{}}')"
            )
    first = served.get(f"/api/v1/runs/{run}/rows?limit=3").json()
    last = served.get(f"/api/v1/runs/{run}/rows?limit=3&after={first['next']}").json()
    assert [row["external_id"] for page in (first, last) for row in page["items"]] == [f"A{n}" for n in range(5)]
    assert last["next"] is None
