"""The report for people and for programs, the progress, and the receiver's own statistics."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

import httpx
import pytest
from rich.console import Console
from waiting import TIMEOUT

from receiver import codec
from simulator import progress as progress_module
from simulator.convergence import Comparison, Difference
from simulator.delivery import Log
from simulator.progress import look, picture, progress
from simulator.report import SHOWN, SourceReport, milliseconds, show
from simulator.stats import read_stats, recounted

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)


def report(*, comparison=None, outcomes=None, states=None, events=3, seconds=2.0, **log):
    log = {"messages": 3, "sent": 4, "acked": 4, "arrived": {1, 2, 3}, **log}
    found = Log(**log)
    return SourceReport(
        source="sigma",
        events=events,
        log=found,
        outcomes=outcomes or {},
        states=states or {},
        seconds=seconds,
        comparison=comparison,
    )


def printed(*reports, width=120):
    output = StringIO()
    show(Console(file=output, width=width), reports)
    return output.getvalue()


def difference(name="A1", table="products"):
    return Difference(table, name, "price", Decimal("10.00"), "9.00")


def test_the_report_counts_accepted_retried_and_given_up_messages_and_their_speed():
    text = printed(report(retries=2, given_up=1, latencies=[0.001, 0.009], reasons=Counter({"503 unavailable": 2})))
    for heading in ("accepted", "retried", "given up", "acks/s", "p50 ms", "p99 ms"):
        assert heading in text
    assert "2.0" in text
    assert "not acked: 503 unavailable (2 times); given up after the last try: 1" in text


def test_an_equal_mirror_is_reported_with_its_number_of_rows():
    assert "equal (7)" in printed(report(comparison=Comparison(rows=7)))


def test_differences_are_listed_up_to_a_number_and_the_rest_is_counted():
    differences = [difference(f"A{number}") for number in range(SHOWN + 3)]
    text = printed(report(comparison=Comparison(rows=30, differences=differences)))
    assert "sigma: products A0: price is '9.00', must be '10.00'" in text
    assert f"products A{SHOWN}:" not in text
    assert "and 3 more; --json shows all" in text


def test_rows_that_only_a_reconcile_repairs_are_named():
    comparison = Comparison(rows=1, only_reconcile=[difference()], listed=frozenset({"products"}))
    assert "lost for good; only a reconcile can repair these rows: products A1" in printed(
        report(comparison=comparison)
    )


def test_rows_without_a_list_wait_for_their_next_event():
    comparison = Comparison(rows=1, only_reconcile=[difference(table="options")], listed=frozenset({"products"}))
    text = printed(report(comparison=comparison))
    assert "the source has no list, so only the next event can repair these rows: options A1" in text


def test_forgeries_are_reported_with_their_answers():
    text = printed(report(spoiled=3, believed=1, refusals=Counter({401: 2, 200: 1})))
    assert "3 forged or damaged requests got: 401 (2 times), 200 (1 times)" in text
    assert "1 forged or damaged requests were acked" in text


def test_outcomes_states_and_losses_are_reported():
    text = printed(
        report(outcomes={"applied": 5, "stale": 0}, states={"dead": 1, "processed": 5}, arrived={1}, retries=4)
    )
    assert "sigma: applied 5, dead 1, retries 4, events lost 2" in text


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (report(comparison=Comparison(rows=7)), "Right: the mirror equals the senders' own catalogs, row by row."),
        (
            report(comparison=Comparison(only_reconcile=[difference()])),
            "Right: the mirror equals the senders' own catalogs, row by row, except rows with lost events.",
        ),
        (report(comparison=Comparison(), believed=1), "Not right: sigma. The lines above say what is wrong."),
    ],
)
def test_the_last_line_beside_a_mirror_is_the_verdict(found, says: str):
    assert printed(found).splitlines()[-1] == says


@pytest.mark.parametrize("comparison", [None, Comparison(rows=7)])
def test_the_table_fits_a_narrow_terminal(comparison):
    text = printed(report(comparison=comparison, events=10_000, sent=12_345, acked=12_345, latencies=[0.1]), width=80)
    assert "…" not in text


@pytest.mark.parametrize(
    ("found", "good"),
    [
        (report(), True),
        (report(comparison=Comparison(only_reconcile=[difference()])), True),
        (report(comparison=Comparison(differences=[difference()])), False),
        (report(given_up=1), False),
        (report(believed=1), False),
        (replace(report(), unchecked="nobody answers"), False),
    ],
)
def test_a_run_is_good_if_the_mirror_is_right_and_no_forgery_was_accepted(found, good):
    assert found.good is good


def test_the_json_report_has_everything():
    comparison = Comparison(rows=2, differences=[difference()], only_reconcile=[difference("B2")])
    document = codec.decode(codec.encode(report(comparison=comparison, statuses=Counter({200: 4})).as_json()))
    assert document["mirror"]["differences"][0] == {
        "table": "products",
        "external_id": "A1",
        "column": "price",
        "expected": "10.00",
        "found": "9.00",
    }
    assert document["mirror"]["rows_to_reconcile"] == ["products B2"]
    assert (document["acks_per_second"], document["statuses"], document["lost"]) == (2, {"200": 4}, 0)


@pytest.mark.parametrize(
    ("latencies", "share", "expected"),
    [
        ([], 0.5, None),
        ([0.001], 0.99, 1.0),
        ([0.004, 0.001, 0.002, 0.003], 0.5, 3.0),
        ([0.1] * 99 + [0.5], 0.99, 500.0),
    ],
)
def test_a_percentile_is_the_latency_that_this_share_does_not_exceed(latencies, share, expected):
    assert milliseconds(latencies, share) == expected


STATS = {
    "sources": [
        {
            "source": "sigma",
            "states": {"pending": 2, "processing": 1, "processed": 5, "ignored": 0, "dead": 1},
            "outcomes": {"applied": 5},
            "duplicates": 0,
            "oldest_pending_seconds": None,
            "freshness_seconds": 0.25,
            "last_delivery_at": None,
            "counted_at": "2026-03-08T12:00:00Z",
        }
    ]
}


def client(answer):
    return httpx.AsyncClient(base_url="http://receiver", transport=httpx.MockTransport(answer))


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Let a poll take longer than a machine stands still, except where a test sets the limit."""
    monkeypatch.setattr(progress_module, "PROGRESS_TIMEOUT", TIMEOUT)


class Sending:
    """Stands for a courier, with the parts that the progress reads."""

    def __init__(self, **log):
        self.log = Log(**log)


def test_the_statistics_count_open_and_ended_deliveries():
    found = asyncio.run(read_stats(client(lambda _: httpx.Response(200, json=STATS))))["sigma"]
    assert (found.open, found.finished, found.freshness) == (3, 6, 0.25)


def test_a_count_from_before_the_question_is_not_taken_for_the_final_one():
    (sigma,) = STATS["sources"]
    answers = [sigma | {"counted_at": f"2026-03-08T12:00:0{second}Z"} for second in (0, 0, 1)]
    answering = client(lambda _: httpx.Response(200, json={"sources": [answers.pop(0)]}))
    found = asyncio.run(recounted(answering))["sigma"]
    assert (found.counted_at, answers) == ("2026-03-08T12:00:01Z", [])


def test_the_progress_shows_sent_acked_processed_and_freshness():
    stats = asyncio.run(look(client(lambda _: httpx.Response(200, json=STATS))))
    output = StringIO()
    Console(file=output, width=100).print(picture({"sigma": Sending(sent=8, acked=7), "sticky": Sending()}, stats))
    lines = output.getvalue().splitlines()
    assert [heading in lines[2] for heading in ("source", "sent", "acked", "processed", "freshness")] == [True] * 5
    assert next(line.split("│")[1:-1] for line in lines if "sigma" in line)[-1].strip() == "0.25 s"
    assert next(line for line in lines if "sticky" in line).count("–") == 1


def test_a_receiver_that_does_not_answer_does_not_stop_the_progress():
    assert asyncio.run(look(client(lambda _: httpx.Response(500)))) == {}
    assert asyncio.run(look(client(lambda _: httpx.Response(200, text="<html>")))) == {}
    assert asyncio.run(look(None)) == {}


def test_a_receiver_that_hangs_neither_delays_the_end_of_a_run_nor_hides_its_error(monkeypatch):
    monkeypatch.setattr(progress_module, "PROGRESS_TIMEOUT", 0.05)
    output = StringIO()

    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def scene():
        async with progress(Console(file=output), {"sigma": Sending(sent=8, acked=7)}, client(never)):
            raise ConnectionError("the receiver ended")

    with pytest.raises(ConnectionError, match="the receiver ended"):
        asyncio.run(asyncio.wait_for(scene(), TIMEOUT))
    assert without_time(output) == "8 sent, 7 acked\n"


def test_a_run_cancelled_during_the_last_poll_ends():
    looking = asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        looking.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def run():
        async with progress(Console(file=StringIO()), {"sigma": Sending()}, client(never)):
            pass

    async def scene():
        running = asyncio.create_task(run())
        await asyncio.wait_for(looking.wait(), TIMEOUT)
        running.cancel()
        await asyncio.wait([running], timeout=TIMEOUT)
        return running.cancelled()

    assert asyncio.run(scene())


def test_without_a_terminal_the_progress_is_a_line_at_intervals(monkeypatch):
    monkeypatch.setattr(progress_module, "LINE", 0.01)
    output = StringIO()

    async def scene():
        async with progress(Console(file=output), {"sigma": Sending(sent=8, acked=7)}, None):
            while "acked" not in output.getvalue():
                await asyncio.sleep(0.005)

    asyncio.run(scene())
    assert "8 sent, 7 acked" in output.getvalue()


def without_time(output: StringIO) -> str:
    """The lines without the seconds since the beginning, which a busy machine makes more."""
    return re.sub(r"(?m)^\d+ s: ", "", output.getvalue())


def test_without_a_terminal_a_line_sums_the_receiver_s_statistics_over_all_sources():
    output = StringIO()
    stats = {"sources": [*STATS["sources"], STATS["sources"][0] | {"source": "sticky", "freshness_seconds": 1.5}]}
    receiver = client(lambda _: httpx.Response(200, json=stats))

    async def scene():
        async with progress(Console(file=output), {"sigma": Sending(sent=8, acked=7)}, receiver):
            await asyncio.sleep(0)

    asyncio.run(scene())
    assert without_time(output) == "8 sent, 7 acked, 12 processed, freshness 1.50 s\n"


def test_the_last_line_of_the_progress_has_the_final_numbers():
    output, sending = StringIO(), Sending(sent=8, acked=7)

    async def scene():
        async with progress(Console(file=output), {"sigma": sending}, None):
            await asyncio.sleep(0)
            sending.log.acked = 8

    asyncio.run(scene())
    assert without_time(output) == "8 sent, 8 acked\n"


def test_on_a_terminal_the_progress_is_a_table():
    output = StringIO()

    async def scene():
        async with progress(Console(file=output, force_terminal=True), {"sigma": Sending(sent=8)}, None):
            while "sigma" not in output.getvalue():
                await asyncio.sleep(0.005)

    asyncio.run(scene())
    assert "processed" in output.getvalue()
