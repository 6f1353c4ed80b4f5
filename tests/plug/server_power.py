"""Make PostgreSQL's syncs fail, cut the power, and look on the disk for everything that was acked.

    python tests/plug/server_power.py --runs 5

Each run has a seed; exit code 1 if any lost something.
"""

from __future__ import annotations

import argparse
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psycopg
from failing_disk import SECTOR, FailingDisk, Kind
from forking import plain, wait_until
from ledger import Ledger
from power import SETUPS, Machine, Verdict, machine

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from postgresql_server import PostgresServer

#: Seconds between two requested checkpoints.
CHECKPOINTS = 0.3


class ServerDisk(FailingDisk):
    """The disk below PostgreSQL's data folder.

    `failing_server_disk.c` keeps the content of each file by its inode number.
    """

    source = Path(__file__).with_name("failing_server_disk.c")

    def __init__(self, root: Path, shadow: Path) -> None:
        """Take the present content of the folder as written to the disk. The server must not run."""
        super().__init__(root, shadow)
        for each in "content", "dirty":
            (shadow / each).mkdir()
        for file in _files(root):
            shutil.copyfile(file, self._content(file))

    def image(self, folder: Path, jitter: random.Random) -> Path:
        """Write the data folder as it is after the cut: everything confirmed, and each other sector with even odds."""
        for file in _files(self._root):
            copy = folder / file.relative_to(self._root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
            with suppress(FileNotFoundError):
                shutil.copyfile(self._content(file), copy)
            self._write_some_of(file, copy, jitter)
        for empty in self._root.rglob("*/"):
            (folder / empty.relative_to(self._root)).mkdir(parents=True, exist_ok=True)
        return folder

    def _content(self, file: Path) -> Path:
        return self._shadow / "content" / str(file.stat().st_ino)

    def _write_some_of(self, written: Path, copy: Path, jitter: random.Random) -> None:
        try:
            records = (self._shadow / "dirty" / str(written.stat().st_ino)).read_bytes()
        except FileNotFoundError:
            return
        with written.open("rb") as source, copy.open("r+b") as target:
            for offset, length in struct.iter_unpack("qq", records):
                for place in range(offset, offset + length, SECTOR):
                    if jitter.random() < 0.5:
                        source.seek(place)
                        target.seek(place)
                        target.write(source.read(min(SECTOR, offset + length - place)))


def _files(root: Path) -> list[Path]:
    return [each for each in root.rglob("*") if each.is_file()]


class ServerMachine(Machine):
    """Hookmirror's processes with a PostgreSQL server on a failing disk, and senders."""

    #: Settings of the server, in addition to those of every run.
    settings: ClassVar[dict[str, str]] = {}

    def _lay_out(self) -> None:
        # With little room, segments of the log are used again. No checkpoint comes by the clock.
        sizes = {"max_wal_size": "64MB", "min_wal_size": "32MB", "checkpoint_timeout": "1h"}
        self.server = PostgresServer(**{"fsync": "on", "full_page_writes": "on", **sizes, **self.settings})
        self._as_server("pg_checksums", "--enable")
        self.server.start()
        self.server.run("CREATE DATABASE hookmirror")
        self.url = self.server.url("hookmirror")
        self._migrate()
        self.server.stop()
        shadow = self.server.folder / "shadow"
        self.disk = ServerDisk(self.server.data, shadow)
        self._hand_over(shadow)
        self.server.environment = self.disk.environment
        self.server.start()
        self._environment = {}

    def _migrate(self) -> None:
        environment = {**plain(), "HOOKMIRROR_DATABASE_URL": self.url}
        subprocess.run([sys.executable, "-m", "receiver", "migrate"], env=environment, check=True, capture_output=True)

    def _missing(self, acked: list[int]) -> tuple[int, str]:
        self.server.environment = {}
        self.server.data = self.disk.image(self.server.folder / "image", self.jitter)
        self._hand_over(self.server.data)
        self.server.data.chmod(0o700)
        try:
            self.server.start()
            there = set(Ledger(self.url).kept())
            sound = Ledger(self.url).is_sound()
        except (AssertionError, psycopg.Error) as error:
            return len(acked), str(error)
        self.server.stop()
        whole = self._as_server("pg_checksums", "--check")
        return len({str(each) for each in acked} - there), "ok" if sound and whole else "not sound"

    def kill(self) -> None:
        super().kill()
        if self.disk.power_is_cut():
            self._end_server()

    def _end_server(self) -> None:
        """Kill the server, and wait for its children, which end by themselves soon after."""
        pid = self.server.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        numbers = children.read_text().split() if children.exists() else []
        with suppress(ProcessLookupError):
            self.server.kill()
        wait_until(lambda: not any(Path(f"/proc/{number}").exists() for number in numbers), "the server's processes")

    def _as_server(self, program: str, option: str) -> bool:
        command = [self.server.program(program), option, "-D", self.server.data]
        return subprocess.run(command, user=self.server.user, capture_output=True, timeout=60).returncode == 0

    def _hand_over(self, folder: Path) -> None:
        """Give the folder to the server's user, so that the server can write there."""
        if self.server.user is not None:
            for each in folder, *folder.rglob("*"):
                shutil.chown(each, self.server.user, self.server.user)

    def close(self) -> None:
        super().close()
        self.server.remove()


class CarelessMachine(ServerMachine):
    """Runs a PostgreSQL that does not flush.

    The webhooks that it loses show that the disk keeps only flushed data.
    """

    settings: ClassVar[dict[str, str]] = {"fsync": "off"}


# ── scenarios ─────────────────────────────────────────────────────────────────────────────────────────────────


def no_failure(running: ServerMachine) -> float:
    running.senders.wait_for_acks(300 + running.jitter.randrange(500))
    return time.monotonic()


def log_sync(running: ServerMachine) -> float:
    """Fail one sync of the log: that of a commit, or that of a new segment."""
    running.disk.fail(Kind.LOG, after=running.jitter.randrange(200))
    return _go_on(running)


def data_sync(running: ServerMachine) -> float:
    """Fail one sync of a file during a checkpoint."""
    running.disk.fail(Kind.DATA, after=running.jitter.randrange(20))
    stopping = threading.Event()
    checkpoints = threading.Thread(target=_checkpoint, args=(running.server, stopping))
    checkpoints.start()
    try:
        return _go_on(running)
    finally:
        stopping.set()
        checkpoints.join()


def _checkpoint(server: PostgresServer, stopping: threading.Event) -> None:
    """Ask for one checkpoint after the other until `stopping` is set."""
    while not stopping.wait(CHECKPOINTS):
        with suppress(psycopg.Error):
            server.run("CHECKPOINT")


def _go_on(running: ServerMachine) -> float:
    """Wait until the sync has failed, the server has ended its processes and recovered, and acks continue."""
    failed_at = running.wait_for_failure()
    said = running.server.folder / "log"
    wait_until(lambda: "PANIC" in said.read_text(errors="replace"), "a panic of the server")
    running.senders.wait_for_acks(100 + running.jitter.randrange(300), since=failed_at)
    return failed_at


SCENARIOS: dict[str, Callable[[ServerMachine], float]] = {
    each.__name__: each for each in (no_failure, log_sync, data_sync)
}


def play(scenario: str, setup: str, seed: int, make: type[ServerMachine] = ServerMachine) -> Verdict:
    with machine(make, setup, seed) as running:
        try:
            return running.verdict(scenario, SCENARIOS[scenario](running))
        except TimeoutError as error:
            said = f"{running.log()[-2000:]}\n{running.server.log()}"
            raise AssertionError(f"{error}\n{running.senders.statuses}\n{said}") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="number of runs of each scenario in each set-up")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run; each later run has the next one")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--setup", choices=SETUPS, action="append")
    parser.add_argument("--careless", action="store_true", help="run PostgreSQL with fsync=off, which loses data")
    options = parser.parse_args()
    make = CarelessMachine if options.careless else ServerMachine
    good = True
    for scenario in options.scenario or SCENARIOS:
        for setup in options.setup or SETUPS:
            verdicts = [play(scenario, setup, options.seed + run, make) for run in range(options.runs)]
            for verdict in verdicts:
                print(verdict, flush=True)  # noqa: T201
            bad = [verdict for verdict in verdicts if not verdict.good]
            lost, acked = sum(each.lost for each in verdicts), sum(each.acked for each in verdicts)
            print(f"= {scenario}, {setup}: bad {len(bad)} of {len(verdicts)}, lost {lost} of {acked}", flush=True)  # noqa: T201
            good = good and not bad
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
