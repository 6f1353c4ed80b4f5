"""The command line for tests: an installation in a folder, its commands as processes, a sender of signed webhooks."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
from sqlalchemy import text

from receiver.database.database import Database
from simulator.receiver_process import free_port

#: Seconds that anything may take that a test waits for.
TIMEOUT = 60.0

SECRET = "secret-of-these-tests-only"
PHRASE = "KeyPhraseOf32CharactersForTests1"
SECRET_KEY = "secret-key-of-these-tests-only"

SETTINGS = f"""
secret_key = "{SECRET_KEY}"

[sources.sigma]
secrets = ["{SECRET}"]

[sources.iimmpact]
secrets = ["{SECRET}"]

[sources.indexed]
secrets = ["{SECRET}"]

[sources.sticky]
secrets = ["{PHRASE}"]
app_key = "app-key-of-these-tests"
"""

HEADERS = {"sigma": "X-Sigma-Signature", "iimmpact": "X-Webhook-Signature", "indexed": "X-Webhook-Signature"}


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition says as soon as it is true. Fails after a while."""
    end = time.monotonic() + TIMEOUT
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {TIMEOUT:.0f} s for {what}"
        time.sleep(0.01)
    return found


def signed(source: str, content: bytes) -> dict[str, str]:
    return {HEADERS[source]: "sha256=" + hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()}


def product(number: int, *, key: str, name: str, at: str = "2026-03-04T12:00:00Z") -> bytes:
    """What IIMMPACT posts about a product; `key` makes it another webhook."""
    data = {"display_name": name, "product_code": key}
    content = {"type": "product.updated", "resource": "products", "id": f"P{number}", "timestamp": at, "data": data}
    return json.dumps(content).encode()


@dataclass
class Folder:
    """An installation: its settings file, its database, and its commands."""

    path: Path
    settings: str = SETTINGS
    #: A file in the folder, if None.
    database_url: str | None = None
    #: What the environment adds; None removes.
    environment: dict[str, str | None] = field(default_factory=dict)
    #: Called in the new process before the command, such as to take something away from it.
    before: Callable[[], None] | None = None

    @property
    def database(self) -> Path:
        return self.path / "hookmirror.db"

    @property
    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.database}"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """What a program beside the commands finds in the database, or does to it."""
        with closing(Database(self.url)) as beside, beside.write() as connection:
            found = connection.execute(text(sql))
            return [tuple(row) for row in found] if found.returns_rows else []

    def count(self, where: str = "true", table: str = "deliveries") -> int:
        return int(self.query(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

    def states(self) -> dict[str, int]:
        """How many deliveries are in each state."""
        return dict(self.query("SELECT state, count(*) FROM deliveries GROUP BY state"))

    def surroundings(self) -> dict[str, str]:
        """The environment of its commands; writes the settings file, too, unless it is written already."""
        file = self.path / "hookmirror.toml"
        if self.settings and not (file.exists() and file.read_text() == self.settings):
            file.write_text(self.settings)
            file.chmod(0o600)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKMIRROR_")}
        given = {
            "HOOKMIRROR_CONFIG": str(self.path / "hookmirror.toml"),
            "HOOKMIRROR_DATABASE_URL": self.url,
            **self.environment,
        }
        return {**inherited, **{name: value for name, value in given.items() if value is not None}}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command under way, its output in pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "receiver", *arguments],
            cwd=self.path,
            env=self.surroundings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self.before,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command from its start to its end."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def ask(self, *arguments: str) -> Any:
        """The answer of a command that is to succeed, in JSON."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command under way, killed at the end of the block if it is still there."""
        with self.start(*arguments) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.communicate()

    @contextmanager
    def serving(self, *options: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
        """`hookmirror serve`, ready, and a client of it."""
        port = free_port()
        with (
            self.running("serve", "--port", str(port), *options) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client,
        ):
            wait_until(lambda: process.poll() is not None or is_alive(client), "the server")
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield process, client


#: Does its imports once, then runs each command it is told of in a child of its own: tells its pid, then its exit code.
FORKING = """
import json, os, sys, traceback
import receiver.cli, simulator.commands, handlers.sigma, handlers.indexed, handlers.iimmpact, handlers.sticky

def command(job):
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["hookmirror", *job["arguments"]]
    receiver.cli.main()

for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 0
        try:
            command(json.loads(line))
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
            code = 70
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """Runs commands each in a process of its own, without the second that its imports would take.

    `size` is how many may run at once.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()

    def __enter__(self) -> Forks:
        for _ in range(self._size):
            command = [sys.executable, "-c", FORKING]
            self._idle.put(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return self

    def __exit__(self, *_: object) -> None:
        while not self._idle.empty():
            with self._idle.get() as forking:
                forking.communicate()

    def run(self, folder: Folder, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command from its start to its end."""
        with self._started(folder, arguments) as (_, end):
            code = end()
        return subprocess.CompletedProcess(
            arguments, code, (folder.path / "out").read_text(), (folder.path / "err").read_text()
        )

    @contextmanager
    def serving(self, folder: Folder) -> Iterator[tuple[Callable[[], int], httpx.Client]]:
        """`hookmirror serve`, ready: what kills it at once, and a client of it."""
        port = free_port()
        with (
            self._started(folder, ("serve", "--port", str(port))) as (pid, end),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client,
        ):
            wait_until(lambda: is_alive(client), "the server")

            def kill() -> int:
                os.kill(pid, signal.SIGKILL)
                return end()

            yield kill, client

    @contextmanager
    def _started(self, folder: Folder, arguments: tuple[str, ...]) -> Iterator[tuple[int, Callable[[], int]]]:
        """The process id of a command under way, and what waits for its end and tells its exit code."""
        names = {"folder": folder.path, "out": folder.path / "out", "err": folder.path / "err"}
        job = {"environment": folder.surroundings(), "arguments": arguments}
        forking = self._idle.get()
        assert forking.stdin is not None
        assert forking.stdout is not None
        forking.stdin.write(json.dumps({name: str(path) for name, path in names.items()} | job) + "\n")
        forking.stdin.flush()
        pid, codes = int(forking.stdout.readline()), forking.stdout
        ended: list[int] = []

        def end() -> int:
            ended.append(int(codes.readline()))
            return ended[0]

        try:
            yield pid, end
        finally:
            if not ended:
                os.kill(pid, signal.SIGKILL)
                end()
            self._idle.put(forking)


def is_alive(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def post(client: httpx.Client, content: bytes, source: str = "iimmpact") -> httpx.Response:
    return client.post(f"/hooks/{source}", content=content, headers=signed(source, content))


def lines(text: str) -> Sequence[str]:
    return text.strip().splitlines()
