"""Refused requests in the log: the first of a kind, a sum of the others, and nothing misleading."""

from __future__ import annotations

import logging
import socket
import struct
import time

import pytest
import structlog
from senders import body
from serving import TIMEOUT, Served, serving
from structlog.testing import capture_logs

from receiver.logs import logs, rates

#: Option that makes closing a connection reset it.
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def served(tmp_path):
    """Serve on a file, because the database has no part in a refusal. The log of each server begins anew."""
    with serving(f"sqlite:///{tmp_path / 'hookmirror.db'}", one_write=True) as running:
        yield running


def test_many_refusals_of_one_kind_are_one_line_and_each_is_counted(served: Served, monkeypatch):
    # A standstill before the second of a kind would end the time in which it is only counted.
    monkeypatch.setattr(rates, "FIRST_WHILE", TIMEOUT)
    with capture_logs() as lines:
        for _ in range(30):
            assert served.post("sigma", body("sigma"), {}).status_code == 401
            assert served.client.get("/hooks/nobody").status_code == 404
    lines = [line for line in lines if line["event"] == "refused a webhook"]
    assert [(line["source"], line["code"]) for line in lines] == [
        ("sigma", "signature_missing"),
        ("", "unknown_source"),
    ]
    assert lines[1]["asked_for"] == "nobody"
    assert served.metric('hookmirror_refused_total{code="signature_missing",source="sigma"}') >= 30
    assert served.metric('hookmirror_refused_total{code="unknown_source",source=""}') >= 30


def test_a_sender_that_begins_with_tls_is_refused_with_a_line_that_says_so(served: Served):
    with capture_logs() as lines, served.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert b"This is TLS, and this port takes plain HTTP." in b"".join(iter(lambda: connection.recv(65_536), b""))
    (line,) = (line for line in lines if line["event"] == "refused a request")
    assert line["says"].startswith("This is TLS, and this port takes plain HTTP.")


@pytest.mark.parametrize("path", ["/hooks/nobody", "/healthz", "/metrics"])
def test_a_sender_that_resets_its_connection_among_many_requests_is_not_an_error(served: Served, caplog, path):
    with capture_logs() as lines, caplog.at_level(logging.WARNING):
        for pause in (0.0, 0.001, 0.003) * 4:
            connection = served.connect()
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 30)
            time.sleep(pause)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
        assert served.client.get("/healthz").status_code == 200
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []


@pytest.mark.parametrize("name", ["%1b[31mRED", "%E2%80%AE", "%C2%85", "%E2%80%A8", "a%0Ab", "%ED%A0%80"])
def test_a_name_in_a_url_is_escaped_in_the_log(served: Served, capsys, name: str):
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    logs.configure("info", "console")
    structlog.configure(cache_logger_on_first_use=False)
    try:
        assert served.client.get(f"/hooks/{name}").status_code == 404
    finally:
        structlog.configure(**before)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    written = capsys.readouterr().err
    assert all(line.isprintable() for line in written.split("\n")), ascii(written)
    assert written.count("refused a webhook") == 1
