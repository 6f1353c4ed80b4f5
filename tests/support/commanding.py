"""The command line for tests: an installation in a folder, commands run as processes, and signed webhooks."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from forked import Forked
from longer_limits import PATIENT, with_patience
from ports import free_port
from templates import copy_tables_to, installed_file
from waiting import TIMEOUT, wait_until

import handlers.catalog  # noqa: F401 (its tables are part of the mirror)
from receiver.database.database import Database
from receiver.database.schema import Schema

#: The beginning of the URL of a SQLite file, before its path.
SQLITE = "sqlite:///"

SECRET = "secret-of-these-tests-only"
#: Each source has a secret of its own, because `doctor` warns about a shared one.
SECRETS = {"sigma": f"sigma-{SECRET}", "iimmpact": SECRET, "indexed": f"indexed-{SECRET}"}
#: Workers reclaim the deliveries of a killed worker when they poll, ten times in a lease.
RECLAIM_SOON: dict[str, str | None] = {"HOOKMIRROR_LEASE_SECONDS": "10"}
PHRASE = "KeyPhraseOf32CharactersForTests1"
SECRET_KEY = "secret-key-of-these-tests-only"

SETTINGS = f'''
secret_key = "{SECRET_KEY}"

[sources.sigma]
secrets = ["{SECRETS["sigma"]}"]

[sources.iimmpact]
secrets = ["{SECRET}"]

[sources.indexed]
secrets = ["{SECRETS["indexed"]}"]

[sources.sticky]
secrets = ["{PHRASE}"]
app_key = "app-key-of-these-tests"
'''

#: Python code for `Folder.before` that leaves out the pauses between the five requests of a walk whose API fails.
NO_PAUSES = "import stamina; stamina.set_testing(True, attempts=5)"

HEADERS = {"sigma": "X-Sigma-Signature", "iimmpact": "X-Webhook-Signature", "indexed": "X-Webhook-Signature"}


def signed(source: str, content: bytes) -> dict[str, str]:
    return {HEADERS[source]: "sha256=" + hmac.new(SECRETS[source].encode(), content, hashlib.sha256).hexdigest()}


def product(number: int, *, key: str, name: str, at: str = "2026-03-04T12:00:00Z") -> bytes:
    """Make the body that IIMMPACT posts about a product; another `key` makes it another webhook."""
    data = {"display_name": name, "product_code": key}
    content = {"type": "product.updated", "resource": "products", "id": f"P{number}", "timestamp": at, "data": data}
    return json.dumps(content).encode()


@dataclass
class Folder:
    """An installation: its settings file, its database, and its commands."""

    path: Path
    settings: str = SETTINGS
    #: The database's URL; if None, a SQLite file in the folder.
    database_url: str | None = None
    #: Variables added to the environment; None removes a variable.
    environment: dict[str, str | None] = field(default_factory=dict)
    #: Python code that the new process runs before the command, for example to drop a right.
    before: str = ""
    #: Whether the commands have the patience of tests, in place of the limits of time of a release.
    patience: bool = True
    #: Whether each command starts a fresh interpreter, as it does outside these tests, instead of being forked.
    fresh: bool = False

    @property
    def database(self) -> Path:
        return self.path / "hookmirror.db"

    @property
    def url(self) -> str:
        return self.database_url or f"{SQLITE}{self.database}"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL through a separate connection of the driver, and return the rows that it yields."""
        with closing(self._connect()) as connection:
            found = connection.execute(sql)
            return found.fetchall() if found.description else []

    def _connect(self) -> sqlite3.Connection | psycopg.Connection[Any]:
        """Connect to the database. Each statement is a transaction by itself."""
        if self.url.startswith(SQLITE):
            return sqlite3.connect(self.url.removeprefix(SQLITE), isolation_level=None, timeout=TIMEOUT)
        connection = psycopg.connect(self.url, autocommit=True, target_session_attrs="read-write")
        connection.execute("SET TIME ZONE 'UTC'")
        return connection

    def migrate(self) -> None:
        """Make the tables, for commands that expect them to exist."""
        copy_tables_to(self.url, installed_file)
        with closing(Database(self.url)) as database:
            Schema(database).upgrade()

    def count(self, where: str = "true", table: str = "deliveries") -> int:
        return int(self.query(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])

    def states(self) -> dict[str, int]:
        """Count the deliveries in each state."""
        return dict(self.query("SELECT state, count(*) FROM deliveries GROUP BY state"))

    def surroundings(self) -> dict[str, str]:
        """Return the environment of the commands, and write the settings file if it has changed."""
        file = self.path / "hookmirror.toml"
        if self.settings and not (file.exists() and file.read_text() == self.settings):
            file.write_text(self.settings)
            file.chmod(0o600)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKMIRROR_")}
        given = {
            "HOOKMIRROR_CONFIG": str(self.path / "hookmirror.toml"),
            "HOOKMIRROR_DATABASE_URL": self.url,
            # For the processes that a command starts, too.
            **(with_patience() if self.patience else {}),
            **self.environment,
        }
        return {**inherited, **{name: value for name, value in given.items() if value is not None}}

    def start(self, *arguments: str) -> subprocess.Popen[str] | Forked:
        """Start a command with its output in pipes."""
        if not self.fresh:
            before = f"{PATIENT}\n{self.before}" if self.patience else self.before
            return Forked(arguments, self.path, self.surroundings(), before=before)
        return subprocess.Popen(
            [sys.executable, "-m", "receiver", *arguments],
            cwd=self.path,
            env=self.surroundings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def ask(self, *arguments: str) -> Any:
        """Run a command that must succeed, and return its JSON output."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str] | Forked]:
        """Start a command and kill it at the end of the block if it still runs."""
        with self.start(*arguments) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.communicate()

    @contextmanager
    def serving(self, *options: str) -> Iterator[tuple[subprocess.Popen[str] | Forked, httpx.Client]]:
        """Run `hookmirror serve`, wait until it is ready, and give a client of it.

        A SQLite file in the folder gets its tables from a template beforehand.
        """
        if "HOOKMIRROR_DATABASE_URL" not in self.environment:
            copy_tables_to(self.url, installed_file)
        port = free_port()
        with (
            self.running("serve", "--port", str(port), *options) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client,
        ):
            wait_until(lambda: process.poll() is not None or is_alive(client), "the server")
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield process, client


class Forks:
    """Runs commands, each in a process of its own, at most `size` at the same time."""

    def __init__(self, size: int) -> None:
        self._turns = threading.Semaphore(size)

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, folder: Folder, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with self._turns:
            return folder.run(*arguments)

    @contextmanager
    def serving(self, folder: Folder) -> Iterator[tuple[Callable[[], int], httpx.Client]]:
        """Run `hookmirror serve` until it is ready; give a function that kills it, and a client of it."""
        with self._turns, folder.serving() as (process, client):

            def kill() -> int:
                process.kill()
                return process.wait()

            yield kill, client


def is_alive(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def post(client: httpx.Client, content: bytes, source: str = "iimmpact") -> httpx.Response:
    return client.post(f"/hooks/{source}", content=content, headers=signed(source, content))


def lines(text: str) -> Sequence[str]:
    return text.strip().splitlines()
