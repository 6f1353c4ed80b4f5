"""What the log tells of requests that are refused: the first of a kind, a sum of the others, nothing that misleads."""

from __future__ import annotations

import pytest
from senders import body
from serving import Served, serving
from structlog.testing import capture_logs


@pytest.fixture
def served(mirror_url):
    with serving(mirror_url, one_write=True) as running:
        yield running


def test_many_refusals_of_one_kind_are_one_line_and_each_is_counted(served: Served):
    with capture_logs() as logs:
        for _ in range(30):
            assert served.post("sigma", body("sigma"), {}).status_code == 401
            assert served.client.get("/hooks/nobody").status_code == 404
    lines = [line for line in logs if line["event"] == "refused a webhook"]
    assert [(line["source"], line["code"]) for line in lines] == [
        ("sigma", "signature_missing"),
        ("", "unknown_source"),
    ]
    assert lines[1]["asked_for"] == "nobody"
    assert served.metric('hookmirror_refused_total{code="signature_missing",source="sigma"}') >= 30
    assert served.metric('hookmirror_refused_total{code="unknown_source",source=""}') >= 30
