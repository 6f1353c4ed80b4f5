"""The read APIs of the systems show the catalog that the events announced."""

from __future__ import annotations

import asyncio
import socket
import tomllib
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import httpx
import pytest

from receiver import codec
from simulator.clock import SteppedClock
from simulator.server import application, serving
from simulator.settings import settings_text
from simulator.systems import SYSTEMS
from simulator.systems.iimmpact.api import signature

START = datetime(2026, 3, 8, 10, tzinfo=UTC)


@pytest.fixture
def systems():
    clock = SteppedClock(START)
    found = {name: SYSTEMS[name](name, seed=1, clock=clock) for name in SYSTEMS}
    for system in found.values():
        system.subscribe(f"http://127.0.0.1:8000/hooks/{system.source}")
        while system.events < 300:
            system.step(START + timedelta(seconds=system.events / 10))
    return found


def get(systems, path, *, headers=None, auth=None, times=1):
    async def ask():
        transport = httpx.ASGITransport(application(systems.values()))
        async with httpx.AsyncClient(base_url="http://systems", transport=transport) as client:
            for _ in range(times):
                answer = await client.get(path, headers=headers, auth=auth)
            return answer

    return asyncio.run(ask())


def sigma(systems, path):
    return get(systems, f"/sigma/api/v1{path}", headers={"X-Sigma-ApiKey": systems["sigma"].api_key})


def test_sigma_lists_exactly_the_active_records(systems):
    """docs/sources.md, Sigma PIM, "API": `{"items", "total", "offset", "limit"}`, default limit 50."""
    page = sigma(systems, "/records").json()
    living = {key[1] for key, row in systems["sigma"].oracle if key[0] == "products" and row.active}
    items = sigma(systems, "/records?limit=500").json()["items"]
    assert {record["id"] for record in items} == living
    assert (page["limit"], page["offset"], page["total"], len(page["items"])) == (50, 0, len(living), 50)


def test_a_sigma_record_agrees_with_the_oracle(systems):
    for (table, name), row in systems["sigma"].oracle:
        if table == "products" and row.active:
            assert codec.decode(sigma(systems, f"/records/{name}").content) == codec.decode(
                codec.encode(row.columns["data"])
            )


def test_sigma_variants_are_listed_flat_and_under_their_record(systems):
    flat = sigma(systems, "/variants?limit=500").json()["items"]
    assert {variant["id"] for variant in flat} == {
        key[1] for key, row in systems["sigma"].oracle if key[0] == "variants" and row.active
    }
    one = flat[0]
    path = f"/records/{one['entityId']}/variants"
    assert one in sigma(systems, path).json()["items"]
    assert sigma(systems, f"{path}/{one['id']}").json() == one
    assert set(sigma(systems, f"{path}/{one['id']}/resolved").json()) == {
        "effectiveValues",
        "overriddenAttributes",
        "inheritedAttributes",
    }


def test_sigma_requires_a_key(systems):
    answer = get(systems, "/sigma/api/v1/records")
    assert (answer.status_code, answer.json()["error"]) == (401, "UNAUTHORIZED")


def test_sigma_answers_not_found(systems):
    answer = sigma(systems, "/records/ent-nowhere")
    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "offset=-1", "limit=99999"])
def test_sigma_refuses_invalid_paging(systems, query):
    answer = sigma(systems, f"/records?{query}")
    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")


def signed(system, query="", *, nonce="n" * 16, timestamp=None):
    stamp = str(int((timestamp or system.clock.now()).timestamp()))
    value = signature(system.api_secret, timestamp=stamp, nonce=nonce, method="GET", query=query, body=b"")
    return {"X-Api-Key": system.api_key, "X-Timestamp": stamp, "X-Nonce": nonce, "X-Signature": value}


def test_the_iimmpact_catalog_is_a_tree_with_products_by_code(systems):
    """docs/sources.md, IIMMPACT: `GET /v2/catalog` → last_updated, tree, products by code."""
    system = systems["iimmpact"]
    catalog = get(systems, "/iimmpact/v2/catalog", headers=signed(system)).json()
    assert set(catalog) == {"last_updated", "tree", "products"}
    codes = [code for g in catalog["tree"]["groups"] for c in g["categories"] for code in c["product_codes"]]
    assert sorted(codes) == sorted(catalog["products"])


def test_iimmpact_options_are_listed_by_product(systems):
    system = systems["iimmpact"]
    option = next(system.alive("option")).data
    query = urlencode({"product_code": option["product_code"]})
    answer = get(systems, f"/iimmpact/v2/options?{query}", headers=signed(system, query)).json()
    assert {"code": option["code"], "label": option["label"], "price": option["price"]} in answer["items"]
    assert set(answer["meta"]) == {"current_page", "last_page", "per_page", "total"}


@pytest.mark.parametrize(
    "spoil",
    [
        {"X-Signature": "v1=AAAA"},
        {"X-Api-Key": "another"},
        {"X-Nonce": "short"},
        {"X-Timestamp": "1"},
        {"X-Timestamp": "now"},
    ],
)
def test_iimmpact_refuses_a_request_that_is_not_signed_as_documented(systems, spoil):
    headers = {**signed(systems["iimmpact"]), **spoil}
    assert get(systems, "/iimmpact/v2/catalog", headers=headers).status_code == 401


def test_iimmpact_accepts_a_nonce_only_once(systems):
    assert get(systems, "/iimmpact/v2/catalog", headers=signed(systems["iimmpact"]), times=2).status_code == 401


def test_iimmpact_limits_reads_of_the_catalog(systems):
    """docs/sources.md, IIMMPACT, "Limits": 60/min on the catalog, 429 with Retry-After."""
    system = systems["iimmpact"]

    async def ask():
        transport = httpx.ASGITransport(application([system]))
        async with httpx.AsyncClient(base_url="http://systems", transport=transport) as client:
            return [
                await client.get("/iimmpact/v2/catalog", headers=signed(system, nonce=f"nonce-number-{number:04d}"))
                for number in range(61)
            ]

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200] * 60 + [429]
    assert answers[-1].headers["retry-after"] == "60"


def test_sticky_pages_through_exactly_the_active_products(systems):
    """docs/sources.md, sticky.io, "REST v2": HTTP Basic, status SUCCESS, next_page_url."""
    system = systems["sticky"]
    auth = (system.api_user, system.api_password)
    url, found = "/sticky/api/v2/products", []
    while url:
        page = get(systems, url, auth=auth).json()
        assert page["status"] == "SUCCESS"
        found += [str(product["id"]) for product in page["data"]]
        url = page["next_page_url"]
    assert set(found) == {key[1] for key, row in system.oracle if key[0] == "products" and row.active}


def test_a_sticky_product_has_the_documented_rest_form(systems):
    """docs/sources.md, sticky.io, "REST v2": times are {date, timezone_type, timezone}, bundles are bundle_children."""
    system = systems["sticky"]
    product = next(system.alive())
    path = f"/sticky/api/v2/products/{product.id}"
    found = get(systems, path, auth=(system.api_user, system.api_password)).json()["data"]
    assert set(found["updated_at"]) == {"date", "timezone_type", "timezone"}
    assert {"variants", "bundle_children", "is_bundle"} <= set(found)


def test_sticky_requires_basic_credentials(systems):
    assert get(systems, "/sticky/api/v2/products").status_code == 401
    assert get(systems, "/sticky/api/v2/products", auth=("a", "b")).status_code == 401


def test_the_systems_are_served_at_an_ipv6_address_written_in_brackets(systems):
    async def ask() -> tuple[str, int]:
        async with serving(systems.values(), host="::1") as url, httpx.AsyncClient(trust_env=False) as client:
            return url, (await client.get(url)).status_code

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no such address")
    url, status = asyncio.run(ask())
    assert (url.startswith("http://[::1]:"), status) == (True, 200)


def test_the_settings_are_toml_that_a_receiver_can_read(systems):
    tables = tomllib.loads(settings_text(systems.values(), api="http://127.0.0.1:9000"))["sources"]
    assert set(tables) == set(SYSTEMS)
    assert tables["sigma"]["api_url"] == "http://127.0.0.1:9000/sigma/api/v1"
    assert tables["sticky"]["api_url"] == "http://127.0.0.1:9000/sticky"
    assert len(tables["indexed"]["webhook_secrets"]) == len(systems["indexed"].subscriptions)
