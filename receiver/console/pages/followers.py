"""Followers: how far each one is behind the change feed, and the repair of changes that its target refused."""

from __future__ import annotations

from typing import NamedTuple

from receiver.api.followers import DeadChangeShown, FollowerList, FollowerShown
from receiver.console.page import Button, ConsolePage
from receiver.console.visit import Visit

#: Most dead changes that the page shows.
DEAD_CHANGES_SHOWN = 100


class FollowersShown(NamedTuple):
    """The values for the template."""

    followers: list[FollowerShown]
    dead: list[DeadChangeShown]
    #: Number of all dead and waiting changes.
    number: int
    #: Names of the followers with dead changes or a failing target.
    troubled: list[str]


def show_followers(visit: Visit) -> FollowersShown:
    """All followers, and the first of their dead changes."""
    found = visit.ask(FollowerList, "list_followers")
    troubled = [each.name for each in found.followers if each.dead or each.trouble]
    number = sum(each.dead + each.waiting for each in found.followers)
    return FollowersShown(found.followers, found.dead[:DEAD_CHANGES_SHOWN], number, troubled)


PAGES = (
    ConsolePage(
        name="followers",
        path="/followers",
        title="Followers",
        template="followers.html",
        operation="list_followers",
        command="hookmirror follow --list",
        show=show_followers,
        live=("changes", "followers", "runs"),
    ),
)

BUTTONS = (
    Button(
        name="retry_dead_changes",
        path="/followers/{name}/retry",
        label="Send the dead ones again",
        operation="retry_dead_changes",
        command="hookmirror follow --retry-dead --name {name}",
        says="While a process serves it, the follower sends its dead changes again, each followed by those that wait.",
        then="/followers",
        fields=("reason",),
    ),
    Button(
        name="drop_dead_change",
        path="/followers/{name}/dead/{seq}/drop",
        label="Drop this change",
        operation="drop_dead_change",
        command="hookmirror follow --drop-dead {seq} --name {name}",
        says="The change was dropped: the changes that waited for it are sent.",
        then="/followers",
        fields=("reason",),
        confirms="The target never gets this change. Changes that wait for it are sent.",
    ),
)
