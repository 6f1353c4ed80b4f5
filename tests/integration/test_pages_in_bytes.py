"""Pages over large rows end when they are large enough, and later rows are not even read."""

from __future__ import annotations

import tracemalloc

import pytest
from serving import Served, serving
from shopping import NOON
from sqlalchemy import insert, update
from test_api import pages

from handlers.catalog import Product
from receiver.codec import encode
from receiver.mirror import changes
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import sql_table
from receiver.runs.tables import RUN_ROWS, RUNS

#: Rows, and the numbers in each: 40 KB of JSON, which takes many times as much memory once it is read.
ROWS, NUMBERS = 40, 10_000

#: Bytes after which a page ends in these tests.
PAGE_BYTES = 1 << 19

LARGE = {"prices": [1.5] * NUMBERS, "note": "Größe \u0000 😊"}


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    with (
        lend_database(tmp_path_factory.mktemp("pages")) as url,
        serving(url, api_page_bytes=PAGE_BYTES, api_read_seconds=60.0) as running,
    ):
        row = {"active": True, "changed_at": NOON, "tie": False, "versions": "{}", "data": LARGE}
        change = {"table": "products", "operation": "update", "changed_at": NOON, "recorded_at": NOON, "source": "s"}
        with running.beside.write() as connection:
            for number in range(ROWS):
                key = {"source": "iimmpact", "external_id": f"A{number:03}"}
                connection.execute(insert(sql_table(Product)), row | key)
                about = {"external_id": "A000", "before": {}, "after": {"data": LARGE}}
                connection.execute(insert(CHANGES), change | about | {"source": "iimmpact"})
        yield running


def test_a_page_ends_when_it_is_large_enough_and_says_that_more_follows(served: Served):
    answer = served.get("/api/v1/catalog/products")
    assert PAGE_BYTES <= len(answer.content) < 2 * PAGE_BYTES
    assert answer.json()["next"] is not None


def test_pages_that_end_early_cover_each_row_exactly_once(served: Served):
    listed = pages(served, "/api/v1/catalog/products?limit=1000")
    assert len(listed) > 2
    found = [row for page in listed for row in page]
    assert [row["external_id"] for row in found] == [f"A{number:03}" for number in range(ROWS)]
    assert all(row["data"] == LARGE for row in found)


def test_the_change_feed_is_bounded_in_the_same_way(served: Served):
    after, numbers = 0, []
    while items := (page := served.get(f"/api/v1/changes?after={after}&limit=1000").json())["items"]:
        assert len(encode(items)) < 2 * PAGE_BYTES
        assert items[0]["after"] == {"data": LARGE}
        numbers += [each["seq"] for each in items]
        after = page["next"]
    assert len(numbers) == ROWS
    assert numbers == sorted(set(numbers))


def test_the_history_of_one_row_is_bounded_too(served: Served):
    answer = served.get("/api/v1/catalog/products/iimmpact/A000")
    assert answer.json()["row"]["data"] == LARGE
    assert 0 < len(answer.json()["history"]) < ROWS
    assert len(answer.content) < 3 * PAGE_BYTES


def test_a_search_shows_rows_up_to_a_page_and_says_how_many_it_found(served: Served):
    with served.beside.write() as connection:
        connection.execute(update(sql_table(Product)).values(sku="LARGE"))
    answer = served.get("/api/v1/search?q=LARGE")
    assert len(answer.content) < 2 * PAGE_BYTES
    shown = len(answer.json()["rows"])
    assert 3 < shown < 20
    assert answer.json()["rows_found"] == 20
    assert f"and at least 17 more; no delivery names it. Only {shown} of these 20 rows" in answer.json()["says"]


@pytest.fixture(scope="module")
def planned(served: Served) -> str:
    """A plan that would change all rows."""
    document = {"sources": ["iimmpact"], "arguments": {}, "tally": {}}
    plan = {"kind": "reconcile", "state": "planned", "total": ROWS, "done": 0, "release": "0.1.0", "wiring": ""}
    foreseen = {"table": "products", "source": "iimmpact", "operation": "update", "before": {}, "after": LARGE}
    with served.beside.write() as connection:
        by = {"planned_by": "anna", "planned_at": NOON}
        run = connection.execute(insert(RUNS).values(**document, **plan, **by).returning(RUNS.c.id)).scalar_one()
        rows = [{"run": run, "external_id": f"A{number:03}"} | foreseen for number in range(ROWS)]
        connection.execute(insert(RUN_ROWS), rows)
    return f"/api/v1/runs/{run}"


def test_a_run_shows_the_first_rows_of_its_forecast_within_a_page(served: Served, planned: str):
    answer = served.get(planned)
    assert len(answer.content) < 2 * PAGE_BYTES
    assert answer.json()["rows"][0]["after"] == LARGE


def test_pages_of_a_forecast_end_early_and_cover_each_row_exactly_once(served: Served, planned: str):
    after, found = "0", []
    while after is not None:
        answer = served.get(f"{planned}/rows?after={after}&limit=1000")
        assert len(answer.content) < 2 * PAGE_BYTES
        found += [row["external_id"] for row in answer.json()["items"]]
        after = answer.json()["next"]
    assert found == [f"A{number:03}" for number in range(ROWS)]


def test_a_list_of_rows_that_are_smaller_than_was_guessed_goes_on_to_its_end(served: Served):
    """Small columns are shorter than the guess about them, so a page has fewer bytes than its rows were thought to."""
    document = {"sources": ["iimmpact"], "arguments": {}, "tally": {}, "planned_by": "anna", "planned_at": NOON}
    plan = {"kind": "reconcile", "state": "planned", "total": 1_000, "done": 0, "release": "0.1.0", "wiring": ""}
    foreseen = {"table": "products", "source": "s", "operation": "update", "before": {}, "after": {"name": "n" * 1_500}}
    with served.beside.write() as connection:
        run = connection.execute(insert(RUNS).values(**document, **plan).returning(RUNS.c.id)).scalar_one()
        rows = [{"run": run, "external_id": f"A{number:03}"} | foreseen for number in range(1_000)]
        connection.execute(insert(RUN_ROWS), rows)
    after, found = "0", []
    while after is not None:
        answer = served.get(f"/api/v1/runs/{run}/rows?after={after}&limit=1000").json()
        found += [row["external_id"] for row in answer["items"]]
        after = answer["next"]
    assert found == [row["external_id"] for row in rows]


def test_a_row_larger_than_a_page_is_a_page(served: Served, lend_database, tmp_path):
    with serving(served.beside.engine.url.render_as_string(False), api_page_bytes=1_024) as small:
        page = small.get("/api/v1/catalog/products").json()
    assert [row["external_id"] for row in page["items"]] == ["A000"]
    assert page["next"] is not None


def test_a_page_takes_a_small_multiple_of_its_bytes_in_memory(served: Served):
    served.get("/api/v1/catalog/products?limit=1000")
    tracemalloc.start()
    try:
        served.get("/api/v1/catalog/products?limit=1000")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * PAGE_BYTES


def test_a_follower_reads_the_feed_in_portions(served: Served):
    first = changes.after(served.beside, 0, limit=1_000)
    assert 0 < len(first) < ROWS
    assert first[0]["after"] == {"data": LARGE}
    seen = []
    for change in changes.follow(served.beside):
        seen.append(change["seq"])
        if len(seen) == ROWS:
            break
    assert seen == sorted(set(seen))
