"""Replay as a run: a frozen set, a forecast, slices behind live work, and kills at any point."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog
from running import Runs, asked
from shopping import NOON, named, states
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError
from structlog.testing import capture_logs
from systems import ON_BOTH, database_system  # noqa: F401
from trouble import ACCEPT, refusing_changes, run_statements
from waiting import TIMEOUT, wait_until

from handlers.catalog import Group, Product
from receiver import Discard, Retry
from receiver.errors import NotFound, ReasonWanted, RunConflict
from receiver.logs.repeats import Repeats
from receiver.runs import actions, forecast, formatting, replay
from receiver.runs.actions import By, Via
from receiver.runs.immediate_actions import replay_now
from receiver.runs.tables import RunState
from receiver.worker import isolation, processes, source_texts


@pytest.fixture
def runs(kit) -> Runs:
    kit.source("shop")
    return Runs(kit)


def send(kit, *ids, kind="product.updated", data=None, at=NOON):
    return [
        int(kit.send("shop", kind, id=each, at=at, data=named() if data is None else data).delivery) for each in ids
    ]


def broken(kit, *ids):
    """Make deliveries that are dead because their data does not fit the handler."""
    made = send(kit, *ids, data={"name": 5})
    kit.drain()
    assert {kit.delivery(str(each))["state"] for each in made} == {"dead"}
    return made


@ON_BOTH
def test_a_replay_is_planned_started_and_done(kit, runs):
    ids = send(kit, "A", "B")
    kit.drain()
    run = runs.plan(*ids)
    assert (runs.run(run)["total"], runs.run(run)["sources"]) == (2, ["shop"])
    runs.start(run)
    runs.finish(run)
    ended = runs.run(run)
    assert (ended["state"], ended["done"], ended["tally"]) == ("done", 2, {"unchanged": 2})
    assert (ended["planned_by"], ended["started_by"], ended["reason"]) == ("ops-1", "ops-1", "after a fix")


def test_a_plan_changes_no_delivery_and_no_row(kit, runs):
    ids = send(kit, "A")
    kit.drain()
    before = kit.deliveries(), kit.rows(Product)
    runs.plan(*ids)
    assert (kit.deliveries(), kit.rows(Product)) == before


@ON_BOTH
def test_the_plan_freezes_the_set_of_deliveries(kit, runs):
    first = send(kit, "A")
    kit.drain()
    run = runs.plan(source="shop")
    send(kit, "B")
    kit.drain()
    runs.start(run)
    runs.finish(run)
    assert list(runs.items(run)) == first


@ON_BOTH
def test_a_forecast_shows_each_row_that_would_change(kit, shop, runs):
    send(kit, "A")
    kit.drain()
    handler = shop.handler_for("product.updated")
    object.__setattr__(handler, "function", lambda event, mirror: mirror.upsert(Product, event.entity_id, sku="S1"))
    run = runs.plan(source="shop")
    (row,) = runs.rows(run)
    assert (row["table"], row["external_id"], row["operation"]) == ("products", "A", "update")
    assert (row["before"], row["after"]) == ({"sku": None}, {"sku": "S1"})
    assert runs.run(run)["forecast"]["outcomes"] == {"applied": 1}
    assert runs.run(run)["forecast"]["rows"] == {"products": {"update": 1}}


@ON_BOTH
def test_a_forecast_of_several_changes_shows_a_boolean_in_place_of_a_number(kit, shop, runs):
    news = {"first": {"data": {"on": 1}}, "second": {}, "third": {}}

    def upsert(event, mirror):
        mirror.upsert(Product, event.entity_id, **news[event.data.name])

    object.__setattr__(shop.handler_for("product.updated"), "function", upsert)
    ids = [send(kit, "A", data=named(name), at=NOON + timedelta(hours=hour))[0] for hour, name in enumerate(news)]
    kit.drain()
    news |= {"second": {"data": {"on": "between"}}, "third": {"data": {"on": True}}}
    (row,) = runs.rows(runs.plan(*ids[1:]))
    assert repr((row["before"], row["after"])) == repr(({"data": {"on": 1}}, {"data": {"on": True}}))


def test_a_forecast_gives_the_reason_why_a_delivery_would_be_dead_again(kit, runs):
    (dead,) = broken(kit, "A")
    run = runs.plan(dead)
    item = runs.items(run)[dead]
    assert item["forecast"] == "dead"
    assert "name: Input should be a valid string" in item["forecast_reason"]


@pytest.mark.parametrize(
    ("raised", "outcome"), [(Discard("not ours"), "ignored"), (Retry("later"), "failing"), (KeyError("x"), "failing")]
)
def test_a_forecast_shows_the_error_that_a_handler_would_raise(kit, shop, runs, raised, outcome):
    @shop.on("odd")
    def odd(event, mirror):
        raise raised

    (each,) = send(kit, "A", kind="odd")
    kit.drain()
    with kit.database.write() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET state = 'dead', ended_at = received_at")
    item = runs.items(runs.plan(each))[each]
    assert item["forecast"] == outcome
    assert str(raised.args[0]) in item["forecast_reason"]


@ON_BOTH
def test_a_handler_with_a_session_has_no_forecast_and_the_plan_says_why(kit, shop, runs):
    @shop.on("sql")
    def with_session(event, mirror):
        mirror.session.execute(select(1))

    (each,) = send(kit, "A", kind="sql")
    kit.drain()
    item = runs.items(runs.plan(each))[each]
    assert (item["forecast"], "mirror.session" in item["forecast_reason"]) == ("unknown", True)


def test_a_forecast_includes_the_changes_of_earlier_deliveries(kit, shop, runs):
    @shop.on("price")
    def price(event, mirror):
        known = mirror.get(Product, event.entity_id)
        if known is not None and known.name == "Lamp":
            mirror.upsert(Product, event.entity_id, sku="of a lamp")

    ids = send(kit, "A", kind="price") + send(kit, "A", at=NOON + timedelta(hours=1))
    kit.drain()
    forecast = runs.items(runs.plan(*ids))
    assert [forecast[each]["forecast"] for each in ids] == ["applied", "unchanged"]


def test_a_handler_that_hangs_is_left_behind_and_the_forecast_goes_on(kit, shop, runs, monkeypatch):
    opened, called = threading.Event(), []

    @shop.on("hanging")
    def hang(event, mirror):
        if called:
            # The limit is short for this handler only: the next one waits for a database that may stand still.
            with monkeypatch.context() as patch:
                patch.setattr(isolation, "HANG_SECONDS", 0.2)
                wait_until(isolation.is_left_behind, "the end of the patience")
            opened.wait()
        called.append(event.entity_id)

    ids = [*send(kit, "A", kind="hanging"), *send(kit, "B")]
    kit.drain()
    try:
        run = runs.plan(*ids)
        assert "did not return" in runs.items(run)[ids[0]]["forecast_reason"]
        assert runs.items(run)[ids[1]]["forecast"] == "unchanged"
    finally:
        opened.set()


@ON_BOTH
def test_a_handler_that_returns_too_late_cannot_read_in_the_forecast(kit, shop, runs, monkeypatch):
    monkeypatch.setattr(isolation, "HANG_SECONDS", 0.2)
    opened, told = threading.Event(), queue.SimpleQueue()
    calls = itertools.count()

    @shop.on("hanging")
    def hang(event, mirror):
        if next(calls) == 0:
            return
        opened.wait()
        try:
            mirror.get(Product, "B")
        except BaseException as error:
            told.put(error)
            raise

    (each,) = send(kit, "A", kind="hanging")
    kit.drain()
    runs.plan(each)
    opened.set()
    assert "took too long" in str(told.get(timeout=TIMEOUT))


@ON_BOTH
def test_a_forecast_fails_with_the_database_and_foresees_no_failing_handler(kit, shop, runs, monkeypatch):
    @shop.on("price")
    def price(event, mirror):
        mirror.get(Product, event.entity_id)

    (each,) = send(kit, "A", kind="price")
    kit.drain()

    def fail(*_):
        raise OperationalError("SELECT", None, Exception("the server closed it"), connection_invalidated=True)

    with monkeypatch.context() as patch:
        patch.setattr(forecast.UnitOfWork, "read", fail)
        with pytest.raises(OperationalError):
            runs.plan(each)
    assert runs.items(runs.plan(each))[each]["forecast"] == "unchanged"


@ON_BOTH
def test_a_handler_that_reads_a_missing_table_lets_the_other_handlers_of_its_forecast_read(kit, shop, runs):
    @shop.on("price")
    def price(event, mirror):
        mirror.get(Group if event.entity_id == "A" else Product, "A")

    ids = send(kit, "A", "B", kind="price")
    kit.drain()
    with kit.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE groups")
    foreseen = runs.items(runs.plan(*ids))
    assert [foreseen[each]["forecast"] for each in ids] == ["failing", "unchanged"]


@ON_BOTH
@pytest.mark.parametrize("slow", ["_next_meant", "_forecast"])
def test_a_plan_that_takes_longer_than_its_lease_is_not_taken_by_another_feeder(kit, runs, monkeypatch, slow):
    send_and_drain(kit, "A")
    monkeypatch.setattr(replay.Replay, "lease", timedelta(seconds=1.5))
    work, others = getattr(replay.Replay, slow), []
    other = runs.new_feeder()

    def take_long(*given):
        monkeypatch.setattr(replay.Replay, slow, work)
        for _ in range(10):
            time.sleep(0.3)
            others.append(other.step(run))
        return work(*given)

    monkeypatch.setattr(replay.Replay, slow, take_long)
    run = runs.begin_plan(source="shop")
    while runs.feeder.step(run):
        pass
    assert others == [False] * 10
    assert (runs.run(run)["state"], runs.run(run)["total"]) == (RunState.PLANNED, 1)


@ON_BOTH
def test_a_replay_skips_a_delivery_that_the_database_refuses_to_change_and_says_so(kit, runs, monkeypatch):
    ids = send_and_drain(kit, "A", "B", "C", "D", "E")
    run = runs.plan(*ids)
    runs.start(run)
    monkeypatch.setattr(replay, "log", Repeats(structlog.get_logger()))
    with refusing_changes(kit.database, f"NEW.id = {ids[3]}"), capture_logs() as logs:
        runs.finish(run)
    assert (runs.run(run)["state"], runs.run(run)["tally"]) == ("done", {"skipped": 1, "unchanged": 4})
    [line] = [each for each in logs if each["log_level"] == "warning"]
    assert (line["run"], line["deliveries"], "not this one" in line["reason"]) == (run, 1, True)
    assert "The database refuses to change it: " in runs.items(run)[ids[3]]["reason"]
    assert "not this one" in runs.items(run)[ids[3]]["reason"]
    assert [len(kit.delivery(str(each))["rounds"]) for each in ids] == [2, 2, 2, 1, 2]
    assert runs.run(run)["trouble"].startswith("The database refused to change 1 delivery, which it skipped")


@pytest.mark.parametrize("refused", [0, 2])
def test_a_replay_that_waits_says_so_whatever_the_database_refused(refused):
    says = replay._trouble(True, {"after": 1, "fed": False, "refused": refused})
    assert (says.startswith("The database refused"), says.endswith("It waits for live deliveries.")) == (
        refused > 0,
        True,
    )


@ON_BOTH
def test_an_immediate_replay_leaves_out_a_delivery_that_the_database_refuses_to_change(kit):
    ids = send_and_drain(kit, "A", "B", "C", "D", "E")
    with refusing_changes(kit.database, f"NEW.id = {ids[3]}"):
        done = replay_now(kit.inbox, asked("replay", reason="after a fix"), ids, now=kit.now())
    assert (done.result["deliveries"], done.result["refused"], "not this one" in done.result["reason"]) == (4, 1, True)
    assert [len(kit.delivery(str(each))["rounds"]) for each in ids] == [2, 2, 2, 1, 2]
    with kit.database.read() as connection:
        [row] = connection.execute(select(actions.ACTIONS)).all()
    assert (row.count, row.result["refused"]) == (4, 1)


@ON_BOTH
@pytest.mark.parametrize("number", [1, 3])
def test_an_immediate_replay_of_which_the_database_refuses_all_fails_with_its_error(kit, number):
    ids = send_and_drain(kit, *"ABC"[:number])
    with refusing_changes(kit.database, "1 = 1"), pytest.raises(DBAPIError, match="not this one"):
        replay_now(kit.inbox, asked("replay", reason="after a fix"), ids, now=kit.now())
    assert states(kit) == ["processed"] * number


@ON_BOTH
def test_a_replay_of_which_the_database_refused_all_ends_and_can_be_planned_again(kit, runs):
    ids = send_and_drain(kit, "A", "B", "C")
    first = runs.plan(*ids)
    runs.start(first)
    with refusing_changes(kit.database, "1 = 1"):
        runs.finish(first)
    assert (runs.run(first)["state"], runs.run(first)["tally"]) == ("done", {"skipped": 3})
    assert "The database refused to change 3 deliveries" in runs.run(first)["trouble"]
    run_statements(kit.database, ACCEPT["postgresql" if kit.database.is_postgresql else "sqlite"])
    again = runs.plan(*ids)
    runs.start(again)
    runs.finish(again)
    assert runs.run(again)["tally"] == {"unchanged": 3}


def test_a_run_needs_a_reason(kit, runs):
    run = runs.plan(*send_and_drain(kit, "A"))
    with pytest.raises(ReasonWanted, match="3 to 200"):
        runs.start(run, reason=None)
    assert runs.run(run)["state"] == RunState.PLANNED


def send_and_drain(kit, *ids):
    made = send(kit, *ids)
    kit.drain()
    return made


def test_a_started_plan_cannot_be_started_again(kit, runs):
    run = runs.plan(*send_and_drain(kit, "A"))
    runs.start(run)
    with pytest.raises(RunConflict, match=r"is running, started by ops-1 at .*, so it cannot be started"):
        runs.start(run, by=By("ops-2", Via.API))


def test_an_unfinished_plan_cannot_be_started(kit, runs):
    run = runs.begin_plan(source="shop")
    with pytest.raises(RunConflict, match="still being planned"):
        runs.start(run)


@ON_BOTH
def test_a_plan_made_with_other_handlers_is_outdated(kit, shop, runs):
    run = runs.plan(*send_and_drain(kit, "A"))

    @shop.on("other")
    def other(event, mirror):
        pass

    with pytest.raises(RunConflict, match="plan it again"):
        Runs(kit).start(run)


def test_a_plan_is_outdated_by_an_edit_of_a_handler(kit, runs, monkeypatch):
    send(kit, "A")
    kit.drain()
    run = runs.plan(source="shop")
    monkeypatch.setattr(source_texts, "source_digest", lambda module: "another text")
    runs.verbs = replace(runs.verbs, wiring=processes.Wiring.of(runs.sources))
    with pytest.raises(RunConflict, match="with other handlers"):
        runs.start(run)


def test_an_unknown_run_is_reported(kit, runs):
    with pytest.raises(NotFound, match="no run 77"):
        runs.start(77)


@ON_BOTH
def test_a_second_run_of_the_same_kind_and_source_is_refused_while_the_first_is_at_work(kit, runs):
    ids = send_and_drain(kit, "A")
    first, second = runs.plan(*ids), runs.plan(*ids)
    runs.start(first)
    with pytest.raises(RunConflict, match=f"Run {first} is a replay of the same source"):
        runs.start(second)
    runs.finish(first)
    third = runs.plan(*ids)
    runs.start(third)
    runs.finish(third)


@ON_BOTH
def test_a_plan_is_outdated_once_another_run_has_replayed_deliveries_of_it(kit, runs):
    ids = send_and_drain(kit, "A", "B", "C")
    first, second = runs.plan(*ids[:2]), runs.plan(*ids[1:])
    runs.start(first)
    runs.finish(first)
    with pytest.raises(
        RunConflict, match=f"1 delivery of run {second} was replayed by run {first} since this plan.*plan it again"
    ):
        runs.start(second)
    assert runs.run(second)["state"] == "planned"


def test_a_plan_is_outdated_by_an_immediate_replay_of_its_deliveries(kit, runs):
    ids = send_and_drain(kit, "A", "B")
    run = runs.plan(*ids)
    replay_now(kit.inbox, asked("replay", reason="after a fix"), ids, now=kit.now())
    kit.drain()
    with pytest.raises(RunConflict, match=f"2 deliveries of run {run} were replayed by ops-1 since this plan"):
        runs.start(run)


def test_a_plan_is_not_outdated_by_replays_of_other_deliveries(kit, runs):
    ids = send_and_drain(kit, "A", "B")
    first, second = runs.plan(ids[0]), runs.plan(ids[1])
    runs.start(first)
    runs.finish(first)
    runs.start(second)
    runs.finish(second)


@ON_BOTH
def test_an_overlap_with_another_plan_is_reported(kit, runs):
    ids = send_and_drain(kit, "A", "B", "C")
    first, second, alone = runs.plan(*ids[:2]), runs.plan(ids[1]), runs.plan(ids[2])

    def told(run):
        with kit.database.read() as connection:
            return list(formatting.run_lines(runs.whole(connection, run)))

    says = f"Run {first}, which is planned, has 1 delivery of this one, too"
    assert [line for line in told(second) if line.startswith(says)]
    assert not [line for line in told(alone) if line.startswith("Run ") and "too" in line]
    runs.verbs.cancel(asked("cancel run"), first, now=kit.now())
    assert not [line for line in told(second) if line.startswith(says)]


@ON_BOTH
def test_the_action_of_a_plan_counts_its_deliveries(kit, runs):
    send_and_drain(kit, "A", "B", "C")
    run = runs.plan(source="shop")
    with kit.database.read() as connection:
        (action,) = connection.execute(actions.recent(run=run)).mappings()
    assert (action["what"], action["count"], actions.show(action)["counts"]) == ("plan replay", 3, "delivery")


def begun(kit):
    """Give a run of five deliveries, fed two at a time, after its first step; and its number."""
    ids = send_and_drain(kit, *map(str, range(5)))
    runs = Runs(kit, batch_size=2)
    run = runs.plan(*ids)
    runs.start(run)
    runs.feeder.step(run)
    return runs, run


@ON_BOTH
def test_a_paused_run_feeds_nothing_until_it_is_resumed(kit):
    runs, run = begun(kit)
    runs.verbs.pause(asked("pause run"), run, now=kit.now())
    kit.drain()
    assert not runs.new_feeder().step(run)
    assert states(kit).count("pending") == 0
    runs.verbs.resume(asked("resume run"), run, now=kit.now())
    runs.finish(run, feeder=runs.new_feeder())
    assert runs.run(run)["tally"] == {"unchanged": 5}


@ON_BOTH
def test_a_cancelled_run_does_not_change_the_remaining_deliveries(kit):
    runs, run = begun(kit)
    runs.verbs.cancel(asked("cancel run"), run, now=kit.now())
    kit.drain()
    assert not runs.new_feeder().step(run)
    assert sorted(item["state"] for item in runs.items(run).values()) == ["ended", *["waiting"] * 4]
    with pytest.raises(RunConflict, match="is cancelled"):
        runs.verbs.cancel(asked("cancel run"), run, now=kit.now())


@ON_BOTH
def test_deliveries_that_can_no_longer_be_replayed_are_skipped_with_the_reason(kit, runs):
    ids = send_and_drain(kit, "A", "B")
    run = runs.plan(*ids)
    with kit.database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM bodies WHERE delivery_id = {ids[0]}")
    runs.start(run)
    runs.finish(run)
    assert (runs.items(run)[ids[0]]["state"], runs.items(run)[ids[0]]["reason"]) == ("skipped", "Its body has expired.")
    assert runs.run(run)["tally"] == {"skipped": 1, "unchanged": 1}


def test_a_run_waits_for_a_delivery_that_fails_again(kit, shop, runs):
    failing = True

    @shop.on("odd")
    def odd(event, mirror):
        if failing:
            raise Retry("not yet", after=timedelta(hours=1))

    (each,) = send(kit, "A", kind="odd")
    failing = False
    kit.drain()
    failing = True
    run = runs.plan(each)
    runs.start(run)
    runs.feeder.step(run)
    kit.drain()
    assert runs.feeder.step(run)
    assert runs.items(run)[each]["state"] == "retrying"
    failing = False
    kit.advance(hours=2)
    kit.drain()
    runs.finish(run)
    assert runs.run(run)["tally"] == {"unchanged": 1}


def test_of_a_large_set_a_sample_is_forecast_and_the_plan_says_so(kit, runs, monkeypatch):
    ids = send_and_drain(kit, *map(str, range(7)))
    monkeypatch.setattr(replay, "MOST_DELIVERIES", 4)
    made = runs.run(runs.plan(*ids))["forecast"]
    assert (made["deliveries"], made["tried"], made["outcomes"]) == (7, 4, {"unchanged": 4})
    assert made["partial"] == "Only one delivery in 2 was tried: the numbers count these alone."


@pytest.mark.parametrize(
    ("bound", "value", "said"),
    [
        ("MOST_SECONDS", -1.0, "seconds had passed"),
        ("MOST_FORECAST_WRITES", 0, "written more than 0 times"),
        ("MOST_BYTES", 0, "more than 0 bytes"),
    ],
)
def test_a_forecast_ends_at_its_bounds_and_says_how_far_it_came(kit, runs, monkeypatch, bound, value, said):
    ids = send_and_drain(kit, *map(str, range(forecast.WINDOW + 1)))
    monkeypatch.setattr(forecast, bound, value)
    made = runs.run(runs.plan(*ids))["forecast"]
    assert made["tried"] == forecast.WINDOW
    assert said in made["partial"]
