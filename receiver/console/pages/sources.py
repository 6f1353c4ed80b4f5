"""Sources: the health of all, a line for each; and one source with its chart, secrets, event types and settings."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

from receiver.api.errands import SentTestEvent
from receiver.api.runs import RunChanged
from receiver.api.sources import AllSources, Health, SecretUse, SourceShown, WholeSource
from receiver.console.page import Button, ConsolePage
from receiver.console.periods import PERIOD, Chart, charted
from receiver.console.visit import Visit, shaped
from receiver.metrics.few_names import TEST_EVENT_TYPE, is_whole_type

#: The most secrets without use that are shown one by one. A sender with many addresses may have hundreds.
MOST_IDLE_SECRETS = 5


class SourcesShown(NamedTuple):
    """The values for the template of all sources."""

    items: list[SourceShown]
    unwell: int
    #: Their health, in one sentence.
    says: str


class SourcePage(NamedTuple):
    """The values for the template of one source."""

    source: WholeSource
    chart: Chart
    #: The secrets that are shown one by one, and the number of the others, which verified nothing.
    secrets: list[SecretUse]
    unused: int
    #: The ignored event types that have a list of their own: neither cut nor several counted together.
    whole_types: frozenset[str]


def show_sources(visit: Visit) -> SourcesShown:
    """All sources, in the order of unwell, unknown and well."""
    found = visit.ask(AllSources, "list_sources").items
    order = {Health.UNWELL: 0, Health.UNKNOWN: 1, Health.WELL: 2}
    unwell = sum(each.health is Health.UNWELL for each in found)
    unknown = sum(each.health is Health.UNKNOWN for each in found)
    return SourcesShown(sorted(found, key=lambda each: order[each.health]), unwell, _says(len(found), unwell, unknown))


def _says(number: int, unwell: int, unknown: int) -> str:
    silent = f" No webhook has come yet from {unknown}." if unknown else ""
    if unwell:
        return f"{unwell} of {number} {'needs' if unwell == 1 else 'need'} you.{silent}"
    return f"None of {number} needs you.{silent}"


def show_one_source(visit: Visit) -> SourcePage:
    """One source, with a chart of its deliveries."""
    found = visit.ask(WholeSource, "show_source", source=visit.path["source"])
    chart = charted(visit, [found.source], only=found.source, title=f"Deliveries of {found.source}")
    idle = [each for each in found.secrets if each.last_at is None and each.position != "0"][MOST_IDLE_SECRETS:]
    whole = frozenset(each.event_type for each in found.ignored if is_whole_type(each.event_type))
    return SourcePage(found, chart, [each for each in found.secrets if each not in idle], len(idle), whole)


def _planned(_: Visit, answer: Any) -> str:
    return f"/runs/{quote(shaped(answer, RunChanged).run, safe='')}"


def _answered(answer: SentTestEvent) -> str:
    if answer.again:
        return f"This form was sent before, and no event was sent now. Its answer: {answer.says}"
    return answer.says


def _tested(visit: Visit, answer: SentTestEvent) -> str:
    """The page of the delivery that stores the event; without one, the page of the source."""
    return f"/deliveries/{answer.delivery}" if answer.delivery else f"/sources/{quote(visit.path['source'], safe='')}"


PAGES = (
    ConsolePage(
        name="sources",
        path="/sources",
        title="Sources",
        template="sources.html",
        operation="list_sources",
        command="hookmirror sources",
        show=show_sources,
        menu="Sources",
        live=("deliveries", "runs", "findings"),
    ),
    ConsolePage(
        name="source",
        path="/sources/{source}",
        title="A source",
        template="source.html",
        operation="show_source",
        command="hookmirror sources {source}",
        show=show_one_source,
        parameters=(PERIOD,),
        live=("deliveries", "runs", "findings"),
    ),
)

BUTTONS = (
    Button(
        name="plan_reconcile",
        path="/sources/{source}/reconcile",
        label="Plan a reconcile",
        operation="plan_run",
        command="hookmirror runs plan reconcile {source}",
        says="The plan is being made. Nothing is changed before you start it.",
        then=_planned,
        given=(("kind", "reconcile"),),
        leaves_out=("force",),
    ),
    Button(
        name="send_test_event",
        path="/sources/{source}/test",
        label="Send a test event",
        operation="send_test_event",
        command=f"hookmirror send {{source}} {TEST_EVENT_TYPE}",
        says=_answered,
        then=_tested,
    ),
)
