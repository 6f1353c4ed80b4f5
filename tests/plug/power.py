"""Make syncs fail, cut the power, and look on the disk for everything that was acked.

    python tests/plug/power.py --runs 10

Each run has a seed; exit code 1 if any lost something.
"""

from __future__ import annotations

import argparse
import hmac
import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from failing_disk import FailingDisk, Kind
from forking import TIMEOUT as WAIT
from forking import end_with_parent, plain, wait_until

from receiver.database.sqlite.checkpoints import STEP
from receiver.database.sqlite.files import LOG
from receiver.database.sqlite.wal import Wal
from simulator.receiver_process import free_port

SECRET = b"a-secret-of-these-tests-only"

SETTINGS = f'[sources.iimmpact]\nsecrets = ["{SECRET.decode()}"]\n'

#: Seconds for the processes to start.
START = 60

#: Senders at the same time, and seconds that each waits for its answer.
SENDERS, TIMEOUT = 12, 15.0

#: Bytes of a body with which the log soon needs a checkpoint.
LARGE = 12_000

#: The place in the log's head of the two numbers that change when it starts over, and the bytes of a page.
SALTS, PAGE = slice(16, 24), 4_096

#: Frames that wait for a checkpoint when a reader begins: the reader lets them be copied, and no checkpoint is due yet.
COPYABLE = range(STEP // 10, STEP // 2)

#: The processes of each set-up: arguments of `hookmirror`.
SETUPS = {
    "one process": [["serve"]],
    "two processes": [["serve", "--no-worker"], ["worker"]],
    "three processes": [["serve", "--processes", "2"]],
}


@dataclass
class Verdict:
    scenario: str
    setup: str
    seed: int
    #: Answers by status; 0 stands for no answer.
    statuses: Counter[int]
    acked: int
    #: Acked deliveries that are missing on the disk after the cut.
    lost: int
    #: The faults that SQLite finds in the file; "ok" if there are none.
    integrity: str
    failed_syncs: int
    #: Seconds from the last failed sync to the next ack; None if no ack followed.
    until_ack: float | None = None
    #: Frames that a checkpoint copied while a reader kept it from copying all.
    copied_beside_reader: int = 0
    #: How often the log started over after a failed sync of the data.
    new_logs: int = 0
    #: Whether the run went through what its scenario is about, so that it could have lost something.
    meaningful: bool = True

    @property
    def good(self) -> bool:
        return self.lost == 0 and self.integrity == "ok" and self.meaningful

    def __str__(self) -> str:
        pause = "never" if self.until_ack is None else f"{self.until_ack:.2f} s"
        return (
            f"{self.scenario}, {self.setup}, seed {self.seed}: acked {self.acked}, lost {self.lost}, {self.integrity}; "
            f"answers {dict(sorted(self.statuses.items()))}, failed syncs {self.failed_syncs}, acks after {pause}; "
            f"frames copied beside a reader {self.copied_beside_reader}, new logs {self.new_logs}"
            f"{'' if self.meaningful else '; it shows nothing'}"
        )


@dataclass
class Senders:
    """Send distinct webhooks one after the other, and remember the acks."""

    port: int
    seed: int
    #: Approximate bytes of a body, which decide how fast the log grows.
    size: int = 1_000
    acks: list[tuple[float, int]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_for_acks(self, number: int, *, since: float | None = None) -> None:
        """Wait for this many more acks, or for this many since a time of the monotonic clock."""
        before = len(self.acks) if since is None else 0
        wait_until(lambda: len([at for at, _ in list(self.acks) if at > (since or 0)]) >= before + number, "acks")

    def _send(self, sender: int) -> None:
        number = 0
        connection = None
        while not self._stopping.is_set():
            number += 1
            body = self._body(sender, number)
            signature = "sha256=" + hmac.digest(SECRET, body, "sha256").hex()
            headers = {"X-Webhook-Signature": signature, "Content-Type": "application/json"}
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
                connection.request("POST", "/hooks/iimmpact", body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                self.statuses[0] += 1
                if connection is not None:
                    connection.close()
                connection = None
                self._stopping.wait(0.02)
                continue
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.acks.append((time.monotonic(), int(json.loads(content)["delivery"])))
            else:
                self._stopping.wait(0.02)
        if connection is not None:
            connection.close()

    def _body(self, sender: int, number: int) -> bytes:
        code = f"P{sender}-{number % 50}"
        data = {"product_code": code, "name": "Lamp", "image_url": "x" * self.size}
        moment = f"2026-01-01T{number // 3600_000 % 24:02d}:{number // 60_000 % 60:02d}:{number // 1000 % 60:02d}"
        event = {"type": "product.updated", "id": code, "timestamp": f"{moment}.{number % 1000:03d}Z", "data": data}
        return json.dumps({**event, "note": f"{self.seed}-{sender}-{number}"}).encode()


class Machine:
    """Hookmirror's processes on a failing disk, with senders."""

    def __init__(self, folder: Path, setup: str, seed: int) -> None:
        self.setup, self.seed = setup, seed
        self.jitter = random.Random(seed)
        self._folder = folder
        self._lay_out()
        self.port = free_port()
        (folder / "hookmirror.toml").write_text(SETTINGS)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.senders = Senders(self.port, seed)
        self.copied_beside_reader = self.new_logs = 0

    def _lay_out(self) -> None:
        """Make the disk, and the environment with which processes write to it."""
        root = self._folder / "disk"
        root.mkdir()
        self.disk = FailingDisk(root, self._folder / "shadow")
        self.file = root / "hookmirror.db"
        self.url = f"sqlite:///{self.file}"
        self._environment = self.disk.environment

    def start(self) -> None:
        """Start the processes, and wait until the endpoint is ready."""
        environment = {
            **plain(),
            **self._environment,
            "HOOKMIRROR_CONFIG": str(self._folder / "hookmirror.toml"),
            "HOOKMIRROR_DATABASE_URL": self.url,
            "HOOKMIRROR_SECRET_KEY": "secret-key-of-these-tests-only",
        }
        with (self._folder / "log").open("ab") as log:
            for arguments in SETUPS[self.setup]:
                port = ["--port", str(self.port)] if arguments[0] == "serve" else []
                command = [sys.executable, "-m", "receiver", *arguments, *port]
                self._processes.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        preexec_fn=end_with_parent,
                    )
                )
        wait_until(self._is_up, "the endpoint", START)

    def kill(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    @contextmanager
    def reader_beside_a_checkpoint(self) -> Iterator[None]:
        """Read the file in one transaction until the end of the block, as another program does.

        The block begins when a checkpoint has copied the frames up to the state that is read, and no others.
        """
        # The log is closed last, because closing its index would drop the lock of this process's reader.
        with (
            closing(Wal(str(self.file), PAGE)) as log,
            closing(sqlite3.connect(self.file, isolation_level=None)) as connection,
        ):
            wait_until(lambda: log.frames() - log.copied() in COPYABLE, "frames to copy")
            before = log.copied()
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM deliveries").fetchone()
            wait_until(lambda: before < log.copied() < log.frames(), "a checkpoint beside a reader")
            self.copied_beside_reader = log.copied() - before
            yield
            connection.execute("COMMIT")

    def wait_for_new_log(self) -> None:
        """Wait until the log has started over, and a commit in it was acked."""
        before = self._salts()
        wait_until(lambda: self._salts() != before, "the log to start over")
        self.new_logs += 1
        # Each sender may get an ack for an earlier commit that was on its way.
        self.senders.wait_for_acks(SENDERS + 1)

    def _salts(self) -> bytes:
        with open(f"{self.file}{LOG}", "rb") as log:
            return log.read(SALTS.stop)[SALTS]

    def wait_for_syncs(self, kind: Kind, number: int, seconds: float = WAIT) -> None:
        before = self.disk.syncs(kind)
        wait_until(lambda: self.disk.syncs(kind) >= before + number, f"syncs of the {kind.name}", seconds)

    def wait_for_failure(self, seconds: float = WAIT) -> float:
        """Wait until a sync has failed on request; return the time by the monotonic clock."""
        wait_until(self.disk.failed, "a failed sync", seconds)
        return time.monotonic()

    def verdict(self, scenario: str, failed_at: float) -> Verdict:
        """Cut the power, and compare the disk with the acks."""
        self.disk.cut_power()
        self.kill()
        self.senders.stop()
        acked = [delivery for _, delivery in self.senders.acks]
        again = [at for at, _ in self.senders.acks if at > failed_at]
        lost, integrity = self._missing(acked)
        return Verdict(
            scenario,
            self.setup,
            self.seed,
            self.senders.statuses,
            len(acked),
            lost,
            integrity,
            self.disk.failed(),
            min(again) - failed_at if again else None,
            self.copied_beside_reader,
            self.new_logs,
        )

    def _missing(self, acked: list[int]) -> tuple[int, str]:
        """Count the deliveries missing on the disk, and return the faults that SQLite finds there."""
        image = self.disk.image(self._folder / "image", self.jitter)
        try:
            with closing(sqlite3.connect(image)) as connection:
                integrity = connection.execute("PRAGMA integrity_check").fetchone()[0].splitlines()[0]
                there = {row[0] for row in connection.execute("SELECT delivery_id FROM bodies")}
        except sqlite3.Error as error:
            return len(acked), str(error)
        return len(set(acked) - there), integrity

    def _is_up(self) -> bool:
        for process in self._processes:
            assert process.poll() is None, f"a process ended:\n{self.log()}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def close(self) -> None:
        self.kill()
        self.senders.stop()
        self.disk.close()


Running = TypeVar("Running", bound=Machine)


@contextmanager
def machine(make: type[Running], setup: str, seed: int) -> Iterator[Running]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookmirror-power-")))
        running = make(folder, setup, seed)
        stack.callback(running.close)
        running.start()
        running.senders.start()
        running.senders.wait_for_acks(50)
        yield running


# ── scenarios ─────────────────────────────────────────────────────────────────────────────────────────────────


def no_failure(running: Machine) -> float:
    running.senders.wait_for_acks(300 + running.jitter.randrange(500))
    return time.monotonic()


def log_sync(running: Machine) -> float:
    """Fail one sync of the log, that of a commit. Other transactions may depend on it."""
    running.disk.fail(Kind.LOG, after=running.jitter.randrange(40))
    failed_at = running.wait_for_failure()
    # Wait only a short time, because a checkpoint would write to the database what the log has lost.
    running.senders.wait_for_acks(10 + running.jitter.randrange(60), since=failed_at)
    return failed_at


def log_sync_of_several_commits(running: Machine) -> float:
    """Fail a sync of the log that more than one commit depends on, if there is one."""
    running.disk.fail_what_covers_several_commits()
    with suppress(TimeoutError):
        running.wait_for_failure(2)
    failed_at = time.monotonic()
    # Wait only a short time, because a checkpoint would write to the database what the log has lost.
    running.senders.wait_for_acks(10 + running.jitter.randrange(60), since=failed_at)
    return failed_at


def data_sync_beside_a_reader(running: Machine) -> float:
    """Fail one sync of the data after a checkpoint that a reader kept incomplete."""
    running.senders.size = LARGE
    with running.reader_beside_a_checkpoint():
        running.disk.fail(Kind.DATA, after=0)
    failed_at = running.wait_for_failure()
    running.wait_for_new_log()
    return failed_at


def data_sync(running: Machine) -> float:
    running.senders.size = LARGE
    running.disk.fail(Kind.DATA, after=running.jitter.randrange(3))
    failed_at = running.wait_for_failure()
    running.wait_for_new_log()
    return failed_at


def any_syncs_and_kills(running: Machine) -> float:
    """Fail several syncs of both kinds in a row; half of the time, kill and restart all processes after it."""
    running.senders.size = running.jitter.choice([1_000, LARGE])
    for kind in running.jitter.sample(list(Kind), 2):
        before = running.disk.failed()
        after = running.jitter.randrange(30 if kind is Kind.LOG else 2)
        running.disk.fail(kind, after=after, times=running.jitter.choice([1, 1, 2, 5]))
        wait_until(lambda before=before: running.disk.failed() > before, "a failed sync")
        if running.jitter.random() < 0.5:
            running.kill()
            running.start()
        failed_at = time.monotonic()
        if kind is Kind.DATA:
            running.wait_for_new_log()
        running.senders.wait_for_acks(200, since=failed_at)
    return failed_at


SCENARIOS = {
    each.__name__: each
    for each in (
        no_failure,
        log_sync,
        log_sync_of_several_commits,
        data_sync_beside_a_reader,
        data_sync,
        any_syncs_and_kills,
    )
}

#: Scenarios in which a sync of the data fails. What it loses is missing only when the log has started over.
DATA_FAILS = {each.__name__ for each in (data_sync_beside_a_reader, data_sync, any_syncs_and_kills)}

#: Scenarios in which a reader must keep a checkpoint from completing.
READER_STAYS = {data_sync_beside_a_reader.__name__}


def is_meaningful(verdict: Verdict) -> bool:
    """Whether the run went through what its scenario is about."""
    return (verdict.new_logs > 0 or verdict.scenario not in DATA_FAILS) and (
        verdict.copied_beside_reader > 0 or verdict.scenario not in READER_STAYS
    )


def play(scenario: str, setup: str, seed: int) -> Verdict:
    with machine(Machine, setup, seed) as running:
        try:
            verdict = running.verdict(scenario, SCENARIOS[scenario](running))
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{running.senders.statuses}\n{running.log()[-3000:]}") from error
    verdict.meaningful = is_meaningful(verdict)
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10, help="number of runs of each scenario in each set-up")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run; each later run has the next one")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--setup", choices=SETUPS, action="append")
    options = parser.parse_args()
    good = True
    for scenario in options.scenario or SCENARIOS:
        for setup in options.setup or SETUPS:
            verdicts = [play(scenario, setup, seed) for seed in range(options.seed, options.seed + options.runs)]
            for verdict in verdicts:
                print(verdict, flush=True)  # noqa: T201
            bad = [verdict for verdict in verdicts if not verdict.good]
            lost = sum(verdict.lost for verdict in verdicts)
            acked = sum(verdict.acked for verdict in verdicts)
            print(f"= {scenario}, {setup}: bad {len(bad)} of {len(verdicts)}, lost {lost} of {acked}", flush=True)  # noqa: T201
            good = good and not bad
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
