"""A Hookmirror receiver that the simulator starts: a subprocess whose files are in a temporary directory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE

import httpx

#: Seconds that the receiver may take to start, to print a token or a link, and to stop.
START, PRINTED, STOP = 60.0, 60.0, 15.0

#: The ports to search for a free one, and the number of tries. The ports are below those that systems give to outgoing
#: connections, because an outgoing connection could take the port before the receiver listens on it.
PORTS, TRIES = range(20_000, 32_000), 100

#: Lines of the log shown when the receiver fails.
TAIL = 20


class ReceiverFailedError(Exception):
    """The receiver did not start or died; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Receiver:
    url: str
    token: str
    process: asyncio.subprocess.Process
    log: Path
    environment: Mapping[str, str]

    async def link(self) -> str:
        """Make an address that signs a person in to the receiver's console once. Raises `ReceiverFailedError`."""
        return await printed(
            self.environment, "console-link", "--role", "operator", "--name", "demo", "--url", self.url
        )

    def check(self) -> None:
        """Raise `ReceiverFailedError` if the receiver's process has ended."""
        if self.process.returncode is not None:
            raise ReceiverFailedError(f"The receiver ended with code {self.process.returncode}.\n{tail(self.log)}")


def free_port() -> int:
    """Find a port on which nothing listens. Raises `OSError` if all tries fail."""
    for port in random.SystemRandom().sample(PORTS, TRIES):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError(f"None of {TRIES} ports between {PORTS[0]} and {PORTS[-1]} is free. End the programs on them.")


@contextlib.asynccontextmanager
async def receiving(
    *, directory: Path, port: int, settings: str, secret_key: str, database_url: str | None = None
) -> AsyncIterator[Receiver]:
    """Start a receiver, yield it when it is ready, and end it in any case. Raises `ReceiverFailedError`.

    Its database is a file in the directory, or the one that `database_url` names, whose schema must be up to date.
    """
    (directory / "hookmirror.toml").write_text(settings, encoding="utf-8")
    environment = environment_for(directory, secret_key)
    if database_url is not None:
        environment["HOOKMIRROR_DATABASE_URL"] = database_url
    log = directory / "receiver.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "receiver", "serve", "--port", str(port), "--console"),
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,  # Ctrl-C must not reach the receiver, which ends below
        )
    try:
        await wait_ready(f"http://127.0.0.1:{port}", process, log)
        token = await printed(environment, "token", "--scope", "operate")
        yield Receiver(f"http://127.0.0.1:{port}", token, process, log, environment)
    finally:
        await end(process)


def environment_for(directory: Path, secret_key: str) -> dict[str, str]:
    """Return the receiver's environment: the simulator's own, with other settings of Hookmirror."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKMIRROR_")}
    return {
        **inherited,
        "HOOKMIRROR_CONFIG": str(directory / "hookmirror.toml"),
        "HOOKMIRROR_DATABASE_URL": f"sqlite:///{directory / 'hookmirror.db'}",
        "HOOKMIRROR_SECRET_KEY": secret_key,
    }


async def wait_ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START), httpx.AsyncClient(base_url=url, trust_env=False) as client:
            while process.returncode is None:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.1)
            raise ReceiverFailedError(f"The receiver ended with code {process.returncode}.\n{tail(log)}")
    raise ReceiverFailedError(f"The receiver was not ready within {START:.0f} s.\n{tail(log)}")


async def printed(environment: Mapping[str, str], *command: str) -> str:
    """Run a command of the receiver, and return its output. Raises `ReceiverFailedError`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "receiver", *command),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), PRINTED)
    except TimeoutError:
        raise ReceiverFailedError(f"`{command[0]}` did not answer within {PRINTED:.0f} s.") from None
    finally:
        await end(process)
    if process.returncode:
        raise ReceiverFailedError(
            f"`{command[0]}` ended with code {process.returncode}: {errors.decode(errors='replace')}"
        )
    return output.decode().strip()


async def end(process: asyncio.subprocess.Process) -> None:
    """Terminate the process, and kill it if it has not ended after `STOP` seconds."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP)
    except TimeoutError:
        process.kill()
        await process.wait()


def tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-TAIL:]) or "(the log is empty)"
