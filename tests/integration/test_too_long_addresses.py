"""Addresses of the console that are longer than the server reads, as after a long text was pasted into the search."""

from __future__ import annotations

import httpx
import pytest
from serving import Served, serving
from visiting import text_of


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    with (
        lend_database(tmp_path_factory.mktemp("long")) as url,
        serving(url, console=True, root_path="/mirror") as running,
    ):
        yield running


@pytest.mark.parametrize(("query", "headers", "status"), [("x" * 8_193, {}, 414), ("", {"Cookie": "x" * 20_000}, 431)])
@pytest.mark.parametrize("path", ["/console/search", "/console", "/mirror/console/search", "/mirror/console"])
def test_a_person_who_asks_for_too_much_gets_a_page_that_says_so(served: Served, path, query, headers, status):
    answer = httpx.get(f"{served.client.base_url}{path}?q={query}", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "bytes. Shorten it." in text_of(answer.text)
    assert '<a href="?">' in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_program_that_asks_for_too_much_gets_json_whatever_its_query(served: Served):
    answer = httpx.get(f"{served.client.base_url}/api/v1/search?q=/console/{'x' * 8_193}")
    assert (answer.status_code, answer.json()["error"]) == (414, "url_too_long")
