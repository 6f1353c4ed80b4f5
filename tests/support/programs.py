"""Finds the programs that some tests run, and skips or fails a test if one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

#: The folder in which `make neighbours` unpacks Debian packages, without installing them.
UNPACKED = Path(__file__).parents[2] / ".neighbours"

#: The script that asks the vendors' libraries for Node.js, which `make neighbours` installs into a folder.
SIGNERS = Path(__file__).parents[1] / "neighbours" / "signers.mjs"

#: Debian packages of the programs that `make test` fetches by itself if it can.
FETCHED = {"nginx": "nginx-light", "pgbouncer": "pgbouncer"}

#: Debian packages of the programs that tests use only if they are installed.
PACKAGES = {"curl": "curl", "java": "default-jdk-headless", "javac": "default-jdk-headless", "node": "nodejs"}


@dataclass(frozen=True, slots=True)
class Program:
    """A program's path, and an environment in which it finds its libraries."""

    path: str
    environment: dict[str, str]


def find(name: str) -> Program:
    """Find the program. Without it, skip the test, or fail it with CI=true if apt-get could have fetched it."""
    unpacked = os.pathsep.join(str(UNPACKED / folder) for folder in ("usr/sbin", "usr/bin"))
    path = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin") or shutil.which(name, path=unpacked)
    if path is None:
        package = FETCHED.get(name) or PACKAGES[name]
        missing = f"{name} is not installed: run `apt-get install {package}`"
        if name in FETCHED and os.environ.get("CI") == "true" and shutil.which("apt-get"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Program(path, {**os.environ, "LD_LIBRARY_PATH": _libraries()})


def find_signers() -> Path:
    """Find the folder of the vendors' libraries for Node.js. Without it, skip, or fail with CI=true if npm is there."""
    folder = UNPACKED / "signers"
    if not (folder / "fetched").exists():
        missing = "the vendors' libraries for Node.js are not installed: run `make neighbours` where npm can fetch them"
        if os.environ.get("CI") == "true" and shutil.which("npm"):
            pytest.fail(missing)
        pytest.skip(missing)
    return folder / "node_modules"


def _libraries() -> str:
    found = [each for top in ("usr", "lib") for each in UNPACKED.glob(f"{top}/**/*.so*")]
    folders = {str(each.parent) for each in found}
    return os.pathsep.join([*sorted(folders), os.environ.get("LD_LIBRARY_PATH", "")]).strip(os.pathsep)


def run(
    name: str, *arguments: str | Path, given: str | None = None, seconds: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with `given` as its input; it must exit with 0."""
    program = find(name)
    done = subprocess.run(
        [program.path, *arguments],
        input=given,
        env=program.environment,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
