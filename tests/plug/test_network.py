"""Connections to PostgreSQL that are cut, that drop every packet, or that are slow."""

from __future__ import annotations

import asyncio

import pytest
from killing import judge
from observing import ENDPOINT_TIMEOUT, LONG_WAITS, acking, readiness, refusing, settled, told_at_once, until
from scene import Scene, staged


@pytest.fixture
def play():
    """Return a function that runs a scene with a network and checks its counts."""

    def play(trouble, *, sabotage: str = "") -> Scene:
        async def run() -> Scene:
            async with staged("postgresql", with_network=True, sabotage=sabotage) as scene:
                async with scene.flowing():
                    await until(acking(scene), "acks")
                    await trouble(scene)
                    await until(acking(scene), "acks after the trouble")
                    await settled(scene)
                verdict = await judge(scene, [], seed=1, seconds=0)
            assert verdict.good, "\n".join(verdict.lines())
            assert [post.starts for post in scene.deployment.posts] == [1] * 4
            return scene

        return asyncio.run(run())

    return play


@pytest.mark.long
def test_connections_cut_at_any_moment_cost_at_most_a_retry(play):
    async def trouble(scene: Scene) -> None:
        for _ in range(40):
            await asyncio.sleep(0.1)
            scene.network.cut()

    play(trouble)


def test_while_the_network_is_down_senders_are_refused_at_once(play):
    async def trouble(scene: Scene) -> None:
        refused = refusing(scene)
        scene.network.close_door()
        await until(refused, "a refusal")
        await asyncio.sleep(2)
        assert (await readiness(scene)).status_code == 503
        scene.network.open_door()

    assert told_at_once(play(trouble, sabotage=LONG_WAITS))


@pytest.mark.long
def test_a_network_that_drops_every_packet_keeps_no_sender_longer_than_the_endpoint_s_timeout(play):
    async def trouble(scene: Scene) -> None:
        refused = refusing(scene)
        scene.network.hold()
        await until(refused, "a refusal", seconds=ENDPOINT_TIMEOUT)
        scene.network.cut()
        scene.network.release()

    scene = play(trouble)
    assert max(scene.stream.refusals[503]) < ENDPOINT_TIMEOUT


@pytest.mark.long
def test_an_arrival_that_was_held_up_in_the_network_is_applied_once(play):
    async def trouble(scene: Scene) -> None:
        for _ in range(3):
            scene.network.hold()
            await asyncio.sleep(2)
            scene.network.release()
            await asyncio.sleep(0.5)

    play(trouble)


@pytest.mark.long
def test_a_slow_network_delays_and_refuses_nothing(play):
    async def trouble(scene: Scene) -> None:
        scene.network.delay = 0.05
        await asyncio.sleep(4)
        scene.network.delay = 0.0

    scene = play(trouble)
    assert 503 not in scene.stream.refusals
