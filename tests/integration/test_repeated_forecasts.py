"""The forecast of a reconcile counts each row once, also if the list is read again, or repeats its rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from paging import PagedSource, listened_to, mirrored
from running import Runs, asked, new_reconciler, reconciled
from shopping import sources_of, tell_all
from sqlalchemy import func, select
from systems import ON_BOTH, database_system  # noqa: F401

from handlers.catalog import Product, Variant
from receiver import ApiError, Listed, ListPage, Wanted
from receiver.reconcile.tables import SEEN
from receiver.reconcile.walk import MOST_BREAKS
from receiver.runs.tables import RunState
from receiver.worker.liveness import deregister

EARLIER = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


@pytest.fixture
def lamps(kit, monkeypatch) -> PagedSource:
    """Make twelve lamps, A00 to A11, that the mirror knows. Each step stores its mark."""
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", 0.0)
    source = PagedSource()
    listened_to(kit)
    source.hold(f"A{number:02}" for number in range(12))
    tell_all(kit, source.names, at=EARLIER)
    return source


class Plan:
    """The plan of a reconcile, stepped by hand on a clock of its own."""

    def __init__(self, kit) -> None:
        self.kit, self.ahead = kit, timedelta()
        self.runs = Runs(kit)
        self.feeder = new_reconciler(kit, clock=self.now)
        request = asked("plan reconcile", source="shop", force=False)
        done = self.runs.verbs.plan(request, "reconcile", sources=["shop"], now=kit.now())
        self.number = int(done.result["run"])

    def now(self) -> datetime:
        return self.kit.now() + self.ahead

    def continue_elsewhere(self) -> None:
        """Let another process continue the plan, as after a kill."""
        deregister(self.feeder.name)
        self.feeder = new_reconciler(self.kit, clock=self.now)

    def finish(self) -> dict[str, Any]:
        """Step to the end, and return the forecast."""
        for _ in self.feeder.steps(self.number):
            pass
        found = self.runs.run(self.number)
        assert found["state"] == RunState.PLANNED
        return found["forecast"]

    def do(self) -> dict[str, int]:
        """Do what was planned, and return the tally."""
        self.runs.start(self.number)
        for _ in self.feeder.steps(self.number):
            pass
        return self.runs.run(self.number)["tally"]


def grow_during(lamps: PagedSource, request: int) -> None:
    """Add a row to the list at this request, so that it changes while it is read."""
    lamps.after = lambda number: lamps.hold(["Z1"]) if number == request else None


def seen_keys(kit) -> int:
    with kit.database.read() as connection:
        return connection.execute(select(func.count()).select_from(SEEN)).scalar_one()


def test_a_dry_run_reports_each_row_once_if_the_list_changed_while_it_was_read(kit, shop, lamps):
    lamps.speak(shop)
    lamps.hold(["B1", "B2", "A05"], "Lantern")
    grow_during(lamps, 3)
    report = reconciled(kit, sources_of(kit)["shop"], dry_run=True)
    assert sorted(change.external_id for change in report.repaired) == ["A05", "B1", "B2", "Z1"]
    assert (report.repairs, report.listed, seen_keys(kit)) == (4, 15, 0)


@ON_BOTH
def test_a_plan_whose_list_changed_while_it_was_read_foresees_what_the_run_does(kit, shop, lamps):
    lamps.speak(shop)
    lamps.hold(["B1", "B2", "A05"], "Lantern")
    del lamps.names["A11"]
    grow_during(lamps, 3)
    plan = Plan(kit)
    forecast = plan.finish()
    assert forecast["rows"] == {"products": {"deactivate": 1, "insert": 3, "update": 1}}
    assert (forecast["outcomes"], plan.do()) == ({"repaired": 5}, {"repaired": 5})
    assert (mirrored(kit), seen_keys(kit)) == (lamps.names, 0)


def test_rows_that_vanish_before_the_list_is_read_again_are_not_foreseen(kit, shop, lamps):
    lamps.speak(shop)
    lamps.hold(["00", "01"])

    def shrink(number: int) -> None:
        if number == 3:
            del lamps.names["00"], lamps.names["01"]
            lamps.hold(["NEW"])

    lamps.before = shrink
    assert Plan(kit).finish()["rows"] == {"products": {"insert": 1}}


def test_news_from_the_future_is_counted_once_if_the_list_is_read_again(kit, shop, lamps):
    lamps.speak(shop)
    kit.send("shop", "product.deleted", id="A03", at=datetime(2099, 1, 1, tzinfo=UTC))
    kit.drain()
    grow_during(lamps, 3)
    forecast = Plan(kit).finish()
    assert forecast["outcomes"] == {"repaired": 2, "misdated": 1}
    assert forecast["rows"] == {"products": {"insert": 1, "reactivate": 1}}


@ON_BOTH
def test_the_forecast_holds_the_brake_as_the_run_does_if_the_list_changed_while_it_was_read(kit, shop, lamps):
    """Six new rows, counted twice, would make four missing ones less than a fifth."""
    lamps.speak(shop)
    lamps.hold(f"B{number}" for number in range(6))
    for number in range(4):
        del lamps.names[f"A{number:02}"]
    grow_during(lamps, 3)
    plan = Plan(kit)
    forecast = plan.finish()
    assert [each["rows"] for each in forecast["reasons"]] == [4]
    assert (forecast["outcomes"], plan.do()) == ({"repaired": 7}, {"repaired": 7, "braked": 4})


@pytest.mark.parametrize("part", [1, 2])
def test_each_part_of_a_list_may_change_while_it_is_read(kit, shop, lamps, part: int):
    """A forecast begins anew with the first part, whichever part has changed."""
    variants = [f"V{number}" for number in range(7)]
    lamps.speak(shop)

    @shop.pages(Variant)
    def read(api, start) -> ListPage:
        first = start or 0
        if part == 2 and first == 4 and "V9" not in variants:
            variants.append("V9")
        rows = [Listed(Variant, each, {"parent": "A00"}) for each in variants[first : first + 4]]
        following = first + 4 if first + 4 < len(variants) else None
        return ListPage(rows, following, len(variants))

    if part == 1:
        grow_during(lamps, 2)
    lamps.hold(["A05"], "Lantern")
    forecast = Plan(kit).finish()
    assert forecast["rows"]["products"] == {"update": 1} | ({"insert": 1} if part == 1 else {})
    assert forecast["rows"]["variants"] == {"insert": len(variants)}


def test_a_plan_with_a_part_that_keeps_changing_is_given_up_after_three_forecasts(kit, shop, lamps):
    lamps.speak(shop)
    reads = []

    @shop.pages(Variant)
    def read(api, start) -> ListPage:
        reads.append(start)
        return ListPage([Listed(Variant, "V1", {"parent": "A00"})], None, len(reads) + 1)

    plan = Plan(kit)
    for _ in range(100):
        plan.feeder.step_all()
    found = plan.runs.run(plan.number)
    assert (found["state"], len(reads)) == (RunState.CANCELLED, 3)
    assert "changed while it was read, 3 times" in found["trouble"]


def test_a_plan_that_stood_still_for_hours_begins_another_forecast(kit, shop, lamps):
    lamps.speak(shop)
    lamps.hold(["A01", "A02"], "Lantern")
    plan = Plan(kit)
    while len(plan.runs.rows(plan.number)) < 2:
        plan.feeder.step(plan.number)
    plan.continue_elsewhere()
    plan.ahead = timedelta(hours=2)
    lamps.hold(["A01"])
    forecast = plan.finish()
    assert forecast["rows"] == {"products": {"update": 1}}
    assert [row["external_id"] for row in plan.runs.rows(plan.number)] == ["A02"]
    assert forecast["outcomes"] == {"repaired": 1}


def stream(shop, lamps: PagedSource, *, times: int = 1) -> None:
    """Let the list be one stream, which names all rows this many times."""
    lamps.speak(shop)
    rows = lambda api: (lamps.row(each) for _ in range(times) for each in list(lamps.names.items()))  # noqa: E731
    shop.listing(Product, override=True)(rows)


@ON_BOTH
def test_a_stream_that_another_process_begins_again_is_foreseen_once(kit, shop, lamps, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.listing.LISTED_AT_ONCE", 4)
    stream(shop, lamps)
    lamps.hold(["A01", "A02", "NEW"], "Lantern")
    plan = Plan(kit)
    while len(plan.runs.rows(plan.number)) < 2:
        plan.feeder.step(plan.number)
    plan.continue_elsewhere()
    lamps.hold(["A01"])
    forecast = plan.finish()
    assert (forecast["rows"], forecast["outcomes"]) == ({"products": {"insert": 1, "update": 1}}, {"repaired": 2})
    assert plan.do() == {"repaired": 2}
    assert (mirrored(kit), seen_keys(kit)) == (lamps.names, 0)


def break_off(shop, lamps: PagedSource) -> list[int]:
    """Let the list be one stream that breaks off after eight rows. Returns a list that grows with each begin."""
    begun: list[int] = []
    lamps.speak(shop)

    @shop.listing(Product, override=True)
    def walk(api) -> Iterator[Listed]:
        begun.append(1)
        for number, each in enumerate(lamps.names.items()):
            if number == 8:
                raise ApiError("The list broke off.")
            yield lamps.row(each)

    return begun


@ON_BOTH
@pytest.mark.parametrize("seconds", [0.0, 1_000.0])
@pytest.mark.parametrize("plans", [True, False])
def test_a_stream_that_breaks_off_each_time_is_given_up_after_some_attempts(
    kit, shop, lamps, monkeypatch, plans: bool, seconds: float
):
    """It is given up whether or not the rows read before were stored already."""
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", seconds)
    monkeypatch.setattr("receiver.reconcile.listing.LISTED_AT_ONCE", 4)
    plan = Plan(kit)
    if not plans:
        stream(shop, lamps)
        plan.finish()
        plan.runs.start(plan.number)
        shop.listing_of = shop.lookup_of = shop._connect = None
    begun = break_off(shop, lamps)
    while plan.runs.run(plan.number)["state"] in (RunState.PLANNING, RunState.RUNNING):
        assert len(begun) <= 2 * MOST_BREAKS, "it is begun again and again"
        plan.feeder._due.clear()
        plan.feeder.step_all()
    found = plan.runs.run(plan.number)
    assert found["trouble"].startswith(f"The list of shop was not read to its end in {MOST_BREAKS} attempts")
    assert (len(begun), found["state"]) == (MOST_BREAKS, RunState.CANCELLED if plans else RunState.PAUSED)


@ON_BOTH
def test_a_row_that_a_stream_repeats_is_foreseen_once(kit, shop, lamps, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.listing.LISTED_AT_ONCE", 4)
    stream(shop, lamps, times=3)
    lamps.hold([*(f"B{number}" for number in range(6)), "A05"], "Lantern")
    for number in range(4):
        del lamps.names[f"A{number:02}"]
    plan = Plan(kit)
    forecast = plan.finish()
    assert [each["rows"] for each in forecast["reasons"]] == [4]
    assert (forecast["outcomes"], plan.do()) == ({"repaired": 7}, {"repaired": 7, "braked": 4})


def test_a_row_in_the_answers_of_several_lookups_is_foreseen_once(kit, shop, lamps, monkeypatch):
    """Each answer about a product has the next product, and a variant of all."""
    monkeypatch.setattr("receiver.reconcile.walk.LOOKUPS_AT_ONCE", 1)

    @shop.lookup(Product)
    def ask(api, wanted: Wanted) -> list[Listed]:
        names = sorted(lamps.names)
        rows = [lamps.row((each, "Lantern")) for each in names[names.index(wanted.external_id) :][:2]]
        return [*rows, Listed(Variant, "V1", {"parent": "A00"})]

    lamps.speak(shop, lookup=False)
    shop.listing_of = None

    @shop.pages(Product, names_only=True)
    def read(api, start) -> ListPage:
        return ListPage([Listed(Product, each, {}) for each in lamps.names])

    report = reconciled(kit, sources_of(kit)["shop"], dry_run=True)
    assert sorted(change.external_id for change in report.repaired) == [*sorted(lamps.names), "V1"]
    assert report.repairs == 13
