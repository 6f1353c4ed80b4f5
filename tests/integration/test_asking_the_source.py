"""Ask the source: one row compared with its source as it is now, and the repair of that row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from paging import PagedSource, listened_to, mirrored
from shopping import named

from handlers.catalog import Product, Variant
from receiver import ApiError, Listed
from receiver.errors import ConfigurationError
from receiver.mirror.changes import after
from receiver.mirror.rows import Key
from receiver.provenance import telling
from receiver.provenance.why import explain_row
from receiver.reconcile.ask import ask_source, repair_row
from receiver.runs.actions import By, Via
from receiver.runs.asking import repair as repair_with_action
from receiver.runs.runs import Verbs
from receiver.worker.processes import Wiring

EARLIER = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def source(shop, kit) -> PagedSource:
    """Make a source with one lamp that the mirror knows."""
    paged = PagedSource()
    paged.speak(shop)
    listened_to(kit)
    paged.hold(["A1"])
    kit.send("shop", "product.updated", id="A1", at=EARLIER, data=named())
    kit.drain()
    return paged


def ask(kit, external_id: str = "A1", table=Product):
    return ask_source(kit.database, kit.source("shop"), table, external_id, clock=kit.now)


def repair(kit, external_id: str = "A1", **options):
    options = {"reason": "the ERP says so", **options}
    return repair_row(kit.database, kit.source("shop"), Product, external_id, clock=kit.now, **options)


def columns(asked) -> dict[str, tuple]:
    return {column.name: (column.here, column.there, column.equal) for column in asked.columns}


def test_a_row_that_agrees_with_its_source_is_reported_as_equal(kit, source):
    asked = ask(kit)
    assert asked.equal
    assert columns(asked) == {"active": (True, True, True), "name": ("Lamp", "Lamp", True)}
    assert asked.lines()[1] == "The mirror agrees."


def test_each_column_is_shown_with_both_values(kit, source):
    source.names["A1"] = "Lantern"
    asked = ask(kit)
    assert (asked.equal, columns(asked)["name"]) == (False, ("Lamp", "Lantern", False))
    assert 'name: "Lantern" there, "Lamp" here' in asked.lines()
    assert mirrored(kit) == {"A1": "Lamp"}, "to ask changes nothing"


@pytest.mark.parametrize(
    ("there", "is_equal"), [(True, False), (Decimal("1.00"), True)], ids=["a boolean", "the same number"]
)
def test_a_boolean_for_a_number_is_a_difference_and_other_digits_are_not(kit, source, there, is_equal):
    source.row = lambda each: Listed(Product, each[0], {"data": {"stock": 1}})
    repair(kit)
    source.row = lambda each: Listed(Product, each[0], {"data": {"stock": there}})
    assert ask(kit).equal is is_equal
    assert len(repair(kit).repaired) == (0 if is_equal else 1)
    assert repr(kit.row(Product, "A1").data) == repr({"stock": 1 if is_equal else True})


def test_the_source_s_time_of_change_is_shown(kit, source):
    changed = datetime(2026, 11, 28, 10, 46, tzinfo=UTC)
    source.row = lambda each: Listed(Product, each[0], {"name": each[1]}, changed_at=changed)
    assert ask(kit).changed_there == changed
    assert "Last change there: 2026-11-28 10:46:00Z." in ask(kit).lines()


def test_a_row_that_the_source_no_longer_has_is_reported_and_its_repair_deactivates_it(kit, source):
    kit.send("shop", "variant.updated", id="OF-A1", at=EARLIER, data={"parent": "A1"})
    kit.drain()
    del source.names["A1"]
    assert (ask(kit).known_there, ask(kit).equal) == (False, False)
    assert [change.operation for change in repair(kit).repaired] == ["deactivate", "deactivate"]
    assert not kit.row(Product, "A1").active
    assert not kit.row(Variant, "OF-A1").active, "its children are gone with it"


def test_an_unknown_row_can_be_asked_for_and_added(kit, source):
    source.names["NEW"] = "Torch"
    asked = ask(kit, "NEW")
    assert (asked.known_here, asked.known_there, asked.equal) == (False, True, False)
    assert [change.operation for change in repair(kit, "NEW").repaired] == ["insert"]
    assert (ask(kit, "NOWHERE").known_here, ask(kit, "NOWHERE").columns) == (False, [])
    assert repair(kit, "NOWHERE").repaired == []


def test_a_repair_writes_this_row_and_a_change(kit, source):
    source.names |= {"A1": "Lantern", "A2": "another"}
    asked = repair(kit)
    assert (asked.reason, asked.left, [change.external_id for change in asked.repaired]) == (
        "the ERP says so",
        None,
        ["A1"],
    )
    assert mirrored(kit) == {"A1": "Lantern"}
    newest = after(kit.database, 0, limit=100)[-1]
    assert (newest["external_id"], newest["delivery_id"]) == ("A1", None)


def test_a_repair_does_not_overrule_newer_news(kit, source):
    kit.send("shop", "product.updated", id="A1", at=kit.now() + timedelta(minutes=1), data=named("newer"))
    kit.drain()
    asked = repair(kit)
    assert (asked.left, mirrored(kit)) == ("newer", {"A1": "newer"})
    assert asked.lines()[-1] == "Not repaired: the mirror has news as new as this answer, or newer. Ask again."


def test_a_repair_leaves_the_row_to_a_delivery_that_arrives_meanwhile(kit, source):
    source.names["A1"] = "as answered"
    source.after = lambda _: kit.send("shop", "product.updated", id="A1", at=EARLIER, data=named("as announced"))
    asked = repair(kit)
    assert (asked.left, asked.repaired) == ("delivery", [])
    assert asked.lines()[-1].startswith("Not repaired: a delivery about it arrived before the source answered.")


def test_the_record_of_a_repair_belongs_to_its_transaction(kit, source):
    source.names["A1"] = "Lantern"

    def refuse(_connection, _asked) -> None:
        raise RuntimeError("no record")

    with pytest.raises(RuntimeError):
        repair(kit, record=refuse)
    assert mirrored(kit) == {"A1": "Lamp"}


@pytest.mark.parametrize("reason", ["", "  a ", "x" * 201])
def test_a_repair_requires_a_reason(kit, source, reason: str):
    with pytest.raises(ConfigurationError, match="needs a reason of 3 to 200 characters"):
        repair(kit, reason=reason)
    assert source.requests == []


def test_a_dialect_without_a_lookup_is_reported(kit, source):
    said = "has no lookup for rows of variants: run `hookmirror reconcile shop`, which compares"
    with pytest.raises(ConfigurationError, match=said):
        ask(kit, table=Variant)


def test_the_error_without_lookup_and_list_does_not_advise_a_reconcile(kit):
    listened_to(kit)
    with pytest.raises(ConfigurationError, match=r"rows of products: write one with @shop\.lookup"):
        ask(kit)


def test_a_repaired_row_names_the_run_that_repaired_it_its_starter_and_the_reason(kit, source):
    source.names["A1"] = "Lantern"
    verbs = Verbs(kit.database, Wiring(()))
    repair_with_action(verbs, kit.source("shop"), Product, "A1", by=By("ops", Via.COMMAND), reason="the ERP says so")
    found = explain_row(kit.database, {"shop": kit.source("shop")}, Key(Product, "shop", "A1"))
    assert found is not None
    name = next(each for each in found.reasons if each.path == "name")
    assert (name.origin.kind, name.origin.run) == ("reconcile", (1, "repair", "ops", "the ERP says so"))
    assert (name.check, name.lost.value, name.lost.how) == ("recorded", "Lamp", "overtaken")
    said = next(each for each in telling.sentences(found) if "run 1" in each)
    assert "came by run 1, a repair of ops, which asked the source at " in said
    assert said.endswith(": the ERP says so.")


def test_an_unreachable_api_is_reported(kit, source):
    source.before = lambda _: (_ for _ in ()).throw(httpx.ConnectError("refused"))
    with pytest.raises(ApiError) as told:
        ask(kit)
    assert str(told.value) == (
        "shop did not answer about products 'A1' (ConnectError: refused). Check `api_url`, and try again."
    )


def test_a_lookup_that_answers_about_another_row_is_refused(kit, source):
    source.look_up = lambda _: [Listed(Product, "A2", {"name": "another"})]
    with pytest.raises(ApiError, match="answered with other rows than 'A1'"):
        ask(kit)
