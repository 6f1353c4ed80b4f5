"""The API over a real socket: the answers of every route, and who may use it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import httpx
import pytest
from senders import SOURCES, body, sent
from serving import Served, error, serving, wait_until
from sqlalchemy import text

from receiver.api.tokens import Scope

TABLES = ("products", "variants", "categories", "groups", "options", "records")

DELIVERY = {
    *("id", "source", "event_type", "entity", "occurred_at", "received_at", "state", "outcome", "reason", "ended_at"),
    *("attempts_made", "next_attempt_at", "duplicates", "conflict", "dedup_key", "secret", "item"),
}
DETAILS = {"headers", "signed", "trusted", "body", "body_encoding", "plain", "plain_encoding", "attempts", "rounds"}
ROW = {
    *("source", "external_id", "active", "changed_at", "deactivated_at", "tie"),
    *("sku", "name", "price", "currency", "parent", "lifecycle_state", "data"),
}
CHANGE = {
    *("seq", "table", "source", "external_id", "operation", "before", "after"),
    *("delivery_id", "changed_at", "recorded_at", "run"),
}


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    """Serve 23 products of three sources, all processed, with a dead delivery and an ignored one."""
    with lend_database(tmp_path_factory.mktemp("api")) as url, serving(url, with_worker=True) as running:
        for number in range(10):
            for source in ("sigma", "iimmpact"):
                running.send(source, id=f"A{number}", key=f"k{number}")
        for number in range(3):
            running.send("sticky", id=number, key=f"k{number}", data={"name": "Lamp", "price": "19.90", "sku": "L-1"})
        running.send("iimmpact", id="A9", event_type="product.deleted", data=None)
        running.send("sigma", b"not JSON")
        running.send("sigma", id="A1", key="moon", event_type="moon.eclipsed")
        wait_until(lambda: running.count("deliveries", "ended_at IS NULL") == 0, "the worker")
        yield running


def fine(answer: httpx.Response) -> dict:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    return answer.json()


def is_utc(text: str) -> bool:
    return text.endswith("Z") and datetime.fromisoformat(text).utcoffset() == timedelta()


# ── deliveries ────────────────────────────────────────────────────────────────────────────────────────────────


def items(served: Served, path: str) -> list[dict]:
    return fine(served.get(path))["items"]


def pages(served: Served, path: str) -> list[list[dict]]:
    """Yield all pages by following `next`."""
    found, cursor = [], ""
    while cursor is not None:
        page = fine(served.get(f"{path}&cursor={cursor}" if cursor else path))
        assert page.keys() == {"items", "next"}
        found.append(page["items"])
        cursor = page["next"]
    return found


def test_deliveries_are_listed_newest_first_in_the_documented_form(served: Served):
    listed = items(served, "/api/v1/deliveries")
    assert len(listed) == 26
    assert all(each.keys() == DELIVERY for each in listed)
    assert [each["id"] for each in listed] == sorted((each["id"] for each in listed), key=int, reverse=True)
    assert all(is_utc(each["received_at"]) for each in listed)


@pytest.mark.parametrize("limit", [1, 5, 13, 26, 1_000])
def test_pages_of_deliveries_cover_each_exactly_once(served: Served, limit: int):
    whole = [each["id"] for each in items(served, "/api/v1/deliveries")]
    paged = pages(served, f"/api/v1/deliveries?limit={limit}")
    assert [each["id"] for page in paged for each in page] == whole
    assert all(len(page) == limit for page in paged[:-1])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("source=sigma", 12),
        ("state=dead", 1),
        ("state=ignored&source=sigma", 1),
        ("state=pending", 0),
        ("event_type=product.deleted", 1),
        ("entity=product:A9", 2),
        ("entity=A9", 3),
        ("source=indexed", 0),
        ("event_type=%00", 0),
    ],
)
def test_deliveries_can_be_filtered(served: Served, query: str, found: int):
    assert len(items(served, f"/api/v1/deliveries?{query}")) == found


def test_deliveries_of_a_source_are_listed_after_it_has_left_the_settings(mirror_url):
    with serving(mirror_url, with_worker=True) as before:
        before.ended(before.send("sticky", id=7))
    with serving(mirror_url, sources={"sigma": SOURCES["sigma"]}) as after:
        for path in ("deliveries", "catalog/products", "catalog/variants"):
            assert len(items(after, f"/api/v1/{path}?source=sticky")) == (path != "catalog/variants")


def test_one_delivery_is_shown_with_headers_body_and_attempts(served: Served):
    (dead,) = items(served, "/api/v1/deliveries?state=dead")
    shown = fine(served.get(f"/api/v1/deliveries/{dead['id']}"))
    assert shown.keys() == DELIVERY | DETAILS
    assert (shown["body"], shown["body_encoding"], shown["attempts"]) == ("not JSON", "utf-8", [])
    assert shown["headers"].keys() <= {"user-agent", "content-type", "x-sigma-signature"}


def test_an_encrypted_body_is_shown_encrypted_and_decrypted(served: Served):
    newest = items(served, "/api/v1/deliveries?source=sticky&limit=1")[0]
    shown = fine(served.get(f"/api/v1/deliveries/{newest['id']}"))
    assert json.loads(shown["plain"])["data"]["object"]["sku"] == "L-1"
    assert "L-1" not in shown["body"]


@pytest.mark.parametrize("number", ["1", "9223372036854775807", "9223372036854775808", "9" * 5_000])
def test_an_unknown_delivery_can_neither_be_shown_nor_replayed(served: Served, number: str):
    path = f"/api/v1/deliveries/{number}"
    assert error(served.get(path)) == (404, "not_found")
    assert error(served.get(f"{path}/replay", scope=Scope.OPERATE, method="POST")) == (404, "not_found")


# ── replay ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_replayed_delivery_is_processed_again(served: Served):
    delivery = items(served, "/api/v1/deliveries?source=iimmpact&limit=1")[0]
    answer = served.get(f"/api/v1/deliveries/{delivery['id']}/replay", scope=Scope.OPERATE, method="POST")
    assert (answer.status_code, answer.json()) == (202, {"status": "pending", "delivery": delivery["id"]})
    again = served.ended(delivery["id"])
    assert (again["state"], again["outcome"]) == ("processed", "unchanged")


def test_a_replayed_delivery_of_a_source_that_has_left_the_settings_is_said_to_wait(mirror_url):
    with serving(mirror_url, with_worker=True) as served:
        dead = served.send("sigma", b"not JSON")
        path = f"/api/v1/deliveries/{dead}/replay"
        assert "waits" not in served.get(path, scope=Scope.OPERATE, method="POST").json()
        served.ended(dead)
    with serving(mirror_url, sources={"iimmpact": SOURCES["iimmpact"]}) as served:
        answer = served.get(path, scope=Scope.OPERATE, method="POST")
        assert answer.status_code == 202
        assert answer.json()["waits"].startswith("Its source 'sigma' is not in the settings, so no worker takes it")


def test_a_delivery_that_has_not_ended_cannot_be_replayed(mirror_url):
    with serving(mirror_url) as idle:
        path = f"/api/v1/deliveries/{idle.send('sigma')}/replay"
        assert error(idle.get(path, scope=Scope.OPERATE, method="POST")) == (409, "not_ended")


# ── the catalog ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_catalog_names_its_tables(served: Served):
    listed = fine(served.get("/api/v1/catalog"))["tables"]
    assert set(TABLES) <= set(listed)
    assert listed == sorted(listed)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_answers_in_the_documented_form(served: Served, table: str):
    page = fine(served.get(f"/api/v1/catalog/{table}"))
    assert page.keys() == {"items", "next"}
    assert all(row.keys() == ROW for row in page["items"])
    assert len(page["items"]) == (23 if table == "products" else 0)


@pytest.mark.parametrize("limit", [1, 4, 23, 100])
def test_pages_of_rows_cover_each_exactly_once(served: Served, limit: int):
    paged = pages(served, f"/api/v1/catalog/products?limit={limit}")
    keys = [(row["source"], row["external_id"]) for page in paged for row in page]
    assert keys == sorted(set(keys))
    assert len(keys) == 23


@pytest.mark.parametrize(
    ("query", "found"),
    [("active=true", 22), ("active=false", 1), ("source=sticky", 3), ("source=sticky&active=false", 0)],
)
def test_rows_can_be_filtered(served: Served, query: str, found: int):
    assert len(items(served, f"/api/v1/catalog/products?{query}")) == found


def test_one_row_is_shown_with_exact_price_utc_times_and_history(served: Served):
    shown = fine(served.get("/api/v1/catalog/products/sticky/1"))
    assert shown.keys() == {"row", "history"}
    assert (shown["row"]["price"], shown["row"]["changed_at"]) == ("19.90", "2026-03-04T12:00:00Z")
    assert [change.keys() for change in shown["history"]] == [CHANGE]
    assert shown["history"][0]["operation"] == "insert"


def test_a_deactivated_row_stays_with_the_time_of_its_deactivation(served: Served):
    row = fine(served.get("/api/v1/catalog/products/iimmpact/A9"))["row"]
    assert (row["active"], row["deactivated_at"]) == (False, "2026-03-04T12:00:00Z")


def test_an_id_with_a_slash_is_found_by_its_path(mirror_url):
    with serving(mirror_url, with_worker=True) as working:
        working.ended(working.send("iimmpact", id="a/b?c"))
        assert fine(working.get("/api/v1/catalog/products/iimmpact/a%2Fb%3Fc"))["row"]["external_id"] == "a/b?c"


@pytest.mark.parametrize("path", ["products/sigma/NEVER", "products/nobody/A1", "products/sigma/%00", "moons", "%FF"])
def test_an_unknown_row_is_not_found(served: Served, path: str):
    assert error(served.get(f"/api/v1/catalog/{path}")) == (404, "not_found")


# ── changes and stats ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", [1, 7, 1_000])
def test_a_follower_of_the_change_feed_sees_each_change_once_in_order(served: Served, limit: int):
    seen, after = [], 0
    while page := fine(served.get(f"/api/v1/changes?after={after}&limit={limit}"))["items"]:
        assert all(change.keys() == CHANGE for change in page)
        seen += [change["seq"] for change in page]
        after = page[-1]["seq"]
    assert seen == sorted(set(seen))
    assert len(seen) == 24
    assert fine(served.get(f"/api/v1/changes?after={after}")) == {"items": [], "next": after}


def test_stats_count_every_source_by_state(served: Served):
    counts = {each["source"]: each for each in fine(served.get("/api/v1/stats"))["sources"]}
    assert set(SOURCES) <= counts.keys()
    assert counts["sigma"]["states"] == {"pending": 0, "processing": 0, "processed": 10, "ignored": 1, "dead": 1}
    assert is_utc(counts["sigma"]["last_delivery_at"])
    assert (counts["indexed"]["last_delivery_at"], counts["indexed"]["oldest_pending_seconds"]) == (None, None)


# ── health ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_health_needs_no_token(served: Served):
    assert fine(served.get("/healthz", scope=None)) == {"status": "alive"}
    assert fine(served.get("/readyz", scope=None)) == {"status": "ready", "warnings": []}


def test_an_old_backlog_makes_the_server_not_ready_with_the_reason(mirror_url):
    with serving(mirror_url, max_backlog_seconds=0.01) as idle:
        assert idle.client.get("/readyz").status_code == 200
        idle.send("sigma")
        answer = wait_until(lambda: (found := idle.client.get("/readyz")).status_code == 503 and found)
        assert answer.json()["status"] == "not ready"
        assert "is a worker running" in answer.json()["reason"]
        assert idle.client.get("/healthz").status_code == 200


def test_metrics_count_accepted_refused_and_waiting_deliveries(mirror_url, database_system):
    source = {"dialect": "sigma", "secrets": ["secret-of-the-metered-one"]}
    metered = f"metered-{database_system}"  # all servers of a process count together
    with serving(mirror_url, sources={metered: source}) as idle:
        content, headers = sent("sigma", body("sigma"), "secret-of-the-metered-one")
        for _ in range(3):
            idle.post(metered, content, headers)
        idle.post(metered, content)
        assert idle.client.get("/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")
        assert idle.metric(f'hookmirror_deliveries_total{{source="{metered}",status="accepted"}}') == 1
        assert idle.metric(f'hookmirror_deliveries_total{{source="{metered}",status="duplicate"}}') == 2
        assert idle.metric(f'hookmirror_refused_total{{code="signature_missing",source="{metered}"}}') == 1
        assert idle.metric(f'hookmirror_backlog{{source="{metered}",state="pending"}}') == 1
        assert idle.metric("hookmirror_oldest_pending_seconds") > 0


def test_a_database_that_does_not_answer_leads_to_a_503(mirror_url):
    with serving(mirror_url) as ill:
        with ill.beside.write() as beside:
            beside.execute(text("ALTER TABLE deliveries RENAME TO away"))
        answer = ill.get("/api/v1/deliveries")
        assert error(answer) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert ill.get("/readyz", scope=None).status_code == 503
        assert ill.get("/metrics", scope=None).status_code == 200
        with ill.beside.write() as beside:
            beside.execute(text("ALTER TABLE away RENAME TO deliveries"))
        assert fine(ill.get("/api/v1/deliveries")) == {"items": [], "next": None}
