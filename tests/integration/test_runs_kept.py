"""Records of runs: rounds that name them, retention, and the rest of a killed process."""

from __future__ import annotations

from datetime import timedelta

import pytest
from running import Runs, asked
from shopping import NOON, named
from sqlalchemy import func, insert, select, update
from systems import ON_BOTH, database_system  # noqa: F401

from receiver.errors import RunConflict
from receiver.inbox.retention import Retention
from receiver.runs.actions import ACTIONS, recent
from receiver.runs.feeder import Feeder
from receiver.runs.formatting import forecast_lines, run_as_json, run_line
from receiver.runs.prune import Prune
from receiver.runs.retention import drop_old
from receiver.runs.runs import left
from receiver.runs.tables import RUN_DELIVERIES, RUN_ROWS, RUNS


@pytest.fixture
def runs(kit) -> Runs:
    kit.source("shop")
    return Runs(kit)


def done(kit, runs, many=1):
    ids = [int(kit.send("shop", "product.updated", id=f"A{n}", at=NOON, data=named()).delivery) for n in range(many)]
    kit.drain()
    run = runs.plan(*ids)
    runs.start(run)
    runs.finish(run)
    return run, ids


def count(kit, table):
    with kit.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar()


def test_the_round_that_a_run_begins_names_the_run(kit, runs):
    run, (delivery,) = done(kit, runs)
    first, second = kit.delivery(str(delivery))["rounds"]
    assert (first["cause"], first["run"]) == ("accepted", None)
    assert (second["cause"], int(second["run"]), second["outcome"]) == ("replay", run, "unchanged")


@ON_BOTH
def test_old_runs_and_actions_are_pruned_and_others_stay(kit, runs):
    old, _ = done(kit, runs, many=3)
    kept, _ = done(kit, runs)
    waiting = runs.begin_plan(source="shop")
    before = kit.now() - timedelta(days=400)
    with kit.database.write() as connection:
        long_ago = before - timedelta(days=1)
        connection.execute(update(RUNS).where(RUNS.c.id == old).values(ended_at=long_ago))
        connection.execute(update(ACTIONS).where(ACTIONS.c.run == old).values(at=long_ago))
    while drop_old(kit.database, before=before):
        pass
    with kit.database.read() as connection:
        assert list(connection.execute(select(RUNS.c.id).order_by(RUNS.c.id)).scalars()) == [kept, waiting]
        assert set(connection.execute(select(ACTIONS.c.run)).scalars()) == {kept, waiting}
    assert count(kit, RUN_DELIVERIES) == 1


@ON_BOTH
def test_the_rows_of_a_forecast_are_pruned_in_small_batches(kit, runs):
    """Each may hold a large document twice, and SQLite accepts no webhook while it overwrites them."""
    old, _ = done(kit, runs)
    foreseen = {"run": old, "table": "products", "source": "shop", "operation": "update", "before": {}, "after": {}}
    with kit.database.write() as connection:
        connection.execute(insert(RUN_ROWS), [{**foreseen, "external_id": f"A{number}"} for number in range(45)])
    kit.advance(days=401)
    before = kit.now() - timedelta(days=400)
    assert [drop_old(kit.database, before=before) for _ in range(5)] == [1, 20, 20, 5, 1]
    assert (count(kit, RUN_ROWS), ids_of_runs(kit)) == (0, [])


@ON_BOTH
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_plan_that_was_never_started_is_pruned_with_its_set(kit, runs, is_complete):
    for number in range(3):
        kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named())
    kit.drain()
    plan = runs.plan if is_complete else runs.begin_plan
    plan(source="shop")
    kit.advance(days=401)
    kept = plan(source="shop")
    drop_all(kit)
    assert ids_of_runs(kit) == [kept]
    assert count(kit, RUN_DELIVERIES) == (3 if is_complete else 0)


def test_a_plan_of_which_a_part_was_pruned_cannot_be_started(kit, runs, monkeypatch):
    monkeypatch.setattr("receiver.runs.retention.DROP_BATCH", 1)
    for number in range(3):
        kit.send("shop", "product.updated", id=f"A{number}", at=NOON, data=named())
    kit.drain()
    plan = runs.plan(source="shop")
    kit.advance(days=401)
    assert drop_old(kit.database, before=kit.now() - timedelta(days=400)) == 1
    with pytest.raises(RunConflict, match="cancelled"):
        runs.start(plan)


def test_a_paused_run_stays_however_old_it_is(kit, runs):
    delivery = int(kit.send("shop", "product.updated", id="A", at=NOON, data=named()).delivery)
    kit.drain()
    run = runs.plan(delivery)
    runs.start(run)
    runs.verbs.pause(asked("pause run", run=run), run, now=kit.now())
    kit.advance(days=2_000)
    drop_all(kit)
    assert (ids_of_runs(kit), runs.run(run)["state"]) == ([run], "paused")


@ON_BOTH
@pytest.mark.parametrize("table", ["runs", "actions"])
def test_runs_and_actions_behind_those_that_another_session_holds_are_pruned(kit, runs, table):
    if not kit.database.is_postgresql:
        pytest.skip("SQLite has no locks of rows")
    held = done(kit, runs)[0] if table == "runs" else 1
    runs.begin_plan(source="shop")
    done(kit, runs)
    kit.advance(days=401)
    with kit.database.engine.connect() as holding:
        holding.exec_driver_sql(f"SELECT 1 FROM {table} WHERE id = {held} FOR UPDATE")
        drop_all(kit)
        assert (ids_of_runs(kit), count(kit, ACTIONS)) == (([held], 0) if table == "runs" else ([], 1))
    drop_all(kit)
    assert (ids_of_runs(kit), count(kit, ACTIONS)) == ([], 0)


def drop_all(kit) -> None:
    while drop_old(kit.database, before=kit.now() - timedelta(days=400)):
        pass


def ids_of_runs(kit) -> list[int]:
    with kit.database.read() as connection:
        return list(connection.execute(select(RUNS.c.id).order_by(RUNS.c.id)).scalars())


@ON_BOTH
def test_a_prune_is_a_run_too(kit, runs):
    done(kit, runs, many=2)
    retention = Retention(bodies=timedelta(days=-1), dedup_keys=timedelta(days=400))
    feeder = Feeder(kit.database, [Prune(kit.database, retention, kit.now)], clock=kit.now)
    run = int(runs.verbs.plan(asked("plan prune"), "prune", now=kit.now()).result["run"])
    while feeder.step(run):
        pass
    runs.start(run, reason="the disk is full")
    while feeder.step(run):
        pass
    assert (runs.run(run)["state"], runs.run(run)["tally"]) == ("done", {"pruned": 2})


@ON_BOTH
def test_a_prune_at_work_has_never_done_more_than_there_is_to_do(kit, runs, monkeypatch):
    monkeypatch.setattr("receiver.inbox.retention.BATCH", 1)
    done(kit, runs, many=3)
    retention = Retention(bodies=timedelta(days=-1), dedup_keys=timedelta(days=400))
    feeder = Feeder(kit.database, [Prune(kit.database, retention, kit.now)], clock=kit.now)
    run = int(runs.verbs.plan(asked("plan prune"), "prune", now=kit.now()).result["run"])
    feeder.step(run)
    runs.start(run, reason="the disk is full")
    feeder.step(run)
    feeder.step(run)
    with kit.database.read() as connection:
        assert left(connection) == 0
    assert "prune, running, 2 of 2 deliveries" in run_line(run_as_json(runs.run(run)))
    runs.verbs.cancel(asked("cancel run"), run, now=kit.now())
    with kit.database.read() as connection:
        assert connection.execute(recent().limit(1)).mappings().one()["count"] == 0


@ON_BOTH
def test_another_feeder_takes_a_run_only_after_its_lease_has_ended(kit, runs):
    ids = [int(kit.send("shop", "product.updated", id="A", at=NOON, data=named()).delivery)]
    kit.drain()
    run = runs.plan(*ids)
    runs.start(run)
    with kit.database.write() as connection:
        elsewhere = {"fed_by": "elsewhere:cafe:1:1:ab", "fed_until": kit.now() + timedelta(minutes=2)}
        connection.execute(update(RUNS).where(RUNS.c.id == run).values(**elsewhere))
    assert not runs.feeder.step(run)
    kit.advance(minutes=3)
    assert runs.feeder.step(run)


def test_a_clock_that_was_set_back_delays_no_run_for_long(kit, runs):
    ids = [int(kit.send("shop", "product.updated", id="A", at=NOON, data=named()).delivery)]
    kit.drain()
    run = runs.plan(*ids)
    runs.start(run)
    with kit.database.write() as connection:
        from_the_future = {"fed_by": "elsewhere:cafe:1:1:ab", "fed_until": kit.now() + timedelta(hours=1)}
        connection.execute(update(RUNS).where(RUNS.c.id == run).values(**from_the_future))
    assert runs.feeder.step(run)


@ON_BOTH
def test_a_feeder_records_its_trouble_on_the_run_and_goes_on(kit, runs, monkeypatch):
    done(kit, runs)
    again = runs.begin_plan(source="shop")
    feeder = runs.new_feeder()
    kind = feeder._kinds["replay"]

    def fail(held):
        raise RuntimeError("no room for it")

    monkeypatch.setattr(type(kind), "plan", lambda self, held: fail(held))
    # A standstill must not be longer than the pause that is asserted.
    monkeypatch.setattr("receiver.runs.feeder.FIRST_RETRY_DELAY", 60.0)
    assert feeder.step_all() > 0
    assert "no room for it" in runs.run(again)["trouble"]
    monkeypatch.undo()
    feeder._due.clear()
    while runs.run(again)["state"] == "planning":
        feeder.step_all()
        feeder._due.clear()
    assert (runs.run(again)["state"], runs.run(again)["trouble"]) == ("planned", None)


def test_a_large_value_of_a_forecast_is_cut_in_a_line_which_says_where_all_of_it_is():
    """A document of a megabyte would otherwise fill the terminal, for each of twenty rows."""
    row = {"operation": "update", "table": "products", "source": "shop", "external_id": "A1", "before": {}}
    forecast = {"made_at": "2026-03-04T12:00:00Z", "outcomes": {}, "partial": None, "reasons": [], "rows": {}}
    *_, small = forecast_lines(forecast, [row | {"after": {"data": "x"}}])
    assert small == '  update products shop A1: data null -> "x"'
    *_, large, note = forecast_lines(forecast, [row | {"after": {"data": "x" * 1_000_000}}])
    assert (len(large) < 300, large[-3:]) == (True, "xx…")
    assert note == "A value that ends in … is cut: --json shows all of it."
