"""A run whose step the database refuses says why, and waits or pauses; all other runs go on."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import httpx
import pytest
from paging import PagedSource, listened_to, mirrored
from running import Runs, asked, reconciled
from shopping import sources_of, tell_all
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from handlers.catalog import Product, Variant
from receiver import Listed, ListPage
from receiver.errors import ApiError
from receiver.inbox.retention import Retention
from receiver.runs.feeder import FIRST_RETRY_DELAY, Feeder
from receiver.runs.prune import Prune
from receiver.runs.reconcile import Reconcile
from receiver.runs.run_kind import OnDatabase, Progress, RunLease
from receiver.runs.tables import RunState

LONG = "A" * 9_000


@pytest.fixture
def lamps(kit, shop) -> PagedSource:
    source = PagedSource()
    source.speak(shop)
    listened_to(kit)
    source.hold(["A1", "A2"])
    return source


@pytest.fixture
def runs(kit, lamps):
    """Make runs of the shop, with a feeder of reconciles and prunes."""
    found = Runs(kit)
    prune = Prune(kit.database, Retention(timedelta(days=30), timedelta(days=400)), kit.now)
    kinds = [Reconcile(kit.inbox, sources_of(kit), kit.now), prune]
    with closing(Feeder(kit.database, kinds, clock=kit.now)) as found.feeder:
        yield found


def plan(runs: Runs, kind: str, *, source: str = "", **arguments: Any) -> int:
    request = asked(f"plan {kind}", source=source, **arguments)
    return int(runs.verbs.plan(request, kind, sources=[source], now=runs.kit.now()).result["run"])


def started(runs: Runs) -> int:
    """Plan and start a reconcile of the shop."""
    run = plan(runs, "reconcile", source="shop", force=False)
    for _ in runs.feeder.steps(run):
        pass
    runs.start(run)
    return run


def execute(kit, statement: str) -> None:
    with kit.database.write() as connection:
        connection.execute(text(statement))


def step_all(runs: Runs) -> None:
    runs.feeder._due.clear()
    runs.feeder.step_all()


def test_values_that_the_database_refuses_pause_their_run_at_once_and_later_runs_go_on(kit, runs):
    execute(kit, "CREATE UNIQUE INDEX one_of_each_name ON products (source, name)")
    run, later = started(runs), plan(runs, "prune")
    for _ in range(4):
        step_all(runs)
    found = runs.run(run)
    assert (found["state"], runs.run(later)["state"]) == (RunState.PAUSED, RunState.PLANNED)
    assert found["trouble"].startswith("The database cannot store a value of this run (IntegrityError: ")
    assert found["trouble"].endswith("correct the value at its source, or the constraint of the table.")
    execute(kit, "DROP INDEX one_of_each_name")
    runs.verbs.resume(asked("resume run"), run, now=kit.now())
    for _ in runs.feeder.steps(run):
        pass
    assert (runs.run(run)["state"], runs.run(run)["trouble"]) == (RunState.DONE, None)


def test_a_run_whose_table_cannot_be_written_waits_says_why_and_later_runs_go_on(kit, runs):
    run, later = started(runs), plan(runs, "prune")
    execute(kit, "ALTER TABLE products RENAME TO products_elsewhere")
    for _ in range(4):
        step_all(runs)
    found = runs.run(run)
    assert (found["state"], runs.run(later)["state"]) == (RunState.RUNNING, RunState.PLANNED)
    assert "products" in found["trouble"]
    assert ". It has failed since " in found["trouble"]
    execute(kit, "ALTER TABLE products_elsewhere RENAME TO products")
    for _ in range(9):
        step_all(runs)
    assert (runs.run(run)["state"], runs.run(run)["trouble"]) == (RunState.DONE, None)


def test_a_run_that_the_database_refuses_for_long_is_paused_with_the_reason(kit, runs, monkeypatch):
    monkeypatch.setattr("receiver.runs.feeder.GIVEN_UP_AFTER", 0.0)
    run = started(runs)
    execute(kit, "ALTER TABLE products RENAME TO products_elsewhere")
    for _ in range(4):
        step_all(runs)
    assert (runs.run(run)["state"], "products" in runs.run(run)["trouble"]) == (RunState.PAUSED, True)


def test_the_time_for_which_the_database_is_away_does_not_count_against_a_run(kit, runs, monkeypatch):
    run = started(runs)
    away = OperationalError("BEGIN", None, Exception("server closed the connection"))

    def write() -> None:
        raise away

    step_all(runs)
    with monkeypatch.context() as patch:
        patch.setattr(kit.database, "write", write)
        for _ in range(3):
            with pytest.raises(OperationalError) as raised:
                step_all(runs)
            assert raised.value is away
    assert (runs.run(run)["state"], runs.run(run)["trouble"]) == (RunState.RUNNING, None)
    assert runs.feeder._pauses.get(run, FIRST_RETRY_DELAY) == FIRST_RETRY_DELAY
    monkeypatch.setattr("receiver.runs.feeder.GIVEN_UP_AFTER", 0.0)
    for _ in range(9):
        step_all(runs)
    assert runs.run(run)["state"] == RunState.DONE


class Faltering(OnDatabase):
    """A kind of run whose steps store nothing, and of which every second one fails."""

    name, steps = "prune", 0

    def plan(self, held: RunLease) -> Progress:
        return held.commit(lambda _: Progress(None, sources=[""], is_last=True))

    def step(self, held: RunLease) -> Progress:
        self.steps += 1
        if self.steps % 2 == 0:
            raise ValueError("always here")
        return Progress(held.run.mark)


def test_steps_that_store_nothing_before_the_next_failure_do_not_end_a_series_of_failures(kit, runs, monkeypatch):
    kind = Faltering()
    with closing(Feeder(kit.database, [kind], clock=kit.now)) as runs.feeder:
        run = plan(runs, "prune")
        step_all(runs)
        runs.start(run)
        while kind.steps < 8:
            step_all(runs)
        assert runs.feeder._pauses[run] == 8 * FIRST_RETRY_DELAY
        monkeypatch.setattr("receiver.runs.feeder.GIVEN_UP_AFTER", 0.0)
        step_all(runs)
        step_all(runs)
    assert (runs.run(run)["state"], runs.run(run)["trouble"]) == (RunState.PAUSED, "ValueError: always here")


def test_a_failing_retention_of_runs_does_not_slow_down_the_runs(kit, runs, monkeypatch):
    def drop_old(*_: Any, **__: Any) -> int:
        raise ValueError("an edited row")

    monkeypatch.setattr("receiver.runs.feeder.drop_old", drop_old)
    runs.feeder._keep = timedelta(days=1)
    run = plan(runs, "prune")
    assert runs.feeder.step_all() <= 1.0
    step_all(runs)
    assert runs.run(run)["state"] == RunState.PLANNED


def test_a_failing_schedule_does_not_hold_up_the_runs(kit, runs):
    def look() -> None:
        raise ValueError("an edited row")

    runs.feeder._look = look
    run = plan(runs, "prune")
    step_all(runs)
    assert runs.run(run)["state"] == RunState.PLANNED


def test_of_a_list_of_names_those_that_no_index_can_hold_are_counted_and_the_others_looked_up(kit, runs, shop, lamps):
    shop.listing_of = None

    @shop.pages(Product, names_only=True)
    def read(api: httpx.Client, start: None) -> ListPage:
        return ListPage([Listed(Product, each, {}) for each in ("A1", LONG, "A3")], None, 3)

    lamps.hold(["A1", "A3"])
    report = reconciled(kit, sources_of(kit)["shop"], force=True)
    assert (report.listed, report.unstorable, sorted(mirrored(kit))) == (3, 1, ["A1", "A3"])


def test_listed_rows_with_ids_that_no_index_can_hold_are_left_alone_counted_and_keep_the_list_complete(
    kit, runs, lamps
):
    tell_all(kit, ["B1"], at=kit.now() - timedelta(hours=1))
    lamps.hold([f"A{number}" for number in range(7)])
    lamps.row = lambda each: Listed(Product, each[0] + (LONG if each[0] in ("A1", "A6") else ""), {"name": each[1]})
    forecast = runs.run(started(runs))["forecast"]
    assert forecast["outcomes"]["unstorable"] == 2
    report = reconciled(kit, sources_of(kit)["shop"], force=True)
    assert (report.listed, report.unstorable, sorted(mirrored(kit))) == (7, 2, ["A0", "A2", "A3", "A4", "A5"])
    assert "the id 'A6AAA" in report.unstorable_reason


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("sku", LONG, "`sku` has an index, which takes at most 2,048 bytes"),
        ("price", "1e99999", "`price` takes a Decimal within"),
        ("name", 7, "`name` takes text, not the int 7"),
    ],
)
def test_a_listed_row_with_a_value_that_cannot_be_stored_is_left_alone_and_counted(
    kit, runs, lamps, column: str, value: Any, reason: str
):
    tell_all(kit, lamps.names, at=kit.now() - timedelta(hours=1))
    lamps.hold(["A0", "A2", "A3"], "Lantern")
    lamps.row = lambda each: Listed(Product, each[0], {"name": each[1]} | ({column: value} if each[0] == "A1" else {}))
    report = reconciled(kit, sources_of(kit)["shop"])
    assert (report.unstorable, report.repairs, mirrored(kit)) == (1, 3, lamps.names)
    assert report.lines()[-1].startswith(
        "Rows left alone because a value cannot be stored: 1. The last reason: The list gives Product 'A1' a value "
        f"that cannot be stored: {reason}"
    )
    forecast = runs.run(planned := started(runs))["forecast"]
    assert forecast["outcomes"] == {"repaired": 0, "unstorable": 1}
    for _ in runs.feeder.steps(planned):
        pass
    found = runs.run(planned)
    assert (found["state"], found["tally"], found["trouble"]) == (RunState.DONE, {"unstorable": 1}, report.lines()[-1])


def test_a_child_whose_parent_no_index_can_hold_is_left_alone_and_counted(kit, runs, lamps):
    lamps.tells_total = False
    lamps.row = lambda each: Listed(Variant, f"V{each[0]}", {"parent": LONG})
    assert reconciled(kit, sources_of(kit)["shop"]).unstorable == 2


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        (Listed(Product, "A1", {"sku": LONG}), {"unstorable": 1}),
        (Listed(Product, LONG, {}), {"unanswered": 1}),
    ],
)
def test_an_answer_about_one_row_that_cannot_be_stored_holds_up_no_other(kit, runs, lamps, answer, counts):
    lamps.size = 1
    tell_all(kit, {f"A{number}": "Lamp" for number in range(12)}, at=kit.now() - timedelta(hours=1))
    lamps.hold([f"A{number}" for number in range(12) if number not in (1, 4)])
    del lamps.names["A1"]
    lamps.look_up = lambda external_id: [answer] if external_id == "A1" else []
    run = started(runs)
    for _ in runs.feeder.steps(run):
        pass
    assert runs.run(run)["tally"] == {"repaired": 1, **counts}
    assert mirrored(kit) == {**lamps.names, "A1": "Lamp"}


def test_a_next_that_json_cannot_hold_is_refused_with_the_reason(kit, runs, lamps, shop):
    lamps.page = lambda _: ([("A1", "Lamp")], 2, httpx.URL("http://api.test/?page=2"))
    run = plan(runs, "reconcile", source="shop", force=False)
    with pytest.raises(ApiError, match=r"gives the `next` URL.*which JSON cannot hold"):
        for _ in runs.feeder.steps(run):
            pass
