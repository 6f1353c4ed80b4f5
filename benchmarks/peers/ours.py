"""Hookmirror, with the ready dialect for Stripe and a worker in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.mirror import Address
from benchmarks.peers.stripe_api import StripeApi
from benchmarks.peers.stripe_events import ENDPOINT_SECRET
from benchmarks.server_process import server_process
from benchmarks.servers import SECRET_KEY
from simulator.receiver_process import free_port

SETTINGS = f"""
dialects = ["vendors.stripe:stripe"]

[sources.stripe]
secrets = ["{ENDPOINT_SECRET}"]
"""


class Hookmirror:
    name = "Hookmirror"
    most = 20_000
    products = "SELECT external_id, name FROM products"
    effects = "SELECT count(*) FROM deliveries WHERE state = 'processed' AND outcome = 'applied'"
    waiting = "SELECT count(*) FROM deliveries WHERE state IN ('pending', 'processing')"

    def install(self) -> None:
        """Nothing is missing."""

    def prepare(self, database: str, _: StripeApi) -> None:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "receiver", "migrate"]
            subprocess.run(command, env=_environment(database, Path(folder)), check=True, capture_output=True)

    @contextmanager
    def serving(self, database: str, folder: Path, _: StripeApi) -> Iterator[Address]:
        port = free_port()
        command = [sys.executable, "-m", "receiver", "serve", "--port", str(port), "--worker-process"]
        environment = _environment(database, folder)
        with server_process(command, environment, folder / "hookmirror.log", port) as running:
            yield Address(f"http://127.0.0.1:{port}", "/hooks/stripe", running.pid)


def _environment(database: str, folder: Path) -> dict[str, str]:
    config = folder / "hookmirror.toml"
    config.write_text(SETTINGS)
    return os.environ | {
        "HOOKMIRROR_CONFIG": str(config),
        "HOOKMIRROR_DATABASE_URL": database,
        "HOOKMIRROR_SECRET_KEY": SECRET_KEY,
        "HOOKMIRROR_LOG_LEVEL": "warning",
    }
