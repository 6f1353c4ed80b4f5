"""Sigma PIM's webhooks over its API, with the documented curl commands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from raw import raw_headers
from simulator_asking import ask, replay

from receiver.verify.request import WebhookRequest
from simulator.clock import SteppedClock
from simulator.systems.sigma.system import Sigma

START = datetime(2026, 3, 8, 10, tzinfo=UTC)

BEARER = '-H "Authorization: Bearer eyJhbGciOiJIUzI1NiIs..."'
LIST = f"curl https://api.sigma-pim.com/api/v1/webhooks \\ {BEARER}"
GET = f"curl https://api.sigma-pim.com/api/v1/webhooks/wh-sync-notify \\ {BEARER}"
CREATE = (
    f'curl -X POST https://api.sigma-pim.com/api/v1/webhooks \\ {BEARER} \\ -H "Content-Type: application/json" \\ '
    '-d \'{ "id": "wh-sync-notify", "name": "Sync Notifications", "description": "Notify ERP when products change", '
    '"url": "https://erp.example.com/hooks/sigma-pim", "events": [ "entity.created", "entity.updated", '
    '"entity.deleted" ], "secret": "whsec_a1b2c3d4e5f6g7h8i9j0", "active": true }\''
)
UPDATE = (
    f"curl -X PUT https://api.sigma-pim.com/api/v1/webhooks/wh-sync-notify \\ {BEARER} \\ "
    '-H "Content-Type: application/json" \\ -d \'{ "id": "wh-sync-notify", "name": "Sync Notifications", '
    '"description": "Notify ERP when products change", "url": "https://erp.example.com/hooks/sigma-pim", "events": '
    '[ "entity.created", "entity.updated", "entity.deleted", "entity.transition", "variant.created", '
    '"variant.updated" ], "secret": "whsec_a1b2c3d4e5f6g7h8i9j0", "active": true }\''
)
DELETE = f"curl -X DELETE https://api.sigma-pim.com/api/v1/webhooks/wh-sync-notify \\ {BEARER}"

#: The documented answer to CREATE.
CREATED = {
    "id": "wh-sync-notify",
    "name": "Sync Notifications",
    "description": "Notify ERP when products change",
    "url": "https://erp.example.com/hooks/sigma-pim",
    "events": ["entity.created", "entity.updated", "entity.deleted"],
    "secret": "••••••••",
    "active": True,
}

VALID = {"id": "wh-1", "name": "One", "url": "https://erp.example.com/x", "events": ["entity.created"], "active": True}


@pytest.fixture
def system():
    return Sigma("sigma", seed=1, clock=SteppedClock(START))


def call(system, method, path, *, key=None, **more):
    headers = {"X-Sigma-ApiKey": key or system.api_key}
    return ask(system, method, f"/api/v1{path}", headers=headers, **more)


def test_the_documented_create_gives_the_documented_answer(system):
    """Sigma docs, "Create webhook": the response shows the secret masked."""
    answer = replay(system, CREATE)
    assert (answer.status_code, answer.json()) == (201, CREATED)


def test_the_documented_get_and_list_show_what_was_created(system):
    """Sigma docs, "Get webhook by ID" and "List all webhooks"."""
    replay(system, CREATE)
    assert replay(system, GET).json() == CREATED
    assert replay(system, LIST).json() == [CREATED]


def test_the_documented_update_replaces_the_events(system):
    """Sigma docs, "Update webhook": "Send the full webhook object"."""
    replay(system, CREATE)
    answer = replay(system, UPDATE)
    more = ["entity.transition", "variant.created", "variant.updated"]
    assert (answer.status_code, answer.json()) == (200, CREATED | {"events": CREATED["events"] + more})
    assert replay(system, GET).json() == answer.json()


def test_the_documented_delete_answers_deleted_and_ends_delivery(system):
    """Sigma docs, "Delete webhook": {"deleted": true}, and no further events are delivered."""
    replay(system, CREATE)
    answer = replay(system, DELETE)
    assert (answer.status_code, answer.json()) == (200, {"deleted": True})
    assert replay(system, GET).status_code == 404
    assert system.messages(system.create(START)[0]) == []


def test_no_answer_ever_shows_a_secret(system):
    """docs/sources.md, Sigma PIM: the secret is shown as eight dots."""
    answers = [replay(system, curl).text for curl in (CREATE, GET, LIST, UPDATE)]
    assert not any("whsec_" in answer for answer in answers)


def test_a_webhook_without_secret_or_description_shows_neither(system):
    """Sigma docs, "List all webhooks": the second webhook of the sample has no secret."""
    assert call(system, "POST", "/webhooks", json=VALID).json() == VALID


def test_only_a_webhook_with_a_secret_signs(system):
    """Sigma docs, "HMAC Verification": "If a secret is set"."""
    call(system, "POST", "/webhooks", json=VALID)
    call(system, "POST", "/webhooks", json={**VALID, "id": "wh-2", "secret": "whsec_x"})
    plain, signed = system.messages(system.create(START)[0])
    assert "X-Sigma-Signature" not in plain.headers
    hook = system.subscriptions[1]
    assert (
        system.verifier.verify(
            WebhookRequest(signed.body, raw_headers(signed.headers)), system.credentials(hook)
        ).secret
        == 0
    )


def test_a_webhook_gets_only_the_events_that_it_names(system):
    """Sigma docs, "Create webhook": events is the list subscribed to."""
    call(system, "POST", "/webhooks", json={**VALID, "events": ["entity.deleted", "entity.transition"]})
    (created,) = system.create(START)
    (moved,) = system.alter(created.family, START, state="review")
    (deleted,) = system.erase(created.family, START)
    assert [len(system.messages(change)) for change in (created, moved, deleted)] == [0, 1, 1]


def test_an_inactive_webhook_receives_nothing_until_it_is_active_again(system):
    """Sigma docs, "Active/Inactive": "Set active: false to pause a webhook"."""
    call(system, "POST", "/webhooks", json=VALID)
    sent = []
    for active in (False, True):
        call(system, "PUT", "/webhooks/wh-1", json={**VALID, "active": active})
        sent.append(len(system.messages(system.create(START)[0])))
    assert sent == [0, 1]


def test_an_update_with_the_masked_secret_keeps_the_secret(system):
    replay(system, CREATE)
    call(system, "PUT", "/webhooks/wh-sync-notify", json=CREATED)
    assert system.subscriptions[0].secret == "whsec_a1b2c3d4e5f6g7h8i9j0"


def test_an_update_without_a_secret_removes_it(system):
    """Sigma docs, "Update webhook": the full object is sent, so what is missing is gone."""
    replay(system, CREATE)
    call(system, "PUT", "/webhooks/wh-sync-notify", json={**VALID, "id": "wh-sync-notify"})
    assert system.subscriptions[0].secret is None


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic eHk6eg=="}, {"X-Sigma-ApiKey": "sigma_sk_live_no"}])
def test_without_a_token_or_key_a_request_is_refused(system, headers):
    """docs/sources.md, Sigma PIM, "Errors": UNAUTHORIZED 401."""
    answer = ask(system, "GET", "/api/v1/webhooks", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "UNAUTHORIZED")


def test_a_read_only_key_cannot_write(system):
    """docs/sources.md, Sigma PIM, "Errors": PERMISSION_DENIED 403."""
    answer = call(system, "POST", "/webhooks", key=system.reading_key, json=VALID)
    assert (answer.status_code, answer.json()["error"]) == (403, "PERMISSION_DENIED")
    assert call(system, "GET", "/webhooks", key=system.reading_key).status_code == 200


def test_an_id_can_be_used_once(system):
    """docs/sources.md, Sigma PIM, "Errors": CONFLICT."""
    call(system, "POST", "/webhooks", json=VALID)
    answer = call(system, "POST", "/webhooks", json=VALID)
    assert (answer.status_code, answer.json()["error"]) == (409, "CONFLICT")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unknown_webhook_is_not_found(system, method):
    """docs/sources.md, Sigma PIM, "Errors": NOT_FOUND."""
    answer = call(system, method, "/webhooks/wh-nowhere", json=VALID)
    assert (answer.status_code, answer.json()["error"]) == (404, "NOT_FOUND")


def test_an_unknown_path_is_answered_in_the_system_s_own_form(system):
    answer = call(system, "GET", "/nothing/here")
    assert (answer.status_code, set(answer.json())) == (404, {"error", "message"})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"id": None}, "id"),
        ({"id": ""}, "id"),
        ({"name": 7}, "name"),
        ({"url": "erp.example.com"}, "url"),
        ({"url": "ftp://erp.example.com"}, "url"),
        ({"url": "http://[bad"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["entity.moved"]}, "entity.transition"),
        ({"events": [{}]}, "events"),
        ({"events": "entity.created"}, "events"),
        ({"active": "yes"}, "active"),
        ({"secret": 5}, "secret"),
        ({"colour": "red"}, "colour"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_webhook_of_an_undocumented_form_is_refused(system, method, change, word):
    """Sigma docs, "Create webhook", table "Request body"; docs/sources.md: VALIDATION_ERROR 400."""
    call(system, "POST", "/webhooks", json={**VALID, "id": "wh-2"})
    path = "/webhooks" if method == "POST" else "/webhooks/wh-2"
    answer = call(system, method, path, json={**VALID, **change})
    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
    assert word in answer.json()["message"] or "id" in answer.json()["message"]
    assert len(system.subscriptions) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"null"])
def test_a_body_that_is_not_an_object_is_refused(system, content):
    answer = call(system, "POST", "/webhooks", content=content)
    assert (answer.status_code, answer.json()["error"]) == (400, "VALIDATION_ERROR")
