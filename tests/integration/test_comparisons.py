"""A reconcile that found many differences makes a finding; one that found few, or filled the mirror, does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from paging import PagedSource, listened_to
from running import reconciled as walked
from shopping import sources_of
from sqlalchemy import insert

from receiver.findings import tallies
from receiver.findings.counting import KindCount, TallyKey
from receiver.findings.gathering import examine
from receiver.runs.tables import RUNS
from receiver.server.upkeep import facts_of
from receiver.settings.settings import Settings

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def reconciled(
    kit,
    *,
    ago: timedelta,
    total: int = 2_000,
    state: str = "done",
    kind: str = "reconcile",
    source: str = "shop",
    force: bool = False,
    **tally: int,
):
    """Record a reconcile that ended this long ago with these counts."""
    always: dict[str, Any] = {"planned_by": "ops-1", "release": "1", "wiring": "w", "done": total}
    always["arguments"] = {"source": source, "force": force}
    at = NOW - ago
    row = {"kind": kind, "sources": [source], "state": state, "total": total, "tally": tally, "planned_at": at}
    with kit.database.write() as connection:
        connection.execute(insert(RUNS).values(**always, **row, started_at=at, ended_at=at))


def reconciled_source(kit, shop) -> PagedSource:
    """Make a source of ten rows, and reconcile it."""
    source = PagedSource()
    source.speak(shop)
    listened_to(kit)
    source.hold(f"A{number}" for number in range(10))
    walked(kit, sources_of(kit)["shop"])
    return source


def found(kit, now: datetime = NOW, rule: str = "mirror_differs") -> list[Any]:
    settings = Settings(database_url="sqlite://")
    examined = examine(kit.database, facts_of(settings, sources_of(kit) or {"shop": kit.source("shop")}), now=now)
    return [each for each in examined if each.rule == rule]


def test_a_reconcile_that_finds_more_than_one_row_in_a_thousand_wrong_is_a_finding(kit):
    reconciled(kit, ago=2 * DAY, repaired=2_000)
    reconciled(kit, ago=DAY, repaired=3)
    (finding,) = found(kit)
    assert (finding.source, finding.since) == ("shop", NOW - DAY)
    assert finding.evidence == {"wrong": 3, "compared": 2_000, "braked": 0}


def test_a_comparison_counts_however_many_runs_of_other_sources_came_since(kit, monkeypatch):
    monkeypatch.setattr("receiver.runs.comparisons.MOST_RUNS", 3)
    reconciled(kit, ago=2 * DAY)
    reconciled(kit, ago=DAY, repaired=500)
    for _ in range(4):
        reconciled(kit, ago=timedelta(), source="others")
    assert [each.source for each in found(kit)] == ["shop"]


def test_rows_left_alone_by_the_brake_count_as_differences(kit):
    reconciled(kit, ago=2 * DAY)
    reconciled(kit, ago=DAY, braked=900)
    (finding,) = found(kit)
    assert finding.evidence["wrong"] == 900


def test_rows_that_an_empty_list_lacks_are_among_the_compared_and_the_list_is_named_as_the_cause(kit):
    reconciled(kit, ago=2 * DAY)
    reconciled(kit, ago=DAY, total=0, braked=4)
    (finding,) = found(kit)
    assert finding.evidence == {"wrong": 4, "compared": 4, "braked": 4}
    assert finding.says.startswith("4 of 4 rows of shop differed")
    assert "which its list lacks, were left active by the brake" in finding.says
    assert "`hookmirror reconcile shop --force`" in finding.mend
    assert "event types" not in finding.mend


def test_a_few_rows_left_by_the_brake_are_not_named_as_the_cause_of_many_others(kit):
    reconciled(kit, ago=2 * DAY)
    reconciled(kit, ago=DAY, repaired=500, braked=1)
    (finding,) = found(kit)
    assert finding.evidence == {"wrong": 501, "compared": 2_001, "braked": 1}
    assert "its webhooks alone do not suffice" in finding.says
    assert "Register all event types" in finding.mend


def test_rows_that_a_forced_reconcile_deactivated_are_among_the_compared(kit):
    reconciled(kit, ago=2 * DAY)
    reconciled(kit, ago=DAY, total=0, repaired=4)
    (finding,) = found(kit)
    assert finding.says.startswith("4 of 4 rows of shop differed")


@pytest.mark.parametrize(("repaired", "wrong"), [(899, []), (900, []), (901, []), (903, [3])])
def test_rows_that_the_brake_left_and_a_forced_reconcile_deactivated_are_no_new_differences(kit, repaired, wrong):
    reconciled(kit, ago=3 * DAY)
    reconciled(kit, ago=2 * DAY, braked=900)
    reconciled(kit, ago=DAY, repaired=repaired, force=True)
    assert [each.evidence["wrong"] for each in found(kit)] == wrong


def test_repairs_after_the_brake_count_without_force(kit):
    reconciled(kit, ago=2 * DAY, braked=900)
    reconciled(kit, ago=DAY, repaired=500)
    assert found(kit)[0].evidence["wrong"] == 500


def test_a_forced_reconcile_as_the_finding_advises_closes_the_finding(kit, shop):
    source = reconciled_source(kit, shop)
    source.names = {"A1": "Lamp", "A2": "Lamp"}
    walked(kit, sources_of(kit)["shop"])
    (finding,) = found(kit, kit.now())
    assert finding.evidence["braked"] == 8
    walked(kit, sources_of(kit)["shop"], force=True)
    assert found(kit, kit.now()) == []


def test_the_next_reconcile_with_few_differences_closes_the_finding(kit):
    reconciled(kit, ago=3 * DAY)
    reconciled(kit, ago=2 * DAY, repaired=500)
    assert found(kit)
    reconciled(kit, ago=DAY, repaired=2, newer=500)
    assert found(kit) == []


@pytest.mark.parametrize(
    "latest",
    [
        {"ago": DAY, "repaired": 500, "state": "cancelled"},
        {"ago": DAY, "repaired": 500, "state": "running"},
        {"ago": DAY, "repaired": 500, "kind": "replay"},
        {"ago": 8 * DAY, "repaired": 500},
        {"ago": DAY},
    ],
    ids=["cancelled", "under way", "a replay", "long ago", "nothing wrong"],
)
def test_a_run_that_says_nothing_about_present_webhooks_is_not_a_finding(kit, latest):
    reconciled(kit, ago=20 * DAY)
    reconciled(kit, **latest)
    assert found(kit) == []


def test_the_first_reconcile_is_not_a_finding(kit):
    reconciled(kit, ago=DAY, repaired=2_000)
    assert found(kit) == []


def test_a_reconcile_after_lost_webhooks_makes_the_finding(kit, shop):
    source = reconciled_source(kit, shop)
    assert found(kit, kit.now()) == []
    source.hold(["A1", "A2", "NEW"], "Lantern")
    walked(kit, sources_of(kit)["shop"])
    (finding,) = found(kit, kit.now())
    assert finding.evidence == {"wrong": 3, "compared": 11, "braked": 0}
    walked(kit, sources_of(kit)["shop"])
    assert found(kit, kit.now()) == []


# ── news from the future ──────────────────────────────────────────────────────────────────────────────────────────────


def come_from_the_future(kit, counted: datetime) -> None:
    """Send and handle an event that is dated ahead, which a process counts in the minute of `counted`."""
    kit.send("shop", "product.updated", id="A1", at=datetime.now(UTC) + 30 * DAY, data={"name": "Lamp"})
    kit.drain()
    with kit.database.write() as connection:
        tallies.add(connection, "one", {TallyKey("shop", "misdated", ""): KindCount(1)}, at=counted)


@pytest.mark.parametrize("late", [-2, 0, 1], ids=["minutes before", "in the minute of", "in the minute after"])
def test_news_from_the_future_needs_nothing_after_it_was_dated_back(kit, late):
    now = datetime.now(UTC)
    come_from_the_future(kit, counted=now + timedelta(minutes=late))
    then = now + timedelta(minutes=2)
    assert [each.source for each in found(kit, then, "dated_in_the_future")] == ["shop"]
    walked(kit, kit.source("shop"), only_misdated=True)
    assert found(kit, then, "dated_in_the_future") == []


@pytest.mark.parametrize("late", [0, 1, 5], ids=["in the minute of", "in the minute after", "minutes after"])
def test_news_from_the_future_that_came_after_older_news_was_dated_back_is_found(kit, late):
    come_from_the_future(kit, counted=datetime.now(UTC) - timedelta(minutes=2))
    walked(kit, kit.source("shop"), only_misdated=True)
    now = datetime.now(UTC)
    come_from_the_future(kit, counted=now + timedelta(minutes=late))
    (finding,) = found(kit, now + timedelta(minutes=6), "dated_in_the_future")
    assert finding.evidence["events"] == 1
