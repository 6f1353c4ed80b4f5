"""A rule about followers of the change feed: targets refuse changes or accept none, or no process posts them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from receiver.findings.finding import Finding
from receiver.findings.situation import Followed, Situation
from receiver.logs.wording import counted
from receiver.moments import clock_time

#: The time after which a target that accepts nothing is not expected to recover by itself.
ACCEPTS_NOTHING = timedelta(minutes=10)

#: The time after which a follower that was stopped may have been forgotten, as after a restart of its machine.
STOPPED = timedelta(hours=1)


def follower_fails(situation: Situation) -> Iterator[Finding]:
    """A program that gets the changes of the mirror does not take them, or no process posts them."""
    for each in situation.followers:
        if each.dead and each.dead_since is not None:
            yield _refusing(each, each.dead_since, situation.now)
        stalled = _stalled(each, situation.now)
        if stalled is not None:
            yield stalled


def _refusing(follower: Followed, since: datetime, now: datetime) -> Finding:
    name = shlex.quote(follower.name)
    return Finding(
        "follower_fails",
        "",
        since,
        f"the target of the follower {follower.name} has refused {counted(follower.dead, 'change')} since "
        f"{clock_time(since, now)}, and later changes of the same rows wait",
        "Read the reasons in `hookmirror follow --list`, mend the target, then run `hookmirror follow --retry-dead "
        f"--name {name}`."
        + (
            ""
            if follower.is_served
            else " Start its `hookmirror follow` again, too, because no process posts its changes."
        ),
        {**_evidence(follower), "dead": follower.dead},
        about=f"{follower.name} dead",
    )


def _stalled(follower: Followed, now: datetime) -> Finding | None:
    """A finding about a follower that hands on nothing; None if it does, or has not failed for long."""
    patience = ACCEPTS_NOTHING
    if follower.trouble and follower.trouble_since is not None:
        since = follower.trouble_since
        # Without a process, the reason may be another one than the target, such as a restored database.
        who = f"the target of the follower {follower.name} has accepted"
        who = who if follower.is_served else f"the follower {follower.name} has handed on"
        says = f"{who} nothing since {clock_time(since, now)}: "
        says, mend = says + follower.trouble.rstrip("."), _going_on(follower)
    elif follower.unserved_since is not None and follower.stopped_at is not None:
        since, patience = follower.unserved_since, STOPPED
        says = f"the follower {follower.name} was stopped at {clock_time(follower.stopped_at, now)}, and changes have "
        says, mend = f"{says}waited since {clock_time(since, now)}", "Start its `hookmirror follow` again."
    elif follower.unserved_since is not None:
        since = follower.unserved_since
        says = f"no process posts the changes of the follower {follower.name}, and some have waited since "
        says += clock_time(since, now)
        mend = "Start its `hookmirror follow` again; the last lines of its log say why it ended."
    else:
        return None
    if now - since < patience:
        return None
    name = shlex.quote(follower.name)
    mend += f" If nobody needs it any more, run `hookmirror follow --forget --name {name}`."
    return Finding("follower_fails", "", since, says, mend, _evidence(follower), about=follower.name)


def _evidence(follower: Followed) -> dict[str, Any]:
    return {"follower": follower.name, "link": "/api/v1/followers"}


def _going_on(follower: Followed) -> str:
    if follower.is_served:
        return "Mend the target: the follower then goes on by itself."
    return "Mend that, and start its `hookmirror follow` again, because no process posts its changes."
