"""The comparison with other mirrors of Stripe: its events, its stand-in of the API, and what it does without a peer."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime

import httpx
import pytest
import stripe

from benchmarks import environments, load
from benchmarks.environments import NotInstalled
from benchmarks.peers import comparison, stripe_api
from benchmarks.peers.comparison import SHOWN, Seen
from benchmarks.peers.stripe_events import ENDPOINT_SECRET, STRIPE, edition, outdated, product, product_id
from benchmarks.rounds import Figure
from benchmarks.senders import PRODUCTS
from receiver.inbox.arrival import Arrival
from receiver.ingest.admission import Request, admit


def test_an_event_is_what_stripe_s_library_and_the_ready_dialect_take():
    sent = STRIPE.sent(4_711)
    event = stripe.Webhook.construct_event(sent.body, sent.signature, ENDPOINT_SECRET)
    assert event.data.object.id == product_id(4_711)
    [arrival] = admit([Request(STRIPE.source, [(b"stripe-signature", sent.signature.encode())], sent.body)])
    assert isinstance(arrival, Arrival)
    assert (arrival.state.value, arrival.entity) == ("pending", ("product", product_id(4_711)))
    assert 850 < len(sent.body) < 1_050


def test_no_two_events_of_a_product_have_one_id_or_one_second():
    events = [json.loads(STRIPE.body(number)) for number in (7, 7 + PRODUCTS, 7 + 2 * PRODUCTS)]
    assert len({event["id"] for event in events}) == 3
    times = [event["created"] for event in events]
    assert times == sorted(set(times))
    assert times[-1] < datetime.now(UTC).timestamp()


def test_a_row_that_misses_an_acked_event_is_outdated():
    acked = PRODUCTS + 10
    names = {product_id(number): product(number)["name"] for number in range(acked)}
    assert outdated(names, 0, acked) == 0
    names[product_id(3)] = product(3)["name"]
    del names[product_id(4)]
    assert outdated(names, 0, acked) == 2


def test_a_name_tells_the_number_of_its_event():
    assert [edition(name) for name in (product(12_345)["name"], "", None)] == [12_345, -1, -1]


def test_the_stand_in_knows_each_product_as_of_the_newest_event():
    with stripe_api.answering() as api, httpx.Client(base_url=api.url) as client:
        api.newest = 3 * PRODUCTS + 5
        names = [client.get(f"/v1/products/{product_id(number)}").json()["name"] for number in (5, 6)]
        assert [edition(name) for name in names] == [3 * PRODUCTS + 5, 2 * PRODUCTS + 6]
        assert client.get("/v1/account").json()["object"] == "account"
        assert client.get(f"/v1/products/{product_id(5)}/features?limit=1").json()["data"] == []
        assert api.unknown == set()
        assert client.get("/v1/customers/cus_1").status_code == 404
        assert (api.asked, api.unknown) == (5, {"/v1/customers/cus_1"})


def test_the_ratio_of_each_figure_is_told_for_each_peer():
    names = ["Hookmirror", "one", "other"]
    figures = {(name, field): Figure(name, "", [6.0]) for name in names for field in SHOWN}
    figures["one", "memory"] = Figure("one", "", [3.0])
    ratios = list(comparison._ratios(figures, names))
    assert len(ratios) == 2 * len(Seen._fields)
    assert [ratio.values for ratio in ratios if ratio.name == "memory of its processes: Hookmirror / one"] == [[2.0]]


def test_a_peer_that_cannot_be_installed_is_left_out_with_the_reason(monkeypatch):
    def missing(*_):
        raise NotInstalled("there is no npm: install Node.js with npm")

    monkeypatch.setattr("benchmarks.peers.sync_engine.modules_with", missing)
    monkeypatch.setattr("benchmarks.peers.dj_stripe.python_with", lambda *_: "python")
    mirrors, left_out = comparison._installed()
    assert [mirror.name for mirror in mirrors] == ["Hookmirror", "dj-stripe"]
    assert left_out == ["stripe-sync-engine is left out: there is no npm: install Node.js with npm"]


def test_packages_for_node_need_node(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NotInstalled, match=r"^there is no node: install Node\.js"):
        environments.modules_with(".peers/none", ["none@1"])


def test_an_installation_that_fails_says_what_its_program_said(tmp_path):
    program = tmp_path / "pip"
    program.write_text("#!/bin/sh\necho 'no such release' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(NotInstalled, match="it could not be installed: no such release"):
        environments._run([program])


def test_releases_that_are_there_are_not_installed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    folder = tmp_path / ".venv-peer"
    (folder / "bin").mkdir(parents=True)
    environments._mark(folder, ["peer==1", "driver==2"])
    assert environments.python_with(".venv-peer", ["peer==1", "driver==2"]) == folder / "bin" / "python"


REPORT = """Running 2s test @ http://127.0.0.1:1
  Latency Distribution
     50%    3.80ms
     75%    4.10ms
     90%    4.90ms
     99%    1.20s
  33412 requests in 2.01s, 4.81MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 12
Requests/sec:  16622.89
"""


def test_the_load_generator_s_report_is_read(monkeypatch, tmp_path):
    class Ran:
        stdout = REPORT

    monkeypatch.setattr(shutil, "which", lambda _: "wrk")
    monkeypatch.setattr(load.subprocess, "run", lambda *_, **__: Ran)
    seen = load.send("http://127.0.0.1:1", tmp_path / "pool.txt", seconds=2)
    assert (seen.answers, seen.seconds, seen.failed) == (33_412, 2.01, 15)
    assert (seen.requests_per_second, seen.p50, seen.p99) == (16_622.89, 3.8, 1_200.0)
