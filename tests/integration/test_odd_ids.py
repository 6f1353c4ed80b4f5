"""Ids with every character that has a meaning in an address, each requested by its own address."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from serving import Served, error, serving, wait_until

IDS = [
    *("A\nB", "A\n", "\nA", "\n", "A\r\nB", "a/b", "a//b", "/a", "a/", "/", ".", "..", "../a", "a/../b"),
    *("a b", " a", "a ", "\t", "a?b", "a#b", "a%2Fb", "%0A", "%", "a;b", "a+b", "a&b=c", "é灯😊", "\u202e", "\u2028"),
    *("\x85", "\x1b[31m", "\ufeff", "history", "x" * 500),
]


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    """Serve a row of each of these ids, and one of "A", which must not be confused with them."""
    with lend_database(tmp_path_factory.mktemp("ids")) as url, serving(url, with_worker=True) as running:
        for number, identity in enumerate([*IDS, "A"]):
            running.send("iimmpact", id=identity, key=f"k{number}", data={"display_name": f"named {identity!r}"})
        wait_until(lambda: running.count("deliveries", "ended_at IS NULL") == 0, "the worker")
        yield running


def address(served: Served, identity: str) -> str:
    """Make the whole URL, so that no client interprets its dots as steps."""
    written = quote(identity, safe="").replace(".", "%2E")
    return f"http://127.0.0.1:{served.port}/api/v1/catalog/products/iimmpact/{written}"


@pytest.mark.parametrize("identity", IDS, ids=ascii)
def test_the_row_of_any_id_is_found_at_its_address(served: Served, identity: str):
    answer = served.get(address(served, identity))
    assert answer.status_code == 200, answer.text
    assert answer.json()["row"]["external_id"] == identity
    assert answer.json()["row"]["name"] == f"named {identity!r}"
    assert [change["external_id"] for change in answer.json()["history"]] == [identity]


@pytest.mark.parametrize("identity", [each for each in IDS if each.strip()], ids=ascii)
def test_a_search_for_any_id_that_is_not_blank_finds_its_row_alone(served: Served, identity: str):
    answer = served.get(f"/api/v1/search?q={quote(identity, safe='')}")
    assert answer.status_code == 200, answer.text
    assert [hit["row"]["external_id"] for hit in answer.json()["rows"]] == [identity]


@pytest.mark.parametrize("blanks", ["{} ", "\t{}", " {}\n\n"])
def test_a_search_finds_an_id_despite_blanks_around_it(served: Served, blanks: str):
    answer = served.get(f"/api/v1/search?q={quote(blanks.format('a;b'))}")
    assert [hit["row"]["external_id"] for hit in answer.json()["rows"]] == ["a;b"]


@pytest.mark.parametrize("missing", ["", "B", "A\n\n", "A/", "A\0", "\ud800"])
def test_an_unknown_id_is_not_found_although_a_similar_one_exists(served: Served, missing: str):
    written = quote(missing.encode("utf-8", "surrogatepass"), safe="")
    answer = served.get(f"http://127.0.0.1:{served.port}/api/v1/catalog/products/iimmpact/{written}")
    assert error(answer) == (404, "not_found")
    assert answer.json()["message"].isprintable()


@pytest.mark.parametrize("path", ["/api/v1/deliveries/1%0A", "/api/v1/deliveries/%0A", "/api/v1/deliveries/%2E%2E"])
def test_a_delivery_can_be_requested_by_its_number_only(served: Served, path: str):
    assert error(served.get(path)) == (404, "not_found")


@pytest.mark.parametrize("table", ["products%0A", "prod%0Aucts", "%0A", "products%20", "PRODUCTS", "%2E%2E"])
def test_a_table_can_be_requested_by_its_name_only(served: Served, table: str):
    assert error(served.get(f"/api/v1/catalog/{table}")) == (404, "not_found")
    assert error(served.get(f"/api/v1/catalog/{table}/iimmpact/A")) == (404, "not_found")


@pytest.mark.parametrize("source", ["iimmpact%0A", "%0A", "nobody", "IIMMPACT"])
def test_a_row_can_be_requested_by_its_source_s_name_only(served: Served, source: str):
    assert error(served.get(f"/api/v1/catalog/products/{source}/A")) == (404, "not_found")
