"""SQLite files with tables, which are copied from one that each process makes once."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from forked import Forked
from sqlalchemy import make_url

from receiver.database.database import Database
from receiver.database.schema import Schema


def make_tables(url: str) -> None:
    """Make the tables of a release in an empty database."""
    with closing(Database(url)) as database:
        Schema(database).upgrade()


def _new_path() -> Path:
    """Return the path of a file in a new folder, which is removed when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="hookmirror-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "hookmirror.db"


@cache
def file_with_tables() -> Path:
    """Make a SQLite file with the empty tables of a release."""
    path = _new_path()
    make_tables(f"sqlite:///{path}")
    return path


@cache
def installed_file() -> Path:
    """Make a SQLite file with the empty tables of an installation, without those that tests of this process declare."""
    path = _new_path()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOOKMIRROR_")}
    with Forked(["migrate"], path.parent, {**inherited, "HOOKMIRROR_DATABASE_URL": f"sqlite:///{path}"}) as process:
        _, error = process.communicate()
    assert process.returncode == 0, error
    return path


def copy_tables_to(url: str, file: Callable[[], Path] = file_with_tables) -> None:
    """Put a copy of the file where the URL names a SQLite file that does not exist."""
    # A URL of PostgreSQL may name several servers, which SQLAlchemy cannot parse.
    path = make_url(url).database if url.startswith("sqlite") else None
    if path and not Path(path).exists():
        shutil.copy(file(), path)
