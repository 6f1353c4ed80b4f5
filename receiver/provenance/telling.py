"""Telling: what there is to say about a row's provenance, in the same sentences for everybody."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from receiver.codec import shortened
from receiver.logs.safe_text import sentence
from receiver.mirror.rows import Key, sql_table
from receiver.provenance.why import Checked, Reason, Why
from receiver.worker.trial import Obstacle

#: Why deliveries were not run, as a group.
NOT_RUN = {
    Obstacle.EXPIRED: "the bodies of {} have expired",
    Obstacle.NO_SOURCE: "{} are of a source that the settings do not name",
    Obstacle.THIN: "{} were hydrated, and the answers of the source's API are not kept",
    Obstacle.SESSION: "the handlers of {} take mirror.session, whose SQL only a worker may run",
    Obstacle.DEAD: "{} cannot be read with today's code",
    Obstacle.IGNORED: "{} are ignored with today's code",
    Obstacle.FAILED: "the handlers of {} fail with today's code",
    Obstacle.HANGS: "the handlers of {} did not return",
    Obstacle.NOT_REACHED: "for {} there was no time",
}


def sentences(why: Why) -> list[str]:
    """What the deliveries say of the row as a whole."""
    return list(_sentences(why))


def obstacles(why: Why) -> Counter[Obstacle]:
    """How many deliveries were not run, by reason."""
    return Counter(obstacle for obstacle, _ in why.recomputation.obstacles.values())


def overall(why: Why) -> Checked:
    """Whether the row is what its deliveries say."""
    if why.differing:
        return Checked.DIFFERS
    if why.candidates.partial is not None or any(each.check is Checked.UNKNOWN for each in why.reasons):
        return Checked.UNKNOWN
    if any(each.check is Checked.RECORDED for each in why.reasons):
        return Checked.RECORDED
    return Checked.AGREES if why.is_complete else Checked.UNKNOWN


def _sentences(why: Why) -> Iterator[str]:
    ran = len(why.recomputation.ran)
    number = "1 kept delivery was" if ran == 1 else f"{ran} kept deliveries were"
    told = f"{number} run again, in {why.recomputation.seconds * 1_000:.0f} ms"
    if why.differing:
        yield f"{told}: they do not say what the row holds about {', '.join(why.differing)}."
    elif overall(why) is Checked.AGREES:
        yield f"{told}: the row is what they say."
    elif overall(why) is Checked.RECORDED:
        yield f"{told}: with the recorded changes of the others, the row is what they say."
    elif any(each.check is Checked.AGREES for each in why.reasons):
        yield f"{told}: nothing that they say differs from the row, which others had a part in."
    else:
        yield f"{told}: they say nothing about what the row holds now."
    if counted := obstacles(why):
        parts = "; ".join(NOT_RUN[kind].format(number) for kind, number in counted.most_common())
        yield f"Not run: {parts}. What lost against a value may be among them."
    if why.is_askable and overall(why) in (Checked.UNKNOWN, Checked.RECORDED):
        yield f"To compare the row with its source as it is now, run `hookmirror ask {_named(why.row.key)}`."
    yield from dict.fromkeys(_let_in(each) for each in why.reasons if each.origin.run is not None)
    yield from (_unread(each) for each in why.reasons if each.unread is not None)
    if why.candidates.partial is not None:
        yield f"Not all were looked at: {why.candidates.partial}."
    if around := len(why.recomputation.looked_around):
        yield f"The handlers of {around} looked at other rows of the mirror, and saw them as they are now."
    if why.lost_with_parent is not None:
        assert why.row.parent is not None
        yield f"It is not active because {why.row.parent.external_id}, which it belongs to, lost its rows."


def _named(key: Key) -> str:
    """The arguments of a command that name the row."""
    return shlex.join((str(sql_table(key.table).name), key.source, key.external_id))


def _let_in(reason: Reason) -> str:
    """How a run brought what the row holds; the same sentence for all columns that it brought."""
    run = reason.origin.run
    assert run is not None
    who = f" of {run.started_by}" if run.started_by is not None else ""
    why = f": {run.reason}" if run.reason is not None else ""
    return sentence(
        f"What is as of {_moment(reason.version.moment)} came by run {run.id}, a {run.kind}{who}, which asked the "
        f"source at {_moment(reason.origin.arrived_at)}{why}"
    )


def _unread(reason: Reason) -> str:
    assert reason.unread is not None
    path, value = reason.unread
    return f"{reason.path} is empty, because the dialect could not read {shortened(value)} in {path}."


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
