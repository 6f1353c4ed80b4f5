"""Refusals of the API: without the right scope, and for invalid requests, each in the form of the contract."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import timedelta
from typing import Any

import pytest
from senders import SOURCES
from serving import SECRET_KEY, Served, error, serving, token

from receiver.api.tokens import Scope
from receiver.database.identity import identity_of
from receiver.errors import NAMES_HEADER
from receiver.search.cursors import Cursors, ListedIn
from receiver.search.filters import RowFilter

#: Every route with its method and the scope that it requires.
GUARDED = [
    ("GET", "/api/v1/deliveries", Scope.READ),
    ("GET", "/api/v1/deliveries/1", Scope.READ),
    ("POST", "/api/v1/deliveries/1/replay", Scope.OPERATE),
    ("GET", "/api/v1/catalog", Scope.READ),
    ("GET", "/api/v1/catalog/products", Scope.READ),
    ("GET", "/api/v1/catalog/products/sigma/A1", Scope.READ),
    ("GET", "/api/v1/changes", Scope.READ),
    ("GET", "/api/v1/search?q=A1", Scope.READ),
    ("GET", "/api/v1/stats", Scope.READ),
]


@pytest.fixture(scope="module")
def served(lend_database, tmp_path_factory):
    with lend_database(tmp_path_factory.mktemp("refusals")) as url, serving(url) as running:
        for source in SOURCES:
            running.send(source)
        yield running


# ── scopes ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("method", "path", "_scope"), GUARDED)
def test_without_a_token_nothing_is_answered(served: Served, method: str, path: str, _scope):
    answer = served.get(path, scope=None, method=method)
    assert error(answer) == (401, "not_authorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "hookmirror token" in answer.json()["message"]


def tampered() -> bytes:
    good = token(Scope.READ)
    return b"Bearer " + good[:-2].encode() + (b"AA" if not good.endswith("AA") else b"BB")


@pytest.mark.parametrize(
    "authorization",
    [
        b"Bearer",
        b"Bearer garbage",
        b"Bearer \xff\xfe",
        b"Bearer e30.c2ln",
        b"Basic dXNlcjpwYXNz",
        b"\xc3\xa9",
        b"Bearer " + b"x" * 5_000,
    ],
)
def test_garbage_instead_of_a_token_is_refused(served: Served, authorization: bytes):
    answer = served.client.get("/api/v1/stats", headers=[(b"Authorization", authorization)])
    assert error(answer) == (401, "not_authorized")


def test_a_changed_token_is_refused(served: Served):
    answer = served.client.get("/api/v1/stats", headers=[(b"Authorization", tampered())])
    assert error(answer) == (401, "not_authorized")


def test_an_expired_token_is_refused_with_that_reason(served: Served):
    stale = token(Scope.READ, lifetime=timedelta(seconds=-1))
    answer = served.client.get("/api/v1/stats", headers={"Authorization": f"Bearer {stale}"})
    assert error(answer) == (401, "not_authorized")
    assert answer.json()["message"] == "The token has expired: make a new one with `hookmirror token`."


def test_a_token_of_another_installation_is_refused(served: Served):
    foreign = token(Scope.OPERATE, keys=["another-secret-key"])
    answer = served.client.get("/api/v1/stats", headers={"Authorization": f"Bearer {foreign}"})
    assert error(answer) == (401, "not_authorized")


def test_a_read_token_may_not_operate(served: Served):
    answer = served.get("/api/v1/deliveries/1/replay", method="POST")
    assert error(answer) == (403, "forbidden")
    assert "hookmirror token --scope operate" in answer.json()["message"]


@pytest.mark.parametrize(("method", "path", "_scope"), GUARDED)
def test_an_operate_token_may_do_everything(served: Served, method: str, path: str, _scope):
    assert served.get(path, scope=Scope.OPERATE, method=method).status_code in (200, 404)


def test_tokens_survive_the_rotation_of_the_key_until_the_old_one_is_removed(mirror_url):
    old, new = token(Scope.READ, keys=["the-older-secret-key"]), token(Scope.READ, keys=["the-newest-secret-key"])

    def statuses(secret_key: str) -> list[int]:
        with serving(mirror_url, secret_key=secret_key) as served:
            headers = [{"Authorization": f"Bearer {each}"} for each in (old, new)]
            return [served.client.get("/api/v1/stats", headers=each).status_code for each in headers]

    assert statuses("the-newest-secret-key the-older-secret-key") == [200, 200]
    assert statuses("the-newest-secret-key") == [401, 200]


# ── invalid requests ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v1/runs?source=sigma"), ("GET", "/api/v1/deliveries")])
@pytest.mark.parametrize(
    "body", [{"data": {"state": "dead"}}, {"json": {"state": "dead"}}, {"content": (b"state=", b"dead")}]
)
def test_parameters_in_a_body_are_refused(served: Served, method: str, path: str, body: dict[str, Any]):
    headers = {"Authorization": f"Bearer {token(Scope.OPERATE)}"}
    runs = served.count("runs")
    answer = served.client.request(method, path, headers=headers, **body)
    assert error(answer) == (400, "bad_request")
    assert "write the parameters into the address" in answer.json()["message"]
    assert served.count("runs") == runs


def test_an_empty_body_is_taken_for_none(served: Served):
    headers = {"Authorization": f"Bearer {token(Scope.READ)}", "Content-Length": "0"}
    assert served.client.get("/api/v1/deliveries", headers=headers).status_code == 200


def test_a_key_in_the_header_of_other_services_is_refused_and_not_overlooked(served: Served):
    headers = {"Authorization": f"Bearer {token(Scope.OPERATE)}", "Idempotency-Key": "k1"}
    runs = served.count("runs")
    answer = served.client.post("/api/v1/runs?source=sigma", headers=headers)
    assert error(answer) == (400, "bad_request")
    assert (answer.headers[NAMES_HEADER], served.count("runs")) == ("idempotency_key", runs)


@pytest.mark.parametrize(
    "path",
    [
        *(f"deliveries?limit={wrong}" for wrong in ("0", "1001", "-1", "ten", "1.5", "", "9" * 5_000, "%C2%B2", "%00")),
        *(f"deliveries?cursor={wrong}" for wrong in ("x", "-1", "9223372036854775808", "")),
        *(f"changes?after={wrong}" for wrong in ("x", "-1", "1e3", "99999999999999999999")),
        *(f"catalog/products?cursor={wrong}" for wrong in ("x", "%FF", "e30=", "WyJhIl0=", "WzEsMl0=", "bnVsbA==")),
        "deliveries?state=lost",
        "deliveries?colour=red",
        "deliveries?source=nosuch",
        "deliveries?source=sigma&source=sticky",
        "deliveries?limit=1&limit=1",
        "catalog/products?source=nosuch",
        "catalog/products?active=yes",
        "catalog/products?tie=1",
        "catalog/products?sku=",
        *(f"deliveries?from={wrong}" for wrong in ("", "now", "2026-11-28T10:00:00", "999999d", "%00", "%ED%A0%80")),
        "deliveries?from=1h&to=2h",
        "deliveries?outcome=lost",
        "deliveries?conflict=maybe",
        "deliveries?count=1",
        *(f"deliveries?{name}=" for name in ("event_type", "entity", "reason", "source")),
        *(f"deliveries?{name}={'x' * 3_000}" for name in ("event_type", "entity", "reason", "source")),
        "search",
        "search?q=",
        "search?q=%20%09",
        f"search?q={'x' * 3_000}",
        "changes?table=moons",
        "changes?delivery=x",
        "changes?after=1&newest=true",
        "changes?after=1&cursor=begin",
        "changes?cursor=x",
        "catalog/products?state=dead",
        "changes?limit=0",
        "stats?source=sigma",
    ],
)
def test_an_invalid_parameter_is_refused_by_name(served: Served, path: str):
    answer = served.get(f"/api/v1/{path}")
    assert error(answer) == (400, "bad_request")
    assert "`" in answer.json()["message"] or "There is no parameter" in answer.json()["message"]


@pytest.mark.parametrize("name", ["colour", "a%0D%0AX-Odd:%201", "%C3%A9%E2%82%AC", "%00", "", "x" * 3_000])
def test_an_unknown_parameter_given_twice_is_refused_as_unknown(served: Served, name: str):
    answer = served.get(f"/api/v1/deliveries?{name}=1&{name}=2")
    assert error(answer) == (400, "bad_request")
    assert answer.json()["message"].startswith("There is no parameter ")
    assert NAMES_HEADER not in answer.headers


@pytest.mark.parametrize(("method", "path", "_scope"), GUARDED)
def test_a_parameter_of_another_address_is_refused(served: Served, method: str, path: str, _scope):
    answer = served.get(f"{path.partition('?')[0]}?colour=red", scope=Scope.OPERATE, method=method)
    assert error(answer) == (400, "bad_request")
    assert answer.json()["message"].startswith("There is no parameter 'colour' here; the parameters are: ")


@pytest.mark.parametrize("query", ["", "?q=", "?q=+"])
def test_a_search_for_nothing_is_told_what_to_give(served: Served, query: str):
    answer = served.get(f"/api/v1/search{query}")
    assert error(answer) == (400, "bad_request")
    assert answer.json()["message"].startswith("`q` is empty: give a SKU,")


@pytest.mark.parametrize("wrong", ["0", "1.5", "-1", "ten"])
def test_a_wrong_limit_is_told_the_numbers_that_it_takes(served: Served, wrong: str):
    answer = served.get(f"/api/v1/deliveries?limit={wrong}")
    assert answer.json()["message"] == "`limit` takes a whole number from 1 to 1000."


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1/nothing", "/api/v1/deliveries/x", "/%FF"])
def test_an_unknown_path_is_not_found_in_the_contract_s_form(served: Served, path: str):
    assert error(served.get(path)) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v1/stats"), ("DELETE", "/api/v1/deliveries/1"), ("GET", "/api/v1/deliveries/1/replay")],
)
def test_a_method_that_a_path_does_not_have_is_refused_in_the_contract_s_form(served: Served, method: str, path: str):
    assert error(served.get(path, scope=Scope.OPERATE, method=method)) == (405, "method_not_allowed")


def test_a_wrong_method_is_answered_with_all_methods_that_the_path_takes(served: Served):
    # A row may have the id `A/ask`.
    row = "/api/v1/catalog/products/iimmpact/A/ask"
    paths = {"/api/v1/runs": "GET, HEAD, POST", "/api/v1/stats": "GET, HEAD", "/api/v1/reload": "POST"}
    for path, allowed in (paths | {row: "GET, HEAD, POST"}).items():
        answer = served.get(path, scope=Scope.OPERATE, method="PUT")
        assert answer.headers["allow"] == allowed
        assert answer.json()["message"] == f"This address takes {allowed} only."


def test_no_secret_is_ever_in_an_answer(served: Served):
    paths = [path for method, path, _ in GUARDED if method == "GET"]
    told = "".join(served.get(path).text for path in [*paths, "/metrics", "/readyz", "/openapi.json"])
    secrets = [SECRET_KEY, *(secret for source in SOURCES.values() for secret in source["secrets"])]
    assert not [secret for secret in secrets if secret in told]


def cursor(key: object) -> str:
    return urlsafe_b64encode(json.dumps(key).encode()).decode()


def cursor_of_rows(served: Served, *key: str) -> str | None:
    with served.beside.read() as connection:
        listed = ListedIn("products", RowFilter(), identity_of(connection))
    return Cursors([SECRET_KEY]).write(listed, key)


@pytest.mark.parametrize("odd", ["\ufffd", "\u202e", "字" * 512, "'; DROP TABLE products; --"])
def test_a_cursor_may_name_any_key(served: Served, odd: str):
    answer = served.get(f"/api/v1/catalog/products?cursor={cursor_of_rows(served, 'sigma', odd)}")
    assert answer.status_code == 200


#: Refused by their content, or for their length before they are read.
REFUSED = {(400, "bad_request"), (414, "url_too_long")}


@pytest.mark.parametrize("key", [["sigma", "x" * 40_000], [[["deep"] * 50] * 20, "x"], {"a": 1, "b": 2}, "ab" * 9_000])
def test_a_cursor_that_is_not_valid_is_refused_whatever_its_size(served: Served, key: object):
    answer = served.get(f"/api/v1/catalog/products?cursor={cursor(key)}")
    assert error(answer) in REFUSED


def test_a_query_of_thousands_of_parameters_is_refused_by_the_first(served: Served):
    answer = served.get("/api/v1/deliveries?" + "&".join(f"p{number}=" for number in range(5_000)))
    assert error(answer) in REFUSED
    answer = served.get("/api/v1/deliveries?" + "&".join(["limit=1"] * 5_000))
    assert error(answer) in REFUSED
