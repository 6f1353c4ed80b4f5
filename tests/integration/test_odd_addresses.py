"""Addresses as senders, proxies and outer applications write them, over a real socket."""

from __future__ import annotations

import pytest
from senders import body, sent
from serving import Served, error, serving
from starlette.applications import Starlette
from starlette.routing import Mount

from receiver.ingest.fast_path import FastPathProtocol

WAYS = [(FastPathProtocol, "whole"), ("httptools", "through the application")]


@pytest.fixture(scope="module", params=[way for way, _ in WAYS], ids=[name for _, name in WAYS])
def served(request, tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('addresses') / 'hookmirror.db'}"
    with serving(url, one_write=True, http=request.param) as running:
        yield running


# ── webhooks ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("address", ["sigma", "sigma/", "sigm%61", "sigma?x=1", "sigma/?x=1"])
def test_a_final_slash_an_escaped_letter_and_a_query_change_nothing(served: Served, address: str):
    answer = served.post(address, *sent("sigma", body("sigma", key=address)))
    assert answer.json()["status"] == "accepted"
    assert served.delivery(answer.json()["delivery"])["source"] == "sigma"


def test_a_webhook_to_the_address_with_a_slash_is_a_duplicate_of_one_without(served: Served):
    content = body("sigma", key="with and without")
    first = served.post("sigma", *sent("sigma", content)).json()
    assert served.post("sigma/", *sent("sigma", content)).json() == {
        "status": "duplicate",
        "delivery": first["delivery"],
    }


@pytest.mark.parametrize("address", ["sigma/", "sigma"])
def test_a_refusal_is_counted_for_the_source_in_either_form(served: Served, address: str):
    counter = 'hookmirror_refused_total{code="signature_missing",source="sigma"}'
    before = served.metric(counter)
    assert served.post(address, body("sigma"), {}).status_code == 401
    assert served.metric(counter) == before + 1


ODD = {
    "/hooks/SIGMA": "no capitals",
    "/hooks/sigma%20": "no blanks",
    "/hooks/sigma%0A": "no blanks",
    "/hooks//sigma": "a slash too many",
    "/hooks/sigma//": "a slash too many",
    "/hooks/%2e/sigma": "a part of dots",
    "/hooks/sigma/%2e%2e": "a part of dots",
    "/hooks/sigma/products": "the address has 'products'",
    "//hooks/sigma": "begins with /hooks/",
    "/Hooks/sigma": "begins with /hooks/",
}


@pytest.mark.parametrize("path", ODD)
def test_an_odd_address_is_answered_404_with_its_mistake(served: Served, path: str):
    content, headers = sent("sigma", body("sigma", key=path))
    # Send the URL as it is, because the client would take the text after "//" for a host.
    answer = served.client.post(f"http://127.0.0.1:{served.port}{path}", content=content, headers=headers)
    assert error(answer) == (404, "unknown_source")
    assert ODD[path] in answer.json()["message"]
    assert answer.json()["message"].endswith("Post to /hooks/sigma.")


@pytest.mark.parametrize("path", ["/hooks", "/hooks/"])
def test_an_address_without_a_source_is_answered_with_that_reason(served: Served, path: str):
    answer = served.client.post(path, content=b"{}")
    assert error(answer) == (404, "unknown_source")
    assert "names no source" in answer.json()["message"]


# ── below another path ────────────────────────────────────────────────────────────────────────────────────────


def mounted(app):
    return Starlette(routes=[Mount("/pim", app=app)], lifespan=app.lifespan)


#: The ways to be below a path, and the part of it that requests contain: a proxy may strip it.
BELOW = {
    "behind a proxy that strips": ({"root_path": "/pim"}, ""),
    "the same with a slash": ({"root_path": "/pim/"}, ""),
    "mounted": ({"around": mounted}, "/pim"),
    "mounted behind a proxy": ({"around": mounted, "root_path": "/shop"}, "/pim"),
}


@pytest.fixture(scope="module", params=BELOW)
def below(request, tmp_path_factory):
    options, prefix = BELOW[request.param]
    url = f"sqlite:///{tmp_path_factory.mktemp('below') / 'hookmirror.db'}"
    with serving(url, http="httptools", **options) as running:
        yield running, prefix


def test_webhooks_arrive_below_another_path(below):
    served, prefix = below
    content, headers = sent("sigma", body("sigma", key="below"))
    answer = served.client.post(f"{prefix}/hooks/sigma", content=content, headers=headers)
    assert answer.json()["status"] in ("accepted", "duplicate"), answer.text


@pytest.mark.parametrize("way", [way for way, _ in WAYS], ids=[name for _, name in WAYS])
def test_the_path_that_a_sender_may_have_signed_is_the_same_with_and_without_the_fast_path(way, tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'hookmirror.db'}"
    with serving(url, one_write=True, http=way, root_path="/pim") as running:
        endpoint, seen = running.app.endpoint, []
        take = endpoint._take
        monkeypatch.setattr(endpoint, "_take", lambda submitted: seen.extend(submitted) or take(submitted))
        assert running.post("sigma", *sent("sigma", body("sigma"))).status_code == 200
    assert [request.target for request, _ in seen] == [b"/pim/hooks/sigma"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_health_answers_below_another_path(below, path: str):
    served, prefix = below
    assert served.client.get(f"{prefix}{path}").status_code == 200


def test_the_api_answers_below_another_path(below):
    served, prefix = below
    assert served.get(f"{prefix}/api/v1/stats").status_code == 200
    assert error(served.get(f"{prefix}/hooks/sigma")) == (405, "method_not_allowed")
    assert error(served.get(f"{prefix}/nothing")) == (404, "not_found")


# ── no redirects ──────────────────────────────────────────────────────────────────────────────────────────────

ROUTES = [
    *("/healthz", "/readyz", "/metrics", "/openapi.json", "/api/v1/deliveries", "/api/v1/deliveries/1"),
    *("/api/v1/deliveries/1/replay", "/api/v1/catalog", "/api/v1/catalog/products", "/api/v1/changes", "/api/v1/stats"),
]


@pytest.mark.parametrize("host", ["evil.example:99", ""])
@pytest.mark.parametrize("path", ROUTES)
def test_an_additional_slash_never_causes_a_redirect(served: Served, path: str, host: str):
    answer = served.client.get(f"{path}/", headers={"Host": host}, follow_redirects=False)
    assert error(answer) == (404, "not_found")
    assert "location" not in answer.headers
    assert "evil" not in answer.text


@pytest.mark.parametrize("path", ROUTES)
def test_a_line_end_after_an_address_makes_it_another_address(served: Served, path: str):
    answer = served.get(f"{path}%0A", method="POST" if path.endswith("/replay") else "GET")
    assert error(answer) == (404, "not_found")


def test_a_post_outside_of_hooks_is_counted(served: Served):
    counter = 'hookmirror_refused_total{code="not_found",source=""}'
    before = served.metric(counter)
    answer = served.client.post("/pim/shop", content=b"{}")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    assert served.metric(counter) == before + 1
