"""The report of a run: for each source the messages sent, the answers received, and whether the mirror is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from simulator.convergence import Comparison, Difference, readable
from simulator.delivery import Log

#: Differences shown to a person, per source; `--json` has them all.
SHOWN = 20


@dataclass(slots=True)
class SourceReport:
    source: str
    events: int
    log: Log
    #: Outcomes and states as the receiver's statistics count them; empty if the receiver has no statistics.
    outcomes: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    #: Real seconds that sending took.
    seconds: float = 0.0
    #: The result of the comparison; None if no mirror was compared.
    comparison: Comparison | None = None
    #: The reason for which the requested comparison failed; None otherwise.
    unchecked: str | None = None

    @property
    def good(self) -> bool:
        """Whether the mirror is right, and the receiver acked all genuine messages that arrived and no spoiled one."""
        equal = self.comparison is None or self.comparison.equal
        return self.unchecked is None and equal and self.log.given_up == self.log.believed == 0

    def as_json(self) -> dict[str, Any]:
        log = self.log
        return {
            "source": self.source,
            "events": self.events,
            "messages": log.messages,
            "sent": log.sent,
            "acked": log.acked,
            "duplicates": log.duplicates,
            "retries": log.retries,
            "lost": self.events - len(log.arrived),
            "given_up": log.given_up,
            "spoiled": log.spoiled,
            "believed": log.believed,
            "refusals": {str(status): count for status, count in sorted(log.refusals.items())},
            "acks_per_second": round(log.acked / self.seconds, 1) if self.seconds else None,
            "statuses": {str(status): count for status, count in sorted(log.statuses.items())},
            "reasons": dict(log.reasons),
            "ack_p50_ms": milliseconds(log.latencies, 0.50),
            "ack_p99_ms": milliseconds(log.latencies, 0.99),
            "states": self.states,
            "outcomes": self.outcomes,
            "mirror": comparison_as_json(self.comparison),
            "unchecked": self.unchecked,
        }


def comparison_as_json(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    return {
        "equal": comparison.equal,
        "rows": comparison.rows,
        "differences": [difference_as_json(difference) for difference in comparison.differences],
        "only_reconcile": [difference_as_json(difference) for difference in comparison.only_reconcile],
        "rows_to_reconcile": comparison.rows_to_reconcile,
        "rows_beyond": comparison.rows_beyond,
    }


def difference_as_json(difference: Difference) -> dict[str, Any]:
    return {
        "table": difference.table,
        "external_id": difference.external_id,
        "column": difference.column,
        "expected": readable(difference.expected),
        "found": readable(difference.found),
    }


def milliseconds(latencies: Sequence[float], share: float) -> float | None:
    """Return the latency in milliseconds that this share (0 to 1) of the acks does not exceed; None without acks."""
    if not latencies:
        return None
    position = min(len(latencies) - 1, int(len(latencies) * share))
    return round(sorted(latencies)[position] * 1000, 1)


#: The columns of the table, as heading and key of the report: COMPARED if a mirror was compared, else ANSWERED.
COMPARED = {
    "events": "events",
    "deliveries": "sent",
    "duplicates": "duplicates",
    "p50 ms": "ack_p50_ms",
    "p99 ms": "ack_p99_ms",
}
ANSWERED = {
    "events": "events",
    "sent": "sent",
    "accepted": "acked",
    "retried": "retries",
    "given up": "given_up",
    "acks/s": "acks_per_second",
    "p50 ms": "ack_p50_ms",
    "p99 ms": "ack_p99_ms",
}


def show(console: Console, reports: Sequence[SourceReport]) -> None:
    """Print the table, and below it the differences with their rows and columns."""
    compared = any(report.comparison for report in reports)
    headings = COMPARED if compared else ANSWERED
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title="Requests sent, and answers received")
    table.add_column("source", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    if compared:
        table.add_column("mirror (rows)", no_wrap=True)
    for report in reports:
        numbers = report.as_json()
        cells = ["–" if numbers[key] is None else str(numbers[key]) for key in headings.values()]
        table.add_row(report.source, *cells, *([verdict(report)] if compared else []))
    console.print(table)
    for report in reports:
        counts = ", ".join(f"{name} {count}" for name, count in counted(report).items() if count)
        if counts:
            say(console, report, counts)
    for report in reports:
        show_differences(console, report)
    for report in reports:
        if report.unchecked:
            say(console, report, f"not compared with the mirror: {report.unchecked}")
    if compared:
        console.print(conclusion(reports), markup=False, highlight=False, soft_wrap=True)


def conclusion(reports: Sequence[SourceReport]) -> str:
    """Say in one line whether the whole run is right."""
    bad = [report.source for report in reports if not report.good]
    if bad:
        return f"Not right: {', '.join(bad)}. The lines above say what is wrong."
    lost = any(report.comparison and report.comparison.only_reconcile for report in reports)
    aside = ", except rows with lost events" if lost else ""
    return f"Right: the mirror equals the senders' own catalogs, row by row{aside}."


def say(console: Console, report: SourceReport, text: str) -> None:
    console.print(f"{report.source}: {text}", markup=False, highlight=False, soft_wrap=True)


def counted(report: SourceReport) -> dict[str, int]:
    """Count the outcomes, the states without an outcome, the retries, and the lost events."""
    states = {name: report.states.get(name, 0) for name in ("pending", "ignored", "dead")}
    lost = report.events - len(report.log.arrived)
    return {**report.outcomes, **states, "retries": report.log.retries, "events lost": lost}


def verdict(report: SourceReport) -> str:
    comparison = report.comparison
    if comparison is None:
        return "not compared"
    if not comparison.equal:
        return f"[red]{len(comparison.differences)} differences[/red]"
    return f"[green]equal ({comparison.rows})[/green]"


def show_differences(console: Console, report: SourceReport) -> None:
    refused = ", ".join(f"{reason} ({count} times)" for reason, count in report.log.reasons.items())
    if refused:
        say(console, report, f"not acked: {refused}; given up after the last try: {report.log.given_up}")
    if report.log.spoiled:
        answers = ", ".join(f"{status or 'no answer'} ({count} times)" for status, count in report.log.refusals.items())
        say(console, report, f"{report.log.spoiled} forged or damaged requests got: {answers}")
    if report.log.believed:
        say(console, report, f"{report.log.believed} forged or damaged requests were acked: they must be refused")
    if report.comparison is None:
        return
    for difference in report.comparison.differences[:SHOWN]:
        say(console, report, str(difference))
    if len(report.comparison.differences) > SHOWN:
        say(console, report, f"and {len(report.comparison.differences) - SHOWN} more; --json shows all")
    say_rows(
        console, report, "lost for good; only a reconcile can repair these rows", report.comparison.rows_to_reconcile
    )
    what = "lost for good; the source has no list, so only the next event can repair these rows"
    say_rows(console, report, what, report.comparison.rows_beyond)


def say_rows(console: Console, report: SourceReport, what: str, rows: Sequence[str]) -> None:
    if rows:
        named = ", ".join(rows[:SHOWN]) + (" …" if len(rows) > SHOWN else "")
        say(console, report, f"{what}: {named}")
