"""What readers save: prepared statements that stay, one transaction for a page, and results that they share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from receiver.console.contents import PAGES
from receiver.console.page import ConsolePage
from receiver.database import shared_results
from receiver.database.database import Database
from receiver.database.errors import is_overdue
from receiver.database.statement_timeouts import statement_timeout
from receiver.findings import gathering, tallies
from receiver.findings.counting import KindCount, TallyKey
from receiver.findings.finding import Finding
from receiver.findings.gathering import Facts
from receiver.findings.record import acknowledge, update_record
from receiver.findings.standing import standing
from receiver.inbox.tables import State
from receiver.runs.actions import Asked, By, Via
from receiver.search.deliveries import count_deliveries
from receiver.search.filters import DeliveryFilter

NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def prepared(connection: Any) -> int:
    return int(connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one())


def test_a_bounded_search_leaves_the_limit_and_the_prepared_statements_as_they_were(database):
    if not database.is_postgresql:
        pytest.skip("SQLite counts the time of a block, and its driver keeps the statements")
    with database.beside(connections=1, seconds=300.0).read() as connection:
        for number in range(3):
            connection.execute(text("SELECT :number + 1"), {"number": number})
        before = prepared(connection)
        with statement_timeout(connection, 60.0) as limit:
            limit(20.0)
            assert connection.execute(text("SHOW statement_timeout")).scalar() == "20s"
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "5min"
        assert prepared(connection) >= before > 0


def test_a_transaction_goes_on_after_a_statement_beyond_its_time(database):
    if not database.is_postgresql:
        pytest.skip("SQLite's transactions go on after any error of a statement")
    with database.beside(connections=1, seconds=300.0).read() as connection:
        with pytest.raises(DBAPIError) as raised, statement_timeout(connection, 0.2):
            connection.execute(text("SELECT pg_sleep(60)"))
        assert is_overdue(raised.value)
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "5min"


@pytest.mark.parametrize("wanted", [DeliveryFilter(event_type="sun.set"), DeliveryFilter(state=State.PROCESSED)])
def test_the_database_counts_what_no_index_finds(database, wanted):
    read: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *passed: read.append(passed[2]))
    assert count_deliveries(database, wanted) == (0, False, None)
    assert [each for each in read if "SELECT anon_1.id" in each] == []


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_that_runs_no_handlers_reads_in_one_transaction(database, page: ConsolePage):
    visit: Any = SimpleNamespace(database=database)
    with page.reading(visit):
        assert (database.snapshot.connection is not None) == (page.name != "row")
    assert database.snapshot.connection is None


# ── findings ──────────────────────────────────────────────────────────────────────────────────────────────────────


def facts() -> Facts:
    return Facts({}, max_body_bytes=1_000, max_backlog_seconds=300.0, running=lambda *_: ())


def accept_webhooks(database: Database, number: int) -> None:
    counted = {TallyKey("shop", "accepted", ""): KindCount(number)}
    with database.write() as connection:
        tallies.add(connection, "aaaaaa", counted, at=tallies.beginning(NOW - MINUTE, MINUTE))


def test_readers_share_the_findings_while_many_webhooks_arrive(database, monkeypatch):
    monkeypatch.setattr(gathering, "MANY_WEBHOOKS", 10)
    monkeypatch.setattr(shared_results, "LEAST_REUSE", 60.0)
    known = facts()
    accept_webhooks(database, 10)
    assert [standing(database, known, now=NOW + n * MINUTE).examined_at for n in range(2)] == [NOW, NOW]


def test_findings_are_examined_for_each_reader_while_few_webhooks_arrive(database, monkeypatch):
    monkeypatch.setattr(shared_results, "LEAST_REUSE", 60.0)
    known = facts()
    accept_webhooks(database, 10)
    assert standing(database, known, now=NOW).examined_at == NOW
    assert standing(database, known, now=NOW + MINUTE).examined_at == NOW + MINUTE


def test_findings_are_examined_anew_once_one_is_recorded_because_live_pages_are_then_fetched(database, monkeypatch):
    monkeypatch.setattr(gathering, "MANY_WEBHOOKS", 10)
    monkeypatch.setattr(shared_results, "LEAST_REUSE", 60.0)
    known = facts()
    accept_webhooks(database, 10)
    assert standing(database, known, now=NOW).examined_at == NOW
    # The watch finds another one.
    found = Finding("silence", "shop", NOW, "The source shop is silent.", "Ask its sender.", about="shop")
    update_record(database, [found], now=NOW)
    assert [standing(database, known, now=NOW + n * MINUTE).examined_at for n in (1, 2)] == [NOW + MINUTE] * 2


def test_an_acknowledgement_shows_at_once_in_shared_findings(database, monkeypatch):
    monkeypatch.setattr(gathering, "MANY_WEBHOOKS", 10)
    monkeypatch.setattr(shared_results, "LEAST_REUSE", 60.0)
    found = Finding("silence", "shop", NOW, "The source shop is silent.", "Ask its sender.")
    monkeypatch.setattr(gathering, "findings", lambda _: [found])
    update_record(database, [found], now=NOW)
    known = facts()
    accept_webhooks(database, 10)
    assert [each.acknowledged_by for each in standing(database, known, now=NOW).items] == [None]
    acknowledge(database, Asked(by=By("ops-1", Via.API), what="acknowledge"), found.id, now=NOW)
    assert standing(database, known, now=NOW + MINUTE).examined_at == NOW
    assert [each.acknowledged_by for each in standing(database, known, now=NOW + MINUTE).items] == ["ops-1"]


def test_each_reader_of_a_failing_examination_gets_its_error_and_the_next_one_reads_again(monkeypatch):
    monkeypatch.setattr(shared_results, "LEAST_REUSE", 60.0)
    shared = shared_results.SharedResult[int](is_large=lambda _: True)
    with pytest.raises(ZeroDivisionError):
        shared.get(lambda: 1 // 0, now=NOW)
    assert shared.get(lambda: 7, now=NOW) == (7, NOW)
    assert shared.get(lambda: 8, now=NOW + MINUTE) == (7, NOW)


def test_a_result_is_shared_for_a_minute_at_most_although_reading_it_took_long(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(shared_results, "monotonic", lambda: clock[0])

    def read_during_a_pause_of_the_process() -> int:
        clock[0] += 3_600.0
        return 7

    shared = shared_results.SharedResult[int](is_large=lambda _: True)
    assert shared.get(read_during_a_pause_of_the_process, now=NOW) == (7, NOW)
    clock[0] += shared_results.LONGEST_REUSE
    assert shared.get(lambda: 8, now=NOW + MINUTE) == (8, NOW + MINUTE)
