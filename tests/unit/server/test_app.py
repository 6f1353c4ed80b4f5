"""The application adopts new settings between two requests, or not at all."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from receiver.errors import ConfigurationError
from receiver.server import app, renewal
from receiver.server.runtime import Runtime
from receiver.settings.settings import Settings


def test_settings_reported_as_refused_never_come_into_force(monkeypatch):
    monkeypatch.setattr(renewal, "TAKING", 0.05)
    taken: list[Any] = []
    told: list[BaseException] = []

    async def serve() -> None:
        accepting = SimpleNamespace(prepared=lambda _: nullcontext(lambda: None))
        process: Any = SimpleNamespace(_loop=asyncio.get_running_loop(), _accepting=accepting)
        process._renew = lambda renewal, _ready: taken.append(renewal)
        new = SimpleNamespace(settings=None)

        def take() -> None:
            with pytest.raises(ConfigurationError, match="too busy") as refused:
                app.App._adopt(process, new)
            told.append(refused.value)

        thread = threading.Thread(target=take)
        thread.start()
        # The event loop is busy until the other thread has given up.
        thread.join()
        await asyncio.sleep(0)

    asyncio.run(serve())
    assert len(told) == 1
    assert taken == []


def test_the_database_is_closed_when_a_part_cannot_start(monkeypatch, tmp_path):
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(app.WorkerThread, "start", fail)
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'hookmirror.db'}", secret_key="key-of-this-test")
    runtime = Runtime(settings)
    runtime.prepare()
    application = app.App(runtime)

    async def serve() -> None:
        async with application.lifespan():
            pass

    with pytest.raises(RuntimeError, match="new thread"):
        asyncio.run(serve())
    assert runtime.database._care.checkpoints is None
    assert list(tmp_path.glob("*-wal")) == []
