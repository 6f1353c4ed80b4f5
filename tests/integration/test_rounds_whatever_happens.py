"""Whatever happens to deliveries, and wherever the process is killed, their rounds and attempts are complete."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from faults import Killed
from histories import FaultPlan
from shopping import NOON, drain, named, new_worker

from receiver import Event, Mirror
from receiver.inbox.arrival import Arrival
from receiver.inbox.retries import RetrySchedule

STEPS = 40

ENDED = {"processed", "ignored", "dead"}


class Life:
    """Deliveries of a shop, and everything that can happen to them, chosen by a seed."""

    def __init__(self, kit, seed: int) -> None:
        self.kit, self.rng = kit, random.Random(seed)
        self.sent: list[tuple[str, str, str]] = []
        #: Rounds seen so far, by delivery. A round that is no longer the latest must not change.
        self.seen: dict[str, list[dict]] = {}
        self.retries = RetrySchedule(attempts=2)
        self.worker = new_worker(kit, retries=self.retries)

    def step(self) -> None:
        verbs = [self.send, self.send, self.send_again, self.replay, self.replay, self.wait, *[self.work] * 4]
        plan = FaultPlan([self.rng.randint(1, 20)] if self.rng.random() < 0.3 else [])
        happening = self.rng.choice(verbs)
        with suppress(Killed), plan.over(self.kit.database.engine):
            happening()
        if not plan.lives:
            self.revive()

    def send(self) -> None:
        kind = self.rng.choice(["product.updated", "product.shaky", "product.unknown"])
        one = (kind, f"A{self.rng.randint(1, 3)}", f"{len(self.sent)}")
        self.sent.append(one)
        self._post(one)

    def send_again(self) -> None:
        if self.sent:
            self._post(self.rng.choice(self.sent))

    def _post(self, one: tuple[str, str, str]) -> None:
        """Accept on this thread, so that the accept can be killed between its statements."""
        kind, entity, name = one
        source = self.kit.source("shop")
        body = source.dialect.write(kind, entity, at=NOON, data=named(name))
        arrival = Arrival(source="shop", body=body, plain=None, headers={}, received_at=self.kit.now(), secret=0)
        arrival.know(source.read(body))
        self.kit.inbox.accept([arrival])

    def work(self) -> None:
        self.worker.work()

    def replay(self) -> None:
        some = [int(each["id"]) for each in self.kit.deliveries() if self.rng.random() < 0.5]
        with self.kit.database.write() as connection:
            if self.rng.random() < 0.5:
                self.kit.inbox.begin_round(connection, some, cause="replay", run=1, now=self.kit.now())
            else:
                self.kit.inbox.try_now(connection, some, now=self.kit.now())

    def wait(self) -> None:
        self.kit.advance(minutes=1)

    def revive(self) -> None:
        """Replace a worker whose process is gone by another one."""
        dead, self.worker = self.worker, new_worker(self.kit, retries=self.retries)
        dead.close()
        self.kit.inbox.reclaim(now=self.kit.now(), dead=[dead.name], max_attempts=2)

    def check(self) -> None:
        for listed in self.kit.deliveries():
            delivery = self.kit.delivery(listed["id"])
            rounds = delivery["rounds"]
            assert [each["number"] for each in rounds] == list(range(1, len(rounds) + 1))
            is_open = [each["state"] not in ENDED for each in rounds]
            assert is_open == [False] * (len(rounds) - 1) + [delivery["state"] not in ENDED]
            assert [each["ended_at"] is None for each in rounds] == is_open
            before = self.seen.get(listed["id"], [])[:-1]
            assert rounds[: len(before)] == before, "what was is not changed"
            self.seen[listed["id"]] = rounds
            for each in rounds:
                _check_attempts(each)


def _check_attempts(of_round: dict) -> None:
    """Check that attempts have different numbers, and that a good one is the last of a round that ended well."""
    attempts = of_round["attempts"]
    numbers = [attempt["number"] for attempt in attempts]
    assert numbers == sorted(set(numbers))
    good = [attempt for attempt in attempts if not attempt["failed"]]
    assert good == [attempt for attempt in attempts[-1:] if of_round["state"] in ("processed", "ignored")]
    assert all(attempt["ended_at"] == of_round["ended_at"] for attempt in good)
    if of_round["state"] == "processed":
        assert good, "no end without its attempt"


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
def test_rounds_have_no_gaps_the_last_may_be_open_and_every_attempt_has_its_effect(shop, kit, seed):
    life = Life(kit, seed)

    @shop.on("product.shaky")
    def shake(event: Event, mirror: Mirror) -> None:
        if life.rng.random() < 0.6:
            raise ValueError("shaky")

    for _ in range(STEPS):
        life.step()
        life.check()
    kit.advance(days=1)
    drain(life.worker)
    life.check()
    life.worker.close()
    assert {each["state"] for each in kit.deliveries()} <= {*ENDED, "pending"}
    assert any(len(rounds) > 1 for rounds in life.seen.values())
