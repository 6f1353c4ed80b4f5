"""Asking the source over HTTP: answers, refusals, and the required scope."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from serving import TIMEOUT, Served, error, serving
from sqlalchemy import text
from stub_servers import Stub, answering
from visiting import Visitor, hidden_fields, text_of

from receiver.api.tokens import Scope
from receiver.reconcile.lookup import look_up

SECRET = "sign-of-these-tests"

RECORDS = {
    name: {"id": name, "values": {"name": [{"scope": {}, "value": "Lamp"}]}, "updatedAt": "2026-06-01T12:00:00Z"}
    for name in ("e1", "e2", "e3", "e4", "e5")
}


class SigmaApi(Stub):
    """An API that knows one record, and whose HTML cannot be read."""

    def get(self) -> None:
        name = self.path.rpartition("/")[2]
        status, content = (200, json.dumps(RECORDS[name])) if name in RECORDS else (404, '{"error": "NOT_FOUND"}')
        if name == "html":
            status, content = 200, "<html>"
        self.answer(content.encode(), status=status)


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with answering(SigmaApi) as url:
        yield f"{url}/api/v1"


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory, api: str) -> Iterator[Served]:
    asked = {"dialect": "sigma", "secrets": [SECRET], "api_url": api, "api_key": "sk", "reconcile": "daily 02:10"}
    without = {"dialect": "sigma", "secrets": [SECRET]}
    with (
        lend_database(tmp_path_factory.mktemp("asking")) as url,
        serving(url, sources={"pim": asked, "plain": without}, console=True) as running,
    ):
        yield running


def post(served: Served, path: str, scope: Scope | None = Scope.OPERATE):
    return served.get(f"/api/v1/catalog/{path}", scope=scope, method="POST")


def test_a_question_is_recorded_with_the_source_s_answer(served: Served):
    number = post(served, "products/pim/e1/ask").json()["action"]
    (action,) = [each for each in served.get("/api/v1/actions").json()["items"] if each["id"] == number]
    assert action["what"] == "ask"
    assert action["arguments"] == {"table": "products", "source": "pim", "external_id": "e1"}
    assert (action["result"]["known_there"], action["result"]["changed_there"]) == (True, "2026-06-01T12:00:00+00:00")
    assert {"column": "name", "here": "null", "there": '"Lamp"'} in action["result"]["differ"]


def test_a_row_is_compared_and_then_repaired(served: Served):
    asked = post(served, "products/pim/e1/ask").json()
    assert (asked["known_here"], asked["known_there"], asked["equal"], asked["repaired"]) == (False, True, False, None)
    assert asked["changed_there"] == "2026-06-01T12:00:00Z"
    assert {"name": "name", "here": None, "there": "Lamp", "equal": False} in asked["columns"]
    answer = post(served, "products/pim/e1/repair?reason=a+customer+asked")
    assert answer.status_code == 200, answer.text
    repaired = answer.json()
    assert (repaired["repaired"], repaired["left"]) == (1, None)
    recorded = {each["id"]: each for each in served.get("/api/v1/actions").json()["items"]}
    action = recorded[repaired["action"]]
    assert (action["what"], action["reason"]) == ("repair", "a customer asked")
    assert (action["result"]["rows"], action["result"]["left"]) == (1, None)
    assert post(served, "products/pim/e1/ask").json()["equal"] is True
    assert served.get("/api/v1/catalog/products/pim/e1").json()["row"]["name"] == "Lamp"


def test_a_row_unknown_to_mirror_and_source_is_reported_as_such(served: Served):
    asked = post(served, "products/pim/a%2Fb/ask").json()
    assert (asked["external_id"], asked["known_here"], asked["known_there"]) == ("a/b", False, False)


@pytest.mark.parametrize("row", ["nowhere", "e1"])
def test_a_repair_that_finds_nothing_to_write_is_recorded_and_begins_no_run(served: Served, row: str):
    # The second one finds what the first one wrote.
    post(served, f"products/pim/{row}/repair?reason=a+customer+asked")
    runs = served.get("/api/v1/runs").json()["items"]
    answer = post(served, f"products/pim/{row}/repair?reason=a+customer+asked").json()
    recorded = {each["id"]: each for each in served.get("/api/v1/actions").json()["items"]}
    action = recorded[answer["action"]]
    assert (action["what"], action["reason"], action["run"]) == ("repair", "a customer asked", None)
    assert (answer["repaired"], action["result"]["rows"]) == (0, 0)
    assert served.get("/api/v1/runs").json()["items"] == runs


def test_a_question_that_is_repeated_with_its_key_is_answered_from_its_record_and_asks_nobody(served: Served):
    before = served.count("actions")
    first, again = (post(served, "products/pim/e2/ask?idempotency_key=question-1").json() for _ in range(2))
    told = ("action", "known_here", "known_there", "changed_there", "equal", "damaged", "repaired", "left")
    assert [again[name] for name in told] == [first[name] for name in told]
    assert (first["again"], again["again"]) == (False, True)
    differing = [each for each in first["columns"] if not each["equal"]]
    assert again["columns"] == differing != []
    assert served.count("actions") == before + 1


def test_a_repair_that_is_repeated_with_its_key_is_one_repair_with_the_same_answer(served: Served):
    path = "products/pim/e3/repair?reason=a+customer+asked&idempotency_key=repair-1"
    first = post(served, path).json()
    runs, actions = served.count("runs"), served.count("actions")
    again = post(served, path).json()
    assert (first["repaired"], first["again"]) == (1, False)
    assert (again["repaired"], again["again"], again["action"]) == (1, True, first["action"])
    assert (served.count("runs"), served.count("actions")) == (runs, actions)


def test_a_form_that_is_pressed_twice_asks_once_and_says_that_its_answer_is_the_first(served: Served):
    visitor = Visitor(str(served.client.base_url).rstrip("/"))
    visitor.sign_in()
    path, before = "/mirror/products/pim/e2/ask", served.count("actions", "what = 'ask'")
    form = hidden_fields(visitor.page(path))
    said = []
    for _ in range(2):
        following = visitor.post(path, **form).headers["location"].removeprefix("/console")
        said.append(text_of(visitor.page(following)))
    visitor.close()
    assert "The source has answered." in said[0]
    assert "This form was sent before, and nothing was asked now" in said[1]
    assert served.count("actions", "what = 'ask'") == before + 1


@pytest.mark.parametrize("odd", ["{}", '{"differ": 5}', "[]", '{"differ": [], "changed_here": "soon"}'])
def test_a_repeated_question_whose_record_was_edited_by_hand_is_refused_with_its_action(served: Served, odd: str):
    path = f"products/pim/e4/ask?idempotency_key=edited-{odd.encode().hex()}"
    action = post(served, path).json()["action"]
    with served.beside.write() as connection:
        connection.execute(text("UPDATE actions SET result = :odd WHERE id = :id"), {"odd": odd, "id": int(action)})
    answer = post(served, path)
    assert error(answer) == (409, "key_used")
    assert f"action {action}" in answer.json()["message"]


@pytest.mark.parametrize("other", ["products/pim/e2/ask", "products/pim/e4/repair?reason=another"])
def test_a_key_of_another_question_is_refused(served: Served, other: str):
    post(served, "products/pim/e4/ask?idempotency_key=question-2")
    answer = post(served, f"{other}{'&' if '?' in other else '?'}idempotency_key=question-2")
    assert error(answer) == (409, "key_used")


def test_simultaneous_repairs_with_one_key_change_the_row_once_and_agree(served: Served, monkeypatch):
    """Both have asked their source when the first of them writes."""
    both = Barrier(2)

    def waiting(*asked, **how):
        found = look_up(*asked, **how)
        both.wait(TIMEOUT)
        return found

    monkeypatch.setattr("receiver.reconcile.ask.look_up", waiting)
    path = "products/pim/e5/repair?reason=a+customer+asked&idempotency_key=repair-2"
    with ThreadPoolExecutor(2) as threads:
        answers = [each.json() for each in threads.map(lambda _: post(served, path), range(2))]
    assert {(each["repaired"], each["action"]) for each in answers} == {(1, answers[0]["action"])}
    assert sorted(each["again"] for each in answers) == [False, True]
    assert served.count("changes", "external_id = 'e5'") == 1


@pytest.mark.parametrize(
    ("path", "status", "code", "advice"),
    [
        ("products/pim/e1/repair", 400, "bad_request", "needs a reason of 3 to 200 characters"),
        ("products/pim/e1/ask?colour=red", 400, "bad_request", "are: idempotency_key"),
        ("lamps/pim/e1/ask", 404, "not_found", "There is no table 'lamps': choose one of"),
        ("products/nobody/e1/ask", 404, "not_found", "There is no source 'nobody' in the settings"),
        ("products/plain/e1/ask", 409, "not_askable", "has no `api_url`: set it"),
        ("records/pim/e1/ask", 409, "not_askable", "has no lookup for rows of records"),
        ("products/pim/html/ask", 502, "source_away", "something other than JSON: check api_url"),
        ("variants/pim/v/ask", 502, "source_away", "the mirror has no record for 'v'"),
    ],
)
def test_an_invalid_question_is_refused_with_advice(served: Served, path: str, status: int, code: str, advice: str):
    answer = post(served, path)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert advice in answer.json()["message"]


def test_asking_requires_the_operate_scope(served: Served):
    assert [post(served, "products/pim/e1/ask", scope=scope).status_code for scope in (None, Scope.READ)] == [401, 403]


def test_the_statistics_show_the_schedule(served: Served):
    told = {each["source"]: each["reconcile"] for each in served.get("/api/v1/stats").json()["sources"]}
    assert (told["pim"]["schedule"], told["pim"]["under_way"]) == ("daily 02:10", False)
    assert told["pim"]["next_at"] is not None
    assert told["plain"]["next_at"] is None
