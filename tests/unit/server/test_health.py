"""Health and metrics of a separate worker, over a real socket."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack

import httpx
import pytest
import structlog
from ports import free_port
from structlog.testing import capture_logs
from waiting import TIMEOUT, wait_until

from receiver.logs.repeats import Repeats
from receiver.server.health import MOST_CLIENTS, vitals


@pytest.fixture
def ask():
    """Ask for a path while a worker with this fault answers."""

    def asking(path: str, *, trouble: str | None = None, metrics: bytes = b"") -> httpx.Response:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        with vitals(listening, trouble=lambda: trouble, metrics=lambda: metrics):
            return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT)

    return asking


def test_a_worker_without_a_fault_is_alive(ask):
    answer = ask("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_a_worker_with_a_fault_names_it(ask):
    answer = ask("/healthz", trouble="The worker's thread has ended.")
    told = {"status": "not alive", "reason": "The worker's thread has ended."}
    assert (answer.status_code, answer.json()) == (503, told)


def test_the_metrics_have_the_format_of_prometheus(ask):
    answer = ask("/metrics?name=x", metrics=b"hookmirror_x 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.text == "hookmirror_x 1\n"


def test_another_path_is_not_found(ask):
    answer = ask("/hooks/sigma")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


def test_the_answer_does_not_identify_the_program(ask):
    assert "server" not in ask("/healthz").headers


def test_an_error_of_ours_is_logged_once_with_its_traceback_and_a_client_s_disconnect_is_not(monkeypatch):
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    broken = iter([ConnectionResetError(), BrokenPipeError(), TimeoutError(), ValueError(), ValueError()])

    def fail() -> bytes:
        raise next(broken)

    # Without a running clock, the second error comes at once, and no sum is due.
    monkeypatch.setattr("receiver.server.health.log", Repeats(structlog.get_logger(), clock=lambda: 0.0))
    with capture_logs() as logs, vitals(listening, trouble=lambda: None, metrics=fail):
        for _ in range(5):
            with socket.create_connection(address) as asking:
                asking.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert asking.recv(1) == b""
    told = [line for line in logs if "cannot answer a request for health" in line["event"]]
    assert [line["exception"].splitlines()[-1] for line in told] == ["ValueError"]


def test_no_thread_answers_any_more_after_an_error_of_the_worker():
    def fail() -> None:
        with vitals(socket.create_server(("127.0.0.1", 0)), trouble=lambda: None, metrics=lambda: b""):
            assert "vitals" in names_of_threads()
            raise ValueError("of the worker")

    with pytest.raises(ValueError, match="of the worker"):
        fail()
    wait_until(lambda: "vitals" not in names_of_threads(), "the end of the thread")


def names_of_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_the_port_is_free_again_afterwards(ask):
    port = free_port()
    with vitals(socket.create_server(("127.0.0.1", port)), trouble=lambda: None, metrics=lambda: b""):
        pass
    socket.create_server(("127.0.0.1", port)).close()


def test_clients_that_never_finish_a_request_are_ended_and_others_are_answered():
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    with vitals(listening, trouble=lambda: None, metrics=lambda: b""):
        silent = [socket.create_connection(address, timeout=TIMEOUT) for _ in range(MOST_CLIENTS)]
        try:
            answer = httpx.get(f"http://127.0.0.1:{address[1]}/healthz", timeout=TIMEOUT)
            assert answer.status_code == 200
            assert silent[0].recv(1) == b"", "the one that has been there for longest"
            silent[-1].sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert silent[-1].recv(12) == b"HTTP/1.0 200", "the others stay"
        finally:
            for each in silent:
                each.close()


def test_a_client_whose_answer_takes_time_outlasts_those_that_send_no_request():
    listening = socket.create_server(("127.0.0.1", 0))
    address = listening.getsockname()
    asked, go_on = threading.Event(), threading.Event()

    def metrics() -> bytes:
        asked.set()
        go_on.wait(TIMEOUT)
        return b"up 1"

    with vitals(listening, trouble=lambda: None, metrics=metrics), ExitStack() as opened:

        def client() -> socket.socket:
            return opened.enter_context(socket.create_connection(address, timeout=TIMEOUT))

        slow = client()
        slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert asked.wait(TIMEOUT)
        silent = [client() for _ in range(MOST_CLIENTS)]
        assert silent[0].recv(1) == b"", "the one that has been there for longest without a request"
        go_on.set()
        with slow.makefile("rb") as answer:
            assert answer.read().endswith(b"up 1")
