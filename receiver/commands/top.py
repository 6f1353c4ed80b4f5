"""`hookmirror top`: the overview in the terminal, refreshed every two seconds."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from receiver.codec import encode
from receiver.commands.client import TokenOption, ToOption, client_of
from receiver.commands.client_protocol import Client, NoAnswer
from receiver.commands.options import JsonFlag
from receiver.commands.pace import PACE_KINDS, PACE_WINDOW, pace_of
from receiver.commands.pagination import all_pages
from receiver.commands.tables import UNFOLDED, cell
from receiver.database.page_sizes import LARGEST_PAGE
from receiver.errors import Unavailable
from receiver.logs.safe_text import told, whole_sentence
from receiver.moments import time_text

#: Seconds between two frames.
REFRESH = 2.0

#: The most findings in one frame.
MOST_SHOWN_FINDINGS = 8

SOURCE_HEADINGS = (
    *("source", "last delivery", "per minute", "ended per minute", "unchanged", "pending", "drains in", "dead"),
    *("oldest pending", "freshness"),
)
PROCESS_HEADINGS = ("process", "pid", "kind", "release", "since")


@dataclass(frozen=True, slots=True)
class Frame:
    """The data of one frame."""

    as_of: datetime
    sources: list[dict[str, Any]]
    processes: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    #: The time and reason of a lost connection; both empty while the receiver answers.
    lost: tuple[datetime, str] | None = field(default=None)

    def members(self) -> dict[str, Any]:
        """The frame as a JSON object."""
        lost = None if self.lost is None else {"since": self.lost[0], "reason": self.lost[1]}
        told = {"as_of": self.as_of, "sources": self.sources, "processes": self.processes, "findings": self.findings}
        return {**told, "lost": lost}


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame, and end.")] = False,
    to: ToOption = None,
    token: TokenOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show sources, processes and findings, refreshed until Ctrl-C."""
    asked = client_of(to, token)
    frame = look(asked)
    if once or as_json:
        if as_json:
            typer.echo(encode(frame.members()))
        else:
            width = None if sys.stdout.isatty() else UNFOLDED
            Console(width=width, highlight=False).print(drawn(frame, datetime.now(UTC)))
        return
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with Live(drawn(frame, datetime.now(UTC)), auto_refresh=False, screen=sys.stdout.isatty()) as live:
        while not stopping.wait(REFRESH):
            frame = _next(asked, frame)
            live.update(drawn(frame, datetime.now(UTC)), refresh=True)


def look(asked: Client) -> Frame:
    """Read the data of one frame. Raises `HookmirrorError` if a request fails."""
    as_of = datetime.now(UTC)
    tallies = _tallies(asked)
    sources = [_source(asked, each, tallies) for each in asked.ask("/api/v1/stats", {}, {})["sources"]]
    processes = asked.ask("/api/v1/processes", {}, {})["items"]
    findings = asked.ask("/api/v1/findings", {}, {})["items"]
    return Frame(as_of, sources, processes, findings)


def _next(asked: Client, last: Frame) -> Frame:
    """Read the next frame; without an answer, return the last one with the reason."""
    try:
        return look(asked)
    except (NoAnswer, Unavailable, SQLAlchemyError) as error:
        since = datetime.now(UTC) if last.lost is None else last.lost[0]
        return Frame(last.as_of, last.sources, last.processes, last.findings, (since, told(error)))


def _tallies(asked: Client) -> list[dict[str, Any]]:
    """Read the tallies of the last minutes, from which the pace of the sources is computed."""
    found: list[dict[str, Any]] = []
    after = f"{PACE_WINDOW.total_seconds():.0f}s"
    for kind in PACE_KINDS:
        query = {"after": after, "limit": LARGEST_PAGE, "kind": kind}
        for page in all_pages(asked, "/api/v1/tallies", query, place="after"):
            found += page["items"]
    return found


def _source(asked: Client, each: Mapping[str, Any], tallies: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the deliveries of the last minute and the pace to a source."""
    query = {"source": each["source"], "from": "1m", "limit": 1, "count": True}
    counted = asked.ask("/api/v1/deliveries", {}, query)["matching"]
    states = each["states"]
    pending = states.get("pending", 0) + states.get("processing", 0)
    pace = pace_of((tally for tally in tallies if tally["source"] == each["source"]), pending)
    return {
        "source": each["source"],
        "last_delivery_at": each["last_delivery_at"],
        "per_minute": counted["says"],
        "pending": pending,
        "dead": states.get("dead", 0),
        "oldest_pending_seconds": each["oldest_pending_seconds"],
        "freshness_seconds": each["freshness_seconds"],
        **pace._asdict(),
    }


# ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def drawn(frame: Frame, now: datetime) -> Group:
    """Draw the frame."""
    if frame.lost is None:
        state = Text(f"as of {time_text(frame.as_of)}", style="bold")
    else:
        since, reason = frame.lost
        words = f"as of {time_text(frame.as_of)}: no answer since {time_text(since)}, {cell(reason)}"
        state = Text(words, style="bold red")
    parts: list[Any] = [state, Text(""), _sources(frame, now), Text(""), _processes(frame, now), Text("")]
    return Group(*parts, *_findings(frame))


def _sources(frame: Frame, now: datetime) -> Table:
    table = _table(SOURCE_HEADINGS)
    for each in frame.sources:
        ages = [_seconds(each[name]) for name in ("oldest_pending_seconds", "freshness_seconds")]
        share = each["unchanged_share"]
        unchanged = "–" if share is None else f"{share:.0%}"
        came = [cell(each["per_minute"]), cell(each["ended_per_minute"]), unchanged]
        left = [cell(each["pending"]), _drains_in(each), cell(each["dead"])]
        values = [cell(each["source"]), _ago(each["last_delivery_at"], now), *came, *left, *ages]
        table.add_row(*(Text(value) for value in values), style="red" if each["dead"] else "")
    return table


def _drains_in(each: Mapping[str, Any]) -> str:
    """Format the time until nothing is pending; for a growing backlog, counted from a pause of the sender."""
    if not each["pending"]:
        return "–"
    if each["drains_in_seconds"] is None:
        return "unknown"
    return _seconds(each["drains_in_seconds"]) + (" after it ends" if each["grows"] else "")


def _processes(frame: Frame, now: datetime) -> Table | Text:
    if not frame.processes:
        return Text("No process is running.", style="bold red")
    table = _table(PROCESS_HEADINGS)
    for each in frame.processes:
        named = [cell(each[name]) for name in ("host", "pid", "kind", "release")]
        table.add_row(*(Text(value) for value in (*named, _ago(each["started_at"], now))))
    return table


def _findings(frame: Frame) -> list[Text]:
    if not frame.findings:
        return [Text("Nothing needs you.")]
    shown = frame.findings[:MOST_SHOWN_FINDINGS]
    lines = [Text(f"{cell(whole_sentence(each['says']))} {cell(each['mend'])}") for each in shown]
    more = len(frame.findings) - len(lines)
    return [*lines, *([Text(f"And {more} more: `hookmirror findings`.")] if more else [])]


def _table(headings: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading.upper())
    return table


def _ago(moment: str | None, now: datetime) -> str:
    if moment is None:
        return "never"
    try:
        known = datetime.fromisoformat(moment)
    except ValueError:
        return cell(moment)
    return f"{_seconds(max((now - known).total_seconds(), 0.0))} ago"


def _seconds(value: Any) -> str:
    """Format seconds in a suitable unit."""
    if value is None:
        return "–"
    seconds = float(value)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"
