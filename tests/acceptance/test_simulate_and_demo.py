"""The commands `demo` and `simulate --serve` in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from forked import Forked
from longer_limits import with_patience
from waiting import TIMEOUT, wait_until

from receiver import codec
from simulator.systems import SYSTEMS

ROOT = Path(__file__).parents[2]


def environment():
    """Return an environment in which the demo's receiver has the patience of tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKMIRROR_")}
    return inherited | with_patience()


def start(*arguments, before=""):
    return Forked(["-m", "simulator", *arguments], ROOT, environment(), python=True, before=before)


#: As a shell starts a command in the background.
IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def test_the_demo_runs_a_scenario_against_its_own_receiver():
    process = start("demo", "--scenario", "rotation", "--events", "160", "--rate", "0", "--speed", "300", "--json")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    document = codec.decode(output)
    assert (document["scenario"], document["good"]) == ("rotation", True)
    assert all(entry["mirror"]["equal"] for entry in document["sources"])


def test_the_demo_shows_the_end_of_the_log_when_the_receiver_does_not_start(tmp_path):
    """A package `receiver` that always fails stands for any fault."""
    (tmp_path / "receiver").mkdir()
    (tmp_path / "simulator").symlink_to(ROOT / "simulator")
    for part in (ROOT / "receiver").iterdir():
        if part.name not in ("__main__.py", "__pycache__"):
            (tmp_path / "receiver" / part.name).symlink_to(part)
    (tmp_path / "receiver" / "__main__.py").write_text("raise SystemExit('no space left for jokes')")
    command = [sys.executable, "-m", "simulator", "demo", "--events", "4"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert "The receiver ended with code 1." in done.stderr
    assert "no space left for jokes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("number", "before"),
    [(signal.SIGINT, ""), (signal.SIGINT, IGNORE_INTERRUPTS), (signal.SIGTERM, "")],
    ids=["by Ctrl-C", "by SIGINT, in the background", "by SIGTERM"],
)
def test_the_services_run_until_they_are_asked_to_end(number, before):
    process = start("simulate", "--serve", "--port", "0", "--rate", "50", before=before)
    try:
        lines = [process.stderr.readline() for _ in range(5)]
        urls = [line.split()[0] for line in lines[1:]]
        assert [url.split("/")[3] for url in urls] == list(SYSTEMS)
        asked = {"headers": {"Authorization": "Bearer eyJhbGciOiJIUzI1NiIs..."}, "timeout": TIMEOUT}
        wait_until(lambda: httpx.get(f"{urls[0]}/records", **asked).json()["total"], "the first records")
    finally:
        process.send_signal(number)
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
