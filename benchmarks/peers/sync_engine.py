"""Supabase's sync engine: a library for Node.js that writes the row before the webhook is answered.

It takes the values from the webhook. Asking Stripe's API instead (`revalidateObjectsViaStripeApi`) is off, as it is by
default.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import modules_with
from benchmarks.peers.mirror import OFFLINE, Address
from benchmarks.peers.stripe_api import StripeApi
from benchmarks.peers.stripe_events import ENDPOINT_SECRET
from benchmarks.server_process import server_process
from simulator.receiver_process import free_port

#: The newest release, and the newest release of Stripe's library, which it needs.
RELEASES = ("@supabase/stripe-sync-engine@0.48.5", "stripe@23.1.0")

PROGRAM = Path(__file__).with_name("sync_engine_server.mjs")


class SyncEngine:
    name = "stripe-sync-engine"
    most = 12_000
    products = "SELECT id, name FROM stripe.products"
    effects = waiting = ""

    def install(self) -> None:
        self._modules = modules_with(".peers/sync-engine", RELEASES)

    def prepare(self, database: str, _: StripeApi) -> None:
        subprocess.run(self._command(database), check=True, capture_output=True, env=os.environ | OFFLINE)

    @contextmanager
    def serving(self, database: str, folder: Path, _: StripeApi) -> Iterator[Address]:
        port = free_port()
        command = self._command(database, str(port))
        with server_process(command, os.environ | OFFLINE, folder / "sync-engine.log", port) as running:
            yield Address(f"http://127.0.0.1:{port}", "/webhooks", running.pid)

    def _command(self, database: str, *arguments: str) -> list[str | Path]:
        return ["node", PROGRAM, self._modules, database, ENDPOINT_SECRET, *arguments]
