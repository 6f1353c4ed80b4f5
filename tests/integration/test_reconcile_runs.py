"""Reconcile as a run: forecast row by row, started, paused, cancelled and continued, behind live work."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st
from paging import PagedSource, listened_to, mirrored
from running import OPS, Runs, asked, new_reconciler, reconciled
from shopping import feed, named, new_shop, sources_of, tell_all
from sqlalchemy import func, select, update
from systems import ON_BOTH, database_system  # noqa: F401

from examples import examples
from handlers.catalog import Product
from receiver import ApiError
from receiver.errors import RunConflict, RunTaken
from receiver.mirror.changes import after, of_run
from receiver.mirror.rows import Key
from receiver.provenance.why import explain_row
from receiver.reconcile import reconcile
from receiver.reconcile.tables import SEEN
from receiver.runs import formatting
from receiver.runs import reconcile as kind
from receiver.runs.actions import ACTIONS
from receiver.runs.asking import repair
from receiver.runs.tables import RUN_ROWS, RUNS, RunState
from receiver.testing import Webhooks
from receiver.worker.liveness import deregister

EARLIER = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


@pytest.fixture
def lamps(kit, shop) -> PagedSource:
    """Make ten lamps, A0 to A9, that the mirror knows."""
    source = PagedSource()
    source.speak(shop)
    listened_to(kit)
    source.hold(f"A{number}" for number in range(10))
    tell_all(kit, source.names, at=EARLIER)
    return source


@pytest.fixture
def runs(kit, lamps) -> Runs:
    """Make runs of the shop, with a feeder that asks the source."""
    found = Runs(kit)
    found.feeder = new_reconciler(kit)
    return found


def plan(runs, *, feeder=None, force: bool = False) -> int:
    request = asked("plan reconcile", source="shop", force=force)
    run = int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=runs.kit.now()).result["run"])
    for _ in (feeder or runs.feeder).steps(run):
        pass
    return run


def start(runs) -> int:
    run = plan(runs)
    runs.start(run)
    return run


def finish(runs, run: int) -> None:
    for _ in runs.feeder.steps(run):
        pass


def edit(lamps, kit) -> None:
    """Make a change, a new row, a deleted one, and news from the future about another."""
    lamps.hold(["A1", "NEW"], "Lantern")
    del lamps.names["A8"]
    kit.send("shop", "product.deleted", id="A3", at=datetime(2099, 1, 1, tzinfo=UTC))
    kit.drain()


# ── the plan ──────────────────────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_the_plan_forecasts_each_row_and_changes_nothing(kit, lamps, runs):
    edit(lamps, kit)
    before = feed(kit)
    run = plan(runs)
    assert (feed(kit), runs.run(run)["state"]) == (before, RunState.PLANNED)
    foreseen = {(row["external_id"], row["operation"]): row["after"] for row in runs.rows(run)}
    assert foreseen.keys() == {("A1", "update"), ("NEW", "insert"), ("A8", "deactivate"), ("A3", "reactivate")}
    runs.start(run)
    finish(runs, run)
    with kit.database.read() as connection:
        done = {(each.external_id, each.operation): each.after for each in of_run(connection, run, limit=100)}
    assert done == foreseen
    assert mirrored(kit) == lamps.names
    forecast = runs.run(run)["forecast"]
    assert forecast["rows"] == {"products": {"deactivate": 1, "insert": 1, "reactivate": 1, "update": 1}}
    assert (forecast["outcomes"], runs.run(run)["tally"]) == ({"repaired": 4, "misdated": 1},) * 2


def test_a_plan_reports_what_a_dry_run_reports(kit, lamps, runs):
    edit(lamps, kit)
    told = reconcile(kit.database, sources_of(kit)["shop"], dry_run=True, clock=kit.now)
    run = plan(runs)
    rows = {row["external_id"]: (row["operation"], row["after"]) for row in runs.rows(run)}
    assert rows == {change.external_id: (change.operation, change.after) for change in told.repaired}
    with kit.database.read() as connection:
        lines = list(formatting.run_lines(runs.whole(connection, run)))
    assert 'update products shop A1: name "Lamp" -> "Lantern"' in [line.strip() for line in lines]


#: Events at the source or here: an id, and its name afterwards; None for a deleted one.
EDITS = st.lists(
    st.tuples(st.sampled_from([f"A{number}" for number in range(7)]), st.sampled_from(["Lamp", "Desk", None]))
)


@ON_BOTH
@examples(3, phases=(Phase.explicit, Phase.generate))
@given(missed=EDITS, arrived=EDITS)
def test_a_forecast_is_what_the_run_does_except_for_later_arrivals(lend_database, missed, arrived):
    with TemporaryDirectory() as folder, lend_database(Path(folder)) as url:
        shop, lamps = new_shop(), PagedSource()
        lamps.speak(shop)
        with closing(Webhooks(Path(folder), {"shop": shop}, database_url=url)) as kit:
            listened_to(kit)
            lamps.hold(f"A{number}" for number in range(5))
            tell_all(kit, lamps.names, at=EARLIER)
            runs = Runs(kit)
            runs.feeder = new_reconciler(kit)
            for each in missed:
                change_at_source(lamps, *each)
            run = plan(runs, force=True)
            foreseen = {row["external_id"]: (row["operation"], row["after"]) for row in runs.rows(run)}
            for external_id, name in arrived:
                change_at_source(lamps, external_id, name)
                event = "product.deleted" if name is None else "product.updated"
                kit.send("shop", event, id=external_id, at=datetime.now(UTC), data=named(name or "Lamp"))
            kit.drain()
            runs.start(run)
            finish(runs, run)
            with kit.database.read() as connection:
                changed = of_run(connection, run, limit=100)
            done = {each.external_id: (each.operation, each.after) for each in changed}
            came = {external_id for external_id, _ in arrived}
            assert {id_: of for id_, of in done.items() if id_ not in came} == {
                id_: of for id_, of in foreseen.items() if id_ not in came
            }
            assert mirrored(kit) == lamps.names


def change_at_source(lamps: PagedSource, external_id: str, name: str | None) -> None:
    if name is None:
        lamps.names.pop(external_id, None)
    else:
        lamps.hold([external_id], name)


@ON_BOTH
def test_the_explanation_of_a_row_names_the_run_that_repaired_it(kit, lamps, runs):
    edit(lamps, kit)
    run = start(runs)
    finish(runs, run)
    for external_id, by in (("A1", run), ("NEW", run), ("A2", None)):
        found = explain_row(kit.database, sources_of(kit), Key(Product, "shop", external_id))
        (name,) = [each.origin for each in found.reasons if each.path == "name"]
        assert (name.run and name.run.id, name.delivery_id is None) == (by, by is not None)


def test_a_row_that_would_return_to_its_old_state_is_not_in_the_forecast(kit, lamps, runs):
    """News from the future deactivated it, and the list lacks it."""
    kit.send("shop", "product.deleted", id="A3", at=datetime(2099, 1, 1, tzinfo=UTC))
    kit.drain()
    del lamps.names["A3"]
    run = plan(runs)
    assert runs.rows(run) == []


@ON_BOTH
def test_a_plan_continues_in_another_process(kit, lamps, runs, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", 0.0)
    edit(lamps, kit)
    request = asked("plan reconcile", source="shop", force=False)
    run = int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=kit.now()).result["run"])
    for _ in range(100):
        feeder = new_reconciler(kit)
        # The first process dates back, in memory only.
        if not (feeder.step(run) and feeder.step(run)):
            break
        deregister(feeder.name)
    assert {row["external_id"] for row in runs.rows(run)} == {"A1", "NEW", "A8", "A3"}
    assert lamps.requests == [0, 0, 3, 6, 9], "the first process died with the page that told when the list counts"
    with kit.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(SEEN)).scalar() == 0


@ON_BOTH
def test_of_a_plan_with_very_many_rows_the_first_are_kept_and_all_are_counted(kit, lamps, runs, monkeypatch):
    monkeypatch.setattr("receiver.runs.foreseen_rows.MOST_ROWS", 4)
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", 0.0)
    lamps.hold(lamps.names, "Lantern")
    run = plan(runs)
    assert len(runs.rows(run)) == 4
    assert runs.run(run)["forecast"]["rows"] == {"products": {"update": 10}}


def test_a_plan_whose_list_keeps_changing_is_given_up_with_the_reason(kit, lamps, runs):
    lamps.before = lambda number: lamps.names.pop(next(iter(lamps.names)), None)
    request = asked("plan reconcile", source="shop", force=False)
    run = int(runs.verbs.plan(request, "reconcile", sources=["shop"], now=kit.now()).result["run"])
    for _ in range(100):
        runs.feeder.step_all()
    found = runs.run(run)
    assert found["state"] == RunState.CANCELLED
    assert "changed while it was read, 3 times" in found["trouble"]


# ── the run ───────────────────────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_the_changes_of_a_reconcile_name_its_run(kit, lamps, runs):
    lamps.hold(["A1"], "Lantern")
    reconciled(kit, sources_of(kit)["shop"])
    (change,) = [each for each in after(kit.database, 0, limit=1_000) if each["run"] is not None]
    found = runs.run(change["run"])
    assert (found["kind"], found["sources"], found["tally"]) == ("reconcile", ["shop"], {"repaired": 1})
    assert (found["done"], found["total"], found["reason"]) == (10, 10, "a test")


def test_a_second_reconcile_writes_nothing(kit, lamps, runs):
    edit(lamps, kit)
    reconciled(kit, sources_of(kit)["shop"])
    before = feed(kit)
    assert reconciled(kit, sources_of(kit)["shop"]).repairs == 0
    assert feed(kit) == before


@ON_BOTH
def test_a_paused_run_asks_nothing_and_continues_from_its_page(kit, lamps, runs):
    lamps.hold(lamps.names, "Lantern")
    run = start(runs)
    lamps.requests.clear()
    while len(lamps.requests) < 2:
        runs.feeder.step_all()
        runs.feeder._due.clear()
    runs.verbs.pause(asked("pause run"), run, now=kit.now())
    runs.feeder.step_all()
    assert lamps.requests == [0, 3]
    runs.verbs.resume(asked("resume run"), run, now=kit.now())
    finish(runs, run)
    assert (lamps.requests, mirrored(kit)) == ([0, 3, 6, 9], lamps.names)


@ON_BOTH
def test_a_run_cancelled_in_the_middle_of_a_page_keeps_nothing_of_it(kit, lamps, runs):
    lamps.hold(lamps.names, "Lantern")
    run = start(runs)
    asked_before = len(lamps.requests)
    lamps.after = lambda number: (
        runs.verbs.cancel(asked("cancel run"), run, now=kit.now()) if number == asked_before + 2 else None
    )
    with pytest.raises(RunTaken):
        finish(runs, run)
    assert sorted(mirrored(kit).values()) == ["Lamp"] * 7 + ["Lantern"] * 3
    assert runs.run(run)["state"] == RunState.CANCELLED


def test_a_run_paused_for_hours_walks_anew(kit, lamps, runs):
    """The list may have changed since, and the keys that were seen may have been dropped."""
    lamps.hold(lamps.names, "Lantern")
    run = start(runs)
    while len(lamps.requests) < 6:
        runs.feeder.step(run)
    runs.verbs.pause(asked("pause run"), run, now=kit.now())
    runs.feeder.step_all()
    lamps.requests.clear()
    kit.advance(days=3)
    runs.verbs.resume(asked("resume run"), run, now=kit.now())
    finish(runs, run)
    assert (lamps.requests, mirrored(kit)) == ([0, 3, 6, 9], lamps.names)


def reading_for_days(kit, lamps, runs) -> int:
    """Begin a run that has read a list for three days, and is not at its end. Returns its number."""
    run = start(runs)
    lamps.requests.clear()
    while len(lamps.requests) < 2:
        runs.feeder.step(run)
    kit.advance(days=3)
    runs.feeder.step(run)
    return run


def test_the_seen_keys_of_a_walk_of_days_are_not_dropped_by_another_that_begins(kit, lamps, runs, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", 0.0)
    run = reading_for_days(kit, lamps, runs)
    reconciled(kit, kit.source("other", dialect="shop", api_url="http://api.test"))
    finish(runs, run)
    assert runs.run(run)["tally"] == {}
    assert mirrored(kit).keys() >= lamps.names.keys()


def test_the_seen_keys_of_a_walk_of_days_are_not_dropped_by_a_run_that_dates_news_back(kit, lamps, runs, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", 0.0)
    # Without a total, a list cannot show that keys are missing.
    lamps.tells_total = False
    run = reading_for_days(kit, lamps, runs)
    reconciled(kit, sources_of(kit)["shop"], only_misdated=True)
    finish(runs, run)
    assert (runs.run(run)["tally"], mirrored(kit)) == ({}, lamps.names)


def test_the_seen_keys_of_a_dry_run_of_days_are_not_dropped_by_a_run_that_begins(kit, lamps, runs, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", 0.0)
    lamps.tells_total = False

    def begin_another(number: int) -> None:
        if number == 3:
            kit.advance(days=3)
            reconciled(kit, sources_of(kit)["shop"], only_misdated=True)

    lamps.before = begin_another
    report = reconciled(kit, sources_of(kit)["shop"], dry_run=True, force=True)
    assert (report.listed, report.repairs) == (10, 0)


@ON_BOTH
def test_the_seen_keys_of_a_killed_dry_run_are_dropped_after_a_month(kit, lamps, runs, monkeypatch):
    monkeypatch.setattr("receiver.reconcile.seen.SECONDS_AT_ONCE", 0.0)
    monkeypatch.setattr("receiver.reconcile.walk.Walk.finish", lambda *_: None)
    lamps.before = lambda number: (_ for _ in ()).throw(SystemExit) if number == 3 else None
    with pytest.raises(SystemExit):
        reconciled(kit, sources_of(kit)["shop"], dry_run=True)
    lamps.before = lambda _: None
    for days, kept in ((3, 6), (30, 0)):
        kit.advance(days=days)
        reconciled(kit, sources_of(kit)["shop"], only_misdated=True)
        with kit.database.read() as connection:
            assert connection.execute(select(func.count()).select_from(SEEN)).scalar() == kept


@ON_BOTH
def test_a_run_whose_mark_was_edited_by_hand_does_not_stop_the_reconciles_of_other_sources(kit, lamps, runs):
    run = start(runs)
    runs.feeder.step(run)
    with kit.database.write() as connection:
        connection.execute(update(RUNS).where(RUNS.c.id == run).values(mark={"walk": {"page": 7}}))
    lamps.hold(["A1"], "Lantern")
    report = reconciled(kit, kit.source("other", dialect="shop", api_url="http://api.test"))
    assert (report.listed, report.repairs) == (10, 10)


@ON_BOTH
def test_a_second_run_on_one_source_is_refused_whoever_begins_it(kit, lamps, runs):
    run = start(runs)
    second = plan(runs)
    with pytest.raises(RunConflict, match=f"Run {run} is a reconcile of the same source"):
        runs.start(second)
    runs.feeder.step(run)
    with pytest.raises(RunConflict, match=f"shop is being reconciled already, by run {run} since"):
        reconciled(kit, sources_of(kit)["shop"])


@ON_BOTH
def test_a_command_continues_the_run_of_its_killed_predecessor(kit, lamps, runs):
    lamps.hold(lamps.names, "Lantern")
    run = start(runs)
    lamps.requests.clear()
    while len(lamps.requests) < 2:
        runs.feeder.step(run)
    deregister(runs.feeder.name)
    report = reconciled(kit, sources_of(kit)["shop"])
    assert (report.resumed is not None, report.repairs, len(report.repaired)) == (True, 10, 10)
    assert lamps.requests == [0, 3, 6, 9]
    assert runs.run(run)["state"] == RunState.DONE


def test_with_force_a_stopped_run_without_force_is_cancelled_and_another_begun(kit, lamps, runs):
    lamps.before = lambda number: (_ for _ in ()).throw(httpx.ConnectError("refused")) if number == 2 else None
    with pytest.raises(ApiError):
        reconciled(kit, sources_of(kit)["shop"])
    report = reconciled(kit, sources_of(kit)["shop"], force=True)
    assert report.resumed is None
    with kit.database.read() as connection:
        states = connection.execute(select(RUNS.c.state).order_by(RUNS.c.id)).scalars().all()
    assert states == [RunState.CANCELLED, RunState.DONE]


@ON_BOTH
def test_a_page_waits_while_live_work_waits_and_a_worker_runs(kit, lamps, runs, monkeypatch):
    run = start(runs)
    asked_before = len(lamps.requests)
    kit.send("shop", "product.updated", id="LIVE", data=named())
    kit.advance(minutes=1)
    monkeypatch.setattr(kind, "has_worker", lambda *_, **__: True)
    assert runs.feeder.step(run)
    assert runs.feeder.step(run)
    assert len(lamps.requests) == asked_before
    kit.drain()
    lamps.names["LIVE"] = "Lamp"
    finish(runs, run)
    assert mirrored(kit) == lamps.names


def test_a_page_waits_for_live_work_only_for_a_bounded_time(kit, lamps, runs, monkeypatch):
    monkeypatch.setattr(kind, "has_worker", lambda *_, **__: True)
    monkeypatch.setattr(kind, "LONGEST_WAY", 0.0)
    run = start(runs)
    kit.send("shop", "product.updated", id="LIVE", data=named())
    kit.advance(minutes=1)
    finish(runs, run)
    assert runs.run(run)["state"] == RunState.DONE


# ── the API is away ───────────────────────────────────────────────────────────────────────────────────────────


def test_while_the_api_is_away_the_run_waits_says_so_and_continues_by_itself(kit, lamps, runs):
    lamps.hold(lamps.names, "Lantern")
    run = start(runs)
    lamps.requests.clear()
    away = [True, True]
    lamps.before = lambda _: (
        (_ for _ in ()).throw(httpx.ConnectError("refused"))
        if lamps.requests[-1] == 6 and (away and away.pop())
        else None
    )
    seconds = []
    while away:
        seconds.append(runs.feeder.step_all())
        runs.feeder._due.clear()
    found = runs.run(run)
    assert (found["state"], found["done"]) == (RunState.RUNNING, 6)
    assert "broke off after 6 rows (ConnectError: refused)" in found["trouble"]
    assert "It has failed since" in found["trouble"]
    assert runs.feeder._pauses[run] == 2.0, "longer each time"
    for _ in range(10):
        runs.feeder.step_all()
        runs.feeder._due.clear()
    assert (runs.run(run)["state"], runs.run(run)["trouble"], mirrored(kit)) == (RunState.DONE, None, lamps.names)


def test_a_page_that_is_always_refused_is_asked_for_alone_and_after_growing_pauses(kit, lamps, runs):
    """The mirror agrees with the pages before it, so that no repair has stored the place."""
    run = start(runs)
    lamps.requests.clear()
    lamps.before = lambda number: refuse(number) if lamps.requests[-1] == 6 else None
    while lamps.requests.count(6) < 4:
        runs.feeder.step_all()
        runs.feeder._due.clear()
    assert (lamps.requests, runs.feeder._pauses[run]) == ([0, 3, 6, 6, 6, 6], 8.0)


def test_an_api_that_stays_away_pauses_the_run_with_the_reason_and_resume_goes_on(kit, lamps, runs, monkeypatch):
    monkeypatch.setattr("receiver.runs.feeder.GIVEN_UP_AFTER", 0.0)
    lamps.hold(lamps.names, "Lantern")
    run = start(runs)
    lamps.requests.clear()
    lamps.before = lambda _: (_ for _ in ()).throw(httpx.ConnectError("refused")) if lamps.requests[-1] == 6 else None
    while runs.run(run)["state"] == RunState.RUNNING:
        runs.feeder.step_all()
        runs.feeder._due.clear()
    assert runs.run(run)["state"] == RunState.PAUSED
    assert "broke off after 6 rows (ConnectError: refused)" in runs.run(run)["trouble"]
    lamps.before = lambda _: None
    runs.verbs.resume(asked("resume run"), run, now=kit.now())
    finish(runs, run)
    assert lamps.requests == [0, 3, 6, 6, 9]
    assert mirrored(kit) == lamps.names


def refuse(number: int) -> None:
    raise httpx.ConnectError("refused")


def refuses_lookups(lamps, *ids: str) -> None:
    """Let the source refuse the connection for lookups of these rows, or of all."""
    lamps.before = lambda number: (
        refuse(number) if lamps.requests[-1] in ids or (not ids and isinstance(lamps.requests[-1], str)) else None
    )


def test_while_the_source_answers_about_none_of_the_missing_rows_the_run_waits_and_says_so(kit, lamps, runs):
    del lamps.names["A8"], lamps.names["A9"]
    run = start(runs)
    refuses_lookups(lamps)
    for _ in range(10):
        runs.feeder.step_all()
        runs.feeder._due.clear()
    found = runs.run(run)
    assert (found["state"], found["tally"]) == (RunState.RUNNING, {})
    assert "shop did not answer about products 'A9' (ConnectError: refused)" in found["trouble"]
    lamps.before = lambda _: None
    finish(runs, run)
    assert (runs.run(run)["tally"], runs.run(run)["trouble"], mirrored(kit)) == ({"repaired": 2}, None, lamps.names)


@ON_BOTH
def test_a_row_about_which_the_source_does_not_answer_is_counted_with_the_reason(kit, lamps, runs):
    del lamps.names["A8"], lamps.names["A9"]
    refuses_lookups(lamps, "A8")
    report = reconciled(kit, sources_of(kit)["shop"])
    says = (
        "Rows left alone because shop did not answer about them: 1. The last reason: shop did not answer about "
        "products 'A8' (ConnectError: refused). Check `api_url`, and try again."
    )
    assert (report.unanswered, report.left, report.repairs) == (1, 0, 1)
    assert report.lines()[-1] == says
    with kit.database.read() as connection:
        (found,) = connection.execute(select(RUNS)).mappings()
    assert (found["state"], found["tally"], found["trouble"]) == (RunState.DONE, {"repaired": 1, "unanswered": 1}, says)
    assert mirrored(kit) == {**lamps.names, "A8": "Lamp"}


def test_a_single_row_for_which_the_source_always_answers_with_an_error_holds_up_nothing(kit, lamps, runs):
    del lamps.names["A8"]

    def fail(external_id: str) -> None:
        raise ApiError("/products/A8 answered 500.")

    lamps.look_up = fail
    report = reconciled(kit, sources_of(kit)["shop"])
    assert (report.unanswered, report.unanswered_reason) == (1, "/products/A8 answered 500.")


def test_a_single_row_about_which_no_answer_comes_makes_the_run_wait(kit, lamps, runs):
    del lamps.names["A8"]
    refuses_lookups(lamps)
    with pytest.raises(ApiError, match="shop did not answer about products 'A8'"):
        reconciled(kit, sources_of(kit)["shop"])


def test_a_mark_of_a_release_that_did_not_count_unanswered_rows_is_continued(kit, lamps, runs):
    del lamps.names["A8"]
    run = start(runs)
    runs.feeder.step(run)
    mark = dict(runs.run(run)["mark"])
    mark["walk"] = {name: value for name, value in mark["walk"].items() if not name.startswith("unanswered")}
    with kit.database.write() as connection:
        connection.execute(update(RUNS).values(mark=mark))
    deregister(runs.feeder.name)
    runs.feeder = new_reconciler(kit)
    finish(runs, run)
    assert mirrored(kit) == lamps.names


def test_a_list_that_keeps_changing_is_not_asked_for_repeatedly(kit, lamps, runs):
    run = start(runs)

    lamps.before = lambda number: lamps.hold([f"B{number}"])
    for _ in range(100):
        runs.feeder.step_all()
        runs.feeder._due.clear()
    assert runs.run(run)["state"] == RunState.PAUSED
    assert "changed while it was read, 3 times, so nothing was deactivated" in runs.run(run)["trouble"]


# ── one row ───────────────────────────────────────────────────────────────────────────────────────────────────


@ON_BOTH
def test_the_repair_of_one_row_is_a_run_with_one_row_an_action_and_a_change(kit, lamps, runs):
    lamps.hold(["A1"], "Lantern")
    repair(runs.verbs, sources_of(kit)["shop"], Product, "A1", by=OPS, reason="the ERP says so")
    with kit.database.read() as connection:
        (run,) = connection.execute(select(RUNS)).mappings().all()
        (action,) = connection.execute(select(ACTIONS)).mappings().all()
        (change,) = of_run(connection, run["id"], limit=10)
        assert connection.execute(select(func.count()).select_from(RUN_ROWS)).scalar() == 0
    assert (run["kind"], run["state"], run["tally"]) == ("repair", RunState.DONE, {"repaired": 1})
    assert (run["started_by"], run["reason"]) == ("ops-1", "the ERP says so")
    assert (action["run"], action["what"], change.external_id) == (run["id"], "repair", "A1")
