"""The address of an id at a source's own API."""

from __future__ import annotations

import httpx
import pytest

from handlers.api import segment


@pytest.mark.parametrize("text", [".", "..", "a/../b", "?x=1#y", "%2e%2e", "A1", "ä b"])
def test_no_id_leads_to_another_address_of_the_api(text: str) -> None:
    api = httpx.Client(base_url="https://pim.example/api/v1")
    path = api.build_request("GET", f"/records/{segment(text)}/variants/1").url.raw_path.decode()
    before, records, behind = path.partition("/records/")
    assert (before, records) == ("/api/v1", "/records/")
    assert behind.endswith("/variants/1")
    assert behind.count("/") == 2
