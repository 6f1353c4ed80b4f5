"""Wheels, and environments in which they are installed as a user installs them."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def wheel_of(project: Path, folder: Path) -> Path:
    """Build the wheel of a project into this folder."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=project, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_wheel(wheel: Path, folder: Path) -> Path:
    """Make an environment in this folder with the wheel and all other installed packages; return its Python."""
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


def installed_python(folder: Path) -> Path:
    """Make an environment in this folder with our wheel and all other installed packages; return its Python."""
    return install_wheel(wheel_of(ROOT, folder / "dist"), folder / "environment")


@contextmanager
def installed_by_pip(python: Path, project: Path) -> Iterator[None]:
    """Install a project into the environment of this Python, as `pip install` does, until the end of the block.

    Its dependencies and its build system must be installed already, because pip is to fetch nothing.
    """
    build = ("--no-index", "--no-build-isolation", "--no-cache-dir", str(project))
    _pip(python, "install", *build)
    try:
        yield
    finally:
        _pip(python, "uninstall", "--yes", _name_of(project))


def _name_of(project: Path) -> str:
    """Read the name of a project from its pyproject.toml."""
    return str(tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]["name"])


def _pip(python: Path, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
