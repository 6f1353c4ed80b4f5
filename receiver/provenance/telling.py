"""Formats the provenance of a row as sentences, for commands and API."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from receiver.codec import shortened
from receiver.logs.safe_text import sentence
from receiver.mirror.rows import Key, table_name
from receiver.provenance import candidates
from receiver.provenance.why import Checked, Reason, Why
from receiver.worker.trial import Obstacle

#: The reasons for which groups of deliveries were not run; `{}` is their number, of one or more.
NOT_RUN = {
    Obstacle.EXPIRED: "{} with an expired body",
    Obstacle.NO_SOURCE: "{} of a source that the settings do not name",
    Obstacle.THIN: "{} with a hydrated event, because the answers of the source's API are not kept",
    Obstacle.SESSION: "{} whose handler takes mirror.session, because only a worker may run its SQL",
    Obstacle.DEAD: "{} that today's code cannot read",
    Obstacle.IGNORED: "{} that today's code ignores",
    Obstacle.FAILED: "{} whose handler fails with today's code",
    Obstacle.HANGS: "{} whose handler did not return",
    Obstacle.NOT_REACHED: "{} because the time had ended",
}


def sentences(why: Why) -> list[str]:
    """Sum up the results of running the deliveries about the row."""
    return list(_sentences(why))


def obstacles(why: Why) -> Counter[Obstacle]:
    """Count the deliveries that were not run, by reason."""
    return Counter(obstacle for obstacle, _ in why.recomputation.obstacles.values())


def overall(why: Why) -> Checked:
    """Whether the recomputed row equals the stored one."""
    if why.differing:
        return Checked.DIFFERS
    if why.candidates.partial is not None or any(each.check is Checked.UNKNOWN for each in why.reasons):
        return Checked.UNKNOWN
    if any(each.check is Checked.RECORDED for each in why.reasons):
        return Checked.RECORDED
    return Checked.AGREES if why.is_complete else Checked.UNKNOWN


def _sentences(why: Why) -> Iterator[str]:
    if why.row.damage is not None:
        yield why.row.damage
    ran = len(why.recomputation.ran)
    number, result = ("1 kept delivery was", "its") if ran == 1 else (f"{ran} kept deliveries were", "their")
    told = f"{number} run again, in {why.recomputation.seconds * 1_000:.0f} ms"
    if why.differing:
        yield f"{told}: {result} result differs from the row in {', '.join(why.differing)}."
    elif overall(why) is Checked.AGREES:
        yield f"{told}: {result} result equals the row."
    elif overall(why) is Checked.RECORDED:
        yield f"{told}: with the recorded changes of the others, {result} result equals the row."
    elif any(each.check is Checked.AGREES for each in why.reasons):
        yield f"{told}: {result} result agrees with their part of the row; the rest came from news that is not kept."
    elif why.row.damage is None:
        yield f"{told}: that brought none of the row's present values."
    if counted := obstacles(why):
        parts = "; ".join(NOT_RUN[kind].format(number) for kind, number in counted.most_common())
        yield f"Not run: {parts}. News that lost against a value may be among them."
    if why.is_askable and overall(why) in (Checked.UNKNOWN, Checked.RECORDED):
        yield f"To compare the row with its source as it is now, run `hookmirror ask {_named(why.row.key)}`."
    yield from dict.fromkeys(_let_in(each) for each in why.reasons if each.origin.run is not None)
    yield from (_unread(each) for each in why.reasons if each.unread is not None)
    if why.candidates.partial is not None:
        yield f"Some deliveries were left out: {why.candidates.partial}."
    if why.candidates.more_pending:
        yield (
            f"More than {candidates.MOST_PENDING:,} deliveries are pending: news about the row was looked for among "
            "those that have been due for longest."
        )
    if around := len(why.recomputation.looked_around):
        yield f"The handlers of {around} read other rows of the mirror, in their present state."
    if why.lost_with_parent is not None:
        assert why.row.parent is not None
        yield f"The row is inactive because its parent {why.row.parent.external_id} lost its children."


def _named(key: Key) -> str:
    """The arguments of a command that name the row."""
    return shlex.join((table_name(key.table), key.source, key.external_id))


def _let_in(reason: Reason) -> str:
    """Describe the run that brought a value, in the same sentence for all values that it brought."""
    run = reason.origin.run
    assert run is not None
    who = f" of {run.started_by}" if run.started_by is not None else ""
    why = f": {run.reason}" if run.reason is not None else ""
    return sentence(
        f"The values as of {_moment(reason.version.moment)} came by run {run.id}, a {run.kind}{who}, which asked the "
        f"source at {_moment(reason.origin.arrived_at)}{why}"
    )


def _unread(reason: Reason) -> str:
    assert reason.unread is not None
    path, value = reason.unread
    return f"{reason.path} is empty, because the dialect could not read {shortened(value)} in {path}."


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
