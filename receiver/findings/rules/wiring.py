"""Rules about events without a handler, with a wrong date, or too few to keep the mirror right."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from urllib.parse import urlencode

from receiver.findings.finding import Finding
from receiver.findings.situation import Reconciled, Situation, total
from receiver.logs.wording import counted
from receiver.metrics.few_names import OTHERS, is_whole_type
from receiver.moments import clock_time

#: The share and the least number of differing rows that show that webhooks alone do not suffice.
DIFFERS, FEW_ROWS = 0.001, 2


def no_handler(situation: Situation) -> Iterator[Finding]:
    """Events arrive whose type has no handler."""
    for each in situation.unhandled:
        if each.handler is not None:
            continue
        wanted = {"source": each.source, "state": "ignored"}
        if is_whole_type(each.event_type):
            wanted["event_type"] = each.event_type
        ignored, types = f"{counted(each.number, 'delivery', 'deliveries')} {each.event_type}", "this event type"
        if each.event_type == OTHERS:
            ignored = counted(each.number, "delivery", "deliveries")
            types = "its event type" if each.number == 1 else "their event types, which are counted together"
        yield Finding(
            "no_handler",
            each.source,
            each.first,
            f"{ignored} of {each.source} {'was' if each.number == 1 else 'were'} ignored since "
            f"{clock_time(each.first, situation.now)}, because no handler takes {types}"
            + (f": was {each.likely} meant?" if each.likely is not None else ""),
            (f"If {each.likely} was meant, correct the event type at the sender. " if each.likely is not None else "")
            + "If you want these events, write a handler, or correct the event type of the handler that should take "
            "them; a finding then offers to replay the ignored ones. If not, acknowledge this, or register a handler "
            "that raises "
            "Discard.",
            {
                "ignored": each.number,
                "event_type": each.event_type,
                "likely": each.likely,
                "link": f"/api/v1/deliveries?{urlencode(wanted)}",
            },
            about=each.event_type,
        )


def handler_appeared(situation: Situation) -> Iterator[Finding]:
    """Ignored deliveries have a handler now."""
    for each in situation.wanted:
        event_type = shlex.quote(each.event_type)
        command = f"hookmirror replay --source {each.source} --state ignored --event-type {event_type}"
        yield Finding(
            "handler_appeared",
            each.source,
            each.first,
            f"{counted(each.number, 'delivery', 'deliveries')} {each.event_type} of {each.source} "
            f"{'was' if each.number == 1 else 'were'} ignored, and {each.handler} would take "
            f"{'it' if each.number == 1 else 'them'} now",
            f"Replay the ignored deliveries: `{command}`.",
            {"ignored": each.number, "event_type": each.event_type, "handler": each.handler, "command": command},
            about=each.event_type,
        )


def dated_in_the_future(situation: Situation) -> Iterator[Finding]:
    """Events are dated more than a day after their arrival."""
    for name in situation.sources:
        dated_back = situation.dated_back.get(name)
        found = situation.tallied(name, "misdated")
        tallies = [each for each in found if dated_back is None or each.at >= dated_back]
        if not tallies:
            continue
        yield Finding(
            "dated_in_the_future",
            name,
            tallies[0].at,
            f"{counted(total(tallies), 'event')} of {name} came dated more than a day in the future, so its sender's "
            "clock is wrong",
            "Set the clock at the sender, or check the format in which it writes times. Then run "
            f"`hookmirror reconcile {name} --misdated`, so that the rows concerned take news again.",
            {"events": total(tallies), "link": f"/api/v1/tallies?source={name}&kind=misdated"},
        )


def reconcile_fails(situation: Situation) -> Iterator[Finding]:
    """A reconcile by the schedule was given up, so nothing finds the webhooks that are lost meanwhile."""
    for each in situation.reconciles:
        if each.trouble is None or each.source not in situation.sources:
            continue
        yield Finding(
            "reconcile_fails",
            each.source,
            each.at,
            f"the reconcile of {each.source} that its schedule began at {clock_time(each.at, situation.now)} failed: "
            f"{each.trouble.rstrip('.')}",
            f"Mend the cause, then {_further(each)} Until then, rows whose webhooks were lost stay wrong.",
            {
                "run": str(each.run),
                "next_run": None if each.next_run is None else str(each.next_run),
                "link": f"/api/v1/runs/{each.run}",
            },
        )


def _further(failed: Reconciled) -> str:
    if failed.next_run is not None:
        return f"wait for run {failed.next_run}, which has begun since."
    return f"run `hookmirror reconcile {failed.source}`, or wait for the next one of the schedule."


def mirror_differs(situation: Situation) -> Iterator[Finding]:
    """A reconcile found more wrong rows than late webhooks explain."""
    for each in situation.reconciles:
        if each.wrong < FEW_ROWS or each.wrong <= each.compared * DIFFERS:
            continue
        cause, mend = _braked(each) if 2 * each.braked >= each.wrong else _unannounced(situation, each)
        yield Finding(
            "mirror_differs",
            each.source,
            each.at,
            f"{each.wrong:,} of {each.compared:,} rows of {each.source} differed from the source at "
            f"{clock_time(each.at, situation.now)}, {cause}",
            mend,
            {"wrong": each.wrong, "compared": each.compared, "braked": each.braked},
        )


def _braked(found: Reconciled) -> tuple[str, str]:
    """The cause and the remedy if the brake left most wrong rows active: the list is probably incomplete."""
    return (
        f"and {found.braked:,} of them, which its list lacks, were left active by the brake",
        "See whether the list is complete: compare it with the source, and check `api_url` and the dialect's list "
        f"function. If the list is right, run `hookmirror reconcile {found.source} --force`.",
    )


def _unannounced(situation: Situation, found: Reconciled) -> tuple[str, str]:
    """The cause and the remedy if webhooks did not announce the changes."""
    source = situation.sources.get(found.source)
    is_scheduled = source is not None and source.is_scheduled
    missing = f"; likely missing: {', '.join(found.missing)}" if found.missing else ""
    return (
        f"so its webhooks alone do not suffice{missing}",
        "Register all event types that the dialect knows at the sender"
        + (". Its schedule repairs what is lost until then." if is_scheduled else ", and reconcile on a schedule."),
    )
