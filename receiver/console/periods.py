"""Periods: the deliveries of the last hour, day or week as bars that lead to lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from markupsafe import Markup

from receiver.api.operations import Parameter
from receiver.api.parameters import one_of
from receiver.console.charts import Bar, Segment, drawn
from receiver.console.visit import Visit
from receiver.findings import tallies
from receiver.findings.counting import ENDS, ENDS_ON_ARRIVAL, RUNNING
from receiver.runs.runs import newest_started


class Period(StrEnum):
    """The period that the chart covers."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


#: The length of each period, and that of one bar.
PERIODS = {
    Period.HOUR: (timedelta(hours=1), timedelta(minutes=1)),
    Period.DAY: (timedelta(days=1), timedelta(minutes=20)),
    Period.WEEK: (timedelta(days=7), timedelta(hours=2)),
}

#: The length of one bar in words.
BAR_WORDS = {Period.HOUR: "a minute", Period.DAY: "20 minutes", Period.WEEK: "two hours"}

PERIOD: Parameter[Period] = Parameter(
    "period", {"type": "string", "enum": [*map(str, Period)]}, "How far back.", one_of(Period, "period"), Period.HOUR
)

#: The kinds of tallies that a chart counts.
CHARTED_KINDS = (ENDS, ENDS_ON_ARRIVAL, "refused")

#: The counts in a bar, from the bottom up. The first three are states in which deliveries end.
CHARTED = ("processed", "ignored", "dead", "refused")

#: Most runs that become marks; the newest ones are taken.
MOST_MARKED_RUNS = 50


class Chart(NamedTuple):
    """A chart for the template to draw, and to list as numbers."""

    period: Period
    bars: list[Bar]
    drawing: Markup
    #: The end of the last bar.
    until: datetime

    @property
    def highest(self) -> int:
        """The number at the top of the drawing."""
        return max((bar.total for bar in self.bars), default=0)

    @property
    def of_bar(self) -> str:
        """The length of one bar in words."""
        return BAR_WORDS[self.period]


def charted(visit: Visit, sources: Sequence[str], *, only: str | None = None, title: str) -> Chart:
    """The chart of these sources in the period of the page. With `only`, its links lead to lists of that source."""
    period = visit.value(PERIOD)
    length, width = PERIODS[period]
    first = tallies.beginning(visit.now - length, width) + width
    with visit.database.read() as connection:
        if width % tallies.HOUR:
            counted = tallies.by_kind(connection, sources, CHARTED_KINDS, first, visit.now, width=width)
            ran = tallies.details(connection, [""], RUNNING, first - width, visit.now)
            began = {each.detail: each.first for each in ran}
        else:
            counted = visit.past_hours.by_kind(connection, sources, CHARTED_KINDS, first, visit.now)
            hours = visit.past_hours.by_kind(connection, [""], (RUNNING,), first - width, visit.now)
            began = {each.detail: each.at for each in sorted(hours, key=lambda each: each.at, reverse=True)}
        runs = newest_started(connection, limit=MOST_MARKED_RUNS)
    numbers: dict[tuple[datetime, str], int] = {}
    for each in counted:
        kind = each.kind if each.kind == "refused" else each.detail.partition("/")[0]
        key = (tallies.beginning(each.at, width), kind)
        numbers[key] = numbers.get(key, 0) + each.number
    # A release that ran at the beginning of the period did not start in it.
    started = [
        (at, f"release {detail.partition(' ')[0]} started") for detail, at in began.items() if at > min(began.values())
    ]
    begun = [(run.started_at, f"{run.kind} {run.id} started") for run in runs if only is None or only in run.sources]
    marks = _marks([*started, *begun], width)
    places = [first + place * width for place in range(int(length / width))]
    bars = [_bar(visit, at, width, numbers, marks.get(at, ""), only) for at in places]
    return Chart(period, bars, drawn(bars, title=f"{title} of the last {period}"), places[-1] + width)


def _marks(events: Sequence[tuple[datetime, str]], width: timedelta) -> Mapping[datetime, str]:
    """The events in each span of time, in words."""
    found: dict[datetime, list[str]] = {}
    for at, says in events:
        found.setdefault(tallies.beginning(at, width), []).append(says)
    return {at: ", ".join(said) for at, said in found.items()}


def _bar(
    visit: Visit,
    at: datetime,
    width: timedelta,
    numbers: Mapping[tuple[datetime, str], int],
    mark: str,
    only: str | None,
) -> Bar:
    # What ends as dead has usually arrived long before, and what is refused is no delivery.
    links = {
        "dead": visit.to("/deliveries", {"source": only, "state": "dead"}),
        "refused": visit.to("/refused", {"source": only}),
    }
    segments = tuple(Segment(kind, numbers.get((at, kind), 0), links.get(kind, "")) for kind in CHARTED)
    arrived = visit.to("/deliveries", {"source": only, "from": at.isoformat(), "to": (at + width).isoformat()})
    return Bar(at, segments, arrived, mark)
