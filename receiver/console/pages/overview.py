"""Overview: findings, the state of the sources, and a chart of the deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from receiver.api.findings import FindingList, FindingShown
from receiver.api.stats import SourceStatistics, Statistics
from receiver.console.page import Button, ConsolePage
from receiver.console.periods import PERIOD, Chart, charted
from receiver.console.visit import Visit


class Overview(NamedTuple):
    """The values for the template."""

    findings: list[FindingShown]
    #: The time at which the rules were evaluated.
    examined_at: datetime
    sources: list[SourceStatistics]
    #: The latest arrival of any source.
    last_delivery_at: datetime | None
    chart: Chart


def show_overview(visit: Visit) -> Overview:
    """The open findings, the sources, and the chart."""
    found = visit.ask(FindingList, "list_findings")
    sources = visit.ask(Statistics, "show_stats", brief="true").sources
    return Overview(
        findings=found.items,
        examined_at=found.examined_at,
        sources=sources,
        last_delivery_at=max((each.last_delivery_at for each in sources if each.last_delivery_at), default=None),
        # Requests to unknown sources are counted under the source "".
        chart=charted(visit, ["", *(each.source for each in sources)], title="Deliveries and refused requests"),
    )


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
        says="Noted: the alarm of this finding is silent until it closes.",
    ),
)
