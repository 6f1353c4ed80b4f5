"""A follower whose target refuses changes or accepts none is a finding, until its target takes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shopping import sources_of
from sqlalchemy import insert, update

from receiver.findings.gathering import examine
from receiver.following.dead_changes import DEAD_CHANGES, DeadState
from receiver.following.followers import FOLLOWERS
from receiver.server.upkeep import facts_of
from receiver.settings.settings import Settings

MINUTE = timedelta(minutes=1)


def test_a_follower_is_found_while_its_target_refuses_changes_or_accepts_none(kit):
    kit.source("shop")
    now = kit.now()

    def found() -> list[Any]:
        facts = facts_of(Settings(database_url="sqlite://"), sources_of(kit))
        return [each for each in examine(kit.database, facts, now=now) if each.rule == "follower_fails"]

    row = {"name": "erp", "target": "http://erp.example", "seq": 0, "mark": "", "seen_at": now, "began_at": now}
    key = {"follower": "erp", "table": "products", "source": "shop", "external_id": "A1"}
    states = (DeadState.DEAD, DeadState.WAITING, DeadState.DEAD)
    with kit.database.write() as connection:
        connection.execute(insert(FOLLOWERS).values(**row))
    assert found() == []
    with kit.database.write() as connection:
        for seq, state in enumerate(states):
            values = key | {"seq": seq, "state": state.value, "since": now - (9 - seq) * MINUTE, "attempts": 1}
            connection.execute(insert(DEAD_CHANGES).values(**values))
        trouble = {"trouble": "It answered 502.", "trouble_since": now - 20 * MINUTE}
        connection.execute(update(FOLLOWERS).values(**trouble))
    refused, away = found()
    assert (refused.since, refused.evidence["dead"]) == (now - 9 * MINUTE, 2)
    assert (away.since, "It answered 502" in away.says) == (now - 20 * MINUTE, True)
    assert away.mend.startswith("Mend the target, and start its `hookmirror follow` again, because no process posts")
    with kit.database.write() as connection:
        connection.execute(update(FOLLOWERS).values(holder="a process"))
    assert found()[1].mend.startswith("Mend the target: the follower then goes on by itself.")
