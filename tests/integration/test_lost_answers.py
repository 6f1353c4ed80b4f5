"""A run whose connection is lost after a commit, before the commit's answer, does and counts nothing twice."""

from __future__ import annotations

from itertools import count

from losing import LosingOne
from paging import PagedSource, listened_to, mirrored
from running import OPS, Runs, asked, reconciled
from shopping import NOON, tell_all
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from handlers.catalog import Product
from receiver.runs.actions import ACTIONS, Done
from receiver.runs.asking import repair
from receiver.runs.immediate_actions import replay_now
from receiver.runs.tables import RUNS, RunState


def test_a_replay_skips_no_delivery_whichever_answer_is_lost(kit, monkeypatch):
    kit.source("shop")
    tell_all(kit, ["A1", "A2", "A3", "A4", "A5"], at=NOON)
    ids = [each["id"] for each in kit.deliveries()]
    # The first transaction leases the run, and is not repeated.
    for number in count(2):
        runs = Runs(kit, batch_size=4)
        run = runs.plan(*ids)
        runs.start(run)
        losing = LosingOne(kit.database, number)
        feeder = runs.new_feeder()
        while runs.run(run)["state"] != RunState.DONE:
            with monkeypatch.context() as patch:
                patch.setattr(kit.database, "write", losing.write)
                feeder.step(run)
            kit.drain()
        assert (runs.run(run)["done"], runs.run(run)["tally"]) == (5, {"unchanged": 5}), f"answer {number} was lost"
        if not losing.has_lost:
            break


def test_an_action_whose_answer_is_lost_is_carried_out_and_recorded_once(kit, monkeypatch):
    kit.source("shop")
    tell_all(kit, ["A1"], at=NOON)
    runs = Runs(kit)
    delivery = int(kit.deliveries()[0]["id"])
    run = runs.plan(delivery)
    did: list[Done | None] = []
    for act in (
        lambda: runs.verbs.start(asked("start run", reason="after a fix", key="k1", run=run), run, now=kit.now()),
        lambda: runs.verbs.cancel(asked("cancel run", run=run), run, now=kit.now()),
        lambda: replay_now(kit.inbox, asked("retry"), [delivery], now=kit.now()),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(kit.database, "write", LosingOne(kit.database, 1).write)
            did.append(act())
    assert [each and each.result.get("state", each.result.get("deliveries")) for each in did] == [
        "running",
        "cancelled",
        1,
    ]
    assert [each and each.again for each in did] == [False] * 3
    with kit.database.read() as connection:
        recorded = connection.execute(select(ACTIONS.c.what).order_by(ACTIONS.c.id)).scalars().all()
    assert recorded == ["plan replay", "start run", "cancel run", "retry"]


def test_a_reconcile_counts_each_repair_once_whichever_answer_is_lost(kit, shop, monkeypatch):
    lamps = PagedSource()
    lamps.speak(shop)
    source = listened_to(kit)
    for number in count(1):
        lamps.hold([f"A{each}" for each in range(7)], f"Lamp {number}")
        losing = LosingOne(kit.database, number)
        with monkeypatch.context() as patch:
            patch.setattr(kit.database, "write", losing.write)
            try:
                report = reconciled(kit, source)
            except OperationalError:
                # The lease of the run is not repeated. The next command continues.
                report = reconciled(kit, source)
        assert (report.repairs, mirrored(kit)) == (7, lamps.names), f"answer {number} was lost"
        if not losing.has_lost:
            break
    with kit.database.read() as connection:
        assert set(connection.execute(select(RUNS.c.state)).scalars()) == {RunState.DONE}


def test_a_row_whose_repair_lost_its_answer_is_told_as_repaired_by_one_run(kit, shop, monkeypatch):
    lamps = PagedSource()
    lamps.speak(shop)
    source = listened_to(kit)
    lamps.hold(["A1"])
    tell_all(kit, ["A1"], at=NOON)
    kit.drain()
    lamps.hold(["A1"], "Tent")
    with monkeypatch.context() as patch:
        patch.setattr(kit.database, "write", LosingOne(kit.database, 1).write)
        answer = repair(Runs(kit).verbs, source, Product, "A1", by=OPS, reason="it differs")
    assert [change.after["name"] for change in answer.repaired or ()] == ["Tent"]
    with kit.database.read() as connection:
        (run,) = connection.execute(select(RUNS)).mappings().all()
        (action,) = connection.execute(select(ACTIONS)).mappings().all()
    assert (run["tally"], action["run"], answer.action) == ({"repaired": 1}, run["id"], action["id"])
