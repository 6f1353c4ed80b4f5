"""The databases of a run: a SQLite file, and a PostgreSQL server that may be killed."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psycopg
from postgresql_server import PostgresServer


class SqliteFile:
    """A SQLite file, for which no server has to be started or killed."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'hookmirror.db'}"

    def start(self) -> None:
        pass

    def remove(self) -> None:
        pass


class PostgresqlServer:
    """A PostgreSQL server of the run's own. It syncs every commit to disk, as in production."""

    name = "postgresql"

    def __init__(self) -> None:
        self.server = PostgresServer(fsync="on", full_page_writes="on")
        self.url = self.server.url("hookmirror")

    def start(self) -> None:
        self.server.start()
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE hookmirror")

    def kill_postmaster(self) -> None:
        """Kill the postmaster, as a power failure would, and start it again. It recovers from its log."""
        self.server.kill()
        self.server.start()

    def kill_backend(self, jitter: random.Random) -> bool:
        """Kill one connection's backend.

        The server ends all others and recovers. Returns False if there was no connection.
        """
        try:
            with psycopg.connect(self.url, connect_timeout=5) as connection:
                found = connection.execute(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = 'hookmirror' "
                    "AND pid <> pg_backend_pid()"
                ).fetchall()
        except psycopg.OperationalError:
            return False
        if not found:
            return False
        try:
            os.kill(jitter.choice(found)[0], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def limit_files(self, size: int) -> None:
        """Limit the files that the server's processes may write to this many bytes."""

        def limit() -> None:
            for pid in processes:
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        postmaster = self.server.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        processes = [postmaster, *map(int, children)]
        # Only the server's own user may change the limits, so a child process switches to that user first.
        subprocess.run(["true"], user=self.server._user, preexec_fn=limit, check=True)

    def stop(self) -> None:
        self.server.stop()

    def restart(self) -> None:
        self.server.start()

    def remove(self) -> None:
        self.server.remove()
