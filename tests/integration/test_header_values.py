"""Blanks and tabs around a header's value, which do not belong to the value (RFC 9110, section 5.5)."""

from __future__ import annotations

import pytest
from senders import HEADERS, SIGNED, body, digits, sent
from serving import Served, error, read_answer, request_head, serving

from receiver.ingest.fast_path import FastPathProtocol


@pytest.fixture(scope="module", params=[FastPathProtocol, "httptools"], ids=["whole", "through the application"])
def served(request, tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('values') / 'hookmirror.db'}"
    with serving(url, one_write=True, http=request.param) as running:
        yield running


AROUND = [(b"", b" "), (b"", b"\t"), (b"\t \t", b"\t \t")]


def answer(served: Served, source: str, content: bytes, *lines: bytes) -> int:
    with served.connect() as connection:
        length = b"Content-Length: %d" % len(content)
        connection.sendall(request_head(source, *lines, length, b"Connection: close") + content)
        return read_answer(connection)[0]


@pytest.mark.parametrize("source", SIGNED)
@pytest.mark.parametrize(("before", "behind"), AROUND)
def test_blanks_and_tabs_around_a_signature_are_ignored(served: Served, source: str, before, behind):
    content = body(source, key=f"{before!r} {behind!r}")
    signature = b"sha256=" + digits(source, content).encode()
    line = HEADERS[source].encode() + b":" + before + signature + behind
    assert answer(served, source, content, line) == 200


@pytest.mark.parametrize("inside", [b" ", b"\t", b"\xa0"])
def test_blanks_inside_a_signature_count(served: Served, inside: bytes):
    content = body("sigma", key="inside")
    signature = b"sha256=" + inside + digits("sigma", content).encode()
    assert answer(served, "sigma", content, b"X-Sigma-Signature: " + signature) == 401


def test_other_characters_around_the_value_count(served: Served):
    content = body("sigma", key="others")
    for odd in (b"\xa0", b"\x85", b"\xe2\x80\x82"):
        line = b"X-Sigma-Signature: sha256=" + digits("sigma", content).encode() + odd
        assert answer(served, "sigma", content, line) == 401


def test_a_signature_of_blanks_alone_is_malformed_and_not_missing(served: Served):
    refused = served.post("sigma", body("sigma"), [(b"X-Sigma-Signature", b" \t ")])
    assert error(refused) == (401, "signature_malformed")


def test_kept_headers_are_kept_without_surrounding_blanks(served: Served):
    content, headers = sent("sigma", body("sigma", key="kept"))
    lines = [f"{name}: {value}".encode() for name, value in headers.items()] + [b"X-Request-Id: \t r-1 \t"]
    with served.connect() as connection:
        length = b"Content-Length: %d" % len(content)
        connection.sendall(request_head("sigma", *lines, length, b"Connection: close") + content)
        assert read_answer(connection)[0] == 200
    newest = served.get("/api/v1/deliveries?source=sigma&limit=1").json()["items"][0]["id"]
    assert served.delivery(newest)["headers"]["x-request-id"] == "r-1"
