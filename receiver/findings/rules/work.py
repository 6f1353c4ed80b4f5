"""Rules about workers: no worker makes progress, a source's API fails, or many deliveries fail with one cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from receiver.findings.faults import ONE_CAUSE, Fault, telling_part
from receiver.findings.finding import Finding
from receiver.findings.situation import Situation, Start, total
from receiver.logs.wording import counted
from receiver.moments import clock_time

#: Seconds for which the oldest due delivery must have waited.
WAITED = 60.0

#: The period without an ended delivery that counts as a standstill, and within which a hang counts.
STANDSTILL, HUNG = timedelta(minutes=5), timedelta(minutes=3)

#: A fault that began this soon after a new release or wiring is attributed to it.
WITH_A_START = timedelta(minutes=5)

#: The least number of deliveries that wait for another attempt with one cause; fewer may recover by themselves.
FEW_WAITING = 3

#: The attempts after which a delivery alone needs a person: ten minutes after the first one at most, while the waits
#: for further attempts grow to hours.
FAILS_AGAIN = 5

#: The time for which the lease of a run must have been over. A process on a busy machine may renew it late.
LEASE_OVER = timedelta(minutes=1)

#: The period within which the calls to a source's API must have rested.
RESTED = timedelta(minutes=15)

#: Words in a cause that is about a source's API.
API = "source's API"


def nobody_works(situation: Situation) -> Iterator[Finding]:
    """Due deliveries wait: no worker runs, one hangs, or they are too slow."""
    hung = situation.tallied("", "hung", within=HUNG)
    late = situation.oldest_due_seconds
    since = situation.now - timedelta(seconds=late)
    waits = f"the oldest due delivery has waited since {clock_time(since, situation.now)}"
    evidence = {"oldest_due_seconds": round(late), "link": "/api/v1/stats"}
    if hung:
        yield Finding(
            "nobody_works",
            "",
            hung[0].at,
            "a worker hangs: a handler has not returned for longer than its lease",
            "The log line `a handler hangs` names the handler and its current statement: mend it, and restart.",
            {**evidence, "hung": max(each.number for each in hung)},
            about="hung",
        )
    elif not situation.is_steady:
        return
    elif late > WAITED and not any(process.works for process in situation.processes):
        yield Finding(
            "nobody_works",
            "",
            since,
            f"no worker runs, and {waits}",
            "Start `hookmirror worker`, or `hookmirror serve` without --no-worker.",
            evidence,
            about="none",
        )
    elif late > situation.max_backlog_seconds:
        yield Finding(
            "nobody_works",
            "",
            since,
            f"{_why_late(situation)}, and {waits}",
            "Check the workers' logs and the database; if the load exceeds one worker, start another one.",
            evidence,
            about="late",
        )


def _why_late(situation: Situation) -> str:
    if not total(situation.tallied(None, "ended", within=STANDSTILL)):
        return "workers run, but no delivery has ended for five minutes"
    return "more deliveries arrive than workers finish"


def run_stands_still(situation: Situation) -> Iterator[Finding]:
    """A run makes no progress, because code of its dialect has not returned."""
    # Without a worker, or right after a start, nothing has taken the run yet.
    if not situation.is_steady or not any(process.works for process in situation.processes):
        return
    for each in situation.still_runs:
        if situation.now - each.until < LEASE_OVER:
            continue
        of = f" of {', '.join(each.sources)}" if each.sources else ""
        yield Finding(
            "run_stands_still",
            each.sources[0] if len(each.sources) == 1 else "",
            each.until,
            f"run {each.run}, a {each.kind}{of}, has made no progress since before "
            f"{clock_time(each.until, situation.now)}",
            "Most likely, a function of the dialect that asks its source does not return, and no other run of that "
            "process goes on: give the function a timeout, and restart the process. To give the run up, "
            f"`hookmirror runs cancel {each.run}`.",
            {"run": str(each.run), "link": f"/api/v1/runs/{each.run}"},
            about=str(each.run),
        )


def row_held(situation: Situation) -> Iterator[Finding]:
    """Deliveries wait because another session of the database holds a lock."""
    for each in situation.locked:
        if situation.now - each.since <= timedelta(seconds=WAITED):
            continue
        held, _, mend = each.lock.partition(". ")
        waiting = counted(each.number, f"delivery of {each.source} waits", f"deliveries of {each.source} wait")
        yield Finding(
            "row_held",
            each.source,
            each.since,
            f"{waiting}, the first since {clock_time(each.since, situation.now)}: {held[:1].lower()}{held[1:]}",
            mend,
            {"waiting": each.number, "delivery": str(each.delivery), "link": f"/api/v1/deliveries/{each.delivery}"},
        )


def api_fails(situation: Situation) -> Iterator[Finding]:
    """Attempts fail because the API of their source fails."""
    for fault in situation.faults:
        if not _is_of_the_api(situation, fault):
            continue
        until = f"; the next try is at {clock_time(fault.until, situation.now)}" if fault.until is not None else ""
        yield Finding(
            "api_fails",
            fault.source,
            fault.first,
            f"the API of {fault.source} has failed since {clock_time(fault.first, situation.now)} "
            f"({fault.cause.rstrip('.')}), and "
            f"{counted(fault.waiting, 'delivery waits', 'deliveries wait')} for it{until}",
            f"Check whether the system behind `api_url` of {fault.source} is down, and whether `api_key` is valid. "
            "Deliveries are tried again for about a day.",
            {"waiting": fault.waiting, "link": f"/api/v1/faults?source={fault.source}"},
            about=fault.id,
        )


def one_cause(situation: Situation) -> Iterator[Finding]:
    """Deliveries die, or fail again and again, for one cause; perhaps since another release."""
    causes = Counter(fault.source for fault in situation.faults if fault.dead)
    for fault in situation.faults:
        if not fault.dead and (_may_recover(fault) or _is_of_the_api(situation, fault)):
            continue
        start = next((start for start in situation.starts if _came_with(fault, start)), None)
        with_it = f", just after release {start.release} or its handlers had started" if start is not None else ""
        yield Finding(
            ONE_CAUSE,
            fault.source,
            fault.first,
            f"{_how_many(fault)}{' for this cause' if fault.number == 1 else ', all for one cause'} since "
            f"{clock_time(fault.first, situation.now)}{with_it}: {fault.cause}",
            "Mend the source, or mend the handler and restart the worker, "
            + ("or return to the earlier release, " if start is not None else "")
            + _further(fault, causes[fault.source], situation.now),
            {
                "dead": fault.dead,
                "waiting": fault.waiting,
                "attempts": fault.attempts or None,
                "delivery": str(fault.delivery),
                "reason_has": telling_part(fault.cause, fault.example) if fault.dead else None,
                "release": start.release if start is not None else fault.release,
                "link": f"/api/v1/faults?source={fault.source}",
            },
            about=fault.id,
        )


def _may_recover(fault: Fault) -> bool:
    """Whether so few deliveries wait, after so few attempts, that the next one may succeed by itself."""
    return fault.waiting < FEW_WAITING and fault.attempts < FAILS_AGAIN


def _further(fault: Fault, causes: int, now: datetime) -> str:
    """The end of the advice: the next attempts, or the command that replays and the number of findings it mends."""
    if not fault.dead:
        when = f" at {clock_time(fault.until, now)}" if fault.until is not None else ""
        retry = f"`hookmirror retry {fault.delivery}`"
        if fault.waiting == 1:
            return f"then wait for its next attempt{when}, or try it now: {retry}."
        return f"then wait for the next attempts, the first of them{when}, or try one of them now: {retry}."
    command = f"then run `hookmirror replay --source {fault.source} --state dead`"
    return f"{command}." if causes == 1 else f"{command} once, for all {causes} causes of {fault.source}."


def _came_with(fault: Fault, start: Start) -> bool:
    return start.replaced_another and timedelta() <= fault.first - start.at + _MINUTE <= WITH_A_START + _MINUTE


#: The precision of a start's time, which comes from tallies.
_MINUTE = timedelta(minutes=1)


def _is_of_the_api(situation: Situation, fault: Fault) -> bool:
    if not fault.waiting:
        return False
    if API in fault.cause:
        return True
    # The calls to an API may rest while a handler fails for a reason of its own.
    return fault.fetching and bool(situation.tallied(fault.source, "api_rest", within=RESTED))


def _how_many(fault: Fault) -> str:
    source = fault.source
    dead = (
        counted(fault.dead, f"delivery of {source} is dead", f"deliveries of {source} are dead") if fault.dead else ""
    )
    waiting = (
        counted(fault.waiting, f"delivery of {source} fails", f"deliveries of {source} fail") if fault.waiting else ""
    )
    return " and ".join(filter(None, (dead, waiting)))
