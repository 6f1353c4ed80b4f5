"""Sigma PIM's API may lag behind its webhooks: when it is asked again, and when its answer is accepted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from collecting import fixture, json_body, rows_after, writes_of

from handlers.catalog import Product, Variant
from handlers.sigma import GONE, EntityRecord, sigma
from receiver import Retry

#: The longest time that a source's API may lag behind, by default.
LAG = timedelta(minutes=1)

UPDATED = fixture("sigma", "entity.updated")
AT = datetime(2026, 3, 8, 10, 5, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def body(event_type="entity.updated", **data):
    return json_body(UPDATED | {"event": event_type, "data": UPDATED["data"] | data})


VARIANT = body("variant.created", variantId="v1", entityId="e1")


def record(updated_at=AT):
    shown = {} if updated_at is None else {"updatedAt": updated_at.isoformat()}
    return EntityRecord.model_validate({"id": "e1", "values": {"name": [{"scope": {}, "value": "Coat"}]}} | shown)


def product(*, changed_at=AT - SECOND, active=True, data=None):
    return Product(source="sigma", external_id="e1", active=active, changed_at=changed_at, data=data, versions="")


def wait_of(event_body, **parts):
    """Return the wait that the handler asks for."""
    with pytest.raises(Retry, match="behind its event") as asked:
        writes_of(sigma, event_body, **parts)
    return asked.value.after


@pytest.mark.parametrize("event_body", [body("entity.created"), body("entity.updated"), VARIANT])
def test_a_record_unknown_to_the_mirror_and_the_api_is_waited_for(event_body):
    assert wait_of(event_body, hydrated=GONE) == timedelta(seconds=5)


def test_an_inactive_record_that_the_api_does_not_know_is_waited_for():
    assert wait_of(body("entity.created"), hydrated=GONE, row=product(active=False))


def test_a_record_in_the_mirror_that_the_api_does_not_know_is_gone_at_once():
    rows = rows_after(writes_of(sigma, body("entity.updated"), hydrated=GONE, row=product()))
    assert [row["active"] for row in rows.values()] == [False]


@pytest.mark.parametrize("event_type", ["entity.created", "entity.updated"])
def test_a_record_older_than_its_event_is_waited_for(event_type):
    assert wait_of(body(event_type), hydrated=record(AT - 2 * SECOND)) == timedelta(seconds=5)


def test_a_variant_s_record_older_than_its_event_is_waited_for():
    assert wait_of(body("variant.updated", variantId="v1", entityId="e1"), hydrated=record(AT - 2 * SECOND))


@pytest.mark.parametrize("updated_at", [AT - SECOND, AT - timedelta(milliseconds=1), AT, AT + SECOND, None])
def test_a_record_with_about_the_event_s_time_a_later_one_or_none_is_accepted(updated_at):
    assert writes_of(sigma, body(), hydrated=record(updated_at), row=product())


def test_a_slightly_older_record_that_the_mirror_already_holds_is_waited_for():
    older = record(AT - timedelta(milliseconds=1))
    assert wait_of(body(), hydrated=older, row=product(data=older.whole))


def test_a_slightly_older_record_with_a_boolean_for_a_number_is_accepted():
    def sent(value):
        shown = {"id": "e1", "values": {"stock": [{"scope": {}, "value": value}]}}
        return EntityRecord.model_validate(shown | {"updatedAt": (AT - timedelta(milliseconds=1)).isoformat()})

    assert writes_of(sigma, body(), hydrated=sent(True), row=product(data=sent(1).whole))


def test_a_transition_may_leave_the_record_unchanged():
    moved = body("entity.transition", toState="published")
    assert writes_of(sigma, moved, hydrated=record(AT - timedelta(days=1)), row=product())


@pytest.mark.parametrize("hydrated", [GONE, record(AT - timedelta(days=1))], ids=["gone", "older"])
@pytest.mark.parametrize(
    "parts",
    [
        {"waited": LAG},
        {"waited": timedelta(days=9)},
        {"is_last": True},
        {"row": product(changed_at=AT + SECOND, active=False)},
    ],
    ids=["after a while", "a replay", "the last attempt", "a newer tombstone"],
)
def test_the_answer_is_accepted(hydrated, parts):
    assert writes_of(sigma, body("entity.created"), hydrated=hydrated, **parts)


def test_a_variant_whose_entity_was_deleted_later_is_not_waited_for():
    gone = product(changed_at=AT + SECOND, active=False)
    assert writes_of(sigma, VARIANT, hydrated=GONE, row=gone)
    with pytest.raises(Retry):
        writes_of(sigma, VARIANT, hydrated=GONE, row=None)


def test_the_waits_grow_up_to_the_bound():
    waited, tries = timedelta(), []
    while waited < LAG:
        waited += wait_of(body("entity.created"), hydrated=GONE, waited=waited)
        tries.append(waited.total_seconds())
    assert tries == [5, 25, 60]


def test_a_clock_behind_that_of_the_endpoint_does_not_prolong_the_wait():
    assert wait_of(body("entity.created"), hydrated=GONE, waited=-timedelta(hours=1)) == timedelta(seconds=5)


def test_without_an_api_there_is_no_wait():
    assert writes_of(sigma, body("entity.created"))
    assert writes_of(
        sigma, VARIANT, row=Variant(source="s", external_id="v1", active=False, changed_at=AT, versions="")
    )
