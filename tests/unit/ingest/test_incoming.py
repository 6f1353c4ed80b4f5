"""Incomplete heads and bodies: each has a time limit and a least rate, and all share a bound of memory."""

from __future__ import annotations

import asyncio

import pytest
from waiting import TIMEOUT

from receiver.errors import Limited
from receiver.ingest import incoming as module
from receiver.ingest.incoming import Incoming
from receiver.settings.limits import Limits


def new(**limits) -> Incoming:
    # Shorter than a setting may be, so that the test is quick.
    return Incoming(Limits.model_construct(**{"body_timeout": 5.0, "min_body_rate": 0} | limits))


def run(main):
    return asyncio.run(main())


async def grown(incoming: Incoming, size: int, gate: asyncio.Event) -> str:
    """Receive this many bytes of a body, and the rest when the gate opens."""
    try:
        with incoming.body() as body:
            body.grow(size)
            await gate.wait()
    except Limited as refusal:
        return refusal.message
    return "complete"


async def dripped(incoming: Incoming, size: int, enough: asyncio.Event, *, first: int = 0) -> str:
    """Receive a body in pieces of this size after a first one, until `enough` is set."""
    try:
        with incoming.body() as body:
            body.grow(first)
            while not enough.is_set():
                body.grow(size)
                await asyncio.sleep(0.01)
    except Limited as refusal:
        return refusal.message
    return "complete"


def test_a_body_that_is_complete_in_time_is_accepted():
    async def main():
        incoming = new()
        with incoming.body() as body:
            body.grow(3)
            await asyncio.sleep(0)
            assert incoming.bytes == 3
        return body.size, incoming.bytes

    assert run(main) == (3, 0)


def test_a_body_beyond_its_time_is_answered_503():
    async def main():
        began = asyncio.get_running_loop().time()
        with pytest.raises(Limited, match="too long to arrive"), new(body_timeout=0.05).body():
            await asyncio.Event().wait()
        return asyncio.get_running_loop().time() - began

    assert run(main) >= 0.05


def test_a_body_that_arrives_steadily_may_take_longer_than_one_that_stops(monkeypatch):
    monkeypatch.setattr(module, "BODY_POLL", 0.02)
    # Its first piece gives it more than a minute, if it does not stop.
    monkeypatch.setattr(module, "STEADY_RATE", 1)

    async def main():
        incoming, enough = new(body_timeout=0.3), asyncio.Event()
        steady = asyncio.create_task(dripped(incoming, 100, enough))
        small = await asyncio.wait_for(grown(incoming, 100, asyncio.Event()), TIMEOUT)
        enough.set()
        return small, await steady

    assert run(main) == ("The body took too long to arrive. Send it faster, or raise body_timeout.", "complete")


def test_the_time_of_a_large_body_is_limited(monkeypatch):
    monkeypatch.setattr(module, "STEADY_RATE", 1_000_000)

    async def main():
        began = asyncio.get_running_loop().time()
        # Long enough that a pause of a busy machine between two pieces does not end the body.
        told = await asyncio.wait_for(dripped(new(body_timeout=1.0), 1, asyncio.Event(), first=200_000), TIMEOUT)
        return told, asyncio.get_running_loop().time() - began

    told, seconds = run(main)
    assert told.startswith("The body took too long to arrive.")
    assert seconds >= 1.0 + 0.2


def test_a_large_body_that_stops_has_no_more_time_than_a_small_one(monkeypatch):
    monkeypatch.setattr(module, "STEADY_RATE", 1)

    async def main():
        return await asyncio.wait_for(grown(new(body_timeout=0.05), 200_000, asyncio.Event()), TIMEOUT)

    assert run(main).startswith("The body took too long to arrive.")


def test_a_body_that_drips_is_refused_long_before_its_time(monkeypatch):
    monkeypatch.setattr(module, "FIRST_LOOK", 0.05)
    monkeypatch.setattr(module, "BODY_POLL", 0.02)

    async def main():
        incoming = new(min_body_rate=1_000)
        fast = asyncio.create_task(grown(incoming, 100_000, gate := asyncio.Event()))
        with pytest.raises(Limited, match="too slowly"):
            await drip(incoming)
        gate.set()
        return await fast

    async def drip(incoming):
        with incoming.body() as body:
            while True:
                body.grow(1)
                await asyncio.sleep(0.01)

    assert run(main) == "complete"


@pytest.mark.parametrize("limits", [{}, {"min_body_rate": 500}], ids=["time", "rate"])
def test_a_pause_of_the_whole_process_is_not_the_time_of_a_body(limits, monkeypatch):
    clock = [1_000.0]
    monkeypatch.setattr(Incoming, "now", lambda _: clock[0])

    async def main():
        incoming, gate = new(**limits), asyncio.Event()
        bodies = [asyncio.create_task(grown(incoming, 100, opened)) for opened in (gate, asyncio.Event())]
        await asyncio.sleep(0)
        # The timer ends after the pause. What arrived meanwhile is read next.
        clock[0] += 60.0
        incoming._poll()
        gate.set()
        complete = await bodies[0]
        for _ in range(6):
            clock[0] += 1.0
            incoming._poll()
        return complete, await asyncio.wait_for(bodies[1], TIMEOUT)

    complete, other = run(main)
    assert complete == "complete"
    assert other.startswith("The body ")


def test_of_many_bodies_only_the_overdue_ones_end():
    async def main():
        incoming, opened = new(body_timeout=0.05), asyncio.Event()
        waits = [asyncio.create_task(grown(incoming, 1, asyncio.Event() if n % 2 else opened)) for n in range(6)]
        await asyncio.sleep(0)
        opened.set()
        return [told.split(".")[0] for told in await asyncio.gather(*waits)], incoming.bytes

    assert run(main) == (["complete", "The body took too long to arrive"] * 3, 0)


@pytest.fixture
def failing_log(monkeypatch):
    """Make the log raise an error when a limit ends something."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module.log, "warning", fail)
    monkeypatch.setattr(module.log, "exception", fail)


def test_bodies_end_in_time_even_if_the_log_fails(failing_log):
    async def main():
        incoming = new(body_timeout=0.05)
        first = [asyncio.create_task(grown(incoming, 1, asyncio.Event())) for _ in range(3)]
        ended = await asyncio.wait_for(asyncio.gather(*first), TIMEOUT)
        later = asyncio.create_task(grown(incoming, 1, asyncio.Event()))
        return [*ended, await asyncio.wait_for(later, TIMEOUT)], incoming.bytes

    ended, left = run(main)
    assert [each.split(".")[0] for each in ended] == ["The body took too long to arrive"] * 4
    assert left == 0


def test_room_is_made_even_if_the_log_fails(failing_log):
    async def main():
        incoming, gate = new(max_incomplete_bytes=10_000), asyncio.Event()
        waits = [asyncio.create_task(grown(incoming, 3_000, gate)) for _ in range(5)]
        for _ in range(4):
            await asyncio.sleep(0)
        assert incoming.bytes <= 10_000
        gate.set()
        return [each.split(",")[0] for each in sorted(await asyncio.gather(*waits))]

    assert run(main) == ["Too much is arriving at once"] * 2 + ["complete"] * 3


def test_when_the_memory_is_used_up_the_largest_bodies_end_and_small_ones_go_on():
    async def main():
        incoming, gate = new(max_incomplete_bytes=10_000), asyncio.Event()
        large = [asyncio.create_task(grown(incoming, 3_000, gate)) for _ in range(3)]
        small = [asyncio.create_task(grown(incoming, 300, gate)) for _ in range(4)]
        for _ in range(4):
            await asyncio.sleep(0)
        assert incoming.bytes <= 10_000
        gate.set()
        return sorted(await asyncio.gather(*large)), await asyncio.gather(*small), incoming.bytes

    (ended, *others), small, left = run(main)
    assert ended.startswith("Too much is arriving at once")
    assert (others, small, left) == (["complete"] * 2, ["complete"] * 4, 0)


def test_a_body_that_ends_itself_by_growing_continues_to_its_refusal():
    async def main():
        incoming = new(max_incomplete_bytes=100)
        for _ in range(2):
            incoming.head(lambda _: None).grow(40)
        with pytest.raises(Limited, match="Too much is arriving"), incoming.body() as body:
            body.grow(50)
        await asyncio.sleep(0.01)
        return asyncio.current_task().cancelling()

    assert run(main) == 0


def test_a_body_whose_head_finds_no_room_is_refused_before_it_is_read():
    async def main():
        incoming = new(max_incomplete_bytes=1_000)
        other = incoming.head(lambda _: None)
        other.grow(400)
        incoming.head(lambda _: None).grow(400)
        with pytest.raises(Limited, match="Too much is arriving"), incoming.body(450):
            pytest.fail("the body is read")
        return incoming.bytes, incoming._bodies

    assert run(main) == (800, {})


@pytest.mark.parametrize("size", [900, 1_000, 5_000])
def test_a_body_larger_than_the_bound_with_its_head_arrives_beside_small_requests(size):
    async def main():
        incoming = new(max_incomplete_bytes=1_000)
        incoming.head(lambda _: pytest.fail("the other is ended")).grow(400)
        with incoming.body(200) as body:
            body.grow(size)
            assert (body.size, incoming.bytes) == (size, 900)
        return incoming.bytes

    assert run(main) == 400


def test_bytes_that_arrive_after_the_end_of_a_piece_are_not_counted():
    async def main():
        ended, incoming = [], new(max_incomplete_bytes=1_000)
        piece = incoming.head(ended.append)
        piece.grow(500)
        for _ in range(6):
            incoming.head(lambda _: None).grow(100)
        assert [type(each) for each in ended] == [Limited]
        piece.grow(100)
        piece.leave()
        return incoming.bytes

    assert run(main) == 600


def test_a_head_is_limited_like_a_body_and_ended_with_a_reason():
    async def main():
        ended, incoming = [], new(max_incomplete_bytes=1_000)
        head = incoming.head(ended.append)
        head.grow(450)
        bodies = [asyncio.create_task(grown(incoming, 300, gate := asyncio.Event())) for _ in range(2)]
        await asyncio.gather(*bodies, opened(gate))
        head.leave()
        return [type(each) for each in ended], incoming.bytes

    async def opened(gate):
        gate.set()

    assert run(main) == ([Limited], 0)


def test_a_cancellation_from_elsewhere_stays_a_cancellation():
    async def main():
        task = asyncio.create_task(grown(incoming := new(), 5, asyncio.Event()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return incoming.bytes

    assert run(main) == 0


def test_an_error_inside_is_passed_on():
    async def main():
        with pytest.raises(KeyError), new().body():
            raise KeyError("inside")

    run(main)


def test_after_a_refusal_the_task_continues():
    async def main():
        with pytest.raises(Limited), new(body_timeout=0.03).body():
            await asyncio.Event().wait()
        await asyncio.sleep(0.05)
        return asyncio.current_task().cancelling()

    assert run(main) == 0
