"""dj-stripe: an application of Django that works on a webhook before it answers, here under gunicorn.

It reads each product and its features again from Stripe's API while it works on the webhook. So its documented setting
`STRIPE_API_HOST` names a stand-in of the API on loopback.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import python_with
from benchmarks.peers.mirror import OFFLINE, Address
from benchmarks.peers.stripe_api import StripeApi
from benchmarks.peers.stripe_events import API_KEY, ENDPOINT_SECRET
from benchmarks.server_process import server_process
from simulator.receiver_process import free_port

#: The newest releases that go together.
RELEASES = ("dj-stripe==2.11.0", "django==5.2.19", "gunicorn==27.0.1", "psycopg[binary]==3.3.9")

#: Processes of gunicorn, as its documentation recommends.
WORKERS = 2 * (os.cpu_count() or 1) + 1

ENDPOINT = "5d9c2b1e-0000-4000-8000-000000000001"

FOLDER = Path(__file__).parent


class DjStripe:
    name = "dj-stripe"
    most = 2_000
    products = "SELECT id, name FROM djstripe_product"
    effects = "SELECT count(*) FROM djstripe_webhookeventtrigger WHERE processed"
    waiting = ""

    def install(self) -> None:
        self._python = python_with(".venv-djstripe", RELEASES)

    def prepare(self, database: str, api: StripeApi) -> None:
        subprocess.run([self._python, FOLDER / "dj_stripe_site.py"], check=True, env=_environment(database, api))

    @contextmanager
    def serving(self, database: str, folder: Path, api: StripeApi) -> Iterator[Address]:
        port = free_port()
        bound = ["--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS), "--log-level", "warning"]
        command = [self._python, "-m", "gunicorn", *bound, "--chdir", FOLDER, "dj_stripe_site"]
        with server_process(command, _environment(database, api), folder / "dj-stripe.log", port) as running:
            yield Address(f"http://127.0.0.1:{port}", f"/stripe/webhook/{ENDPOINT}/", running.pid)


def _environment(database: str, api: StripeApi) -> dict[str, str]:
    return (
        os.environ
        | OFFLINE
        | {
            "BENCHMARK_API": api.url,
            "BENCHMARK_DATABASE": database,
            "BENCHMARK_ENDPOINT": ENDPOINT,
            "BENCHMARK_KEY": API_KEY,
            "BENCHMARK_SECRET": ENDPOINT_SECRET,
        }
    )
