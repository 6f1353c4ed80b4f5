"""Random histories: the same seed gives the same bytes, families never tie, and bodies have the documented form."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw import raw_headers

from receiver import codec
from receiver.verify.ciphers import CIPHERS
from receiver.verify.request import WebhookRequest
from simulator.clock import SteppedClock
from simulator.systems import SYSTEMS
from simulator.systems.indexed.entities import KINDS
from simulator.systems.sigma.system import EVENTS, Sigma
from simulator.systems.sticky.system import Sticky

START = datetime(2026, 3, 8, 10, tzinfo=UTC)


def system_of(name, *, seed=1, start=START, **options):
    system = SYSTEMS[name](name, seed=seed, clock=SteppedClock(start), **options)
    system.subscribe(f"http://127.0.0.1:1/hooks/{name}")
    return system


def history(system, events, *, start=START, step=0.025):
    changes = []
    while system.events < events:
        changes += system.step(start + timedelta(seconds=system.events * step))
    return changes


def bodies(system, changes):
    hook = system.subscriptions[0]
    return [(change, codec.decode(system.body(change, hook))) for change in changes]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_same_seed_gives_the_same_bytes(name):
    runs = []
    for _ in range(2):
        system = system_of(name, seed=7)
        runs.append([message for change in history(system, 300) for message in system.messages(change)])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", SYSTEMS)
def test_another_seed_gives_another_history(name):
    first, second = (bodies(system, history(system, 20)) for system in (system_of(name, seed=s) for s in (1, 2)))
    assert [body for _, body in first] != [body for _, body in second]


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(sorted(SYSTEMS)), seed=st.integers(0, 2**32), step=st.floats(0, 2))
def test_two_events_of_a_family_never_have_the_same_time(name, seed, step):
    system = system_of(name, seed=seed)
    latest = {}
    for change in history(system, 150, step=step):
        assert latest.get(change.family, datetime.min.replace(tzinfo=UTC)) < change.at
        latest[change.family] = change.at


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_history_deletes_and_edits_what_it_created(name):
    verbs = Counter(change.event_type.rpartition(".")[2] for change in history(system_of(name), 600))
    assert min(verbs["created"], verbs["updated"], verbs["deleted"]) > 10


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_message_is_verified_with_the_secrets_of_the_settings(name):
    system = system_of(name)
    hooks = {hook.id: hook for hook in system.subscriptions}
    for change in history(system, 40):
        for hook in hooks.values():
            if hook.wants(change.event_type):
                message = system.message(change, hook)
                headers = raw_headers(message.headers)
                assert system.verifier.verify(WebhookRequest(message.body, headers), system.credentials(hook)).plain


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_oracle_names_the_last_event_about_every_row(name):
    system = system_of(name)
    changes = {change.number: change for change in history(system, 300)}
    assert system.oracle.rows
    for _, row in system.oracle:
        assert changes[row.event].at == row.changed_at


# Sigma PIM


def test_sigma_writes_every_documented_event_and_no_other():
    """Sigma docs, "Available Events": entity.created … variant.deleted."""
    assert {change.event_type for change in history(system_of("sigma"), 1500)} == set(EVENTS)


def test_sigma_bodies_are_thin():
    """Sigma docs, "Webhook Payload Shape": event, deliveryId, timestamp, data with changedAttributes."""
    system = system_of("sigma")
    updates = [body for change, body in bodies(system, history(system, 300)) if change.event_type == "entity.updated"]
    assert set(updates[0]) == {"event", "deliveryId", "timestamp", "data"}
    assert set(updates[0]["data"]) == {"entityId", "schemaId", "changedAttributes", "lifecycleState", "updatedBy"}
    assert updates[0]["timestamp"].endswith("Z")


def test_sigma_delivery_ids_are_unique():
    """Sigma docs, "Idempotency": "Each webhook delivery includes a unique deliveryId"."""
    system = system_of("sigma")
    found = [body["deliveryId"] for _, body in bodies(system, history(system, 500))]
    assert len(set(found)) == len(found)


def test_sigma_signs_only_when_a_secret_is_set():
    """Sigma docs, "HMAC Verification": "If a secret is set"."""
    signed, unsigned = (Sigma("s", seed=1, clock=SteppedClock(START), signed=answer) for answer in (True, False))
    for system in (signed, unsigned):
        system.subscribe("http://127.0.0.1:1/")
    headers = [system.messages(system.create(START)[0])[0].headers for system in (signed, unsigned)]
    assert ["X-Sigma-Signature" in found for found in headers] == [True, False]
    assert unsigned.settings(api_url=None)["allow_unsigned"] is True


def test_a_deleted_sigma_entity_takes_its_variants_with_it():
    system = system_of("sigma")
    deleted = [change for change in history(system, 800) if change.event_type == "entity.deleted"]
    gone = {change.data["entityId"] for change in deleted} - {entity.id for entity in system.alive()}
    variants = [row for (table, _), row in system.oracle if table == "variants" and row.columns["parent"] in gone]
    assert variants
    assert not any(row.active for row in variants)


# Indexed PIM


def test_indexed_writes_the_example_shape():
    """Indexed docs, "Example shape"; "Entity section": the key is the event's prefix."""
    system = system_of("indexed")
    change, body = next(
        (change, body)
        for change, body in bodies(system, history(system, 200))
        if change.event_type == "product.updated"
    )
    assert set(body) == {"event", "timestamp", "account", "app", "webhook", "product", "revision"}
    assert set(body["revision"]) == {"action", "user_name", "timestamp", "changes"}
    assert body["revision"]["timestamp"] == change.at.isoformat()


def test_indexed_bodies_hold_scalars_and_relations_only():
    """Indexed docs, "Entity section": scalars are copied, relations give ids, arrays are skipped."""
    system = system_of("indexed")
    for change, body in bodies(system, history(system, 300)):
        entity = body[change.event_type.partition(".")[0]]
        assert not any(isinstance(value, list) for value in entity.values())
        assert all(set(value) == {"id", "externalId"} for value in entity.values() if isinstance(value, dict))


def test_indexed_has_one_record_and_secret_per_event():
    """Indexed docs, "Current implementation note": each webhook subscribes to one event string."""
    system = system_of("indexed")
    assert all(len(record.events) == 1 for record in system.subscriptions)
    assert len({record.secret for record in system.subscriptions}) == len(system.subscriptions) == 3 * len(KINDS) + 1


def test_two_indexed_records_for_one_event_send_it_twice():
    """docs/sources.md, Indexed PIM: two records send one change twice, differing in `webhook` and `timestamp`."""
    system = system_of("indexed")
    change = next(change for change in history(system, 200) if change.event_type == "product.updated")
    first, second = (codec.decode(message.body) for message in system.messages(change))
    assert first.pop("webhook") != second.pop("webhook")
    assert first == second


# IIMMPACT


def test_iimmpact_deletes_carry_null():
    """IIMMPACT events, "Delete Events": "the data field is null"."""
    system = system_of("iimmpact")
    for change, body in bodies(system, history(system, 400)):
        assert set(body) == {"type", "resource", "id", "timestamp", "data"}
        assert (body["data"] is None) == change.event_type.endswith(".deleted")


def test_iimmpact_products_have_the_documented_members():
    """IIMMPACT events, "Payload Format"."""
    system = system_of("iimmpact")
    product = next(
        body for change, body in bodies(system, history(system, 100)) if change.event_type == "product.created"
    )
    assert list(product["data"]) == [
        "product_code",
        "product_category_code",
        "name",
        "display_name",
        "image_url",
        "processing_time",
        "is_active",
    ]


# sticky.io


@pytest.mark.parametrize("cipher", [name for name in CIPHERS if name != "none"])
def test_sticky_bodies_are_encrypted_in_every_cipher(cipher):
    system = system_of("sticky", cipher=cipher)
    message = system.messages(system.create(START)[0])[0]
    plain = system.verifier.verify(WebhookRequest(message.body), system.credentials(system.subscriptions[0])).plain
    assert b"clientAppKey" not in message.body
    assert codec.decode(plain)["type"] == "product.created"


def test_sticky_refuses_an_unknown_cipher():
    with pytest.raises(ValueError, match="choose one of auto"):
        Sticky("sticky", seed=1, clock=SteppedClock(START), cipher="rot13")


def test_sticky_has_all_three_product_types():
    """Product webhook guide: regular products, pre-built bundles, custom-built bundles."""
    system = system_of("sticky")
    history(system, 200)
    found = {product.event_object().get("bundle_type", "product") for product in system.products}
    assert found == {"product", "Pre-built", "Custom Built"}


def test_sticky_bulk_events_carry_two_or_more_variants():
    """docs/sources.md, sticky.io: `bulk.variant.*` for two or more, where `data.object` is an array."""
    system = system_of("sticky")
    for change, body in bodies(system, history(system, 600)):
        found = body["data"]["object"]
        assert isinstance(found, list) == change.event_type.startswith("bulk.")
        assert not isinstance(found, list) or len(found) > 1


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 15, 12, tzinfo=UTC), "2026-01-15 07:00:00"),
        (datetime(2026, 7, 15, 12, tzinfo=UTC), "2026-07-15 08:00:00"),
        (datetime(2026, 11, 1, 5, 30, tzinfo=UTC), "2026-11-01 01:30:00"),
        (datetime(2026, 11, 1, 6, 30, tzinfo=UTC), "2026-11-01 01:30:00"),
    ],
)
def test_sticky_times_are_eastern_with_daylight_saving(moment, text):
    """Product webhook guide, "Understanding the Payload": time is "recorded in Eastern time"."""
    system = system_of("sticky", start=moment)
    change = system.create(moment)[0]
    body = bodies(system, [change])[0][1]
    assert body["time"] == text
    assert datetime.fromisoformat(body["data"]["object"]["updated_at"]).astimezone(UTC) == moment


def test_sticky_ids_never_come_back():
    """Product webhook guide, `product.deleted`: removed permanently."""
    changes = history(system_of("sticky"), 800)
    deleted = {}
    for change in changes:
        assert change.family not in deleted
        if change.event_type == "product.deleted":
            deleted[change.family] = change.number
    assert deleted
