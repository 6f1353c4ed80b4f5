"""Why a row is as it is: the origin of each value, the news that lost against it, and values that cannot be checked."""

from __future__ import annotations

import threading
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from explaining import Plans, strict
from histories import new_kit
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import OperationalError
from systems import ON_BOTH, database_system  # noqa: F401
from telling import NOON, Shop
from telling import shop as telling_shop
from waiting import wait_until

from examples import examples
from handlers.catalog import Product, Variant
from receiver import Discard, Event, Mirror
from receiver.dialects.sources import build_source
from receiver.errors import Unavailable
from receiver.inbox.tables import BODIES, DELIVERIES
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import Key, sql_table
from receiver.provenance import candidates, recomputation, telling
from receiver.provenance.stored import stored_row
from receiver.provenance.why import Checked, Why, explain_row
from receiver.settings.settings import source_settings
from receiver.testing import TEST_SECRET, Webhooks
from receiver.worker import isolation
from receiver.worker.trial import Obstacle

#: Nothing here may depend on the speed of the machine.
LONG = 60.0


@pytest.fixture
def catalog(tmp_path, mirror_url):
    webhooks = Webhooks(tmp_path, {"shop": telling_shop}, database_url=mirror_url)
    yield Shop(webhooks, one_by_one=True)
    webhooks.close()


def why(kit: Webhooks, table: Any = Product, external_id: str = "A1", **options: Any) -> Why:
    found = explain_row(kit.database, {"shop": kit.source("shop")}, Key(table, "shop", external_id), **options)
    assert found is not None
    return found


def reason(found: Why, path: str) -> Any:
    return next(each for each in found.reasons if each.path == path)


# ── origins and lost news ─────────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_a_value_names_its_delivery_and_the_time_at_the_source(catalog):
    delivery = catalog.tell("product.updated", "A1", 5, {"name": "Lamp"})
    name = reason(why(catalog.kit), "name")
    assert (name.origin.kind, str(name.origin.delivery_id)) == ("delivery", delivery)
    assert (name.value, name.version.moment, name.check) == ("Lamp", NOON + timedelta(seconds=5), Checked.AGREES)


@ON_BOTH
def test_late_news_is_shown_as_the_last_that_lost(catalog):
    catalog.tell("product.updated", "A1", 1, {"price": "17.00"})
    catalog.tell("product.updated", "A1", 9, {"price": "19.90"})
    late = catalog.tell("product.updated", "A1", 5, {"price": "18.50"})
    lost = reason(why(catalog.kit), "price").lost
    assert (lost.value, lost.how, str(lost.version.arrival)) == (Decimal("18.50"), "stale", late)


def test_without_late_news_the_previous_value_is_shown_as_lost(catalog):
    first = catalog.tell("product.updated", "A1", 1, {"price": "17.00"})
    catalog.tell("product.updated", "A1", 9, {"price": "19.90"})
    lost = reason(why(catalog.kit), "price").lost
    assert (lost.value, lost.how, str(lost.version.arrival)) == (Decimal("17.00"), "overtaken", first)


def test_an_ignored_delivery_replayed_after_newer_news_was_never_the_value(kit, shop):
    early = kit.send("shop", "product.painted", id="A1", at=NOON, data={"name": "Old lamp"}).delivery
    kit.send("shop", "product.updated", id="A1", at=NOON + timedelta(seconds=9), data={"name": "Lamp"})
    kit.drain()

    @shop.on("product.painted")
    def paint(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, **event.data)

    kit.advance(seconds=60)
    kit.inbox.replay([int(early)], now=kit.now())
    kit.drain()
    assert kit.delivery(early)["outcome"] == "stale"
    lost = reason(why(kit), "name").lost
    assert (lost.value, lost.how, str(lost.version.arrival)) == ("Old lamp", "stale", early)


def test_a_delivery_processed_before_and_replayed_was_the_value_since_its_first_round(catalog):
    first = catalog.tell("product.updated", "A1", 1, {"name": "Old lamp"})
    catalog.tell("product.updated", "A1", 9, {"name": "Lamp"})
    catalog.kit.advance(seconds=60)
    catalog.kit.inbox.replay([int(first)], now=catalog.kit.now())
    catalog.kit.drain()
    lost = reason(why(catalog.kit), "name").lost
    assert (lost.value, lost.how, str(lost.version.arrival)) == ("Old lamp", "overtaken", first)


def test_of_two_news_at_the_same_time_the_earlier_arrival_lost_by_a_tie(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    catalog.tell("product.updated", "A1", 1, {"name": "Tent"})
    name = reason(why(catalog.kit), "name")
    assert (name.value, name.is_tie, name.lost.value, name.lost.how) == ("Tent", True, "Lamp", "tie")


def test_news_with_the_same_value_did_not_lose(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    catalog.tell("product.updated", "A1", 2, {"name": "Lamp"})
    assert reason(why(catalog.kit), "name").lost is None


@ON_BOTH
def test_each_member_of_a_document_has_its_own_origin(catalog):
    whole = catalog.tell("product.updated", "A1", 1, {"data": {"price": 5, "colour": "red"}})
    patch = catalog.tell("product.patched", "A1", 2, {"price": 6})
    found = why(catalog.kit)
    price, colour = reason(found, "data.price"), reason(found, "data.colour")
    assert (price.value, str(price.origin.delivery_id), price.lost.value) == (6, patch, 5)
    assert (colour.value, str(colour.origin.delivery_id), colour.lost) == ("red", whole, None)


@ON_BOTH
def test_a_row_deactivated_with_its_parent_says_so(catalog):
    catalog.tell("variant.updated", "V1", 1, {"parent": "A1"})
    gone = catalog.tell("product.deleted", "A1", 2)
    found = why(catalog.kit, Variant, "V1")
    assert found.lost_with_parent is not None
    version, origin = found.lost_with_parent
    assert (version.moment, str(origin.delivery_id)) == (NOON + timedelta(seconds=2), gone)
    assert reason(found, "active").value is True
    assert any("lost its children" in each for each in telling.sentences(found))


@ON_BOTH
def test_rows_named_by_a_delivery_about_another_entity_are_explained(catalog):
    snapshot = catalog.tell("product.snapshot", "A1", 1, ["V1", "V2"])
    parent = reason(why(catalog.kit, Variant, "V2"), "parent")
    assert (parent.value, str(parent.origin.delivery_id), parent.check) == ("A1", snapshot, Checked.AGREES)


def test_an_unknown_row_is_not_explained(catalog):
    assert explain_row(catalog.kit.database, {}, Key(Product, "shop", "A1")) is None


@ON_BOTH
def test_an_explanation_writes_nothing(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    before = (catalog.feed(), catalog.kit.deliveries(), catalog.product().versions)
    why(catalog.kit)
    assert (catalog.feed(), catalog.kit.deliveries(), catalog.product().versions) == before


# ── recomputation ─────────────────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_a_row_changed_by_hand_differs_from_its_deliveries(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    with catalog.kit.database.write() as connection:
        connection.execute(update(sql_table(Product)).values(name="Tent"))
    found = why(catalog.kit)
    assert found.differing == ["name"]
    assert "does not bring this value" in reason(found, "name").because
    assert telling.overall(found) is Checked.DIFFERS


@ON_BOTH
def test_a_number_for_a_boolean_written_by_hand_differs_from_the_deliveries(catalog):
    catalog.tell("product.updated", "A1", 1, {"data": {"on": True}})
    with catalog.kit.database.write() as connection:
        connection.execute(update(sql_table(Product)).values(data={"on": 1}))
    assert why(catalog.kit).differing == ["data", "data.on"]


def test_the_earlier_number_is_shown_as_lost_against_a_boolean(catalog):
    first = catalog.tell("product.updated", "A1", 1, {"data": {"on": 1}})
    catalog.tell("product.updated", "A1", 2, {"data": {"on": True}})
    lost = reason(why(catalog.kit), "data.on").lost
    assert (repr(lost.value), lost.how, str(lost.version.arrival)) == ("1", "overtaken", first)


def test_news_that_the_row_never_received_is_reported(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    newer = catalog.tell("product.updated", "A1", 2, {"name": "Tent", "sku": "T-1"})
    older = catalog.kit.deliveries()[0]["id"]
    with catalog.kit.database.write() as connection:
        versions = catalog.product().versions
        mended = versions.replace(newer, older)
        connection.execute(update(sql_table(Product)).values(name="Lamp", sku=None, versions=mended))
    found = why(catalog.kit)
    assert {"name", "sku"} <= set(found.differing)


def test_news_from_the_future_that_was_dated_back_is_not_a_difference(catalog):
    from receiver.reconcile import date_back

    ahead = (datetime.now(UTC) - NOON).total_seconds() + 10 * 86_400
    catalog.tell("product.updated", "A1", ahead, {"name": "Lamp"})
    date_back(catalog.kit.database, catalog.kit.source("shop"))
    catalog.kit.send("shop", "product.updated", id="A1", at=datetime.now(UTC), data={"sku": "L-1"})
    catalog.kit.drain()
    found = why(catalog.kit)
    assert found.differing == []
    assert reason(found, "name").check is Checked.AGREES


COLUMNS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["Lamp", "Tent", None]),
        "price": st.sampled_from(["1.0", "1.00", "2"]),
        "data": st.dictionaries(st.sampled_from("ab"), st.integers(0, 2)) | st.none() | st.just([1]),
    },
)
SNAPSHOTS = st.lists(st.sampled_from(["V1", "V2"]), unique=True)
EVENTS = st.one_of(
    st.tuples(st.just("product.updated"), st.just("A1"), COLUMNS),
    st.tuples(st.just("product.patched"), st.just("A1"), st.dictionaries(st.sampled_from("abc"), st.integers(0, 2))),
    st.tuples(st.just("product.deleted"), st.just("A1"), st.none()),
    st.tuples(st.just("product.snapshot"), st.sampled_from(["A1", "A2"]), SNAPSHOTS),
    st.tuples(
        st.just("variant.updated"),
        st.sampled_from(["V1", "V2"]),
        st.fixed_dictionaries({}, optional={"parent": st.sampled_from(["A1", "A2", None]), "name": st.just("x")}),
    ),
    st.tuples(st.just("variant.deleted"), st.sampled_from(["V1", "V2"]), st.none()),
)


@ON_BOTH
def test_for_any_history_the_recomputed_registers_are_those_of_the_row(lend_database):
    @examples(4)
    @given(history=st.lists(st.tuples(EVENTS, st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
    def holds(history):
        with new_kit(lend_database, {"shop": telling_shop}) as kit:
            for (event_type, entity, data), second, drained in history:
                kit.send("shop", event_type, id=entity, at=NOON + timedelta(seconds=second), data=data)
                if drained:
                    kit.drain()
            kit.drain()
            for table in (Product, Variant):
                for row in kit.rows(table):
                    found = why(kit, table, row.external_id, seconds=LONG)
                    assert (found.differing, telling.overall(found)) == ([], Checked.AGREES)
                    held, recomputed = found.row.registers, found.recomputation.trace.registers
                    assert (recomputed.versions, recomputed.ties) == (held.versions, held.ties)
                    assert {name: held.values[name] for name in recomputed.values} == recomputed.values

    holds()


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"price": "21,90"}, "data.price"),
        ({"values": {"price": [{"scope": {}, "value": "21,90"}]}}, "data.values.price"),
        ({"price": {"amount": "on request"}}, "data.price"),
    ],
)
def test_a_value_that_the_dialect_could_not_read_is_shown_with_its_text(catalog, data, path):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp", "price": None, "data": data})
    found = why(catalog.kit)
    assert reason(found, "price").unread.path == path
    said = next(each for each in telling.sentences(found) if "could not read" in each)
    assert "21,90" in said or "on request" in said
    assert said.endswith(f" in {path}.")


@pytest.mark.parametrize(
    "data", [{"price": None}, {"price": ""}, {"price": "5"}, {"other": "21,90"}, {"parts": [{"price": "21,90"}]}]
)
def test_an_empty_price_alone_is_not_shown_as_unread(catalog, data):
    catalog.tell("product.updated", "A1", 1, {"name": None, "price": None, "data": {**data, "name": ["x"]}})
    assert [each.unread for each in why(catalog.kit).reasons if each.unread is not None] == []


# ── values that cannot be checked ──────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_an_expired_body_is_named_beside_the_value_that_cannot_be_checked(catalog):
    old = catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    catalog.tell("product.updated", "A1", 2, {"price": "5"})
    with catalog.kit.database.write() as connection:
        connection.execute(delete(BODIES).where(BODIES.c.delivery_id == int(old)))
        connection.execute(delete(CHANGES))
    found = why(catalog.kit)
    name = reason(found, "name")
    told = f"delivery {old} gives no news, because its body has expired"
    assert (name.check, name.because) == (Checked.UNKNOWN, told)
    assert reason(found, "price").check is Checked.AGREES
    assert telling.overall(found) is Checked.UNKNOWN
    assert "Not run: 1 with an expired body." in telling.sentences(found)[1]


@ON_BOTH
def test_a_delivery_that_was_pruned_is_still_named(catalog):
    old = catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    with catalog.kit.database.write() as connection:
        connection.execute(delete(BODIES))
        connection.execute(delete(DELIVERIES))
    name = reason(why(catalog.kit), "name")
    assert (name.origin.kind, str(name.origin.delivery_id), name.check) == ("delivery", old, Checked.RECORDED)


@ON_BOTH
def test_a_delivery_that_cannot_be_run_again_is_compared_with_its_recorded_change(catalog):
    old = catalog.tell("product.updated", "A1", 1, {"name": "Lamp", "data": {"a": 1}})
    catalog.tell("product.patched", "A1", 2, {"b": 2})
    with catalog.kit.database.write() as connection:
        connection.execute(delete(BODIES).where(BODIES.c.delivery_id == int(old)))
    found = why(catalog.kit)
    checks = {each.path: each.check for each in found.reasons}
    assert (checks["name"], checks["data.a"], checks["data.b"]) == ("recorded", "recorded", "agrees")
    assert (found.differing, telling.overall(found)) == ([], Checked.RECORDED)
    assert "its body has expired" in reason(found, "name").because


def test_a_row_changed_by_hand_differs_from_the_recorded_change(catalog):
    old = catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    with catalog.kit.database.write() as connection:
        connection.execute(delete(BODIES).where(BODIES.c.delivery_id == int(old)))
        connection.execute(update(sql_table(Product)).values(name="Tent"))
    found = why(catalog.kit)
    assert found.differing == ["name"]
    assert "which brought it, has another value" in reason(found, "name").because


def test_the_fetched_data_of_a_thin_event_is_not_guessed(kit, shop):
    @shop.connect
    def connect(source):
        import httpx

        return httpx.Client(base_url=source.api_url)

    kit.send("shop", "product.updated", id="A1", at=NOON, data={"name": "Lamp"})
    kit.drain()

    @shop.hydrate("product.updated")
    def fetch(event, api):
        raise AssertionError("nobody asks the API here")

    thin = {"secrets": [TEST_SECRET], "api_url": "http://127.0.0.1:9"}
    source = build_source(source_settings("shop", thin), {"shop": shop})
    found = explain_row(kit.database, {"shop": source}, Key(Product, "shop", "A1"))
    assert [each for each, _ in found.recomputation.obstacles.values()] == [Obstacle.THIN]
    assert (reason(found, "name").check, reason(found, "name").because) == (Checked.RECORDED, None)
    assert "1 with a hydrated event" in telling.sentences(found)[1]
    assert not any("hookmirror ask" in each for each in telling.sentences(found)), "its dialect has no lookup"

    @shop.lookup(Product)
    def look_up(api, wanted):
        raise AssertionError("nobody asks the API here")

    found = explain_row(kit.database, {"shop": source}, Key(Product, "shop", "A1"))
    assert "run `hookmirror ask products shop A1`" in telling.sentences(found)[2]


@ON_BOTH
def test_a_handler_that_takes_a_session_is_not_run(kit, shop):
    ran = []

    @shop.on("product.counted")
    def count(event: Event[Any], mirror: Mirror) -> None:
        ran.append(mirror.session)
        mirror.upsert(Product, event.entity_id, name="counted")

    kit.send("shop", "product.counted", id="A1", at=NOON)
    kit.drain()
    times = len(ran)
    found = why(kit)
    assert len(ran) == times
    assert reason(found, "name").check is Checked.RECORDED
    assert "takes mirror.session" in reason(found, "name").because


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), Discard("not mine")])
def test_a_handler_that_raises_today_is_reported_and_harms_no_other(kit, shop, error):
    kit.send("shop", "product.updated", id="A1", at=NOON, data={"name": "Lamp"})
    kit.drain()

    @shop.on("product.updated", override=True)
    def fail(event: Event[Any], mirror: Mirror) -> None:
        raise error

    found = why(kit)
    assert "with today's code" in reason(found, "name").because
    assert telling.overall(found) is Checked.RECORDED


@ON_BOTH
@pytest.mark.parametrize("catches", [False, True])
def test_a_database_that_fails_during_a_trial_is_not_told_as_a_failure_of_the_handler(kit, shop, monkeypatch, catches):
    @shop.on("product.sold")
    def sell(event: Event[Any], mirror: Mirror) -> None:
        with suppress(OperationalError) if catches else nullcontext():
            mirror.get(Product, "A2")
        mirror.upsert(Product, event.entity_id, name="Lamp")

    kit.send("shop", "product.sold", id="A1", at=NOON)
    kit.drain()

    def fail(*_: Any) -> None:
        raise OperationalError("SELECT", None, Exception("the server closed it"), connection_invalidated=True)

    monkeypatch.setattr(recomputation.UnitOfWork, "read", fail)
    with pytest.raises(OperationalError, match="the server closed it"):
        why(kit)


@ON_BOTH
def test_a_handler_that_asks_for_an_id_that_no_driver_takes_fails_in_its_trial(kit, shop):
    @shop.on("product.sold")
    def sell(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, name="Lamp")

    kit.send("shop", "product.sold", id="A1", at=NOON)
    kit.drain()

    @shop.on("product.sold", override=True)
    def look(event: Event[Any], mirror: Mirror) -> None:
        mirror.get(Product, object())  # type: ignore[arg-type]

    assert "with today's code it fails" in reason(why(kit), "name").because


def test_a_handler_that_hangs_is_left_behind_and_the_others_are_run(kit, shop, monkeypatch):
    opened = threading.Event()

    @shop.on("product.priced")
    def price(event: Event[Any], mirror: Mirror) -> None:
        mirror.upsert(Product, event.entity_id, **event.data)

    kit.send("shop", "product.updated", id="A1", at=NOON, data={"name": "Lamp"})
    kit.send("shop", "product.priced", id="A1", at=NOON, data={"price": "5"})
    kit.drain()

    @shop.on("product.updated", override=True)
    def hang(event: Event[Any], mirror: Mirror) -> None:
        # The limit is short for this handler only: the next one waits for a database that may stand still.
        with monkeypatch.context() as patch:
            patch.setattr(isolation, "HANG_SECONDS", 0.2)
            wait_until(isolation.is_left_behind, "the end of the patience")
        opened.wait()
        mirror.upsert(Product, event.entity_id, name="too late")

    try:
        found = why(kit, seconds=LONG)
        assert "did not return" in reason(found, "name").because
        assert reason(found, "price").check is Checked.AGREES
    finally:
        opened.set()


def test_after_too_many_hanging_handlers_no_code_is_run(kit, shop, monkeypatch):
    wait_until(lambda: not any(each.is_alive() for each in isolation._hanging), "the handlers of earlier tests")
    monkeypatch.setattr(isolation, "HANG_SECONDS", 0.1)
    monkeypatch.setattr(isolation, "MOST_HANGING", 1)
    opened = threading.Event()
    kit.send("shop", "product.updated", id="A1", at=NOON, data={"name": "Lamp"})
    kit.drain()

    @shop.on("product.updated", override=True)
    def hang(event: Event[Any], mirror: Mirror) -> None:
        opened.wait()

    try:
        why(kit, seconds=LONG)
        with pytest.raises(Unavailable, match="have not returned"):
            why(kit, seconds=LONG)
    finally:
        opened.set()


@ON_BOTH
def test_beyond_the_bound_the_explanation_says_how_far_it_looked(catalog, monkeypatch):
    monkeypatch.setattr(candidates, "MOST_CANDIDATES", 3)
    first = catalog.tell("product.updated", "A1", 0, {"sku": "S"})
    for second in range(1, 7):
        catalog.tell("product.updated", "A1", second, {"name": f"name {second}"})
    found = why(catalog.kit)
    assert int(first) in found.recomputation.ran, "it brought a value that the row still has"
    assert len(found.recomputation.ran) == 4
    assert "the newest 3 were run" in found.candidates.partial
    assert telling.overall(found) is Checked.UNKNOWN


def test_when_the_time_is_over_the_remaining_deliveries_are_named_as_not_reached(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    found = why(catalog.kit, seconds=0.0)
    assert [each for each, _ in found.recomputation.obstacles.values()] == [Obstacle.NOT_REACHED]


def test_deliveries_about_the_row_without_effect_are_listed_with_their_reasons(catalog):
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    dead = catalog.tell("product.updated", "A1", 2, {"price": "5,00"})
    ignored = catalog.tell("product.painted", "A1", 3, {})
    found = why(catalog.kit)
    assert {str(each.id) for each in found.candidates.others} == {dead, ignored}
    assert telling.overall(found) is Checked.AGREES


@ON_BOTH
def test_of_large_changes_only_the_newest_are_read(catalog):
    """A row that changed hundreds of times may have gigabytes of changes."""
    half = candidates.MOST_CHANGE_BYTES // 2
    catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    row = {"table": "products", "source": "shop", "external_id": "A1", "operation": "update", "before": {}}
    times = {"changed_at": NOON, "recorded_at": NOON}
    for number in range(4):
        with catalog.kit.database.write() as connection:
            connection.execute(insert(CHANGES), {**row, **times, "after": {"name": f"{number}" * half}})
    read = why(catalog.kit).candidates.changes
    assert [change.after["name"][0] for change in read] == ["3", "2"]


@ON_BOTH
def test_with_very_many_pending_deliveries_those_due_for_longest_are_searched_for_news(catalog, monkeypatch):
    catalog.tell("product.updated", "A1", 5, {"name": "Lamp"})
    catalog.one_by_one = False
    first = catalog.tell("product.updated", "A1", 6, {"name": "Bright lamp"})
    catalog.tell("product.updated", "A1", 7, {"name": "Brighter lamp"})
    assert len(why(catalog.kit).candidates.others) == 2
    monkeypatch.setattr(candidates, "MOST_PENDING", 1)
    found = why(catalog.kit)
    assert [str(each.id) for each in found.candidates.others] == [first]
    assert any(says.startswith("More than 1 deliveries are pending") for says in telling.sentences(found))


@ON_BOTH
def test_a_replayed_delivery_that_was_processed_before_counts(catalog):
    told = catalog.tell("product.updated", "A1", 1, {"name": "Lamp"})
    catalog.kit.inbox.replay([int(told)], now=catalog.kit.now())
    found = why(catalog.kit)
    assert (found.differing, int(told) in found.recomputation.ran) == ([], True)


def test_a_handler_reads_the_row_as_it_was_then(kit, shop):
    @shop.on("product.sold")
    def sell(event: Event[Any], mirror: Mirror) -> None:
        row = mirror.get(Product, event.entity_id)
        mirror.upsert(Product, event.entity_id, name=f"{row.name}+" if row is not None else "Lamp")

    for second in range(3):
        kit.send("shop", "product.sold", id="A1", at=NOON + timedelta(seconds=second))
        kit.drain()
    name = reason(why(kit), "name")
    assert (name.value, name.lost.value, name.check) == ("Lamp++", "Lamp+", Checked.AGREES)


def test_the_stored_row_names_its_parent_only_if_rows_are_deactivated_with_it(catalog):
    catalog.tell("product.updated", "A1", 1, {"parent": "C1"})
    with catalog.kit.database.read() as connection:
        row = stored_row(connection, Key(Product, "shop", "A1"))
    assert row is not None
    assert row.parent is None


@ON_BOTH
def test_pending_deliveries_are_found_by_their_state_and_not_among_all_of_the_source(tmp_path, mirror_url):
    webhooks = Webhooks(tmp_path, {"shop": telling_shop}, database_url=strict(mirror_url))
    try:
        Shop(webhooks, one_by_one=True).tell("product.updated", "A1", 5, {"name": "Lamp"})
        plans = Plans(webhooks.database, ("deliveries",))
        why(webhooks)
        assert plans.indexes >= {"ix_deliveries_due", "ix_deliveries_processing"}
        assert "ix_deliveries_source" not in plans.indexes
    finally:
        webhooks.close()
