"""Overview: what needs somebody, how the sources stand, and how it went."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from markupsafe import Markup

from receiver.api.findings import FindingList, FindingShown
from receiver.api.operations import Parameter
from receiver.api.parameters import one_of
from receiver.api.stats import SourceStatistics, Statistics
from receiver.console.charts import Bar, Segment, drawn
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit
from receiver.findings import tallies


class Period(StrEnum):
    """How far back the chart goes."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


#: The length of each period, and that of one bar.
PERIODS = {
    Period.HOUR: (timedelta(hours=1), timedelta(minutes=1)),
    Period.DAY: (timedelta(days=1), timedelta(minutes=20)),
    Period.WEEK: (timedelta(days=7), timedelta(hours=2)),
}

PERIOD: Parameter[Period] = Parameter(
    "period", {"type": "string", "enum": [*map(str, Period)]}, "How far back.", one_of(Period, "period"), Period.HOUR
)

#: What the chart shows, from the bottom up; the first three are states in which deliveries ended.
CHARTED = ("processed", "ignored", "dead", "refused")


class Overview(NamedTuple):
    """What the template shows."""

    findings: list[FindingShown]
    sources: list[SourceStatistics]
    #: The latest arrival of all sources.
    last_delivery_at: datetime | None
    period: Period
    bars: list[Bar]
    chart: Markup


def show_overview(visit: Visit) -> Overview:
    """Findings first; then the sources, and the chart."""
    found = visit.ask(FindingList, "list_findings")
    sources = visit.ask(Statistics, "show_stats", brief="true").sources
    period = visit.value(PERIOD)
    # What was refused under no source's name is of the source "".
    bars = _bars(visit, period, ["", *(each.source for each in sources)])
    return Overview(
        findings=found.items,
        sources=sources,
        last_delivery_at=max((each.last_delivery_at for each in sources if each.last_delivery_at), default=None),
        period=period,
        bars=bars,
        chart=drawn(bars, title=f"Deliveries and refused requests of the last {period}"),
    )


def _bars(visit: Visit, period: Period, sources: list[str]) -> list[Bar]:
    length, width = PERIODS[period]
    first = tallies.beginning(visit.now - length, width) + width
    with visit.database.read() as connection:
        counted = tallies.by_kind(connection, sources, ("ended", "refused"), first, visit.now)
    numbers: dict[tuple[datetime, str], int] = {}
    for each in counted:
        kind = each.kind if each.kind == "refused" else each.detail.partition("/")[0]
        key = (tallies.beginning(each.at, width), kind)
        numbers[key] = numbers.get(key, 0) + each.number
    return [_bar(visit, first + place * width, width, numbers) for place in range(int(length / width))]


def _bar(visit: Visit, at: datetime, width: timedelta, numbers: dict[tuple[datetime, str], int]) -> Bar:
    segments = tuple(Segment(kind, numbers.get((at, kind), 0)) for kind in CHARTED)
    link = visit.to("/deliveries", {"from": at.isoformat(), "to": (at + width).isoformat()})
    return Bar(at, segments, link)


PAGES = (
    ConsolePage(
        name="overview",
        path="/",
        title="Overview",
        template="overview.html",
        operation="list_findings",
        command="hookmirror findings",
        show=show_overview,
        menu="Overview",
        parameters=(PERIOD,),
        live=("deliveries", "runs", "findings"),
    ),
)

BUTTONS = (
    Button(
        name="acknowledge_finding",
        path="/findings/{id}/acknowledge",
        label="I know of it",
        operation="acknowledge_finding",
        command="hookmirror findings --acknowledge {id}",
        says="Noted: its alarm is silent until it closes.",
    ),
)
