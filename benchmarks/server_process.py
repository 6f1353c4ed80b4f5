"""The process of a measured server: started, awaited until it answers, and ended."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

#: Seconds for a server to start and to end; it takes long to start on an overloaded machine.
START, END = 180, 60


@contextmanager
def server_process(
    command: Sequence[str | Path], environment: Mapping[str, str], log: Path, port: int, *, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server during the block. The block begins when the server answers any request at its port."""
    with log.open("wb") as output:
        running = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=output, cwd=cwd)
    try:
        _wait_for(running, port, log)
        yield running
    finally:
        running.terminate()
        running.wait(END)


def _wait_for(running: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until and running.poll() is None:
        try:
            with closing(HTTPConnection("127.0.0.1", port, timeout=START)) as connection:
                connection.request("GET", "/")
                connection.getresponse().read()
                return
        except (OSError, HTTPException):
            time.sleep(0.05)
    raise RuntimeError(f"the server at port {port} did not start:\n{log.read_text(errors='replace')[-2_000:]}")
