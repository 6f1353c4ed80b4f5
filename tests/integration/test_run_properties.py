"""Properties of runs over seeds: forecasts, repeated replays, kills, and the precedence of live deliveries."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from faults import Killed, dying_before
from hypothesis import Phase, given
from hypothesis import strategies as st
from running import Runs, asked
from shopping import NOON, named, new_shop, new_worker
from sqlalchemy import select
from waiting import TIMEOUT

from examples import examples
from handlers.catalog import Product, Variant
from receiver import Discard
from receiver.errors import RunConflict, RunTaken
from receiver.mirror.changes import CHANGES
from receiver.mirror.rows import sql_table
from receiver.runs.actions import ACTIONS, By, Via
from receiver.testing import Webhooks
from receiver.worker.liveness import deregister

#: Do not shrink a failure: looking for a smaller one takes too long.
ONLY_GENERATED = (Phase.explicit, Phase.generate)

IDS = st.sampled_from("ABC")

#: Events to send: event type, id, minutes after noon, data.
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("product.updated"), IDS, st.integers(0, 4), st.sampled_from([named("Lamp"), named("Desk")])),
        st.tuples(st.just("product.updated"), IDS, st.integers(0, 4), st.just({"name": 5})),
        st.tuples(st.just("product.deleted"), IDS, st.integers(0, 4), st.none()),
        st.tuples(st.just("variant.updated"), IDS, st.integers(0, 4), IDS.map(lambda parent: {"parent": parent})),
        st.tuples(st.just("priced"), IDS, st.integers(0, 4), st.just({})),
        st.tuples(st.just("nobody.cares"), IDS, st.integers(0, 4), st.none()),
    ),
    min_size=1,
    max_size=14,
)


class Shop:
    """A shop whose handlers can be mended: then they say more, accept numbers as names, and discard some events."""

    def __init__(self):
        self.dialect = new_shop()
        self.is_mended = False
        dialect = self.dialect

        @dialect.on("priced")
        def priced(event, mirror):
            known = mirror.get(Product, event.entity_id)
            if self.is_mended and event.entity_id == "C":
                raise Discard("C has no price")
            if known is not None and known.active:
                mirror.upsert(Product, event.entity_id, sku="priced" if self.is_mended else None)

        @dialect.on("variant.updated.*")
        def unused(event, mirror):
            """Never called."""

        by_name = dialect.handler_for("variant.updated").function

        def variant(event, mirror):
            by_name(event, mirror)
            if self.is_mended:
                mirror.upsert(Product, event.data["parent"], lifecycle_state="has variants")

        object.__setattr__(dialect.handler_for("variant.updated"), "function", variant)


@pytest.fixture
def lend(lend_database):
    @contextmanager
    def lend_kit(*, batch_size=200):
        with tempfile.TemporaryDirectory() as folder, lend_database(Path(folder)) as url:
            shop = Shop()
            kit = Webhooks(Path(folder), {"shop": shop.dialect}, database_url=url)
            kit.source("shop")
            try:
                yield kit, shop, Runs(kit, batch_size=batch_size)
            finally:
                kit.close()

    return lend_kit


def send(kit, events):
    return [
        int(kit.send("shop", kind, id=each, at=NOON + timedelta(minutes=minute), data=data).delivery)
        for kind, each, minute, data in events
    ]


def everything(kit):
    return {sql_table(table).name: [row.model_dump() for row in kit.rows(table)] for table in (Product, Variant)}


def visible(kit):
    """Return the rows as people see them, by table and id."""
    hidden = {"versions", "changed_at", "deactivated_at", "tie"}
    return {
        (name, row["external_id"]): {key: value for key, value in row.items() if key not in hidden}
        for name, rows in everything(kit).items()
        for row in rows
    }


def changes(kit):
    with kit.database.read() as connection:
        return connection.execute(select(CHANGES).order_by(CHANGES.c.seq)).mappings().all()


def test_the_run_does_what_the_forecast_says_if_nothing_arrives_between(lend):
    """Property: each delivery has the outcome and reason, and each row the difference, of the forecast."""

    @examples(3, phases=ONLY_GENERATED)
    @given(events=EVENTS, batch_size=st.integers(1, 6))
    def holds(events, batch_size):
        with lend(batch_size=batch_size) as (kit, shop, runs):
            send(kit, events)
            kit.drain()
            shop.is_mended = True
            run = runs.plan(source="shop")
            foreseen = {key: (item["forecast"], item["forecast_reason"]) for key, item in runs.items(run).items()}
            before, rows = visible(kit), runs.rows(run)
            runs.start(run)
            runs.finish(run)
            became = {key: (item["outcome"], item["reason"]) for key, item in runs.items(run).items()}
            assert became == foreseen
            assert Counter(runs.run(run)["tally"]) == Counter(runs.run(run)["forecast"]["outcomes"])
            after = visible(kit)
            differing = {key for key in after if before.get(key) != after[key]}
            assert {(row["table"], row["external_id"]) for row in rows} == differing
            for row in rows:
                key = row["table"], row["external_id"]
                assert {name: after[key][name] for name in row["after"]} == row["after"]
                if row["operation"] != "insert":
                    assert {name: before[key][name] for name in row["before"]} == row["before"]

    holds()


def test_arrivals_after_the_plan_change_the_outcome_of_their_own_rows_only(lend):
    """Property: the other rows end as the forecast says."""

    @examples(3, phases=ONLY_GENERATED)
    @given(events=EVENTS, late=EVENTS)
    def holds(events, late):
        about_a = [each for each in late if each[0].startswith("product")]
        about_a = [(kind, "A", minute, data) for kind, _, minute, data in about_a]
        with lend() as (kit, shop, runs):
            send(kit, events)
            kit.drain()
            shop.is_mended = True
            run = runs.plan(source="shop")
            before, rows = visible(kit), runs.rows(run)
            send(kit, about_a)
            kit.drain()
            runs.start(run)
            runs.finish(run)
            foreseen = before | {
                (row["table"], row["external_id"]): before.get((row["table"], row["external_id"]), {}) | row["after"]
                for row in rows
            }
            for key, row in visible(kit).items():
                if key[1] != "A" and row.get("parent") != "A":
                    assert {name: row[name] for name in foreseen[key]} == foreseen[key]

    holds()


def test_a_replay_of_everything_changes_no_row_and_adds_nothing_to_the_feed(lend):
    """Property for any events that handlers do not read."""

    @examples(3, phases=ONLY_GENERATED)
    @given(events=EVENTS, batch_size=st.integers(1, 6))
    def holds(events, batch_size):
        # Leave out handlers that read a row, because they may find another one in the replay.
        events = [each for each in events if each[0] != "priced"]
        with lend(batch_size=batch_size) as (kit, _, runs):
            ids = send(kit, events)
            kit.drain()
            rows, feed = everything(kit), changes(kit)
            if not ids:
                return
            run = runs.plan(source="shop")
            assert runs.rows(run) == []
            runs.start(run)
            runs.finish(run)
            assert (everything(kit), changes(kit)) == (rows, feed)

    holds()


def test_a_run_killed_before_any_statement_ends_like_one_that_was_not(lend):
    """Property: the plan, the start and each step are killed at random statements, and another feeder continues."""

    @examples(2, phases=ONLY_GENERATED)
    @given(events=EVENTS, batch_size=st.integers(2, 4), seed=st.integers(0, 2**32))
    def holds(events, batch_size, seed):
        rng = Random(seed)
        with lend(batch_size=batch_size) as (kit, shop, runs):
            ids = send(kit, events[:6])
            kit.drain()
            shop.is_mended = True
            run = runs.begin_plan(source="shop")
            deaths, state = 0, "planning"
            while state != "done":
                # The longest step has fewer statements than that, so some steps complete.
                deaths += _step_until(runs, run, state, statement=rng.randrange(40))
                kit.drain()
                state = runs.run(run)["state"]
                assert deaths < 300
            items = runs.items(run)
            assert sorted(items) == sorted(ids)
            assert {key: item["outcome"] for key, item in items.items()} == {
                key: item["forecast"] for key, item in items.items()
            }
            assert runs.run(run)["done"] == runs.run(run)["total"] == len(ids)
            with kit.database.read() as connection:
                done = [row.what for row in connection.execute(select(ACTIONS).order_by(ACTIONS.c.id))]
            assert done == ["plan replay", "start run"]

    holds()


def _step_until(runs, run, state, *, statement):
    """Make one step by the feeder of another process, killed before this statement. Returns 1 if it died."""
    feeder = runs.new_feeder()
    try:
        with dying_before(runs.kit.database, statement):
            runs.start(run) if state == "planned" else feeder.step(run)
    except Killed:
        return 1
    finally:
        # A dead process leaves only its lease behind.
        deregister(feeder.name)
    return 0


def test_live_deliveries_wait_for_at_most_one_batch_of_a_replay(lend):
    """Property: from a delivery's arrival to its end, at most one batch of the run is worked on.

    This holds in any interleaving of arrivals, steps of the feeder and passes of the worker.
    """

    @examples(3, phases=ONLY_GENERATED)
    @given(
        batch_size=st.integers(2, 8),
        steps=st.lists(st.sampled_from(["send", "feed", "work"]), min_size=10, max_size=40),
    )
    def holds(batch_size, steps):
        with lend(batch_size=batch_size) as (kit, _, runs):
            ids = send(kit, [("product.updated", f"P{number}", 0, named()) for number in range(30)])
            kit.drain()
            run = runs.plan(source="shop")
            runs.start(run)
            worker = new_worker(kit, batch_size=batch_size)
            replayed = set(ids)
            waits: dict[int, int] = {}

            def pending():
                return {int(each["id"]) for each in kit.deliveries() if each["state"] == "pending"}

            for number, step in enumerate(steps):
                if step == "send":
                    (live,) = send(kit, [("product.updated", f"L{number}", 0, named())])
                    waits[live] = 0
                elif step == "feed":
                    runs.feeder.step(run)
                    assert len(pending() & replayed) <= batch_size
                else:
                    before = pending()
                    worker.work()
                    worked = len((before - pending()) & replayed)
                    for live in before & waits.keys():
                        waits[live] += worked
                    assert all(waits[live] <= batch_size for live in waits)
            worker.close()

    holds()


def test_of_two_operators_who_start_a_plan_at_the_same_time_one_starts_it(lend):
    with lend() as (kit, _, runs):
        send(kit, [("product.updated", "A", 0, named())])
        kit.drain()
        run = runs.plan(source="shop")
        both, told = threading.Barrier(2), []

        def start(who):
            both.wait(TIMEOUT)
            try:
                runs.start(run, by=By(who, Via.API))
                told.append("started")
            except RunConflict as error:
                told.append(str(error))

        threads = [threading.Thread(target=start, args=(who,)) for who in ("ops-1", "ops-2")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        told.sort(reverse=True)
        assert told[0] == "started"
        assert told[1].startswith(f"Run {run} is running, started by ops-")


@pytest.mark.parametrize("steps", [0, 1])
def test_a_cancel_during_a_start_or_a_step_ends_the_run_completely(lend, steps):
    with lend() as (kit, _, runs):
        send(kit, [("product.updated", f"A{number}", 0, named()) for number in range(4)])
        kit.drain()
        run = runs.plan(source="shop")
        if steps:
            runs.start(run)
        both, told = threading.Barrier(2), []

        def go_on():
            both.wait(TIMEOUT)
            try:
                runs.feeder.step(run) if steps else runs.start(run)
            except (RunConflict, RunTaken) as error:
                told.append(str(error))

        def cancel():
            both.wait(TIMEOUT)
            runs.verbs.cancel(asked("cancel run", run=run), run, now=kit.now())

        threads = [threading.Thread(target=each) for each in (go_on, cancel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        kit.drain()
        with suppress(RunTaken):
            runs.feeder.step(run)
        assert runs.run(run)["state"] == "cancelled"
        assert all("cancelled" in each for each in told)
        assert {each["state"] for each in kit.deliveries()} == {"processed"}
        # Neither run holds the turn of its source any longer.
        again = runs.plan(source="shop")
        runs.start(again)
        runs.finish(again)
        assert runs.run(again)["tally"] == {"unchanged": 4}


def test_a_start_repeated_with_one_key_is_one_start(lend):
    with lend() as (kit, _, runs):
        send(kit, [("product.updated", "A", 0, named())])
        kit.drain()
        run = runs.plan(source="shop")
        first = runs.verbs.start(asked("start run", reason="once", key="k", run=run), run, now=kit.now())
        again = runs.verbs.start(asked("start run", reason="once", key="k", run=run), run, now=kit.now())
        assert (first.again, again.again, first.result) == (False, True, again.result)
