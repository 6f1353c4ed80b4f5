"""Webhooks that arrive in one piece, over real sockets: their fast path through the server, and their connections.

tests/unit/ingest/test_fast_path.py shows that both ways give the same answers.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from contextlib import contextmanager
from http.client import HTTPResponse, parse_headers
from io import BufferedReader

import pytest
from senders import SIGNED, body, sent
from serving import Served, error, read_answer, request_head, serving, wait_until, whole
from systems import ON_BOTH, database_system  # noqa: F401

from receiver import HmacSha256
from receiver.ingest import connections
from receiver.ingest.endpoint import Endpoint


@pytest.fixture
def served(mirror_url):
    with serving(mirror_url, one_write=True) as running:
        yield running


@contextmanager
def without_application(monkeypatch):
    """Make every request fail that goes through the application."""

    async def fail(*_: object) -> None:
        raise AssertionError("this webhook went through the application")

    with monkeypatch.context() as patch:
        patch.setattr(Endpoint, "__call__", fail)
        yield


# ── the fast path ─────────────────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
@pytest.mark.parametrize("source", [*SIGNED, "sticky"])
def test_a_webhook_in_one_write_does_not_go_through_the_application(served: Served, monkeypatch, source: str):
    with without_application(monkeypatch):
        delivery = served.send(source, key="one write")
    assert served.delivery(delivery)["state"] == "pending"


def test_a_webhook_that_is_not_complete_goes_through_the_application(served: Served, monkeypatch):
    with without_application(monkeypatch), served.connect() as connection:
        connection.sendall(whole("sigma", body("sigma"))[:-20])
        assert read_answer(connection)[0] == 500


@ON_BOTH
def test_refused_and_kept_webhooks_are_counted_alike_on_both_ways(served: Served):
    served.send("sigma", key="counted")
    assert served.post("sigma", body("sigma"), {}).status_code == 401
    assert served.metric('hookmirror_deliveries_total{source="sigma",status="accepted"}') >= 1
    assert served.metric('hookmirror_refused_total{code="signature_missing",source="sigma"}') >= 1


# ── connections ───────────────────────────────────────────────────────────────────────────────────────────────


def answer_on(connection: socket.socket) -> HTTPResponse:
    answer = HTTPResponse(connection)
    answer.begin()
    return answer


def answers_on(connection: socket.socket, count: int) -> list[bytes]:
    """Read the bodies of successive answers, because HTTPResponse would read into the next answer and lose it."""
    with connection.makefile("rb") as stream:
        return [body_of_answer(stream) for _ in range(count)]


def body_of_answer(stream: BufferedReader) -> bytes:
    assert stream.readline().startswith(b"HTTP/1.1 200 ")
    return stream.read(int(parse_headers(stream)["content-length"]))


def test_one_connection_carries_any_number_of_whole_webhooks(served: Served, monkeypatch):
    with without_application(monkeypatch), served.connect() as connection:
        for number in range(20):
            connection.sendall(whole("sigma", body("sigma", key=f"number {number}")))
            answer = answer_on(connection)
            assert (answer.status, json.loads(answer.read())["status"]) == (200, "accepted")
    assert served.count() == 20


@ON_BOTH
def test_webhooks_in_a_pipeline_are_answered_in_order(served: Served):
    with served.connect() as connection:
        connection.sendall(b"".join(whole("sigma", body("sigma", key=f"number {number}")) for number in range(5)))
        answers = [json.loads(each)["delivery"] for each in answers_on(connection, 5)]
    assert [json.loads(served.delivery(each)["body"])["deliveryId"] for each in answers] == [
        f"number {number}" for number in range(5)
    ]


@pytest.fixture
def strict(mirror_url, monkeypatch):
    """Serve with frequent checks of the connections' limits of time."""
    monkeypatch.setattr(connections, "CONNECTION_POLL", 0.05)
    with serving(mirror_url) as running:
        yield running


def test_an_idle_connection_is_closed(strict: Served):
    with strict.connect() as connection:
        for _ in range(2):
            began = time.monotonic()
            connection.sendall(whole("sigma", body("sigma")))
            assert answer_on(connection).read()
        strict.limit(keep_alive_timeout=0.5)
        assert connection.recv(1) == b""
        assert time.monotonic() - began >= 0.5


def test_a_connection_that_waits_for_its_commit_is_not_closed_as_idle(strict: Served, gate):
    with strict.connect() as connection, strict.connect() as idle:
        gate.set()
        for number, each in enumerate((connection, idle)):
            each.sendall(whole("sigma", body("sigma", key=f"first {number}")))
            assert answer_on(each).read()
        gate.clear()
        connection.sendall(whole("sigma", body("sigma", key="slow")))
        wait_until(lambda: strict.at_work())
        strict.limit(keep_alive_timeout=0.05)
        assert idle.recv(1) == b"", "the limit is in force"
        gate.set()
        assert json.loads(answer_on(connection).read())["status"] == "accepted"


def test_a_server_that_stops_answers_waiting_webhooks_with_connection_close(served: Served, gate):
    with served.connect() as connection:
        connection.sendall(whole("sigma", body("sigma")))
        wait_until(lambda: served.at_work())
        served.server.should_exit = True
        wait_until(lambda: not any(each.cycle.keep_alive for each in served.at_work()), "the news")
        gate.set()
        answer = answer_on(connection)
        assert (answer.status, answer.getheader("connection")) == (200, "close")
        assert json.loads(answer.read())["status"] == "accepted"
        assert connection.recv(1) == b""


def reset(connection: socket.socket) -> None:
    """Close the connection as a process does that dies with unread answers."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_complete_webhook_is_kept_although_its_sender_is_gone(served: Served, gate, caplog):
    with served.connect() as connection:
        connection.sendall(whole("sigma", body("sigma", key="gone")))
        wait_until(lambda: served.at_work())
        reset(connection)
    wait_until(lambda: not served.connections())
    gate.set()
    wait_until(lambda: served.count() == 1)
    served.send("sigma", key="the next one")
    assert not caplog.records


@pytest.mark.parametrize(
    "then", [b"\x00\x01\r\n\r\n", b"POST /hooks/sigma HTTP/9.9\r\n\r\n"], ids=["no HTTP", "no version"]
)
def test_nonsense_after_a_whole_webhook_only_ends_the_connection(served: Served, then: bytes):
    with served.connect() as connection:
        connection.sendall(whole("sigma", body("sigma", key="before the nonsense")) + then)
        told = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)|\"error\":\"(\w+)\"", told) == [
        (b"200", b""),
        (b"400", b""),
        (b"", b"malformed_request"),
    ]
    served.send("sigma", key="after it")
    assert served.count() == 2


def test_a_body_with_malformed_chunks_is_refused(served: Served):
    with served.connect() as connection:
        connection.sendall(request_head("sigma", b"Transfer-Encoding: chunked") + b"2\r\n{}\r\nnonsense\r\n")
        assert read_answer(connection)[0] == 400
    assert served.count() == 0


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_body_over_the_limit_is_too_large(mirror_url):
    with serving(mirror_url, one_write=True, max_body_bytes=2_000) as served:
        answer = served.post("sigma", *sent("sigma", b" " * 2_001))
        assert error(answer) == (413, "body_too_large")


def test_a_whole_body_counts_as_waiting_until_its_answer(mirror_url):
    with serving(mirror_url, one_write=True, max_waiting_bytes=1_048_576) as served:
        content = body("sigma")
        for _ in range(2 * 1_048_576 // 50_000):
            assert served.post("sigma", *sent("sigma", content + b" " * (50_000 - len(content)))).status_code == 200


@pytest.mark.parametrize("one_write", [True, False])
def test_an_error_in_a_verifier_is_answered_with_503(mirror_url, monkeypatch, one_write: bool):
    with serving(mirror_url, one_write=one_write) as served:
        with monkeypatch.context() as patch:
            patch.setattr(HmacSha256, "verify", lambda *_: 1 / 0)
            answer = served.post("sigma", *sent("sigma", body("sigma")))
        assert error(answer) == (503, "unavailable")
        assert answer.headers["retry-after"]
        served.send("sigma")
