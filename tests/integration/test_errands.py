"""Errands over HTTP: test events to a source's own address, and settings that are read again."""

from __future__ import annotations

import pytest
from ports import free_port
from serving import error, serving, wait_until

from receiver.api.tokens import Scope
from receiver.metrics.few_names import TEST_EVENT_TYPE
from receiver.server import sending

ALL = ("sigma", "indexed", "iimmpact", "sticky")


def post(served, path, *, scope=Scope.OPERATE):
    return served.get(path, scope=scope, method="POST")


@pytest.fixture(scope="module")
def reachable(tmp_path_factory):
    """A server whose settings say where senders reach it."""
    port = free_port()
    database = f"sqlite:///{tmp_path_factory.mktemp('errands')}/errands.db"
    with serving(database, with_worker=True, port=port, public_url=f"http://127.0.0.1:{port}") as served:
        yield served


@pytest.mark.parametrize("source", ALL)
def test_a_test_event_arrives_is_kept_as_ignored_and_changes_nothing(reachable, source):
    answer = post(reachable, f"/api/v1/sources/{source}/test")
    assert answer.status_code == 200, answer.text
    sent = answer.json()
    assert (sent["status"], sent["event_type"]) == (200, TEST_EVENT_TYPE)
    assert sent["address"].endswith(f"/hooks/{source}")
    delivery = reachable.ended(sent["delivery"])
    assert (delivery["source"], delivery["state"], delivery["event_type"]) == (source, "ignored", TEST_EVENT_TYPE)
    assert reachable.count("changes") == 0


def test_test_events_are_recorded_and_ask_nobody_for_a_handler(reachable):
    post(reachable, "/api/v1/sources/sigma/test")
    did = reachable.get("/api/v1/actions").json()["items"][0]
    assert (did["what"], did["arguments"]["source"], did["counts"]) == ("send test event", "sigma", "event")
    reachable.app._watch.tally()
    assert TEST_EVENT_TYPE not in reachable.get("/api/v1/findings").text
    assert f'event_type="{TEST_EVENT_TYPE}"' not in reachable.client.get("/metrics").text


def test_each_test_event_is_a_delivery_of_its_own(reachable):
    first, second = (post(reachable, "/api/v1/sources/iimmpact/test").json() for _ in range(2))
    assert first["delivery"] != second["delivery"]


def test_a_test_event_that_is_repeated_with_its_key_is_sent_once(reachable):
    path = "/api/v1/sources/indexed/test?idempotency_key=test-1"
    first, again = (post(reachable, path).json() for _ in range(2))
    assert again == first | {"again": True}
    assert first["delivery"] is not None
    deliveries = reachable.get("/api/v1/deliveries?source=indexed").json()["items"]
    assert [each["id"] for each in deliveries].count(first["delivery"]) == 1
    assert error(post(reachable, "/api/v1/sources/sigma/test?idempotency_key=test-1")) == (409, "key_used")


def test_a_repetition_beside_a_test_event_that_is_not_answered_yet_sends_none_and_says_so(reachable, monkeypatch):
    path, send = "/api/v1/sources/sigma/test?idempotency_key=test-2", sending.send
    beside = []

    def slowly(*given):
        beside.append(post(reachable, path).json())
        return send(*given)

    monkeypatch.setattr(sending, "send", slowly)
    first = post(reachable, path).json()
    assert (len(beside), first["status"]) == (1, 200)
    assert (beside[0]["again"], beside[0]["delivery"], "is on its way" in beside[0]["says"]) == (True, None, True)
    assert post(reachable, path).json() == first | {"again": True}


@pytest.mark.parametrize("scope", [Scope.READ, None])
def test_who_may_only_read_sends_nothing_and_has_nothing_read_again(reachable, scope):
    for path in ("/api/v1/sources/sigma/test", "/api/v1/reload"):
        assert post(reachable, path, scope=scope).status_code in (401, 403)


def test_a_source_that_there_is_not_is_not_found(reachable):
    assert error(post(reachable, "/api/v1/sources/nosuch/test")) == (404, "not_found")


def test_without_an_address_in_the_settings_nothing_is_sent_and_the_answer_says_what_to_set(tmp_path):
    with serving(f"sqlite:///{tmp_path}/e.db") as served:
        answer = post(served, "/api/v1/sources/sigma/test")
        assert error(answer) == (409, "not_askable")
        assert "set `public_url`" in answer.json()["message"]
        assert served.count("actions") == 0


@pytest.mark.parametrize(
    ("url", "status", "says"),
    [
        ("http://127.0.0.1:{port}/elsewhere", 404, "answered a test event with 404, not_found: senders get the same."),
        ("http://127.0.0.1:9/hooks/sigma", None, "No server answers at http://127.0.0.1:9/hooks/sigma"),
    ],
)
def test_what_senders_would_meet_at_a_wrong_address_is_said(tmp_path, url, status, says):
    port = free_port()
    sources = {"sigma": {"secrets": ["one"], "registered_url": url.format(port=port)}}
    with serving(f"sqlite:///{tmp_path}/e.db", port=port, sources=sources) as served:
        sent = post(served, "/api/v1/sources/sigma/test").json()
        assert (sent["status"], sent["delivery"]) == (status, None)
        assert says in sent["says"]


def test_an_environment_that_allows_no_calls_is_named_instead_of_the_address(tmp_path, monkeypatch):
    sources = {"sigma": {"secrets": ["one"], "registered_url": "https://hooks.example/hooks/sigma"}}
    with serving(f"sqlite:///{tmp_path}/e.db", sources=sources) as served:
        monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.example")
        answer = post(served, "/api/v1/sources/sigma/test")
        assert error(answer) == (409, "not_askable")
        assert "correct HTTPS_PROXY in the environment" in answer.json()["message"]


def test_a_process_that_cannot_read_its_settings_again_is_counted_and_no_signal_is_given(reachable):
    """The server of a test is the process of the tests, which a signal would end."""
    wait_until(lambda: reachable.count("processes") == 1, "the server's first heartbeat")
    answer = post(reachable, "/api/v1/reload").json()
    (process,) = answer["items"]
    assert (process["taken"], "cannot reload while it runs" in process["says"]) == (False, True)
    assert answer["says"] == "1 process did not adopt them: the list of processes says why."
    did = reachable.get("/api/v1/actions").json()["items"][0]
    assert (did["what"], did["count"], did["counts"]) == ("reload settings", 1, "process")
