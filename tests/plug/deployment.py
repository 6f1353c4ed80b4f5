"""An installation of several processes on one database, which restarts each process that ends, as a supervisor does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from forking import Forking, Process, wait_until
from ports import free_port

from receiver.api.tokens import Scope, Tokens

#: Seconds between two checks of the processes, and before the restart of a process that ended by itself.
LOOK, PAUSE = 0.02, 0.25

#: Most seconds that a test waits for a process to become ready.
TIMEOUT = 90.0

SECRET_KEY = "secret-key-of-these-tests-only"


class Post:
    """Keeps one process running, and starts it again when it ends."""

    def __init__(self, deployment: Deployment, name: str, *arguments: str, limits: Mapping[str, int]) -> None:
        self.name = name
        #: The number of starts.
        self.starts = 0
        self._deployment = deployment
        self._arguments = arguments
        self._limits = limits
        self._due = 0.0
        self.process: Process | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive

    @property
    def settled(self) -> bool:
        """Whether the process runs and ends in order when it is asked to."""
        return self.process is not None and self.alive and self.process.catches(signal.SIGTERM)

    def fill(self) -> None:
        """Start the process if it does not run: immediately after a kill, after a pause if it ended by itself."""
        if self.alive:
            return
        now = time.monotonic()
        if self.process is not None and self.process.code is not None and self.process.code >= 0 and not self._due:
            self._due = now + PAUSE
        if now < self._due:
            return
        self._due = 0.0
        self.process = self._deployment.start(*self._arguments, log=self.name, limits=self._limits)
        self.starts += 1


class Deployment:
    """Endpoints and workers on the database at `url`. `sources` are the tables of the settings file."""

    def __init__(
        self,
        forking: Forking,
        folder: Path,
        url: str,
        sources: str,
        *,
        endpoints: int = 2,
        workers: int = 2,
        settings: Mapping[str, Any] | None = None,
        limits: Mapping[str, int] | None = None,
        sabotage: str = "",
    ) -> None:
        """Set up the processes.

        `settings` become environment variables. `limits` and `sabotage` (see `Forking`) hold for every process.
        """
        self.url = url
        self.ports = [free_port() for _ in range(endpoints)]
        self._forking = forking
        self._sabotage = sabotage
        self._folder = folder
        self._environment = {
            "HOOKMIRROR_CONFIG": str(folder / "hookmirror.toml"),
            "HOOKMIRROR_DATABASE_URL": url,
            "HOOKMIRROR_SECRET_KEY": SECRET_KEY,
            **{f"HOOKMIRROR_{name.upper()}": str(value) for name, value in (settings or {}).items()},
        }
        (folder / "hookmirror.toml").write_text(sources)
        given = limits or {}
        self.endpoints = [
            Post(self, f"endpoint-{number}", "serve", "--no-worker", "--port", str(port), limits=given)
            for number, port in enumerate(self.ports, 1)
        ]
        self.workers = [Post(self, f"worker-{number}", "worker", limits=given) for number in range(1, workers + 1)]
        self._keeper: asyncio.Task[None] | None = None

    @property
    def posts(self) -> Sequence[Post]:
        return [*self.endpoints, *self.workers]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", port) for port in self.ports]

    def start(self, *arguments: str, log: str, limits: Mapping[str, int] | None = None) -> Process:
        """Start a command of this installation."""
        path = self._folder / f"{log}.log"
        return self._forking.start(
            *arguments,
            folder=self._folder,
            log=path,
            environment=self._environment,
            limits=limits,
            sabotage=self._sabotage,
        )

    def migrate(self) -> None:
        code = self.start("migrate", log="migrate").wait()
        assert code == 0, self.log("migrate")

    def log(self, name: str, lines: int = 40) -> str:
        """Return the last lines of the log of the process with this name."""
        path = self._folder / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    @property
    def headers(self) -> dict[str, str]:
        """The header with the API's token."""
        token = Tokens([SECRET_KEY]).issue(Scope.OPERATE, now=datetime.now(UTC), lifetime=timedelta(days=1))
        return {"Authorization": f"Bearer {token}"}

    def client(self, endpoint: int = 0) -> httpx.AsyncClient:
        """Make a client of one endpoint's API."""
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.ports[endpoint]}",
            headers=self.headers,
            timeout=TIMEOUT,
            trust_env=False,
        )

    async def __aenter__(self) -> Deployment:
        """Start all processes, wait until they are ready, and keep them running until the end of the block."""
        self._keeper = asyncio.create_task(self._keep())
        for number in range(len(self.endpoints)):
            await self.ready(number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_keeping()
        for post in self.posts:
            if post.process is not None:
                await asyncio.to_thread(post.process.kill)

    async def stop(self) -> list[int]:
        """Send `SIGTERM` to all processes, and return their exit codes."""
        await self._stop_keeping()
        processes = {post.name: post.process for post in self.posts if post.process is not None}
        for process in processes.values():
            process.send(signal.SIGTERM)
        return [await asyncio.to_thread(self._end_of, name, process) for name, process in processes.items()]

    def _end_of(self, name: str, process: Process) -> int:
        """Wait for the end of the process, and return its exit code. If it does not end, fail with its stacks."""
        try:
            return process.wait()
        except TimeoutError as error:
            process.send(signal.SIGUSR2)
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: "(most recent call first)" in self.log(name, 400), "the stacks", 10)
            raise AssertionError(f"{error}: {name}\n{self.log(name, 400)}") from None

    async def ready(self, endpoint: int = 0) -> None:
        """Wait until this endpoint answers its health check."""
        async with self.client(endpoint) as client, asyncio.timeout(TIMEOUT):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/healthz")).status_code == 200:
                        return
                await asyncio.sleep(LOOK)

    async def all_ready(self) -> None:
        """Wait until every process is ready."""
        for number in range(len(self.endpoints)):
            await self.ready(number)
        async with asyncio.timeout(TIMEOUT):
            while not all(post.settled for post in self.posts):
                await asyncio.sleep(LOOK)

    async def _keep(self) -> None:
        while True:
            for post in self.posts:
                if not post.alive:
                    await asyncio.to_thread(post.fill)
            await asyncio.sleep(LOOK)

    async def _stop_keeping(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
