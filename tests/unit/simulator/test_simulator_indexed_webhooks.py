"""Indexed PIM's webhook screens: records by app, bulk actions, and the log of deliveries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from raw import raw_headers
from simulator_asking import ask

from receiver import codec
from receiver.verify.request import WebhookRequest
from simulator.clock import SteppedClock
from simulator.systems.base import Attempt
from simulator.systems.indexed.system import Indexed

START = datetime(2026, 3, 8, 10, tzinfo=UTC)
VALID = {"url": "https://erp.example.com/hooks", "event": "product.created", "active": True}
PRODUCTS = "/apps/app_products/webhooks"


@pytest.fixture
def system():
    return Indexed("indexed", seed=1, clock=SteppedClock(START))


def call(system, method, path, **more):
    return ask(system, method, path, headers=system.access(), **more)


def created(system, path=PRODUCTS, **change):
    answer = call(system, "POST", path, json={**VALID, **change})
    assert answer.status_code == 201
    return answer.json()


def product(system):
    return system.create(START, kind="product")[0]


def test_a_record_gets_an_external_id_and_a_secret(system):
    """Indexed docs, "Setup flow", step 2: both are generated when the record is created."""
    first, second = created(system), created(system)
    assert first["external_id"] != second["external_id"]
    assert first["secret"] != second["secret"]
    assert {name: first[name] for name in VALID} == VALID


def test_each_app_keeps_its_own_list(system):
    """Indexed docs, "Setup flow", step 1: Products, Orders, Inventory and Pricing."""
    created(system)
    apps = [app["external_id"] for app in call(system, "GET", "/apps").json()["items"]]
    assert [len(call(system, "GET", f"/apps/{app}/webhooks").json()["items"]) for app in apps] == [1, 0, 0, 0]


def test_the_list_of_events_is_fixed(system):
    """Indexed docs, "Available event families"."""
    events = call(system, "GET", "/events").json()["items"]
    assert {"product.updated", "payment_term.created", "app.deleted"} <= set(events)


def test_a_record_has_exactly_one_event(system):
    """Indexed docs, "Current implementation note": one event string each."""
    created(system)
    (change,) = system.create(START, kind="product")
    assert len(system.messages(change)) == 1
    assert system.messages(system.alter(change.family, START, name="Lamp")[0]) == []


def test_a_body_names_the_app_and_the_webhook_of_its_record(system):
    """Indexed docs, "Envelope fields"."""
    record = created(system, "/apps/app_pricing/webhooks")
    body = codec.decode(system.messages(product(system))[0].body)
    assert body["app"] == {"external_id": "app_pricing", "name": "Pricing"}
    assert body["webhook"] == {"external_id": record["external_id"]}


def test_a_body_is_signed_with_the_secret_of_its_record(system):
    """Indexed docs, "Signed requests": every webhook gets its own generated secret."""
    records = [created(system), created(system)]
    for hook, record, message in zip(system.subscriptions, records, system.messages(product(system)), strict=True):
        assert hook.secret == record["secret"]
        assert system.verifier.verify(
            WebhookRequest(message.body, raw_headers(message.headers)), system.credentials(hook)
        ).plain


def test_a_record_can_be_edited_and_keeps_its_secret(system):
    record = created(system)
    path = f"{PRODUCTS}/{record['external_id']}"
    answer = call(system, "PUT", path, json={**VALID, "event": "brand.deleted", "active": False})
    assert answer.json() == {**record, "event": "brand.deleted", "active": False}
    assert call(system, "GET", path).json() == answer.json()


def test_a_removed_record_is_gone(system):
    path = f"{PRODUCTS}/{created(system)['external_id']}"
    assert call(system, "DELETE", path).status_code == 204
    assert call(system, "GET", path).status_code == 404


@pytest.mark.parametrize(("action", "left", "active"), [("activate", 3, 3), ("deactivate", 3, 1), ("delete", 1, 1)])
def test_several_records_can_be_changed_together(system, action, left, active):
    """Indexed docs, "What is included": bulk activate, deactivate, and delete actions."""
    records = [created(system) for _ in range(3)]
    ids = [record["external_id"] for record in records[:2]]
    answer = call(system, "POST", f"{PRODUCTS}/bulk", json={"action": action, "external_ids": [*ids, "web_unknown"]})
    assert answer.json() == {"changed": 2}
    items = call(system, "GET", PRODUCTS).json()["items"]
    assert (len(items), sum(item["active"] for item in items)) == (left, active)


def test_a_bulk_action_does_not_change_other_apps(system):
    record = created(system, "/apps/app_orders/webhooks")
    body = {"action": "delete", "external_ids": [record["external_id"]]}
    assert call(system, "POST", f"{PRODUCTS}/bulk", json=body).json() == {"changed": 0}


def test_an_inactive_record_receives_nothing(system):
    """Indexed docs, "How webhooks work in the app": all active records for that exact event."""
    created(system, active=False)
    assert system.messages(product(system)) == []


def deliver(system, *, status=200, count=1):
    for _ in range(count):
        for message in system.messages(product(system)):
            system.logged(Attempt(message=message, status=status, answer=b"OK", seconds=0.0421))


def test_the_log_contains_everything_about_a_delivery(system):
    """Indexed docs, "Detailed logs", and "Setup flow", step 4, with the revision of a product change."""
    record = created(system)
    deliver(system)
    (entry,) = call(system, "GET", "/apps/app_products/logs").json()["items"]
    assert entry | {"request_payload": "", "revision": {}} == {
        "id": 1,
        "created_at": "2026-03-08T10:00:00+00:00",
        "event": "product.created",
        "webhook_external_id": record["external_id"],
        "status": 200,
        "response_time": 42,
        "request_payload": "",
        "response_payload": "OK",
        "revision": {},
    }
    assert codec.decode(entry["request_payload"])["revision"] == entry["revision"]


def test_an_exception_is_logged_with_status_zero(system):
    """Indexed docs, "Operational limitation to know": status `0` on exceptions."""
    created(system)
    deliver(system, status=None)
    assert call(system, "GET", "/apps/app_products/logs").json()["items"][0]["status"] == 0


def test_the_log_has_pages_newest_first_and_one_list_per_app(system):
    """Indexed docs, "Setup flow", step 4: "paginated per app"."""
    created(system)
    created(system, "/apps/app_orders/webhooks")
    deliver(system, count=5)
    page = call(system, "GET", "/apps/app_products/logs?page=2&limit=2").json()
    assert [entry["id"] for entry in page["items"]] == [5, 3]
    assert (page["page"], page["pages"], page["total"]) == (2, 3, 5)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer no"}, {"Authorization": "Bearer é".encode()}])
def test_without_the_token_the_screens_are_refused(system, headers):
    assert ask(system, "GET", "/apps", headers=headers).status_code == 401


def test_an_unknown_app_is_not_found(system):
    assert call(system, "GET", "/apps/app_nowhere/webhooks").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**VALID, "url": "nowhere"}, "url"),
        ({**VALID, "event": "product.*"}, "event"),
        ({**VALID, "event": ["product.created"]}, "event"),
        ({**VALID, "active": 1}, "active"),
        ([], "body"),
    ],
)
def test_an_invalid_form_is_refused_by_field(system, body, field):
    """Indexed docs, "Setup flow", step 2: the target URL is validated, one event is required."""
    answer = call(system, "POST", PRODUCTS, json=body)
    assert (answer.status_code, [*answer.json()["errors"]]) == (422, [field])


@pytest.mark.parametrize("body", [{}, {"action": "explode", "external_ids": []}, {"action": "delete"}])
def test_an_invalid_bulk_action_is_refused(system, body):
    assert call(system, "POST", f"{PRODUCTS}/bulk", json=body).status_code == 422
