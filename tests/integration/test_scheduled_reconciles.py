"""The schedule: a due source begins one run, missed ones are made up once, and a stopped one waits for its time."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from paging import PagedSource, listened_to, mirrored
from running import new_reconciler, reconciled
from shopping import NOON, sources_of, tell_all
from sqlalchemy import select
from systems import ON_BOTH, database_system  # noqa: F401
from waiting import wait_until

from receiver.api.findings import FindingShown
from receiver.console.remedies import remedy_of
from receiver.errors import ApiError, ConfigurationError, RunConflict
from receiver.findings.finding import Finding
from receiver.findings.gathering import examine
from receiver.runs.actions import ACTIONS, Asked, By, Via
from receiver.runs.feeder import Feeder, FeederThread
from receiver.runs.reconcile import Reconcile
from receiver.runs.runs import Verbs
from receiver.runs.schedule import ReconcileSchedule, due_sources, statuses
from receiver.server.upkeep import facts_of
from receiver.settings.settings import Settings
from receiver.worker.processes import Wiring


@pytest.fixture
def source(shop, kit) -> PagedSource:
    """Make a source that is reconciled every day. It is noon, so that no time of the schedule comes by itself."""
    now = kit.now()
    kit.advance(seconds=((NOON - now) % timedelta(days=1)).total_seconds())
    paged = PagedSource()
    paged.speak(shop)
    listened_to(kit, reconcile="daily 02:10")
    paged.hold(["A1", "A2", "A3", "A4"])
    return paged


class Worker:
    """A process with a worker, whose schedule and feeder are stepped by hand."""

    def __init__(self, kit) -> None:
        self.kit = kit
        self.schedule = ReconcileSchedule(verbs_of(kit), sources_of(kit), clock=kit.now, poll=0.0)
        self.feeder = new_reconciler(kit)

    def look(self) -> None:
        """Begin the due runs, and feed running ones as far as possible."""
        self.schedule.look()
        for _ in range(100):
            self.feeder.step_all()
            if not status(self.kit).under_way or status(self.kit).error:
                return
        raise AssertionError(f"it does not end: {status(self.kit)}")


@pytest.fixture
def worker(kit, source) -> Worker:
    return Worker(kit)


def verbs_of(kit) -> Verbs:
    return Verbs(kit.database, Wiring.of(sources_of(kit)))


def status(kit):
    (found,) = statuses(kit.database, sources_of(kit), now=kit.now())
    return found


def is_due(kit) -> bool:
    return due_sources(kit.database, sources_of(kit), now=kit.now()) != []


def test_a_new_source_has_missed_nothing(kit, source):
    assert not is_due(kit)
    assert status(kit).next_at - kit.now() <= timedelta(days=1)


@ON_BOTH
def test_a_due_source_is_reconciled_once_in_the_name_of_the_schedule(kit, source, worker):
    assert not is_due(kit)
    kit.advance(days=1)
    assert is_due(kit)
    worker.look()
    assert mirrored(kit) == source.names
    assert not is_due(kit)
    assert (status(kit).began_at is not None, status(kit).ended_at is not None, status(kit).error) == (True, True, None)
    with kit.database.read() as connection:
        (action,) = connection.execute(select(ACTIONS)).mappings().all()
    assert (action["who"], action["via"], action["run"]) == ("schedule", "schedule", status(kit).run)
    assert action["reason"] == "by the schedule 'daily 02:10'"


@ON_BOTH
def test_two_workers_that_poll_at_the_same_time_begin_one_run(kit, source, worker):
    assert not is_due(kit)
    kit.advance(days=1)
    other = Worker(kit)
    worker.schedule.look()
    run = status(kit).run
    other.schedule.look()
    assert status(kit).run == run
    worker.look()
    other.look()
    assert len(source.requests) == 2


def test_several_missed_times_are_made_up_once(kit, source, worker):
    assert not is_due(kit)
    kit.advance(days=9)
    worker.look()
    worker.look()
    assert len(source.requests) == 2


def test_a_reconcile_by_hand_counts_too(kit, source):
    assert not is_due(kit)
    kit.advance(days=1)
    reconciled(kit, sources_of(kit)["shop"])
    assert not is_due(kit)


@ON_BOTH
def test_a_run_that_stopped_is_reported_and_waits_for_the_next_time(kit, source, worker):
    assert not is_due(kit)
    kit.advance(days=1)
    source.before = lambda _: (_ for _ in ()).throw(httpx.ConnectError("refused"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("receiver.runs.feeder.GIVEN_UP_AFTER", 0.0)
        worker.look()
    assert "broke off after 0 rows (ConnectError: refused)" in status(kit).error
    assert not status(kit).under_way
    first = status(kit).run
    assert [each.evidence["run"] for each in failures(kit)] == [str(first)]
    assert not is_due(kit)
    kit.advance(days=1)
    assert is_due(kit)
    worker.schedule.look()
    # The finding stays while the next one is under way, which may fail, too.
    (failure,) = failures(kit)
    assert (failure.evidence["run"], failure.evidence["next_run"]) == (str(first), str(status(kit).run))
    assert f"wait for run {status(kit).run}, which has begun since." in failure.mend
    source.before = lambda _: None
    worker.look()
    assert failures(kit) == []
    assert (status(kit).run > first, status(kit).error, mirrored(kit)) == (True, None, source.names)


def test_the_remedy_of_a_failed_reconcile_lets_it_go_on(kit, source, worker):
    assert not is_due(kit)
    kit.advance(days=1)
    source.before = lambda _: (_ for _ in ()).throw(ConfigurationError("no key"))
    worker.look()
    (failure,) = failures(kit)
    said = (failure.source, failure.since, failure.says, failure.mend, failure.evidence)
    remedy = remedy_of(FindingShown(failure.id, failure.rule, *said, kit.now(), None, None, None))
    assert remedy is not None
    run = int(remedy.path["id"])
    source.before = lambda _: None
    verbs_of(kit).resume(Asked(by=By("ops-1", Via.COMMAND), what="resume run"), run, now=kit.now())
    assert failures(kit) == []
    Worker(kit).look()
    assert (remedy.button, status(kit).run, status(kit).error, mirrored(kit)) == ("resume_run", run, None, source.names)


def test_a_reconcile_by_hand_that_fails_is_not_a_finding(kit, source):
    source.before = lambda _: (_ for _ in ()).throw(httpx.ConnectError("refused"))
    with pytest.raises(ApiError):
        reconciled(kit, sources_of(kit)["shop"])
    assert (status(kit).error is not None, failures(kit)) == (True, [])


def test_a_reconcile_that_left_an_unanswered_row_alone_has_not_failed(kit, source, worker):
    assert not is_due(kit)
    source.hold(f"A{number}" for number in range(1, 21))
    tell_all(kit, source.names, at=kit.now())
    kit.advance(days=1)
    del source.names["A8"]
    source.look_up = lambda _: (_ for _ in ()).throw(ApiError("/products/A8 answered 500."))
    worker.look()
    assert (status(kit).error, status(kit).ended_at is not None) == (None, True)
    kit.advance(days=1)
    worker.schedule.look()
    assert (status(kit).under_way, failures(kit)) == (True, [])


def failures(kit) -> list[Finding]:
    """Return the findings about reconciles that failed."""
    found = examine(kit.database, facts_of(Settings(database_url="sqlite://"), sources_of(kit)), now=kit.now())
    return [each for each in found if each.rule == "reconcile_fails"]


def test_a_run_paused_by_a_person_is_left_alone_by_the_schedule(kit, source, worker):
    assert not is_due(kit)
    kit.advance(days=1)
    worker.schedule.look()
    run = status(kit).run
    verbs_of(kit).pause(Asked(by=By("ops-1", Via.COMMAND), what="pause run"), run, now=kit.now())
    kit.advance(days=1)
    assert not is_due(kit)
    with pytest.raises(RunConflict, match=rf"Run {run}, a reconcile of shop, is paused: .* runs resume {run}"):
        reconciled(kit, sources_of(kit)["shop"])
    verbs_of(kit).resume(Asked(by=By("ops-1", Via.COMMAND), what="resume run"), run, now=kit.now())
    worker.look()
    assert (status(kit).run, mirrored(kit)) == (run, source.names)


@ON_BOTH
def test_a_walk_stopped_with_its_process_is_continued_by_the_next(kit, source, worker):
    assert not is_due(kit)
    kit.advance(days=1)
    worker.schedule.look()
    while not source.requests:
        worker.feeder.step_all()
    worker.feeder.close()
    assert (status(kit).under_way, status(kit).error, is_due(kit)) == (True, None, False)
    Worker(kit).look()
    assert (mirrored(kit), status(kit).under_way) == (source.names, False)


def test_a_worker_without_the_source_leaves_its_run_to_another(kit, source, worker):
    assert not is_due(kit)
    kit.advance(days=1)
    worker.schedule.look()
    stranger = Feeder(kit.database, [Reconcile(kit.inbox, {}, kit.now)], clock=kit.now)
    assert not stranger.step(status(kit).run)
    worker.look()
    assert mirrored(kit) == source.names


def test_a_source_without_an_api_or_a_list_is_never_due(kit, shop):
    kit.source("shop", reconcile="hourly")
    assert not is_due(kit)
    assert (status(kit).schedule, status(kit).next_at) == ("hourly", None)


def test_the_thread_reconciles_by_itself_and_ends(kit, source):
    assert not is_due(kit)
    kit.advance(days=1)

    def new_feeder() -> Feeder:
        schedule = ReconcileSchedule(verbs_of(kit), sources_of(kit), clock=kit.now, poll=0.01)
        kinds = [Reconcile(kit.inbox, sources_of(kit), kit.now)]
        return Feeder(kit.database, kinds, look=schedule.look, clock=kit.now)

    thread = FeederThread(new_feeder, name="reconciler")
    thread.start()
    try:
        wait_until(lambda: status(kit).ended_at is not None, "the reconcile")
    finally:
        thread.stop()
    assert mirrored(kit) == source.names
    assert not thread._thread.is_alive()
