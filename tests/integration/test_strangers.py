"""Strangers and odd senders: each gets an answer or is disconnected, and no other sender waits."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import select
import socket
import struct
import time
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path

import pytest
from forked import INHERITED, Forked
from senders import SECRETS, body, sent
from serving import SECRET_KEY, TIMEOUT, Served, read_answer, request_head, serving, wait_until, whole
from uvicorn.protocols.http.flow_control import FlowControl

KIB = 1_024


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(f"sqlite:///{tmp_path_factory.mktemp('strangers') / 'hookmirror.db'}") as running:
        yield running


@contextmanager
def strict(tmp_path, **limits):
    with serving(f"sqlite:///{tmp_path / 'hookmirror.db'}", **limits) as running:
        yield running


def told(answer: tuple[int, bytes]) -> tuple[int, str]:
    return answer[0], json.loads(answer[1])["error"]


def send_until_refused(connection: socket.socket, piece: bytes, *, most: int) -> int:
    """Send the data repeatedly while the other end accepts it; return the number of accepted bytes."""
    taken = 0
    try:
        while taken < most:
            connection.sendall(piece)
            taken += len(piece)
    except OSError:
        pass
    return taken


def limited(served: Served, limit: str) -> float:
    return served.metric(f'hookmirror_limited_total{{limit="{limit}"}}')


# ── an offer to upgrade ───────────────────────────────────────────────────────────────────────────────────────

OFFERS = {
    "Java": b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\nUpgrade: h2c\r\n",
    "web socket": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "several": b"upgrade: TLS/1.0, a/2\r\nUpgrade:\r\nCONNECTION: x ,upgrade\r\n",
}


def offering(request: bytes, offer: str) -> bytes:
    return request.replace(b"Host:", OFFERS[offer] + b"Host:", 1)


def in_chunks(request: bytes) -> bytes:
    head, _, content = request.partition(b"\r\n\r\n")
    head = re.sub(rb"Content-Length: \d+", b"Transfer-Encoding: chunked", head)
    half = len(content) // 2
    parts = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (content[:half], content[half:]))
    return head + b"\r\n\r\n" + parts + b"0\r\n\r\n"


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("form", ["whole", "chunked", "in two packets", "byte by byte"])
def test_an_offer_to_upgrade_is_ignored_and_the_body_read(served: Served, offer: str, form: str):
    content = body("sigma", key=f"{offer} {form}")
    request = offering(whole("sigma", content), offer)
    if form == "chunked":
        request = in_chunks(request)
    cuts = {"in two packets": [request.index(b"\r\n\r\n") + 4], "byte by byte": range(1, len(request), 7)}.get(form, [])
    with served.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in pairwise([0, *cuts, len(request)]):
            connection.sendall(request[start:end])
        connection.shutdown(socket.SHUT_WR)
        status, answer = read_answer(connection)
    assert (status, json.loads(answer)["status"]) == (200, "accepted")
    assert served.delivery(json.loads(answer)["delivery"])["body"].encode() == content


def test_requests_after_an_offer_are_answered_in_order(served: Served):
    requests = [whole("sigma", body("sigma", key=f"offered {number}")) for number in range(6)]
    requests[::2] = [offering(request, "Java") for request in requests[::2]]
    with served.connect() as connection:
        connection.sendall(b"".join(requests))
        connection.shutdown(socket.SHUT_WR)
        answers = read_all(connection)
    ids = re.findall(rb'"delivery":"(\d+)"', answers)
    assert [json.loads(served.delivery(each.decode())["body"])["deliveryId"] for each in ids] == [
        f"offered {number}" for number in range(6)
    ]


def test_an_unsigned_webhook_with_an_offer_is_kept_with_its_body(tmp_path):
    sources = {"open": {"dialect": "sigma", "allow_unsigned": True}}
    with strict(tmp_path, sources=sources) as served, served.connect() as connection:
        content = body("sigma", key="unsigned")
        head = request_head("open", b"Content-Length: %d" % len(content))
        connection.sendall(offering(head + content, "Java"))
        connection.shutdown(socket.SHUT_WR)
        delivery = served.delivery(json.loads(read_answer(connection)[1])["delivery"])
    assert (delivery["state"], delivery["body"].encode()) == ("pending", content)


def test_behind_a_server_that_drops_the_body_after_an_offer_nothing_is_acked(tmp_path):
    sources = {"open": {"dialect": "sigma", "allow_unsigned": True}}
    with strict(tmp_path, sources=sources, http="httptools") as served, served.connect() as connection:
        head = request_head("open", b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 2")
        connection.sendall(head + b"{}")
        connection.shutdown(socket.SHUT_WR)
        assert told(read_answer(connection)) == (503, "unavailable")
        assert served.count() == 0


def test_the_api_and_health_ignore_an_offer(served: Served):
    for path in ("/healthz", "/api/v1/catalog"):
        plain = served.get(path)
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", **plain.request.headers}
        assert served.client.get(path, headers=headers).content == plain.content


def test_a_connect_request_is_refused(served: Served):
    with served.connect() as connection:
        connection.sendall(b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n\x16\x03\x01")
        assert told(read_answer(connection)) == (405, "method_not_allowed")


# ── answers before the end of the body ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [2 * KIB * KIB, 8 * KIB * KIB])
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/hooks/sigma", (413, "body_too_large")),
        ("/hooks/nobody", (404, "unknown_source")),
        ("/nowhere", (404, "not_found")),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_the_sender_of_a_large_body_gets_the_reason_of_its_refusal(served: Served, size, path, error, chunked):
    for _ in range(3):
        client = HTTPConnection("127.0.0.1", served.port, timeout=TIMEOUT)
        content = b" " * size
        client.request("POST", path, iter([content]) if chunked else content, encode_chunked=chunked)
        answer = client.getresponse()
        assert (answer.status, json.loads(answer.read())["error"]) == error
        client.close()


def test_a_forged_large_body_is_refused_as_forged(served: Served):
    client = HTTPConnection("127.0.0.1", served.port, timeout=TIMEOUT)
    client.request("POST", "/hooks/sigma", b" " * KIB * KIB)
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (401, "signature_missing")
    client.close()


def test_an_endless_body_after_an_answer_is_read_only_for_a_bounded_time(served: Served):
    with served.connect() as connection:
        connection.sendall(b"POST /hooks/nobody HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        assert send_until_refused(connection, piece, most=200 * KIB * KIB) < 100 * KIB * KIB


def test_a_connection_carries_the_next_request_after_an_unneeded_body(served: Served):
    client = HTTPConnection("127.0.0.1", served.port, timeout=TIMEOUT)
    for _ in range(3):
        client.request("POST", "/nowhere", b" " * 300_000)
        assert client.getresponse().read()
        client.request("GET", "/healthz")
        assert client.getresponse().read() == b'{"status":"alive"}'
    client.close()


# ── 100-continue ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sender_that_expects_100_continue_gets_it_and_can_use_its_connection_again(served: Served):
    with served.connect() as connection:
        for number in range(2):
            head, _, content = whole("sigma", body("sigma", key=f"expects {number}")).partition(b"\r\n\r\n")
            connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(content)
            answer = connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" not in answer


def test_a_sender_of_http_1_0_gets_its_answer_first_whatever_it_expects(served: Served):
    with served.connect() as connection:
        head, _, content = whole("sigma", body("sigma", key="expects in 1.0")).partition(b"\r\n\r\n")
        old = head.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")
        connection.sendall(old + b"\r\nExpect: 100-continue\r\n\r\n")
        connection.sendall(content)
        assert read_all(connection).startswith(b"HTTP/1.1 200 ")


def test_a_sender_refused_before_its_body_need_not_send_it(served: Served):
    with served.connect() as connection:
        connection.sendall(request_head("nobody", b"Content-Length: 9", b"Expect: 100-continue"))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"\r\nconnection: close\r\n" in answer


# ── half-closed connections ───────────────────────────────────────────────────────────────────────────────────


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nowhere"])
def test_a_sender_that_closes_its_side_after_its_request_gets_the_answer(served: Served, path: str):
    with served.connect() as connection:
        connection.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection).startswith(b"HTTP/1.1 ")


def test_a_webhook_whose_sender_closes_its_side_is_answered_after_its_commit(served: Served, gate):
    with served.connect() as connection:
        connection.sendall(whole("sigma", body("sigma", key="half closed")))
        connection.shutdown(socket.SHUT_WR)
        wait_until(lambda: any(each._sender_is_done for each in served.at_work()), "the end of its side")
        gate.set()
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_complete_requests_of_a_pipeline_are_answered_even_if_the_last_is_cut_off(served: Served, gate):
    first, second, third = (whole("sigma", body("sigma", key=f"cut off {number}")) for number in range(3))
    with served.connect() as connection:
        connection.sendall(first + second + third[:-5])
        connection.shutdown(socket.SHUT_WR)
        gate.set()
        assert read_all(connection).count(b'"status":"accepted"') == 2


@pytest.mark.parametrize("cut", [1, 30, 200, -1])
def test_a_request_that_is_cut_off_has_no_effect(served: Served, cut: int):
    before = served.count()
    with served.connect() as connection:
        connection.sendall(whole("sigma", body("sigma", key="cut"))[:cut])
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    assert served.count() == before


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/openapi.json", "/hooks/nobody"])
def test_a_sender_that_disconnects_among_many_requests_causes_no_log_line(served: Served, caplog, path: str):
    with caplog.at_level(logging.WARNING):
        for pause in (0.0, 0.01, 0.03):
            with served.connect() as connection:
                connection.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode() * 60)
                time.sleep(pause)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: not served.at_work())
        assert served.client.get("/healthz").status_code == 200
    assert [record for record in caplog.records if record.exc_info or record.levelno > logging.WARNING] == []


def test_an_endless_pipeline_is_answered_in_part_and_closed(served: Served):
    with served.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n" * 2_000)
        answer = read_all(connection)
    assert 1 <= answer.count(b"HTTP/1.1 200 OK") <= 70
    assert b"Too many requests wait on this connection" in answer


def queueing(served: Served, *, behind: int, lines: bytes = b"", last: bytes = b"") -> socket.socket:
    """Open a connection whose first request waits for its commit, and send so many bodies of 1,000 bytes behind it.

    `lines` are further headers of the requests behind.

    Everything, up to the `last` bytes, is sent in one packet: while a request waits, the server reads no more.
    """
    connection = served.connect()
    first = whole("sigma", body("sigma", key=f"first of {connection.fileno()}"))
    following = request_head("sigma", lines + b"Content-Length: 1000") + b" " * 1_000
    connection.sendall(first + following * behind + last)
    return connection


def test_bodies_that_wait_behind_another_request_are_counted_until_their_turn(served: Served, gate):
    incoming = served.app.connections.incoming
    wait_until(lambda: not incoming.bytes, "the end of earlier bodies")
    with queueing(served, behind=12):
        wait_until(lambda: 12_000 < incoming.bytes < 60_000, "bodies that wait")
        wait_until(lambda: all(each.flow.read_paused for each in served.at_work()), "the end of reading")
        gate.set()
        wait_until(lambda: not incoming.bytes, "their turn")


def test_heads_that_wait_behind_another_request_are_counted_with_their_headers(served: Served, gate):
    incoming = served.app.connections.incoming
    wait_until(lambda: not incoming.bytes, "the end of earlier bodies")
    with queueing(served, behind=12, lines=b"".join(b"a%d:\r\n" % number for number in range(100))):
        wait_until(lambda: incoming.bytes > 12 * 100 * 150, "heads that wait")
        gate.set()
        wait_until(lambda: not incoming.bytes, "their turn")


def test_bodies_that_wait_before_nonsense_are_counted_too(served: Served, gate):
    incoming = served.app.connections.incoming
    wait_until(lambda: not incoming.bytes, "the end of earlier bodies")
    with queueing(served, behind=12, last=b"no HTTP\r\n\r\n") as connection:
        wait_until(lambda: 12_000 < incoming.bytes < 60_000, "bodies that wait")
        gate.set()
        answers = read_all(connection)
    assert answers.count(b"HTTP/1.1 401 ") == 12
    assert answers.count(b"HTTP/1.1 400 ") == 1
    wait_until(lambda: not incoming.bytes, "their turn")


def test_bodies_that_wait_behind_others_stay_within_the_bound_for_incomplete_bodies(tmp_path, gate):
    with strict(tmp_path, max_incomplete_bytes=KIB * KIB, max_body_bytes=KIB * KIB) as served, ExitStack() as stack:
        for _ in range(90):
            stack.enter_context(queueing(served, behind=14))
        wait_until(lambda: limited(served, "max_incomplete_bytes"), "the limit")
        assert served.app.connections.incoming.bytes <= KIB * KIB
        gate.set()


# ── endless heads ─────────────────────────────────────────────────────────────────────────────────────────────

HEAD = b"POST /hooks/sigma HTTP/1.1\r\nHost: x\r\n"
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "piece", "error", "limit"),
    [
        (HEAD + b"X: ", b"x" * 65_536, (431, "head_too_large"), "max_head_bytes"),
        (HEAD, b"".join(b"%d: b\r\n" % n for n in range(3_000)), (431, "head_too_large"), "max_headers"),
        (b"POST /hooks/", b"x" * 65_536, (414, "url_too_long"), "max_url_bytes"),
        (
            IN_CHUNKS + b"0\r\n",
            b"A: b\r\n" * 9_000,
            (431, "head_too_large"),
            "max_head_bytes",
        ),
        (IN_CHUNKS + b"1;", b"a=b;" * 9_000, (431, "head_too_large"), "max_head_bytes"),
        (b"", b"\r\n" * 30_000, (431, "head_too_large"), "max_head_bytes"),
        (b"GET /healthz HTTP/1.1\r\nX: ", b"x" * 65_536, (431, "head_too_large"), "max_head_bytes"),
        (b"GET /api/v1/changes?", b"x" * 65_536, (414, "url_too_long"), "max_url_bytes"),
    ],
    ids=["one header", "headers", "URL", "trailers", "chunk extension", "empty lines", "health", "API"],
)
def test_an_endless_head_is_refused_and_not_read_further(served: Served, start, piece, error, limit):
    before = limited(served, limit)
    with served.connect() as connection:
        connection.sendall(start)
        taken = send_until_refused(connection, piece, most=200 * KIB * KIB)
        assert taken < 100 * KIB * KIB
    assert limited(served, limit) == before + 1
    with served.connect() as connection:
        connection.sendall(start + piece * 4)
        assert told(read_answer(connection)) == error


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"X: " + b"x" * 16_000] * 4, 401),
        ([b"X: " + b"x" * 16_000] * 5, 431),
        ([b"X: " + b"x" * 16_383], 401),
        ([b"X: " + b"x" * 16_384], 431),
        ([b"X: y"] * 126, 401),
        ([b"X: y"] * 127, 431),
    ],
    ids=["head", "larger head", "header", "larger header", "headers", "more headers"],
)
def test_a_head_within_its_limits_is_accepted_and_one_beyond_is_refused(served: Served, lines, status):
    with served.connect() as connection:
        connection.sendall(request_head("sigma", b"Content-Length: 2", *lines)[:None] + b"{}")
        connection.shutdown(socket.SHUT_WR)
        assert read_answer(connection)[0] == status


ASKED_FOR_HEAD = b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"HEAD /" + b"x" * 10_000, 414),
        (ASKED_FOR_HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (ASKED_FOR_HEAD + b"X: y\r\n" * 200, 431),
        (ASKED_FOR_HEAD + b"X: " + b"x" * 70_000, 431),
        (ASKED_FOR_HEAD + b"not a header\r\n\r\n", 400),
        (ASKED_FOR_HEAD + b"Transfer-Encoding: chunked\r\n\r\nnot a length\r\n", 400),
    ],
    ids=["URL", "header", "headers", "head", "malformed", "malformed body"],
)
def test_the_refusal_of_a_head_request_has_no_body(served: Served, request_bytes, status):
    with served.connect() as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        assert read_answer(connection) == (status, b"")


@pytest.mark.parametrize("following", [b"POST /" + b"x" * 10_000, b"\x01 /"])
def test_a_refusal_after_a_head_request_has_a_body(served: Served, following):
    with served.connect() as connection:
        connection.sendall(ASKED_FOR_HEAD + b"\r\n" + following)
        connection.shutdown(socket.SHUT_WR)
        assert b'"error":' in read_answer(connection)[1]


def test_the_limits_of_heads_are_settings(tmp_path):
    with strict(tmp_path, max_head_bytes=4_096, max_headers=16, max_url_bytes=256) as served:
        for request, limit in [
            (HEAD + b"X: " + b"x" * 5_000, "max_head_bytes"),
            (HEAD + b"X: y\r\n" * 17, "max_headers"),
            (b"GET /" + b"x" * 300, "max_url_bytes"),
        ]:
            with served.connect() as connection:
                connection.sendall(request)
                assert read_answer(connection)[0] in (414, 431)
            assert limited(served, limit) >= 1


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def _frequent_checks(monkeypatch):
    """Check often whether a limit of time has passed."""
    monkeypatch.setattr("receiver.ingest.connections.CONNECTION_POLL", 0.05)


@pytest.mark.usefixtures("_frequent_checks")
def test_a_silent_connection_is_closed_and_a_dripping_head_gets_the_reason(tmp_path):
    with strict(tmp_path) as served, served.connect() as silent, served.connect() as dripping:
        dripping.sendall(b"POST /hooks/sigma HTTP/1.1\r\nX: ")
        # Its answer comes after the server has read what was sent before.
        served.send("sigma", key="meanwhile")
        served.limit(head_timeout=0.2)
        assert told(read_answer(dripping)) == (408, "request_timeout")
        assert read_all(silent) == b""
        assert limited(served, "head_timeout") >= 2


@pytest.mark.usefixtures("_frequent_checks")
def test_dripping_does_not_prolong_the_time_for_a_head(tmp_path):
    with strict(tmp_path) as served, served.connect() as connection:
        connection.sendall(whole("sigma", body("sigma", key="first")))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD + b"X: ")
        served.limit(head_timeout=0.4)
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b"x")
        assert told(read_answer(connection)) == (408, "request_timeout")


def stop_within(monkeypatch, seconds: float) -> None:
    for module in ("closing", "bounded"):
        monkeypatch.setattr(f"receiver.ingest.{module}.STOP_SECONDS", seconds)


def test_a_server_that_stops_does_not_wait_for_an_endless_body(tmp_path, monkeypatch, caplog):
    stop_within(monkeypatch, 0.2)
    with socket.socket() as connection:
        with strict(tmp_path) as served:
            connection.connect(("127.0.0.1", served.port))
            connection.sendall(request_head("sigma", b"Content-Length: 100") + b"{")
            wait_until(lambda: served.at_work())
        status, answer = read_answer(connection)
    assert (status, json.loads(answer)["message"]) == (503, "This server is about to stop. Send this again later.")
    assert [record for record in caplog.records if record.exc_info] == []


def read_nothing(served: Served, stack: ExitStack, strangers: int) -> None:
    """Let strangers send requests whose answers they do not read, until the server waits for them."""
    for _ in range(strangers):
        stranger = stack.enter_context(socket.socket())
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        stranger.connect(("127.0.0.1", served.port))
        stranger.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60)

    def flows() -> list[FlowControl]:
        # A connection that is just being made or closed has none.
        return [flow for each in served.connections() if (flow := each.flow) is not None]

    wait_until(lambda: sum(flow.write_paused and flow.read_paused for flow in flows()) == strangers, "unread answers")


def test_a_server_that_stops_does_not_wait_for_senders_that_read_no_answer(tmp_path, monkeypatch, caplog):
    stop_within(monkeypatch, 0.2)
    with ExitStack() as stack, strict(tmp_path) as served:
        read_nothing(served, stack, 3)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_a_connection_may_be_idle_for_longer_than_a_load_balancer_keeps_it(served: Served):
    assert served.app.connections.limits.keep_alive_timeout > 60


# ── open connections ──────────────────────────────────────────────────────────────────────────────────────────


def test_beyond_the_bound_idle_strangers_are_closed_for_senders(tmp_path):
    with strict(tmp_path, max_connections=40, max_connections_per_address=40) as served, ExitStack() as stack:
        strangers = [stack.enter_context(served.connect()) for _ in range(100)]
        for number in range(10):
            served.send("sigma", key=f"beside {number}")
        assert served.metric("hookmirror_connections") <= 40
        assert limited(served, "max_connections") + limited(served, "max_connections_per_address") >= 60
        assert strangers[0].recv(1) == b""


def test_senders_that_read_no_answer_keep_no_other_out(tmp_path):
    with strict(tmp_path, max_connections=16, max_connections_per_address=16) as served, ExitStack() as stack:
        read_nothing(served, stack, 16)
        for number in range(5):
            with served.connect() as connection:
                connection.sendall(whole("sigma", body("sigma", key=f"beside {number}")))
                connection.shutdown(socket.SHUT_WR)
                assert read_answer(connection)[0] == 200


def test_answered_strangers_are_closed_before_new_senders(tmp_path, monkeypatch):
    # On a busy machine, the strangers take longer than a sender usually counts as new.
    monkeypatch.setattr("receiver.ingest.connections.SENDING_GRACE", TIMEOUT)
    with strict(tmp_path, max_connections=16, max_connections_per_address=16) as served, ExitStack() as stack:
        for number in range(3):
            sender = stack.enter_context(served.connect())
            for _ in range(20):
                stranger = stack.enter_context(served.connect())
                stranger.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert stranger.recv(65_536).startswith(b"HTTP/1.1 200 ")
            sender.sendall(whole("sigma", body("sigma", key=f"later {number}")))
            sender.shutdown(socket.SHUT_WR)
            assert read_answer(sender)[0] == 200


def test_if_every_connection_waits_for_us_a_new_one_gets_503(tmp_path, gate):
    with strict(tmp_path, max_connections=16, max_connections_per_address=16) as served, ExitStack() as stack:
        held = [stack.enter_context(served.connect()) for _ in range(16)]
        for number, connection in enumerate(held):
            connection.sendall(whole("sigma", body("sigma", key=f"held {number}")))
        wait_until(lambda: len(served.at_work()) == 16)
        with served.connect() as connection:
            assert told(read_answer(connection)) == (503, "limited")
        gate.set()
        assert all(connection.recv(65_536).startswith(b"HTTP/1.1 200") for connection in held)


def test_beside_idle_connections_and_slow_heads_senders_are_acked(tmp_path):
    # On a busy machine, the test takes longer than a silent connection may stay.
    with strict(tmp_path, head_timeout=10 * TIMEOUT) as served, ExitStack() as stack:
        for number in range(400):
            stranger = stack.enter_context(served.connect())
            if number % 4 == 0:
                stranger.sendall(b"POST /hooks/sigma HTTP/1.1\r\nX: " + b"x" * number)
        for number in range(50):
            served.send("sigma", key=f"beside {number}")
        assert served.metric("hookmirror_connections") >= 400
        assert served.count() == 50


def test_with_1024_open_files_1500_strangers_keep_no_sender_out(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))
    try:
        with command(tmp_path, open_files=1_024) as (port, log), ExitStack() as stack:
            for _ in range(1_500):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT))
            for number in range(30):
                with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
                    connection.sendall(whole("sigma", body("sigma", key=f"beside {number}")))
                    connection.shutdown(socket.SHUT_WR)
                    assert read_answer(connection)[0] == 200
            assert "max_connections" in log.read_text()
            assert "Too many open files" not in log.read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def command(folder: Path, *, open_files: int):
    """Run `hookmirror serve` in a process with this many open files; give its port and its log."""
    settings, log = folder / "hookmirror.toml", folder / "log"
    settings.write_text(f'[sources.sigma]\nsecrets = ["{SECRETS["sigma"]}"]\n')
    environment = {
        **os.environ,
        "HOOKMIRROR_CONFIG": str(settings),
        "HOOKMIRROR_DATABASE_URL": f"sqlite:///{folder / 'hookmirror.db'}",
        "HOOKMIRROR_SECRET_KEY": SECRET_KEY,
    }
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        arguments = ["serve", "--fd", f"{INHERITED}"]
        process = Forked(arguments, folder, environment, log=log, inherited=listening.fileno(), open_files=open_files)
    try:
        wait_until(lambda: answers_health(port), "the server's start")
        yield port, log
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def answers_health(port: int) -> bool:
    client = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        client.request("GET", "/healthz")
        return client.getresponse().status == 200
    except OSError:
        return False
    finally:
        client.close()


# ── below a path ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", ["", "/pim"], ids=["cut off by the proxy", "passed on by the proxy"])
@pytest.mark.parametrize("one_write", [True, False])
def test_below_the_path_of_a_proxy_webhooks_and_health_are_found(tmp_path, prefix: str, one_write: bool):
    content, headers = sent("sigma", body("sigma"))
    with strict(tmp_path, root_path="/pim", one_write=one_write) as served:
        assert served.sender.post(f"{prefix}/hooks/sigma", content=content, headers=headers).status_code == 200
        assert served.client.get(f"{prefix}/healthz").status_code == 200
