"""Packages of other projects, in pinned releases, each in a folder of its own. Ours need none of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: Seconds for an installation.
TIMEOUT = 300


class NotInstalled(Exception):
    """A package that a measurement compares with is missing and cannot be installed. The message says why."""


def python_with(folder: str, releases: Sequence[str]) -> Path:
    """Return the Python of a virtual environment with these releases, which is made unless it exists.

    Raises `NotInstalled`.
    """
    environment = ROOT / folder
    python = environment / "bin" / "python"
    if not _has(environment, releases):
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=0", *releases])
        _mark(environment, releases)
    return python


def modules_with(folder: str, releases: Sequence[str]) -> Path:
    """Return the folder of packages for Node.js in these releases, which are installed unless they are there.

    None of their scripts is run. Raises `NotInstalled`.
    """
    modules = ROOT / folder
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NotInstalled(f"there is no {program}: install Node.js with npm")
    if not _has(modules, releases):
        modules.mkdir(parents=True, exist_ok=True)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--no-update-notifier"]
        _run(["npm", "install", "--prefix", modules, *options, "--fetch-retries=0", "--loglevel=error", *releases])
        _mark(modules, releases)
    return modules


def _has(folder: Path, releases: Sequence[str]) -> bool:
    made = folder / "installed"
    return made.exists() and made.read_text().split() == list(releases)


def _mark(folder: Path, releases: Sequence[str]) -> None:
    (folder / "installed").write_text("\n".join(releases))


def _run(command: Sequence[str | Path]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{Path(command[0]).name} took longer than {TIMEOUT} s") from None
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        # npm says it before other lines, and pip in the last one.
        reason = next((line for line in said if "No matching" in line), said[-1])
        raise NotInstalled(f"it could not be installed: {reason}")
