"""A run whose step the database refuses says why, and waits or pauses; all other runs go on."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import httpx
import pytest
from paging import PagedSource, listened_to
from running import Runs, asked
from shopping import sources_of
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from handlers.catalog import Product, Variant
from receiver import Listed
from receiver.errors import ApiError
from receiver.inbox.retention import Retention
from receiver.runs.feeder import FIRST_RETRY_DELAY, Feeder
from receiver.runs.prune import Prune
from receiver.runs.reconcile import Reconcile
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
    assert ". It is tried again, since " in found["trouble"]
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


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Listed(Product, LONG, {}), r"the id 'AAA.* as text of 1 to 512 characters"),
        (
            Listed(Variant, "V1", {"parent": LONG}),
            "Variant 'V1' a value that cannot be stored: `parent` .* 2,048 bytes",
        ),
    ],
)
def test_a_listed_id_that_no_index_can_hold_is_refused_with_the_reason(kit, runs, lamps, row, reason):
    lamps.row = lambda _: row
    run = plan(runs, "reconcile", source="shop", force=False)
    with pytest.raises(ApiError, match=reason):
        for _ in runs.feeder.steps(run):
            pass


def test_a_next_that_json_cannot_hold_is_refused_with_the_reason(kit, runs, lamps, shop):
    lamps.page = lambda _: ([("A1", "Lamp")], 2, httpx.URL("http://api.test/?page=2"))
    run = plan(runs, "reconcile", source="shop", force=False)
    with pytest.raises(ApiError, match=r"gives the `next` URL.*which JSON cannot hold"):
        for _ in runs.feeder.steps(run):
            pass
