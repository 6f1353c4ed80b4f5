"""Tallies and findings on real databases: written, summed up, opened, closed and offered."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from losing import LosingOne
from serving import TIMEOUT, wait_until
from shopping import named, new_worker
from sqlalchemy import delete, false, insert, select, text, update
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from receiver import Dialect, Event, Mirror
from receiver.copying.preconditions import Side
from receiver.database.database import Database
from receiver.dialects.sources import Source
from receiver.errors import Unreadable
from receiver.findings import duties, faults, record, retention, tallies
from receiver.findings.counting import (
    MISSPELT_SOURCE,
    RUNNING,
    SECRET_USED,
    SECRETS_SET,
    UNKNOWN_SOURCE,
    WATCHED,
    KindCount,
    ProcessCounts,
    TallyKey,
)
from receiver.findings.finding import Finding
from receiver.findings.gathering import Facts, examine, gather, read_faults
from receiver.findings.record import CLOSES_AFTER, MOST_OF_A_RULE, MOST_OPEN, update_record
from receiver.findings.secret_uses import beginning_of_details
from receiver.findings.situation import RunningProcess
from receiver.findings.standing import standing
from receiver.findings.tables import DUTIES, TALLIES
from receiver.findings.watching import DUTY, EVALUATION_LEASE, FindingsWatch
from receiver.inbox import refused
from receiver.inbox.arrival import Arrival
from receiver.inbox.ids import first_id_at
from receiver.inbox.refused import Bounds, Refusal
from receiver.inbox.tables import BODIES, DELIVERIES
from receiver.ingest import unhandled
from receiver.metrics import few_names
from receiver.runs.actions import Asked, By, Via
from receiver.testing import Answer, Webhooks
from receiver.verify.secret_marks import mark_of_all

NOW = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SHOP = TallyKey("shop", "accepted", "")


def add(
    kit: Webhooks,
    at: datetime,
    number: int = 1,
    key: TallyKey = SHOP,
    process: str = "one",
    span: timedelta = MINUTE,
) -> None:
    with kit.database.write() as connection:
        tallies.add(connection, process, {key: KindCount(number, number / 2)}, at=at, span=span)


def read(kit: Webhooks, **wanted: Any) -> list[Any]:
    known = {"span": MINUTE, "after": NOW - 500 * DAY, "until": NOW + DAY, "source": None, "kind": None, "limit": 1_000}
    return tallies.page(kit.database, **{**known, **wanted}).items


def facts(kit: Webhooks, **sources: Source) -> Facts:
    known = sources or {"shop": kit.source("shop")}
    running = [RunningProcess("here", works=True, serves=True)]
    return Facts(known, max_body_bytes=1_000, max_backlog_seconds=300.0, running=lambda *_: running)


# ── tallies ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tallies_of_all_processes_are_summed_up_by_the_minute(kit):
    add(kit, NOW, 3)
    add(kit, NOW + timedelta(seconds=29), 4, process="two")
    add(kit, NOW + MINUTE, 5)
    assert [(row.at, row.number, row.amount) for row in read(kit)] == [
        (NOW.replace(second=0), 7, 3.5),
        (NOW.replace(second=0) + MINUTE, 5, 2.5),
    ]


def test_a_minute_repeated_by_a_clock_set_back_counts_both_times(kit):
    add(kit, NOW, 3)
    add(kit, NOW, 4)
    assert [row.number for row in read(kit)] == [7]


def test_after_two_weeks_minutes_are_summed_up_to_hours(kit):
    old = NOW - 15 * DAY
    for minute in range(0, 150, 30):
        add(kit, old + minute * MINUTE, minute + 1)
    add(kit, NOW - 13 * DAY)
    before = sum(row.number for row in read(kit))
    while retention.prune_tallies(kit.database, NOW):
        pass
    hours = read(kit, span=HOUR)
    assert [row.at.minute for row in hours] == [0, 0, 0]
    assert sum(row.number for row in hours) + 1 == before
    assert len(read(kit)) == 1


@pytest.mark.parametrize("kind", [UNKNOWN_SOURCE, MISSPELT_SOURCE])
def test_names_that_strangers_choose_leave_few_rows_in_an_hour(kit, kind):
    for number in range(50):
        add(kit, NOW - 15 * DAY, number=50 - number, key=TallyKey("", kind, f"tried-{number}"))
    add(kit, NOW - 15 * DAY, number=3)
    while retention.prune_tallies(kit.database, NOW):
        pass
    assert read(kit) == []
    names = {row.detail: row.number for row in read(kit, span=HOUR) if row.kind == kind}
    most = {f"tried-{number}": 50 - number for number in range(retention.MOST_NAMES)}
    assert names == {**most, few_names.OTHERS: sum(range(51)) - sum(most.values())}
    assert [row.number for row in read(kit, span=HOUR) if row.kind == "accepted"] == [3]


def test_an_hour_summed_up_again_because_of_a_late_minute_counts_everything(kit):
    add(kit, NOW - 15 * DAY, 3)
    while retention.prune_tallies(kit.database, NOW):
        pass
    add(kit, NOW - 15 * DAY, 4)
    while retention.prune_tallies(kit.database, NOW):
        pass
    assert [row.number for row in read(kit, span=HOUR)] == [7]


def test_two_workers_that_sum_up_the_same_hour_at_the_same_time_add_each_minute_once(kit, monkeypatch):
    for minute in range(3):
        add(kit, NOW - 15 * DAY + minute * MINUTE, 100)
    # Both have looked for the oldest hour before either changes it.
    both = threading.Barrier(2, timeout=TIMEOUT)
    insert_mappings, write = tallies.insert_mappings, Database.write

    @contextmanager
    def write_together(database):
        both.wait()
        with write(database) as connection:
            yield connection

    inserting = []

    def insert_after_the_other(connection, table, rows, **options):
        inserting.append(rows)
        wait_until(lambda: len(inserting) == 2 or waits_for_lock(kit.database), "the other worker")
        return insert_mappings(connection, table, rows, **options)

    monkeypatch.setattr(Database, "write", write_together)
    if kit.database.is_postgresql:
        monkeypatch.setattr(tallies, "insert_mappings", insert_after_the_other)
    others = Database(kit.database.engine.url.render_as_string(hide_password=False))
    with closing(others), ThreadPoolExecutor() as pool:
        summed = pool.map(lambda database: retention._sum_up(database, NOW - 15 * DAY), [kit.database, others])
        assert sorted(summed) == [0, 3]
    assert [row.number for row in read(kit, span=HOUR)] == [300]


@pytest.mark.parametrize("ago", [15, 401])
def test_an_hour_that_another_process_takes_first_does_not_end_the_pruning(kit, monkeypatch, ago):
    monkeypatch.setattr(retention, "HOURS_AT_ONCE", 1)
    for hour in range(6):
        add(kit, NOW - ago * DAY - hour * HOUR, span=MINUTE if ago == 15 else HOUR)
    write, begun = Database.write, []

    @contextmanager
    def late(database):
        """Let another process take the same hour before, each second time."""
        begun.append(database)
        if len(begun) % 2:
            retention.prune_tallies(database, NOW)
        with write(database) as connection:
            yield connection

    monkeypatch.setattr(Database, "write", late)
    while retention.prune_tallies(kit.database, NOW):
        pass
    monkeypatch.undo()
    assert len(read(kit)) == 0
    assert len(read(kit, span=HOUR)) == (6 if ago == 15 else 0)


def waits_for_lock(database: Database) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.read() as connection:
        return connection.execute(text(waiting)).scalar_one() > 0


def test_hours_are_dropped_after_four_hundred_days(kit):
    add(kit, NOW - 401 * DAY)
    add(kit, NOW - 399 * DAY)
    while retention.prune_tallies(kit.database, NOW):
        pass
    assert [row.at.date() for row in read(kit, span=HOUR)] == [(NOW - 399 * DAY).date()]


# ── the duty ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> dict[TallyKey, KindCount]:
    """The counts of the process since its start."""
    return {}


@pytest.fixture
def watch(kit, clock, seen) -> Iterator[FindingsWatch]:
    def new(process: str) -> FindingsWatch:
        counts = ProcessCounts(lambda: dict(seen))
        return FindingsWatch(
            kit.database,
            process,
            lambda: facts(kit),
            release=lambda: "0.1.0 abc",
            serves=True,
            clock=clock,
            counts=counts,
        )

    return new


def test_a_process_writes_its_counts_since_the_last_time(kit, watch, clock, seen):
    watching = watch("host:1:2:3:abcd")
    seen[SHOP] = KindCount(5)
    watching.tally()
    seen[SHOP] = KindCount(7)
    clock.now += MINUTE
    watching.tally()
    clock.now += MINUTE
    watching.tally()
    assert [(row.number) for row in read(kit, kind="accepted")] == [5, 2]
    assert [row.detail for row in read(kit, kind=RUNNING)] == ["0.1.0 abc"] * 3
    assert len(read(kit, kind=WATCHED)) == 3
    with kit.database.read() as connection:
        assert set(connection.execute(select(TALLIES.c.process)).scalars()) == {"abcd"}


def test_counts_that_could_not_be_written_are_written_the_next_time(kit, watch, seen, monkeypatch):
    watching = watch("one")
    seen[SHOP] = KindCount(5)
    with monkeypatch.context() as patch:
        patch.setattr(tallies, "add", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            watching.tally()
    seen[SHOP] = KindCount(6)
    watching.tally()
    assert [row.number for row in read(kit, kind="accepted")] == [6]


def test_counts_of_an_outage_of_the_database_are_written_for_their_own_minutes(kit, watch, clock, seen, monkeypatch):
    watching = watch("one")
    with monkeypatch.context() as patch:
        patch.setattr(tallies, "add", lambda *_, **__: 1 / 0)
        for number in (5, 7):
            seen[SHOP] = KindCount(number)
            with pytest.raises(ZeroDivisionError):
                watching.tally()
            clock.now += MINUTE
    seen[SHOP] = KindCount(8)
    watching.tally()
    first = tallies.beginning(NOW, MINUTE)
    assert [(row.at - first, row.number) for row in read(kit, kind="accepted")] == [
        (timedelta(), 5),
        (MINUTE, 2),
        (2 * MINUTE, 1),
    ]
    for kind in (RUNNING, WATCHED):
        assert [row.at - first for row in read(kit, kind=kind)] == [2 * MINUTE], "nothing could be accepted before"


@pytest.mark.parametrize(
    ("wait", "written"), [(timedelta(hours=2), [5, 2, 1]), (MINUTE, [5, 2, 1]), (MINUTE / 2, [7, 1])]
)
def test_counts_whose_commit_lost_its_answer_are_written_once(kit, watch, clock, seen, monkeypatch, wait, written):
    monkeypatch.setattr("receiver.findings.watching.TALLIES_WAIT", wait)
    watching = watch("one")
    seen[SHOP] = KindCount(5)
    with monkeypatch.context() as patch:
        patch.setattr(tallies, "add", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            watching.tally()
    clock.now += MINUTE
    seen[SHOP] = KindCount(7)
    with monkeypatch.context() as patch:
        patch.setattr(kit.database, "write", LosingOne(kit.database, 1).write)
        with pytest.raises(OperationalError):
            watching.tally()
    clock.now += MINUTE
    seen[SHOP] = KindCount(8)
    watching.tally()
    assert [row.number for row in read(kit, kind="accepted")] == written
    assert [row.number for row in read(kit, kind=RUNNING)] == [1, 1]


def test_of_a_long_outage_the_oldest_minutes_are_counted_together(kit, watch, clock, seen, monkeypatch):
    monkeypatch.setattr("receiver.findings.watching.TALLIES_WAIT", MINUTE)
    watching = watch("one")
    with monkeypatch.context() as patch:
        patch.setattr(tallies, "add", lambda *_, **__: 1 / 0)
        for number in (1, 3, 7, 15):
            seen[SHOP] = KindCount(number, number / 2)
            with pytest.raises(ZeroDivisionError):
                watching.tally()
            clock.now += MINUTE
    seen[SHOP] = KindCount(31, 15.5)
    watching.tally()
    assert [(row.number, row.amount) for row in read(kit, kind="accepted")] == [(15, 7.5), (16, 8.0)]


def test_one_process_evaluates_and_another_takes_over_when_it_is_gone(watch, clock):
    one, two = watch("one"), watch("two")
    assert one.evaluate() is not None
    assert two.evaluate() is None
    clock.now += MINUTE
    assert one.evaluate() is not None
    clock.now += EVALUATION_LEASE + MINUTE
    assert two.evaluate() is not None
    assert one.evaluate() is None


def test_a_released_duty_is_free_at_once(kit, watch, clock):
    one, two = watch("one"), watch("two")
    assert one.evaluate() is not None
    duties.leave(kit.database, DUTY, "one", now=clock.now)
    assert two.evaluate() is not None


@pytest.mark.parametrize("jump", [HOUR, DAY, -HOUR, -DAY])
def test_a_clock_that_jumps_keeps_no_process_from_evaluating_for_long(watch, clock, jump):
    one, two = watch("one"), watch("two")
    assert one.evaluate() is not None
    clock.now += jump
    assert two.evaluate() is not None


@pytest.mark.parametrize("jump", [HOUR, DAY, -HOUR, -DAY])
def test_a_clock_that_jumps_opens_no_finding(kit, watch, clock, seen, jump):
    watching = watch("one")
    for step in range(12):
        seen[SHOP] = KindCount(100 * step)
        watching.tally()
        assert watching.evaluate().opened == []
        clock.now += jump if step == 6 else MINUTE


def test_a_finding_is_logged_when_it_opens_and_when_it_closes(watch, clock, seen, monkeypatch):
    monkeypatch.setitem(few_names.asked_instead, "shop", "shopp")
    watching = watch("one")
    seen[TallyKey("shop", "misspelt", "shopp")] = KindCount(5)
    watching.tally()
    with capture_logs() as lines:
        watching.evaluate()
        watching.evaluate()
        clock.now += 2 * HOUR
        watching.evaluate()
    opened, closed = (line for line in lines if line["event"].startswith("a finding"))
    assert (opened["rule"], opened["source"], opened["log_level"]) == ("misspelt_source", "shop", "warning")
    assert "'/hooks/shopp'" in opened["says"]
    assert (closed["event"], closed["lasted"]) == ("a finding has closed", "2:00:00")


# ── records of findings ───────────────────────────────────────────────────────────────────────────────────────────

ONE = Finding("one_cause", "shop", NOW - HOUR, "3 are dead", "Mend it.", {"dead": 3}, "abc")


def opened(kit: Webhooks) -> list[Any]:
    with kit.database.read() as connection:
        return record.open_findings(connection)


def test_a_finding_opens_once_and_its_numbers_are_updated(kit):
    assert update_record(kit.database, [ONE], now=NOW).opened == [ONE]
    more = replace(ONE, says="9 are dead", evidence={"dead": 9}, since=NOW)
    assert update_record(kit.database, [more], now=NOW + MINUTE).opened == []
    (row,) = opened(kit)
    assert (row["id"], row["opened_at"], row["since"]) == (ONE.id, NOW, NOW - HOUR)
    assert (row["says"], row["evidence"], row["seen_at"]) == ("9 are dead", {"dead": 9}, NOW + MINUTE)


def test_a_finding_closes_when_its_rule_was_silent_for_some_minutes_and_may_open_again(kit):
    update_record(kit.database, [ONE], now=NOW)
    assert update_record(kit.database, [], now=NOW + MINUTE).closed == []
    (closed,) = update_record(kit.database, [], now=NOW + CLOSES_AFTER).closed
    assert closed["id"] == ONE.id
    assert opened(kit) == []
    assert update_record(kit.database, [ONE], now=NOW + HOUR).opened == [ONE]


def test_a_finding_written_by_a_clock_ahead_closes(kit):
    update_record(kit.database, [ONE], now=NOW + DAY)
    assert update_record(kit.database, [], now=NOW).closed == []
    (closed,) = update_record(kit.database, [], now=NOW + CLOSES_AFTER).closed
    with kit.database.read() as connection:
        (row,) = record.closed_findings(connection, limit=10)
    assert row["closed_at"] >= closed["opened_at"]


def test_an_acknowledgement_lasts_until_the_finding_closes(kit):
    update_record(kit.database, [ONE], now=NOW)
    asked = Asked(by=By("ops-1", Via.API), what="acknowledge finding", arguments={"finding": ONE.id})
    noted = record.acknowledge(kit.database, asked, ONE.id, now=NOW)
    assert record.acknowledge(kit.database, asked, "nothing", now=NOW) is None
    assert noted["acknowledged_by"] == "ops-1"
    with kit.database.read() as connection:
        assert record.open_numbers(connection) == {}
    update_record(kit.database, [], now=NOW + HOUR)
    update_record(kit.database, [ONE], now=NOW + 2 * HOUR)
    (row,) = opened(kit)
    assert row["acknowledged_by"] is None


def alike(number: int, *, source: str = "shop") -> list[Finding]:
    return [replace(ONE, rule="no_handler", source=source, about=f"order.{each}.updated") for each in range(number)]


def test_a_finding_stays_open_while_its_rule_finds_it_behind_many_others(kit):
    update_record(kit.database, [ONE], now=NOW)
    for minutes in range(1, 5):
        update_record(kit.database, [*alike(MOST_OPEN), ONE], now=NOW + minutes * MINUTE)
    assert (ONE.id, NOW + 4 * MINUTE) in [(row["id"], row["seen_at"]) for row in opened(kit)]


def test_of_one_rule_and_source_only_the_first_findings_are_recorded_and_others_follow_when_they_close(kit):
    many, other = alike(MOST_OF_A_RULE + 5), alike(1, source="pim")
    assert update_record(kit.database, [*many, *other, ONE], now=NOW).opened == [*many[:MOST_OF_A_RULE], *other, ONE]
    fewer = [*many[3:], *other, ONE]
    assert update_record(kit.database, fewer, now=NOW + MINUTE).opened == []
    assert len(update_record(kit.database, fewer, now=NOW + CLOSES_AFTER).closed) == 3
    assert update_record(kit.database, fewer, now=NOW + HOUR).opened == many[MOST_OF_A_RULE:][:3]


def test_the_first_finding_of_a_rule_and_source_is_recorded_however_many_are_open(kit):
    sources = [f"shop {number}" for number in range(MOST_OPEN // MOST_OF_A_RULE)]
    many = [finding for source in sources for finding in alike(MOST_OF_A_RULE, source=source)]
    assert len(update_record(kit.database, many, now=NOW).opened) == MOST_OPEN
    late = [*alike(2, source="late"), ONE]
    assert update_record(kit.database, [*many, *late], now=NOW + MINUTE).opened == [late[0], ONE]


def test_an_open_finding_is_listed_before_those_that_opened_later_and_closed(kit, monkeypatch):
    monkeypatch.setattr("receiver.findings.standing.MOST_CLOSED", 2)
    others = alike(3)
    update_record(kit.database, [ONE], now=NOW)
    update_record(kit.database, [ONE, *others], now=NOW + MINUTE)
    update_record(kit.database, [ONE], now=NOW + HOUR)
    listed = standing(kit.database, facts(kit), now=NOW + HOUR, closed=True).items
    assert [(each.id, each.closed_at is None) for each in listed] == [
        (ONE.id, True),
        *((each, False) for each in sorted(other.id for other in others)[:2]),
    ]


def test_closed_findings_are_dropped_after_a_year_and_open_ones_stay(kit):
    other = replace(ONE, about="other")
    update_record(kit.database, [ONE, other], now=NOW - 400 * DAY)
    update_record(kit.database, [ONE], now=NOW - 399 * DAY)
    assert record.prune(kit.database, NOW) == 1
    assert record.prune(kit.database, NOW) == 0
    assert [row["id"] for row in opened(kit)] == [ONE.id]


# ── the situation ─────────────────────────────────────────────────────────────────────────────────────────────────


def now() -> datetime:
    return datetime.now(UTC)


def test_dead_and_failing_deliveries_with_one_cause_are_one_fault(kit, shop: Dialect):
    for number in range(3):
        kit.send("shop", "product.updated", id=f"A{number}", data={"name": number})

    @shop.on("product.failing")
    def fail(event: Event[Any], mirror: Mirror) -> None:
        raise LookupError(f"no product {event.entity_id}")

    for number in range(2):
        kit.send("shop", "product.failing", id=f"B{number}")
    kit.drain()
    dead, failing = sorted(read_faults(kit.database, now=kit.now()), key=lambda fault: -fault.dead)
    assert (dead.dead, dead.waiting, dead.source) == (3, 0, "shop")
    assert (failing.dead, failing.waiting) == (0, 2)
    assert failing.cause.endswith("raised LookupError: no product …")
    assert failing.until is not None


def test_dead_deliveries_that_can_no_longer_be_replayed_are_no_fault_and_hide_no_new_ones(kit):
    unreadable = {"name": 1}
    old = [kit.send("shop", "product.updated", id=f"A{number}", data=unreadable).delivery for number in range(2)]
    kit.drain()
    (found,) = examine(kit.database, facts(kit), now=kit.now())
    assert (found.rule, found.evidence["dead"]) == ("one_cause", 2)
    expire(kit, old)
    assert examine(kit.database, facts(kit), now=kit.now()) == []
    new = kit.send("shop", "product.updated", id="A3", data=unreadable).delivery
    kit.drain()
    (again,) = examine(kit.database, facts(kit), now=kit.now())
    assert (again.id, again.evidence["dead"], again.evidence["delivery"]) == (found.id, 1, new)


def test_no_finding_about_dead_deliveries_closes_because_thousands_of_others_died_since(
    kit, shop: Dialect, monkeypatch
):
    @shop.on("product.flooding")
    def refuse(event: Event[Any], mirror: Mirror) -> None:
        raise Unreadable("It is one of thousands.")

    old = kit.send("shop", "product.updated", id="A1", data={"name": 1}).delivery
    kit.drain()
    (found,) = examine(kit.database, facts(kit), now=kit.now())
    update_record(kit.database, [found], now=kit.now())
    monkeypatch.setattr(faults, "MOST_LOOKED_AT", 2)
    monkeypatch.setattr(faults, "_DEAD", faults._select_dead())
    for number in range(3):
        kit.send("shop", "product.flooding", id=f"B{number}")
    kit.drain()
    kit.advance(seconds=300)
    before = next(each for each in examine(kit.database, facts(kit), now=kit.now()) if each.id == found.id)
    assert (before.evidence["dead"], before.evidence["delivery"], before.since) == (1, old, found.since)
    expire(kit, [old])
    assert found.id not in {each.id for each in examine(kit.database, facts(kit), now=kit.now())}


def test_the_finding_about_a_delivery_that_died_again_for_another_cause_stays_open(kit, monkeypatch):
    delivery = kit.send("shop", "product.updated", id="A1", data={"name": 1}).delivery
    kit.drain()
    found: dict[str, Finding] = {}
    for reason in ("The name is missing.", "The price is missing."):
        die_for(kit, reason)
        (found[reason],) = examine(kit.database, facts(kit), now=kit.now())
        update_record(kit.database, list(found.values()), now=kit.now())
    monkeypatch.setattr(faults, "_DEAD", faults._select_dead().where(false()))
    for reason, finding in found.items():
        die_for(kit, reason)
        (still,) = examine(kit.database, facts(kit), now=kit.now())
        assert (still.id, still.since, still.evidence["delivery"]) == (finding.id, finding.since, delivery)


def die_for(kit: Webhooks, reason: str) -> None:
    """Let the dead deliveries have died for this reason."""
    with kit.database.write() as connection:
        connection.execute(update(DELIVERIES).values(reason=reason))


def expire(kit: Webhooks, ids: Sequence[str]) -> None:
    """Drop the bodies of these deliveries, as the retention does."""
    with kit.database.write() as connection:
        connection.execute(delete(BODIES).where(BODIES.c.delivery_id.in_([int(each) for each in ids])))


def test_a_fault_is_dated_by_its_first_failure_and_not_by_the_last_attempt_or_a_replay(kit, shop: Dialect):
    @shop.on("product.failing")
    def fail(event: Event[Any], mirror: Mirror) -> None:
        raise LookupError("no product")

    sent = [
        kit.send("shop", "product.updated", id="A1", data={"name": 1}),
        kit.send("shop", "product.failing", id="B1"),
    ]
    kit.drain()
    began = {fault.cause: fault.first for fault in read_faults(kit.database, now=kit.now())}
    work_until_dead(kit, sent)
    assert {fault.cause: fault.first for fault in read_faults(kit.database, now=kit.now())} == began
    kit.inbox.replay([int(each.delivery) for each in sent], now=kit.now())
    work_until_dead(kit, sent)
    assert {fault.cause: fault.first for fault in read_faults(kit.database, now=kit.now())} == began


def work_until_dead(kit: Webhooks, sent: Sequence[Answer]) -> None:
    while any(kit.delivery(each)["state"] != "dead" for each in sent):
        kit.drain()
        kit.advance(days=1)


def test_a_fault_says_whether_its_attempts_failed_while_fetching(kit, shop: Dialect):
    shop.connect(lambda settings: httpx.Client())

    @shop.hydrate("product.*")
    def fetch(event: Event[Any], client: httpx.Client) -> None:
        if event.event_type == "product.fetched":
            raise LookupError("no answer")

    @shop.on("product.fetched", "product.failing")
    def fail(event: Event[Any], mirror: Mirror) -> None:
        raise KeyError(event.entity_id)

    kit.source("shop", api_url="http://api.test", secrets=["TestSecretOf32CharactersForTests"])
    kit.send("shop", "product.fetched", id="A1")
    kit.send("shop", "product.failing", id="A2")
    kit.drain()
    found = {fault.cause: fault.fetching for fault in read_faults(kit.database, now=kit.now())}
    assert {cause.rpartition(".")[2]: fetching for cause, fetching in found.items()} == {
        "fetch raised LookupError: no answer": True,
        "fail raised KeyError: …": False,
    }


def test_a_single_delivery_that_fails_again_and_again_is_found_long_before_it_is_dead(kit, shop: Dialect):
    @shop.on("product.failing")
    def fail(event: Event[Any], mirror: Mirror) -> None:
        raise LookupError(f"no product {event.entity_id}")

    sent = kit.send("shop", "product.failing", id="B1")
    found: list[list[str]] = []
    for _ in range(6):
        kit.drain()
        found.append([each.rule for each in examine(kit.database, facts(kit), now=kit.now())])
        kit.advance(days=1)
    assert found == [[], [], [], [], ["one_cause"], ["one_cause"]]
    assert kit.delivery(sent)["state"] == "pending"


def test_an_event_type_without_a_handler_is_logged_once_with_a_similar_one(kit, monkeypatch):
    monkeypatch.setattr(unhandled, "_told", few_names.Names(5))
    with capture_logs() as lines:
        for number in range(3):
            kit.send("shop", "prodct.updated", id=f"A{number}", data=named())
    (line,) = (line for line in lines if line["event"].startswith("no handler takes"))
    assert (line["source"], line["event_type"], line["perhaps"]) == ("shop", "prodct.updated", "product.updated")


def test_a_misspelt_event_type_is_named_with_the_likely_one_in_the_reason_and_the_finding(kit, shop: Dialect):
    counts = ProcessCounts()
    ignored = kit.send("shop", "prodct.updated", id="A1", data=named()).delivery
    with kit.database.write() as connection:
        tallies.add(connection, "one", counts.look(), at=now())
    reason = "No handler takes prodct.updated. Perhaps product.updated was meant."
    assert kit.delivery(ignored)["reason"] == reason
    (told,) = examine(kit.database, facts(kit), now=now())
    assert (told.rule, told.evidence["likely"]) == ("no_handler", "product.updated")
    kit.inbox.replay([int(ignored)], now=now())
    kit.drain()
    assert kit.delivery(ignored)["reason"] == reason, "the worker says the same"

    @shop.on("prodct.updated")
    def take(event: Event[Any], mirror: Mirror) -> None: ...

    assert [each.rule for each in examine(kit.database, facts(kit), now=now())] == ["handler_appeared"]


def test_ignored_deliveries_are_found_the_same_day_and_offered_once_a_handler_takes_them(kit, shop: Dialect):
    counts = ProcessCounts()
    for number in range(3):
        kit.send("shop", "price.updated", id=f"A{number}", data=named())
    with kit.database.write() as connection:
        tallies.add(connection, "one", counts.look(), at=now())
    (told,) = examine(kit.database, facts(kit), now=now())
    assert (told.rule, told.evidence["ignored"]) == ("no_handler", 3)

    @shop.on("price.updated")
    def take(event: Event[Any], mirror: Mirror) -> None: ...

    (offered,) = examine(kit.database, facts(kit), now=now())
    assert (offered.rule, offered.evidence["ignored"]) == ("handler_appeared", 3)
    oldest, *others = sorted(each["id"] for each in kit.deliveries())
    expire(kit, [oldest])
    (offered,) = examine(kit.database, facts(kit), now=now())
    assert offered.evidence["ignored"] == 2, "the others can be replayed"
    kit.inbox.replay([int(each) for each in others], now=now())
    new_worker(kit).work()
    assert examine(kit.database, facts(kit), now=now()) == []


def test_the_situation_has_the_silence_of_a_source_and_the_minutes_with_an_endpoint(kit):
    for minute in range(60, 30, -1):
        add(kit, NOW - minute * MINUTE)
    for minute in range(60):
        add(kit, NOW - minute * MINUTE, key=TallyKey("", WATCHED, ""))
    silence = gather(kit.database, facts(kit), now=NOW).silences["shop"]
    assert (len(silence.arrivals), silence.watched) == (30, 31)


def test_the_silence_begins_after_the_last_delivery_even_if_its_tally_was_never_written(kit):
    for minute in range(60, 30, -1):
        add(kit, NOW - minute * MINUTE)
    for minute in range(60):
        add(kit, NOW - minute * MINUTE, key=TallyKey("", WATCHED, ""))
    kit.inbox.accept([arrival(NOW.replace(second=10) - 29 * MINUTE)])
    silence = gather(kit.database, facts(kit), now=NOW).silences["shop"]
    assert silence.arrivals[-1] == NOW.replace(second=0) - 29 * MINUTE


NIGHT = NOW.replace(hour=2, minute=1, second=0)


def silent_since(kit: Webhooks, at: datetime, **sources: Source) -> Mapping[str, datetime]:
    return gather(kit.database, facts(kit, **sources), now=at).silent_since


def test_the_silence_of_a_nightly_sender_stays_open_until_something_comes(kit):
    for night in range(14):
        for minute in range(2):
            add(kit, NIGHT - night * DAY - minute * MINUTE)
    minute = {"span": 60, "source": "", "kind": WATCHED, "detail": "", "process": "one", "number": 1, "amount": 0.0}
    with kit.database.write() as connection:
        watched = [{**minute, "at": NIGHT + number * MINUTE} for number in range(5 * 1_440)]
        connection.execute(insert(TALLIES), watched)

    def look(after: timedelta) -> tuple[list[str], list[str]]:
        for minute in range(3):
            add(kit, NIGHT + after - minute * MINUTE, key=TallyKey("", RUNNING, "0.1.0 abc"))
        changes = update_record(kit.database, examine(kit.database, facts(kit), now=NIGHT + after), now=NIGHT + after)
        return [each.rule for each in changes.opened], [row["rule"] for row in changes.closed]

    assert look(3 * DAY) == ([], [])
    assert look(4 * DAY) == (["source_silent"], [])
    # Then the last two weeks have too few arrivals, and at last none.
    assert [look(days * DAY) for days in (6, 10, 15, 40)] == [([], [])] * 4
    add(kit, NIGHT + 41 * DAY)
    assert look(41 * DAY) == ([], ["source_silent"])


@pytest.mark.parametrize(("rule", "source"), [("source_silent", "shop"), ("all_sources_silent", "")])
def test_a_silence_lasts_until_a_webhook_or_a_duplicate_comes_from_one_of_its_sources(kit, rule, source):
    since = NOW.replace(second=0) - DAY
    both = {"pim": kit.source("shop"), "shop": kit.source("shop")}
    update_record(kit.database, [Finding(rule, source, since, "It is silent", "Mend it.")], now=NOW)
    kit.inbox.accept([arrival(since + timedelta(seconds=59))])
    add(kit, since)
    assert silent_since(kit, NOW, **both) == {source: since}
    assert silent_since(kit, since - MINUTE, **both) == {}, "the clock was set back"
    add(kit, since + MINUTE, key=TallyKey("shop", "duplicate", ""))
    assert silent_since(kit, NOW, **both) == {}


def test_a_silence_ends_with_a_delivery_whose_tally_is_gone_and_with_its_source(kit):
    since = NOW.replace(second=0) - 30 * DAY
    update_record(kit.database, [Finding("source_silent", "shop", since, "It is silent", "Mend it.")], now=NOW)
    assert silent_since(kit, NOW, pim=kit.source("shop")) == {}
    assert silent_since(kit, NOW) == {"shop": since}
    kit.inbox.accept([arrival(since + MINUTE)])
    assert silent_since(kit, NOW) == {}


def arrival(at: datetime) -> Arrival:
    one = Arrival(source="shop", body=b"{}", plain=None, headers={}, received_at=at, secret=0)
    one.dedup_key, one.occurred_at = f"{at}", NOW
    return one


def test_the_situation_has_the_wrong_signatures_since_the_last_right_one(kit):
    wrong = TallyKey("shop", "refused", "signature_wrong")
    add(kit, NOW - 50 * MINUTE, 4, key=wrong)
    add(kit, NOW - 30 * MINUTE, key=TallyKey("shop", "verified", "0"))
    add(kit, NOW - 10 * MINUTE, 7, key=wrong)
    history = gather(kit.database, facts(kit), now=NOW).signatures["shop"]
    assert (history.last_good, history.wrong_before) == ((NOW - 30 * MINUTE).replace(second=0), 4)
    assert (history.wrong, history.wrong_first, history.wrong_last) == (7, *[(NOW - 10 * MINUTE).replace(second=0)] * 2)


def test_two_webhooks_an_hour_that_are_all_refused_are_found_and_stay_found(kit):
    add(kit, NOW - 3 * DAY, key=TallyKey("shop", "verified", "0"))
    for number in range(1, 144):
        add(kit, NOW - number * HOUR / 2, key=TallyKey("shop", "refused", "signature_wrong"))
    for minutes in (0, 20, 40, 100):
        (found,) = examine(kit.database, facts(kit), now=NOW + minutes * MINUTE)
        assert (found.rule, found.evidence["refused"]) == ("secret_changed", 143)


def test_the_situation_has_the_hours_with_wrong_and_right_signatures_under_the_present_secrets(kit):
    marked = facts(kit, shop=rotated(kit))
    add(kit, NOW - 20 * HOUR, key=TallyKey("shop", SECRETS_SET, mark_of_all(("new", "old"))))
    for hours in (21, 20, 9, 3):
        add(kit, NOW - hours * HOUR, 2, key=TallyKey("shop", "refused", "signature_wrong"))
        add(kit, NOW - hours * HOUR, key=TallyKey("shop", "refused", "body_too_large"))
        add(kit, NOW - hours * HOUR + MINUTE, 2, key=TallyKey("shop", "verified", "0"))
    history = gather(kit.database, marked, now=NOW).signatures["shop"]
    hours = [tallies.beginning(NOW - hours * HOUR, HOUR) for hours in (20, 9, 3)]
    assert [(each.at, each.number) for each in history.wrong_hours] == [(at, 2) for at in hours[1:]]
    assert [(each.at, each.number) for each in history.good_hours] == [(at, 2) for at in hours]
    add(kit, NOW - MINUTE, 5, key=TallyKey("shop", "refused", "signature_wrong"))
    assert gather(kit.database, marked, now=NOW).signatures["shop"].wrong_hours == ()


def test_wrong_signatures_count_since_the_present_secrets_and_those_that_are_still_kept_from_before(kit):
    marked, came = facts(kit, shop=rotated(kit)), [NOW - hours * HOUR for hours in (4, 3, 2)]
    add(kit, NOW - 5 * HOUR, key=TallyKey("shop", "verified", "0"))
    add(kit, NOW - 3 * HOUR, 500, key=TallyKey("shop", "refused", "signature_wrong"))
    add(kit, NOW - HOUR, key=TallyKey("shop", SECRETS_SET, mark_of_all(("new", "old"))))
    assert gather(kit.database, marked, now=NOW).signatures["shop"].wrong == 0
    keep_refused(kit, *came[:2])
    assert gather(kit.database, marked, now=NOW).signatures["shop"].wrong == 2
    assert examine(kit.database, marked, now=NOW) == [], "two forged requests are no sign that a secret is missing"
    keep_refused(kit, came[2])
    add(kit, NOW - MINUTE, 4, key=TallyKey("shop", "refused", "signature_wrong"))
    (found,) = examine(kit.database, marked, now=NOW)
    assert (found.rule, found.evidence["refused"], found.since) == ("secret_changed", 4, came[0])


def keep_refused(kit: Webhooks, *came: datetime) -> None:
    with kit.database.write() as connection:
        kept = [Refusal(first_id_at(at), "shop", "signature_wrong", at, [], b"{}") for at in came]
        refused.keep(connection, kept, Bounds(10, 1_000, DAY))


def test_a_secret_that_was_used_before_the_last_hour_counts_as_used(kit):
    marked = facts(kit, shop=rotated(kit))
    add(kit, NOW - 5 * DAY, 9, key=TallyKey("shop", SECRET_USED, "new"))
    add(kit, NOW - 4 * DAY, key=TallyKey("shop", SECRETS_SET, mark_of_all(("new", "old"))))
    add(kit, NOW - 3 * DAY, 6, key=TallyKey("shop", SECRET_USED, "old"))
    add(kit, NOW - 2 * MINUTE, 2, key=TallyKey("shop", SECRET_USED, "old"))
    (found,) = examine(kit.database, marked, now=NOW)
    assert (found.rule, found.evidence["verified_by_older"]) == ("sender_not_switched", 8)
    add(kit, NOW - 2 * DAY, key=TallyKey("shop", SECRET_USED, "new"))
    assert examine(kit.database, marked, now=NOW) == []
    assert gather(kit.database, marked, now=NOW).secret_uses == {}, "which are not read then"


def test_a_secret_whose_use_is_left_in_an_hour_only_counts_as_used(kit):
    marked = facts(kit, shop=rotated(kit))
    add(kit, NOW - 40 * DAY, key=TallyKey("shop", SECRETS_SET, mark_of_all(("new", "old"))))
    add(kit, NOW - 30 * DAY, 6, key=TallyKey("shop", SECRET_USED, "old"), span=HOUR)
    assert [each.rule for each in examine(kit.database, marked, now=NOW)] == ["sender_not_switched"]
    add(kit, NOW - 20 * DAY, key=TallyKey("shop", SECRET_USED, "new"), span=HOUR)
    assert examine(kit.database, marked, now=NOW) == []


def rotated(kit: Webhooks) -> Source:
    """The source of the kit with a newer secret before its own, and with marks."""
    source = kit.source("shop", secrets=["NewSecretOf32CharactersForTests!", "TestSecretOf32CharactersForTests"])
    return replace(source, credentials=replace(source.credentials, marks=("new", "old")))


def test_the_situation_has_the_arrival_of_the_first_wrong_webhook_that_is_kept(kit):
    add(kit, NOW - 10 * MINUTE, 7, key=TallyKey("shop", "refused", "signature_wrong"))
    add(kit, NOW - 60 * MINUTE, key=TallyKey("shop", "verified", "0"))
    came = [NOW - minutes * MINUTE for minutes in (90, 12, 11)]
    keep_refused(kit, *came)
    # The oldest one came before the last right one.
    assert gather(kit.database, facts(kit), now=NOW).signatures["shop"].wrong_from == came[1]


def test_the_situation_has_the_arrival_of_the_last_right_webhook(kit):
    add(kit, NOW - 10 * MINUTE, 7, key=TallyKey("shop", "refused", "signature_wrong"))
    last = NOW - 21 * MINUTE
    kit.inbox.accept([arrival(last)])
    for minutes, came in ((20, last), (15, None)):
        add(kit, NOW - minutes * MINUTE, key=TallyKey("shop", "verified", "0"))
        assert gather(kit.database, facts(kit), now=NOW).signatures["shop"].good_at == came


@pytest.mark.parametrize(
    ("written", "since"),
    [
        ([], None),
        ([(50, "now")], 50),
        ([(50, "now"), (40, "other"), (30, "now"), (20, "now")], 30),
        ([(50, "now"), (40, "other")], None),
    ],
)
def test_a_detail_began_with_its_first_minute_after_any_other_detail(kit, written, since):
    for minutes, detail in written:
        add(kit, NOW - minutes * MINUTE, key=TallyKey("shop", SECRETS_SET, detail))
    with kit.database.read() as connection:
        found = beginning_of_details(connection, "shop", SECRETS_SET, ["now"], NOW)
    assert found == (None if since is None else (NOW - since * MINUTE).replace(second=0))


def test_the_situation_has_the_release_that_replaced_another(kit):
    add(kit, NOW - DAY, key=TallyKey("", RUNNING, "0.1.0 aaa"))
    add(kit, NOW - HOUR, key=TallyKey("", RUNNING, "0.2.0 aaa"))
    starts = gather(kit.database, facts(kit), now=NOW).starts
    assert [(start.release, start.replaced_another) for start in starts] == [("0.2.0", True), ("0.1.0", False)]


def test_a_duty_is_not_copied_with_a_database():
    assert DUTIES not in Side.tables()
