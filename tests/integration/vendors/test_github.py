"""GitHub: the entity of an event is read from its members; forms; events without a time."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from vendor_bodies import rows_of, says_why

from handlers.catalog import Product, Variant
from vendors.github import github

REPOSITORY = {"id": 1, "full_name": "acme/lamp", "visibility": "public"}
RELEASE = {"id": 2, "tag_name": "v1", "name": "First"}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[]", "dict"),
        ({}, "The body is empty"),
        ({"action": 7, "repository": REPOSITORY}, "`action` is missing or not text"),
        ({"action": "created", "repository": None}, "has no id"),
        ({"action": "created", "repository": {"id": True}}, "is not a valid id"),
        ({"action": "published", "release": [], "repository": REPOSITORY}, "has no id"),
        ({"action": "published", "release": RELEASE}, "repository"),
        ({"action": "published", "release": RELEASE | {"draft": "perhaps"}, "repository": REPOSITORY}, "draft"),
    ],
)
def test_an_unreadable_body_has_its_reason(body, says):
    says_why(github, body, says)


def test_ids_above_two_to_the_53_keep_every_digit():
    body = {"action": "created", "repository": REPOSITORY | {"id": 9007199254740993}}
    assert ("products", "9007199254740993") in rows_of(github, body)


@pytest.mark.parametrize(
    "body",
    [
        {"action": "started", "repository": REPOSITORY},
        {"action": "deleted", "starred_at": None, "repository": REPOSITORY},
        {"action": "deleted", "issue": {"id": 1}, "repository": REPOSITORY},
        {"ref": "refs/heads/main", "repository": REPOSITORY},
        {"repository": REPOSITORY},
    ],
)
def test_an_event_about_another_entity_is_ignored(webhooks, body):
    answer = webhooks.send_body("github", json.dumps(body).encode())
    webhooks.drain()
    assert webhooks.delivery(answer)["state"] == "ignored"


def test_a_release_with_a_member_that_github_adds_later_is_a_row_and_not_ignored(webhooks):
    body = {"action": "published", "release": RELEASE, "repository": REPOSITORY, "immutable": True, "team": {"id": 3}}
    webhooks.send_body("github", json.dumps(body).encode())
    webhooks.drain()
    assert webhooks.row(Variant, "2").sku == "v1"


def test_an_unsigned_event_name_decides_nothing(webhooks):
    body = json.dumps({"action": "deleted", "issue": {"id": 1}, "repository": REPOSITORY}).encode()
    webhooks.send_body("github", body, headers={"X-GitHub-Event": "repository"})
    webhooks.drain()
    assert webhooks.rows(Product) == []


def test_a_form_is_read_like_json(webhooks):
    body = urlencode({"payload": json.dumps({"action": "created", "repository": REPOSITORY})}).encode()
    webhooks.source("github")
    answer = webhooks.send_body("github", body)
    webhooks.drain()
    assert webhooks.delivery(answer)["state"] == "processed"
    assert webhooks.row(Product, "1").name == "acme/lamp"


def test_a_release_is_deactivated_with_its_repository(webhooks):
    webhooks.send("github", "release.published", id="2", data=RELEASE | {"repository": REPOSITORY})
    webhooks.drain()
    assert (webhooks.row(Variant, "2").parent, webhooks.row(Variant, "2").sku) == ("1", "v1")
    webhooks.send("github", "repository.deleted", id="1")
    webhooks.drain()
    assert not webhooks.row(Variant, "2").active
