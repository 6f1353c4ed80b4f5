"""A rule about followers of the change feed: their targets refuse changes, or accept none."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from receiver.findings.finding import Finding
from receiver.findings.situation import Followed, Situation
from receiver.logs.wording import counted
from receiver.moments import clock_time

#: The time after which a target that accepts nothing is not expected to recover by itself.
ACCEPTS_NOTHING = timedelta(minutes=10)


def follower_fails(situation: Situation) -> Iterator[Finding]:
    """A program that gets the changes of the mirror does not take them."""
    now = situation.now
    for each in situation.followers:
        name = shlex.quote(each.name)
        evidence: dict[str, Any] = {"follower": each.name, "link": "/api/v1/followers"}
        if each.dead and each.dead_since is not None:
            yield Finding(
                "follower_fails",
                "",
                each.dead_since,
                f"the target of the follower {each.name} has refused {counted(each.dead, 'change')} since "
                f"{clock_time(each.dead_since, now)}, and later changes of the same rows wait",
                f"Read the reasons in `hookmirror follow --list`, mend the target, then run `hookmirror follow "
                f"--retry-dead --name {name}`."
                + (
                    ""
                    if each.is_served
                    else " Start its `hookmirror follow` again, too, because no process posts its changes."
                ),
                {**evidence, "dead": each.dead},
                about=f"{each.name} dead",
            )
        if each.trouble and each.trouble_since is not None and now - each.trouble_since >= ACCEPTS_NOTHING:
            yield Finding(
                "follower_fails",
                "",
                each.trouble_since,
                f"the target of the follower {each.name} has accepted nothing since "
                f"{clock_time(each.trouble_since, now)}: {each.trouble.rstrip('.')}",
                f"{_going_on(each)} If nobody needs it any more, run `hookmirror follow --forget --name {name}`.",
                evidence,
                about=each.name,
            )


def _going_on(follower: Followed) -> str:
    if follower.is_served:
        return "Mend the target: the follower then goes on by itself."
    return "Mend the target, and start its `hookmirror follow` again, because no process posts its changes."
