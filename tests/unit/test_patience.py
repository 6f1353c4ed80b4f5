"""One timer for many waits: each ends in time, none is ended that was in time, nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from receiver.patience import LOOKS, Patience


def run(main):
    return asyncio.run(main())


def test_a_wait_that_ends_in_time_is_not_disturbed():
    async def main():
        patience = Patience(5.0)
        with patience:
            await asyncio.sleep(0)
        return "done"

    assert run(main) == "done"


def test_a_wait_beyond_the_limit_ends_with_a_timeout():
    async def main():
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError), Patience(0.05):
            await asyncio.Event().wait()
        return asyncio.get_running_loop().time() - began

    assert 0.05 <= run(main) < 0.05 * (1 + 1 / LOOKS) + 1.0


def test_of_many_waits_only_the_overdue_end():
    async def main():
        patience, open_gate = Patience(0.05), asyncio.Event()

        async def wait(gate):
            try:
                with patience:
                    await gate.wait()
            except TimeoutError:
                return "timeout"
            return "in time"

        waits = [asyncio.create_task(wait(asyncio.Event() if n % 2 else open_gate)) for n in range(6)]
        await asyncio.sleep(0)
        open_gate.set()
        return await asyncio.gather(*waits)

    assert run(main) == ["in time", "timeout"] * 3


def test_one_object_serves_one_wait_after_another():
    async def main():
        patience, ends = Patience(0.03), []
        for _ in range(3):
            try:
                with patience:
                    await asyncio.Event().wait()
            except TimeoutError:
                ends.append("timeout")
            with patience:
                await asyncio.sleep(0)
        return ends

    assert run(main) == ["timeout"] * 3


def test_a_cancellation_by_someone_else_stays_a_cancellation():
    async def main():
        async def wait():
            with Patience(5.0):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_an_error_inside_comes_out_as_it_is():
    async def main():
        with pytest.raises(KeyError), Patience(5.0):
            raise KeyError("inside")

    run(main)


def test_after_a_timeout_the_task_goes_on_undisturbed():
    async def main():
        try:
            with Patience(0.03):
                await asyncio.Event().wait()
        except TimeoutError:
            await asyncio.sleep(0.05)
        return asyncio.current_task().cancelling()

    assert run(main) == 0
