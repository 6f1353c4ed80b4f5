"""Rows of the mirror whose internal columns were edited by hand: they refuse news, are explained, and are repaired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from paging import PagedSource, listened_to, mirrored
from running import Runs, asked
from shopping import named
from sqlalchemy import select, update

from handlers.catalog import Product, Variant
from receiver.errors import RunConflict
from receiver.mirror.rows import Key, sql_table
from receiver.provenance import telling
from receiver.provenance.why import Checked, explain_row
from receiver.reconcile import reconcile
from receiver.reconcile.ask import DAMAGED_HERE, MENDED, ask_source, repair_row
from receiver.worker.worker import Worker

EARLIER = datetime.now(UTC) - timedelta(hours=1)
LATER = EARLIER + timedelta(minutes=1)

PRODUCTS = sql_table(Product)

#: Texts that no version guard has written, and the sentences about them.
DAMAGES = {
    "": "they are empty",
    "{": "they are not JSON",
    "edited": "they are not JSON",
    "null": "they are JSON of another shape",
    "[]": "they are JSON of another shape",
    '{"own": true}': "they are JSON of another shape",
    '{"own": true, "at": []}': "they are JSON of another shape",
    '{"own": 1, "at": [[1, 1, 1, "active"]]}': "they are JSON of another shape",
    '{"own": true, "at": [["noon", 1, 1, "active"]]}': "they are JSON of another shape",
    '{"own": true, "at": [[1e30, 1, 1, "active"]]}': "they are JSON of another shape",
    '{"own": true, "at": [[999999999999999999, 1, 1, "active"]]}': "they are JSON of another shape",
    '{"own": true, "at": [[1, 1, 1, "active", 5]]}': "they are JSON of another shape",
    '{"own": true, "at": [[1, 1, 1, "active"]], "gone": {"variants": 1}}': "they are JSON of another shape",
}

COMMAND = "`hookmirror reconcile shop --entity products:A1` asks the source and repairs it"


@pytest.fixture
def source(shop, kit) -> PagedSource:
    """Make a source with two lamps that the mirror knows, and reads whole lists of."""
    paged = PagedSource()
    paged.speak(shop)
    listened_to(kit)
    paged.hold(["A1", "A2"])
    for name in ("A1", "A2"):
        kit.send("shop", "product.updated", id=name, at=EARLIER, data=named())
    kit.drain()
    return paged


def damage(kit, text: str = "edited", column: str = "versions") -> None:
    with kit.database.write() as connection:
        connection.execute(update(PRODUCTS).where(PRODUCTS.c.external_id == "A1").values({column: text}))


def damage_document(kit) -> None:
    with kit.database.write() as connection:
        connection.exec_driver_sql("UPDATE products SET data = '{edited' WHERE external_id = 'A1'")


def versions(kit) -> str:
    with kit.database.read() as connection:
        return connection.execute(select(PRODUCTS.c.versions).where(PRODUCTS.c.external_id == "A1")).scalar_one()


def repair(kit):
    return repair_row(kit.database, kit.source("shop"), Product, "A1", reason="edited by hand", clock=kit.now)


def test_a_delivery_about_a_damaged_row_waits_with_the_command_that_repairs_it_and_the_others_are_processed(
    kit, source, worker: Worker
):
    damage(kit)
    about = kit.send("shop", "product.updated", id="A1", at=LATER, data=named("Lantern"))
    other = kit.send("shop", "product.updated", id="A2", at=LATER, data=named("Lantern"))
    worker.work()
    assert (kit.delivery(about)["state"], kit.delivery(other)["state"]) == ("pending", "processed")
    assert "its versions were edited by hand, since they are not JSON" in kit.delivery(about)["reason"]
    assert COMMAND in kit.delivery(about)["reason"]
    assert mirrored(kit) == {"A1": "Lamp", "A2": "Lantern"}


def test_after_the_repair_the_next_attempt_of_the_delivery_succeeds(kit, source, worker: Worker):
    damage(kit)
    about = kit.send("shop", "product.updated", id="A1", at=LATER, data=named("Lantern"))
    source.names["A1"] = "Lantern"
    worker.work()
    assert repair(kit).mended
    kit.advance(minutes=2)
    kit.drain()
    assert (kit.delivery(about)["state"], kit.delivery(about)["outcome"]) == ("processed", "stale")
    assert mirrored(kit)["A1"] == "Lantern"


@pytest.mark.parametrize(("text", "wrong"), DAMAGES.items())
def test_a_damaged_row_is_explained_asked_for_and_written_anew(kit, source, text: str, wrong: str):
    damage(kit, text)
    why = explain_row(kit.database, {"shop": kit.source("shop")}, Key(Product, "shop", "A1"))
    assert wrong in why.row.damage
    assert telling.sentences(why)[0] == why.row.damage
    assert (telling.overall(why), why.differing) == (Checked.UNKNOWN, [])
    assert {each.path: each.value for each in why.reasons}["name"] == "Lamp"
    told = ask_source(kit.database, kit.source("shop"), Product, "A1", clock=kit.now)
    assert (told.damaged, told.equal, told.lines()[-1]) == (True, True, DAMAGED_HERE)
    mended = repair(kit)
    assert (mended.repaired, mended.lines()[-1]) == ([], MENDED)
    assert explain_row(kit.database, {"shop": kit.source("shop")}, Key(Product, "shop", "A1")).row.damage is None


def test_a_reconcile_of_the_source_writes_damaged_rows_anew(kit, source):
    damage(kit)
    source.names["A1"] = "Lantern"
    reconcile(kit.database, kit.source("shop"), dry_run=True, clock=kit.now)
    assert versions(kit) == "edited", "a dry run writes nothing"
    reconcile(kit.database, kit.source("shop"), clock=kit.now)
    assert versions(kit).startswith('{"own":true')
    assert mirrored(kit) == {"A1": "Lantern", "A2": "Lamp"}


def test_a_document_that_is_not_json_is_damage_as_well(kit, source, worker: Worker):
    damage_document(kit)
    about = kit.send("shop", "product.updated", id="A1", at=LATER, data=named("Lantern"))
    worker.work()
    assert "its column data holds text that was not written by this program" in kit.delivery(about)["reason"]
    assert COMMAND in kit.delivery(about)["reason"]
    assert repair(kit).mended
    assert kit.row(Product, "A1").data is None


def test_an_older_delivery_does_not_overrule_the_values_of_a_repaired_row(kit, source):
    damage(kit)
    repair(kit)
    late = kit.send("shop", "product.updated", id="A1", at=EARLIER - timedelta(minutes=1), data=named("late"))
    kit.drain()
    assert (kit.delivery(late)["outcome"], mirrored(kit)["A1"]) == ("stale", "Lamp")


def test_the_children_of_an_inactive_damaged_parent_stay_inactive(kit, source):
    kit.send("shop", "variant.updated", id="OF-A1", at=EARLIER, data={"parent": "A1"})
    kit.send("shop", "product.deleted", id="A1", at=LATER)
    kit.drain()
    damage(kit)
    del source.names["A1"]
    repair(kit)
    late = kit.send("shop", "variant.updated", id="OF-A1", at=EARLIER + timedelta(seconds=1), data={"parent": "A1"})
    kit.drain()
    assert kit.delivery(late)["state"] == "processed"
    assert not kit.row(Variant, "OF-A1").active


@pytest.fixture
def runs(kit, source) -> Runs:
    return Runs(kit)


def damage_run(kit, run: int, column: str) -> None:
    with kit.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE runs SET {column} = '{{edited' WHERE id = {run}")


@pytest.mark.parametrize("column", ["sources", "arguments", "mark"])
def test_a_run_whose_work_is_not_known_is_not_started_and_can_be_cancelled(kit, runs: Runs, column: str):
    run = runs.plan(source="shop")
    damage_run(kit, run, column)
    with pytest.raises(RunConflict, match="cancel it, and plan again"):
        runs.start(run)
    runs.verbs.cancel(asked("cancel run"), run, now=kit.now())
    assert runs.run(run)["state"] == "cancelled"


def test_a_running_replay_with_damaged_arguments_is_paused_and_replays_nothing(kit, runs: Runs):
    run = runs.plan(source="shop")
    runs.start(run)
    damage_run(kit, run, "arguments")
    fresh = runs.new_feeder()
    fresh.step_all()
    fresh.close()
    assert runs.run(run)["state"] == "paused"
    assert f"The arguments of run {run} cannot be read." in runs.run(run)["trouble"]
    assert not [each for each in kit.deliveries() if each["state"] == "pending"]


def test_a_forecast_says_which_deliveries_a_damaged_row_would_fail(kit, runs: Runs):
    damage(kit)
    run = runs.run(runs.plan(source="shop"))
    assert run["forecast"]["outcomes"] == {"failing": 1, "unchanged": 1}
    assert COMMAND in run["forecast"]["reasons"][0]["reason"]
