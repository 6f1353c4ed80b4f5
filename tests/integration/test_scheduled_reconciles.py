"""The schedule: what is due is reconciled once, by one process, behind live work; missed ones are made up once."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from paging import PagedSource, listened_to, mirrored
from shopping import named, sources_of

from receiver.reconcile import reconcile, schedule
from receiver.reconcile.reconciling import Stopped
from receiver.reconcile.schedule import ReconcileThread, due_sources, statuses


@pytest.fixture
def source(shop, kit) -> PagedSource:
    """A source that is reconciled every day."""
    paged = PagedSource()
    paged.speak(shop)
    listened_to(kit, reconcile="daily 02:10")
    paged.hold(["A1", "A2", "A3", "A4"])
    return paged


@pytest.fixture
def thread(kit, source) -> ReconcileThread:
    return ReconcileThread(kit.inbox, lambda: sources_of(kit), clock=kit.now)


def status(kit):
    (found,) = statuses(kit.database, sources_of(kit), now=kit.now())
    return found


def is_due(kit) -> bool:
    return due_sources(kit.database, sources_of(kit), now=kit.now()) != []


def test_a_source_that_was_not_known_before_has_missed_nothing(kit, source):
    assert not is_due(kit)
    assert status(kit).next_at - kit.now() <= timedelta(days=1)


def test_what_is_due_is_reconciled_once(kit, source, thread):
    assert not is_due(kit)
    kit.advance(days=1)
    assert is_due(kit)
    thread.look()
    assert mirrored(kit) == source.names
    assert not is_due(kit)
    assert (status(kit).began_at is not None, status(kit).ended_at is not None, status(kit).error) == (True, True, None)


def test_what_was_missed_for_days_is_made_up_once(kit, source, thread):
    assert not is_due(kit)
    kit.advance(days=9)
    thread.look()
    asked = len(source.requests)
    thread.look()
    assert len(source.requests) == asked == 2


def test_a_reconcile_by_hand_counts_too(kit, source):
    assert not is_due(kit)
    kit.advance(days=1)
    reconcile(kit.database, kit.source("shop"), clock=kit.now)
    assert not is_due(kit)


def test_one_that_broke_off_is_told_and_waits_for_the_next_time(kit, source, thread):
    assert not is_due(kit)
    kit.advance(days=1)
    source.before = lambda _: (_ for _ in ()).throw(httpx.ConnectError("refused"))
    thread.look()
    assert "broke off after 0 rows (ConnectError: refused)" in status(kit).error
    assert not is_due(kit)
    kit.advance(days=1)
    assert is_due(kit)


def test_a_walk_that_was_stopped_with_its_process_is_gone_on_with_at_once(kit, source, thread):
    assert not is_due(kit)
    kit.advance(days=1)

    def stop() -> None:
        if source.requests:
            raise Stopped

    with pytest.raises(Stopped):
        reconcile(kit.database, kit.source("shop"), scheduled=True, before_page=stop, clock=kit.now)
    assert is_due(kit)
    thread.look()
    assert (mirrored(kit), status(kit).error, is_due(kit)) == (source.names, None, False)


def test_a_thread_that_is_to_stop_lets_go_of_its_walk_without_an_error(kit, source, thread, capfd):
    assert not is_due(kit)
    kit.advance(days=1)
    source.after = lambda _: thread._stopping.set()
    thread.look()
    assert (len(source.requests), status(kit).error, status(kit).under_way, is_due(kit)) == (1, None, False, True)
    assert "a scheduled reconcile stopped" in capfd.readouterr().out


def test_a_page_waits_while_live_work_waits(kit, source, thread, monkeypatch):
    monkeypatch.setattr(schedule, "LONGEST_WAY", 0.5)
    assert not is_due(kit)
    kit.send("shop", "product.updated", id="LIVE", data=named())
    kit.advance(days=1)
    waited = []
    wait = thread._stopping.wait
    monkeypatch.setattr(thread._stopping, "wait", lambda seconds: waited.append(seconds) or wait(0))
    thread.look()
    assert waited[:2] == [0.2, 0.2]
    assert mirrored(kit) == source.names, "but not for ever"


def test_a_source_without_an_api_or_a_list_is_never_due(kit, shop):
    kit.source("shop", reconcile="hourly")
    assert not is_due(kit)
    assert (status(kit).schedule, status(kit).next_at) == ("hourly", None)


def test_the_thread_reconciles_by_itself_and_ends(kit, source):
    assert not is_due(kit)
    kit.advance(days=1)
    thread = ReconcileThread(kit.inbox, lambda: sources_of(kit), clock=kit.now, poll=0.01)
    thread.start()
    try:
        for _ in range(1_000):
            if status(kit).ended_at is not None:
                break
            thread._thread.join(0.01)
    finally:
        thread.stop()
    assert mirrored(kit) == source.names
    assert not thread._thread.is_alive()
