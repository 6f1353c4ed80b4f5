"""Where the programs are that these tests work beside, and what a test does without one."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

#: Where `make neighbours` unpacks what Debian's packages bring, without installing anything.
UNPACKED = Path(__file__).parents[2] / ".neighbours"

#: By program: Debian's package, for those that `make test` fetches by itself where it may.
FETCHED = {"nginx": "nginx-light", "pgbouncer": "pgbouncer"}

#: And for those that are used where they are.
PACKAGES = {"curl": "curl", "java": "default-jdk-headless", "javac": "default-jdk-headless", "node": "nodejs"}


@dataclass(frozen=True, slots=True)
class Program:
    """A program to be started, with the libraries that came with it."""

    path: str
    environment: dict[str, str]


def find(name: str) -> Program:
    """The program; without it the test is skipped with what would bring it, or fails where apt-get could have."""
    unpacked = os.pathsep.join(str(UNPACKED / folder) for folder in ("usr/sbin", "usr/bin"))
    path = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin") or shutil.which(name, path=unpacked)
    if path is None:
        package = FETCHED.get(name) or PACKAGES[name]
        missing = f"{name} is not here: `apt-get install {package}` brings it"
        if name in FETCHED and os.environ.get("CI") == "true" and shutil.which("apt-get"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Program(path, {**os.environ, "LD_LIBRARY_PATH": _libraries()})


def _libraries() -> str:
    folders = {str(found.parent) for found in UNPACKED.glob("**/*.so*")}
    return os.pathsep.join([*sorted(folders), os.environ.get("LD_LIBRARY_PATH", "")]).strip(os.pathsep)


def run(name: str, *arguments: str | Path, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """A program from its start to its end, which must be a good one."""
    program = find(name)
    done = subprocess.run(
        [program.path, *arguments], env=program.environment, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
