"""A follower whose target refuses changes or accepts none, or that no process serves, is a finding until that ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shopping import NOON, sources_of
from sqlalchemy import insert, update

from receiver.api.followers import _process
from receiver.findings.gathering import examine
from receiver.following.dead_changes import DEAD_CHANGES, DeadState
from receiver.following.followers import FOLLOWERS
from receiver.mirror.changes import CHANGES
from receiver.moments import clock_time
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
    assert away.mend.startswith("Mend that, and start its `hookmirror follow` again, because no process posts")
    with kit.database.write() as connection:
        connection.execute(update(FOLLOWERS).values(holder="a process"))
    assert found()[1].mend.startswith("Mend the target: the follower then goes on by itself.")


def test_a_follower_that_no_process_serves_is_found_ten_minutes_after_its_end_if_changes_wait(kit):
    kit.source("shop")
    now = kit.now()

    def found(at: Any) -> list[Any]:
        facts = facts_of(Settings(database_url="sqlite://"), sources_of(kit))
        return [each for each in examine(kit.database, facts, now=at) if each.rule == "follower_fails"]

    ended = now - 12 * MINUTE
    row = {"name": "erp", "target": "http://erp.example", "seq": 0, "mark": "", "seen_at": ended, "began_at": ended}
    row["holder"] = "a process"
    with kit.database.write() as connection:
        # The other follower lacks no change: none is of its source.
        connection.execute(insert(FOLLOWERS), [{**row, "source": "shop"}, {**row, "name": "crm", "source": "outlet"}])
    assert found(now) == []

    kit.send("shop", "product.updated", id="A1", data={"name": "Lamp"})
    kit.drain()
    with kit.database.write() as connection:
        connection.execute(update(CHANGES).values(recorded_at=ended - MINUTE))
    (unserved,) = found(now)
    assert unserved.since == ended
    assert unserved.says.startswith("no process posts the changes of the follower erp")
    assert unserved.mend.startswith("Start its `hookmirror follow` again")
    assert found(ended + 9 * MINUTE) == []
    with kit.database.write() as connection:
        # Its process ended before the clock was set back by a day.
        connection.execute(update(FOLLOWERS).values(seen_at=now + 1_440 * MINUTE))
    assert [each.since for each in found(now)] == [ended]
    with kit.database.write() as connection:
        connection.execute(update(FOLLOWERS).values(seen_at=now))
    assert found(now) == []
    with kit.database.write() as connection:
        connection.execute(update(FOLLOWERS).values(seen_at=ended, seq=1))
    assert found(now) == [], "it has all changes"


def test_a_follower_that_was_stopped_is_found_after_an_hour_with_the_time_of_the_stop(kit):
    kit.source("shop")
    now = kit.now()

    def found(at: Any) -> list[Any]:
        facts = facts_of(Settings(database_url="sqlite://"), sources_of(kit))
        return [each for each in examine(kit.database, facts, now=at) if each.rule == "follower_fails"]

    stopped = now - 65 * MINUTE
    row = {"name": "erp", "target": "http://erp.example", "seq": 0, "mark": "", "seen_at": stopped, "began_at": stopped}
    kit.send("shop", "product.updated", id="A1", data={"name": "Lamp"})
    kit.drain()
    with kit.database.write() as connection:
        connection.execute(insert(FOLLOWERS).values(**row))
        connection.execute(update(CHANGES).values(recorded_at=stopped + 2 * MINUTE))
    assert found(now - 5 * MINUTE) == []
    (forgotten,) = found(now)
    assert forgotten.since == stopped + 2 * MINUTE
    assert forgotten.says.startswith(f"the follower erp was stopped at {clock_time(stopped, now)}, and changes have")


def test_a_holder_whose_last_sign_of_life_is_in_the_future_is_not_said_to_be_silent_since_then():
    for seen_at, says in ((NOON + 10 * MINUTE, ", in the future"), (NOON - 10 * MINUTE, ", silent since")):
        assert says in str(_process({"holder": "elsewhere", "seen_at": seen_at}, NOON))
