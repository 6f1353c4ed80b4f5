"""The refusal of a request that the parser stopped at: a fault of ours is never the sender's."""

from __future__ import annotations

import httptools
import pytest

from receiver.ingest.parser import TLS, reason_to_stop


@pytest.mark.parametrize(
    ("cause", "data", "code"),
    [
        (None, TLS + b"\1", "malformed_request"),
        (httptools.HttpParserError(), b"\0", "malformed_request"),
        (MemoryError(), b"\0", "unavailable"),
        (MemoryError(), TLS + b"\1", "unavailable"),
    ],
)
def test_an_error_of_this_server_is_a_503_whatever_the_data_begin_with(cause, data, code):
    assert reason_to_stop(cause, data).code == code
