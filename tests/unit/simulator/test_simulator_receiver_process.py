"""The receiver that the simulator starts is on this machine, so no proxy of the environment is asked for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from stub_servers import Stub, answering

from simulator.receiver_process import wait_ready


class Ready(Stub):
    def get(self):
        self.answer()


@pytest.mark.parametrize("proxy", ["socks5://proxy.example", "http://127.0.0.1:9"])
def test_a_receiver_is_ready_whatever_proxy_the_environment_names(monkeypatch, tmp_path, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with answering(Ready) as url:
        asyncio.run(wait_ready(url, SimpleNamespace(returncode=None), tmp_path / "log"))
