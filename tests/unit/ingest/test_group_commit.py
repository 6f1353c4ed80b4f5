"""Group commit: which arrivals share a commit, and the answers when a commit fails, stalls or ends too late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from loop_turns import turns
from waiting import wait_until

from receiver.errors import NotVerified, Refused, Unavailable
from receiver.inbox.arrival import Accepted, Arrival
from receiver.ingest import gathering as module
from receiver.ingest.group_commit import FULL_BATCHES, LARGEST_BATCH, GroupCommit

#: Seconds that nothing takes unless it is broken.
BOUND = 20.0


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Let batches and requests wait for longer than a machine stands still, except where a test sets a limit."""
    for limit in ("GATHERING", "STALLED", "STALLED_AGAIN", "COMMIT_TIMEOUT"):
        monkeypatch.setattr(module, limit, 2 * BOUND)


class Inbox:
    """Keeps batches in a list while its gate is open, and raises the prepared errors."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()
        self.errors: list[Exception] = []

    def accept(self, batch: Any) -> list[Accepted]:
        self.reached.set()
        assert self.open.wait(BOUND), "nobody opened the gate"
        if self.errors:
            raise self.errors.pop()
        self.batches.append([arrival.dedup_key for arrival in batch])
        return [Accepted("accepted", number) for number, _ in enumerate(batch)]


def arrival(key: str) -> Arrival:
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    return Arrival(source="s", body=b"{}", plain=None, headers={}, received_at=moment, secret=None, dedup_key=key)


def scene(play: Callable[[GroupCommit, Inbox], Coroutine[Any, Any, None]]) -> Inbox:
    """Run the scene in an event loop with a group commit, and stop it at the end."""
    inbox = Inbox()
    accepting = GroupCommit(inbox)

    async def played() -> None:
        accepting.start()
        try:
            await asyncio.wait_for(play(accepting, inbox), BOUND)
        finally:
            inbox.open.set()
            await asyncio.to_thread(accepting.stop)

    asyncio.run(played())
    return inbox


def send(accepting: GroupCommit, key: str) -> asyncio.Future[Accepted]:
    answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
    accepting.accept([(arrival(key), answer)])
    return answer


async def stall(accepting: GroupCommit, inbox: Inbox, key: str) -> asyncio.Future[Accepted]:
    """Send an arrival whose commit does not end before the gate is opened."""
    inbox.reached.clear()
    inbox.open.clear()
    answer = send(accepting, key)
    assert await asyncio.to_thread(inbox.reached.wait, BOUND)
    return answer


def test_a_single_arrival_is_committed_without_waiting_for_others():
    async def play(accepting: GroupCommit, _: Inbox) -> None:
        assert (await send(accepting, "a")).status == "accepted"

    assert scene(play).batches == [["a"]]


def test_arrivals_within_a_few_turns_of_the_loop_share_one_commit():
    async def play(accepting: GroupCommit, _: Inbox) -> None:
        answers = []
        for key in "abcd":
            answers.append(send(accepting, key))
            await asyncio.sleep(0)
        await asyncio.gather(*answers)

    assert scene(play).batches == [["a", "b", "c", "d"]]


def test_arrivals_during_a_commit_form_the_next_batch():
    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        first = await stall(accepting, inbox, "a")
        others = [send(accepting, "b"), send(accepting, "c")]
        inbox.open.set()
        await asyncio.gather(first, *others)

    assert scene(play).batches == [["a"], ["b", "c"]]


def test_the_size_of_a_batch_is_bounded():
    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        first = await stall(accepting, inbox, "first")
        others = [send(accepting, str(number)) for number in range(LARGEST_BATCH + 1)]
        inbox.open.set()
        await asyncio.gather(first, *others)

    assert list(map(len, scene(play).batches)) == [1, LARGEST_BATCH, 1]


def test_the_thread_has_several_full_batches_to_store_while_the_event_loop_is_busy():
    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        first = await stall(accepting, inbox, "first")
        others = [send(accepting, str(number)) for number in range((FULL_BATCHES + 1) * LARGEST_BATCH)]
        await turns()
        inbox.open.set()
        # The loop stands still here, and so hands nothing over.
        wait_until(lambda: len(inbox.batches) == FULL_BATCHES, "the batches that were handed over")
        assert not any(each.done() for each in others)
        await asyncio.gather(first, *others)

    assert list(map(len, scene(play).batches)) == [1, *[LARGEST_BATCH] * (FULL_BATCHES + 1)]


def test_a_batch_whose_senders_were_all_refused_meanwhile_is_not_stored(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_POLL", 0.05)

    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        first = await stall(accepting, inbox, "first")
        refused = [send(accepting, f"behind {number}") for number in range(2 * LARGEST_BATCH)]
        await turns()
        monkeypatch.setattr(module, "STALLED", 0.0)
        for each in refused:
            with pytest.raises(Unavailable, match="does not answer"):
                await each
        monkeypatch.setattr(module, "STALLED", 2 * BOUND)
        inbox.open.set()
        assert (await first).status == "accepted"
        monkeypatch.setattr(module, "IDLE", 0.0)
        while accepting.is_busy():
            await asyncio.sleep(0)
        assert accepting.trouble() is None, "nothing failed"
        await send(accepting, "after")

    assert scene(play).batches == [["first"], ["after"]]


def test_a_failed_commit_answers_503_and_the_next_one_works():
    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        inbox.errors.append(OSError("the disk is gone"))
        with pytest.raises(Unavailable, match="cannot store this now"):
            await send(accepting, "a")
        await send(accepting, "b")

    assert scene(play).batches == [["b"]]


def test_a_line_of_the_log_that_fails_for_lack_of_memory_ends_neither_the_thread_nor_an_answer(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        inbox.errors.append(MemoryError())
        monkeypatch.setattr("receiver.ingest.group_commit.log", SimpleNamespace(error=fail))
        with pytest.raises(Unavailable, match="cannot store this now"):
            await send(accepting, "a")
        assert (await send(accepting, "b")).status == "accepted"

    assert scene(play).batches == [["b"]]


def test_arrivals_behind_a_stalled_commit_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(module, "STALLED", 0.1)
    monkeypatch.setattr(module, "TIMEOUT_POLL", 0.05)

    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        first = await stall(accepting, inbox, "a")
        with pytest.raises(Unavailable, match="does not answer"):
            await send(accepting, "came before it was known")
        refused = send(accepting, "came after")
        assert isinstance(refused.exception(), Unavailable), "the answer is there at once"
        inbox.open.set()
        assert (await first).status == "accepted"
        await send(accepting, "b")

    assert scene(play).batches == [["a"], ["b"]]


def test_after_a_failure_a_commit_counts_as_stalled_much_sooner(monkeypatch):
    monkeypatch.setattr(module, "STALLED_AGAIN", 0.1)
    monkeypatch.setattr(module, "TIMEOUT_POLL", 0.05)

    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        inbox.errors.append(OSError("the server is away"))
        with pytest.raises(Unavailable):
            await send(accepting, "a")
        probe = await stall(accepting, inbox, "b")
        with pytest.raises(Unavailable, match="does not answer"):
            await send(accepting, "c")
        inbox.open.set()
        await probe

    assert scene(play).batches == [["b"]]


def test_a_commit_beyond_its_time_is_answered_503_and_its_late_end_does_no_harm(monkeypatch):
    monkeypatch.setattr(module, "COMMIT_TIMEOUT", 0.1)
    monkeypatch.setattr(module, "TIMEOUT_POLL", 0.05)

    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        late = await stall(accepting, inbox, "a")
        with pytest.raises(Unavailable, match="takes too long"):
            await late
        inbox.open.set()
        monkeypatch.setattr(module, "COMMIT_TIMEOUT", 2 * BOUND)
        await send(accepting, "b")

    assert scene(play).batches == [["a"], ["b"]]


def test_an_arrival_cancelled_before_its_commit_is_not_stored():
    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        first = await stall(accepting, inbox, "a")
        send(accepting, "b").cancel()
        last = send(accepting, "c")
        inbox.open.set()
        await asyncio.gather(first, last)

    assert scene(play).batches == [["a"], ["c"]]


def test_a_group_commit_is_not_busy_before_the_first_arrival():
    assert not GroupCommit(Inbox()).is_busy()


def test_a_hanging_commit_is_ended_at_doubled_intervals_until_a_commit_succeeds(monkeypatch):
    now, ended = [100.0], []
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(module, "TIMEOUT_POLL", 0.0)
    inbox = Inbox()

    async def hang(accepting: GroupCommit, key: str, *steps: float) -> None:
        began = now[0]
        slow = await stall(accepting, inbox, key)
        for step in steps:
            now[0] = began + step
            await turns()
        inbox.open.set()
        await asyncio.wait((slow,), timeout=BOUND)

    async def played() -> None:
        accepting = GroupCommit(inbox, end_hanging=lambda: ended.append(now[0] - 100.0))
        accepting.start()
        first = module.HANGING
        await hang(accepting, "a", first - 1, first + 1, first + 2, 2 * first + 1, 3 * first)
        now[0] = 100.0
        await hang(accepting, "b", first - 1, first + 1)
        await asyncio.to_thread(accepting.stop)

    asyncio.run(played())
    assert ended == [module.HANGING + 1, 2 * module.HANGING + 1, module.HANGING + 1]


def test_a_group_commit_is_busy_during_a_commit_and_idle_some_time_after(monkeypatch):
    monkeypatch.setattr(module, "IDLE", 0.0)
    seen = []

    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        slow = await stall(accepting, inbox, "a")
        seen.append(accepting.is_busy())
        inbox.open.set()
        await slow
        seen.append(accepting.is_busy())

    scene(play)
    assert seen == [True, False]


def test_a_group_commit_is_busy_for_a_moment_after_the_end_of_a_long_commit(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    seen = []

    async def play(accepting: GroupCommit, inbox: Inbox) -> None:
        slow = await stall(accepting, inbox, "a")
        now[0] += 1.5
        inbox.open.set()
        await slow
        seen.append(accepting.is_busy())
        now[0] += 2 * module.IDLE
        seen.append(accepting.is_busy())

    scene(play)
    assert seen == [True, False]


def test_a_group_commit_is_busy_while_the_first_batch_gathers():
    async def play(accepting: GroupCommit, _: Inbox) -> None:
        answer = send(accepting, "a")
        assert accepting.is_busy()
        await answer

    assert scene(play).batches == [["a"]]


def test_an_error_of_keeping_a_refused_request_leaves_the_other_answers_as_they_are():
    refusal = NotVerified("signature_wrong", "No.")

    def fail(request: Any, refusal: Refused) -> None:
        raise RuntimeError("no room")

    async def played() -> None:
        accepting = GroupCommit(Inbox(), admit=lambda _: [refusal, arrival("a")], keep=fail)
        accepting.start()
        refused, accepted = (asyncio.get_running_loop().create_future() for _ in range(2))
        request: Any = SimpleNamespace(source=SimpleNamespace(name="s"))
        accepting.take([(request, refused), (request, accepted)])
        assert refused.exception() is refusal
        assert (await asyncio.wait_for(accepted, BOUND)).status == "accepted"
        await asyncio.to_thread(accepting.stop)

    asyncio.run(played())


def test_stopping_accepts_the_arrivals_that_still_wait():
    inbox = Inbox()
    accepting = GroupCommit(inbox)

    async def played() -> None:
        accepting.start()
        answer = send(accepting, "a")
        await asyncio.to_thread(accepting.stop)
        assert (await asyncio.wait_for(answer, BOUND)).status == "accepted"

    asyncio.run(played())
    assert inbox.batches == [["a"]]


def test_stopping_does_not_wait_for_a_commit_that_hangs(monkeypatch):
    monkeypatch.setattr("receiver.ingest.group_commit.COMMIT_STOP_TIMEOUT", 0.1)
    inbox = Inbox()
    accepting = GroupCommit(inbox)

    async def played() -> None:
        accepting.start()
        answer = await stall(accepting, inbox, "a")
        await asyncio.wait_for(asyncio.to_thread(accepting.stop), BOUND)
        inbox.open.set()
        await asyncio.wait_for(answer, BOUND)

    asyncio.run(played())
    assert inbox.batches == [["a"]]


@pytest.mark.parametrize("is_done_before", [False, True])
def test_a_batch_is_answered_once_although_the_event_loop_had_no_memory_to_be_told_of_it(is_done_before, monkeypatch):
    monkeypatch.setattr("receiver.ingest.group_commit.TELL_PAUSE", 0.01)

    async def play(accepting: GroupCommit, _: Inbox) -> None:
        loop = asyncio.get_running_loop()
        call, failures = loop.call_soon_threadsafe, [MemoryError(), MemoryError()]

        def fail_twice(callback: Any, *args: Any, **named: Any) -> Any:
            if callback == accepting._hear and failures:
                if is_done_before:
                    call(callback, *args, **named)
                raise failures.pop()
            return call(callback, *args, **named)

        monkeypatch.setattr(loop, "call_soon_threadsafe", fail_twice)
        for key in ("a", "b"):
            assert (await send(accepting, key)).status == "accepted"
        assert failures == []

    assert scene(play).batches == [["a"], ["b"]]


class Unanswerable(asyncio.Future[Accepted]):
    def set_result(self, _result: Accepted, /) -> None:
        raise MemoryError


def test_an_answer_that_cannot_be_given_is_a_refusal_and_keeps_no_other_of_its_batch_waiting():
    async def play(accepting: GroupCommit, _: Inbox) -> None:
        first = Unanswerable()
        accepting.accept([(arrival("a"), first)])
        assert (await send(accepting, "b")).status == "accepted"
        with pytest.raises(Unavailable):
            await first

    assert scene(play).batches == [["a", "b"]]
