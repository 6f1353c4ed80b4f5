"""PgBouncer in front of a PostgreSQL server."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commanding import wait_until
from ports import free_port
from programs import find

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
logfile = {folder}/log
pool_mode = {mode}
default_pool_size = {size}
{more}
"""


@contextmanager
def pooling(server: int, mode: str, *, size: int = 40, user: str | None = None, more: str = "") -> Iterator[int]:
    """Run PgBouncer in front of the server on that port, and give its port. PgBouncer refuses to run as root."""
    program = find("pgbouncer")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="hookmirror-pgbouncer-") as name:
        folder = Path(name)
        (folder / "users").write_text('"postgres" ""\n')
        text = CONFIGURATION.format(server=server, port=port, folder=folder, mode=mode, size=size, more=more)
        (folder / "pgbouncer.ini").write_text(text)
        folder.chmod(0o777)
        process = subprocess.Popen(
            [program.path, str(folder / "pgbouncer.ini")],
            env=program.environment,
            user=user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: process.poll() is not None or _answers(port), "PgBouncer")
            assert process.poll() is None, (folder / "log").read_text()
            yield port
        finally:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
