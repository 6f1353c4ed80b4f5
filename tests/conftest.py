"""The databases of all tests: SQLite files, and PostgreSQL from a wheel or as the environment names it.

A test that asks for `database_url` runs twice, once on each. The server starts when a test first asks for it, and every
test gets a database of its own there.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from memory import claim_folder, remove_abandoned
from postgresql_databases import Databases
from postgresql_server import PostgresServer
from repeats_anew import begin_anew, note_repeats
from scheduling import in_turn
from sharing_work import share_work
from sqlalchemy import make_url
from templates import file_with_tables, make_tables

import handlers.catalog  # noqa: F401 (its tables are part of the mirror)
import receiver.server.own_tables  # noqa: F401 (the schema has every declared table)
from receiver.ingest import unhandled
from receiver.metrics import few_names

#: Names another PostgreSQL server than the wheel's. Its role needs the right to create databases.
SERVER = "DATABASE_URL"

# Property tests try the same examples in every run, so that a new failure comes from the change under test. `make
# explore` looks for new examples; those that fail are added with `@example`. No example has a time limit, which a busy
# machine would exceed.
_untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fixed", _untimed, derandomize=True)
settings.register_profile("explore", _untimed, derandomize=False)
settings.load_profile("fixed")

# Hypothesis also draws constants of the modules imported so far. Then the fixed examples of a test would depend on the
# tests that ran before it in the same process.
_no_constants, _constants_so_far = providers._local_constants, providers._get_local_constants
providers._get_local_constants = lambda: (
    _constants_so_far() if settings.get_current_profile_name() == "explore" else _no_constants
)

#: The folder in which Linux keeps files in memory, and the bytes that must be free there to use it.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30

#: This process's folder in memory, if it has one. Its test workers share that folder.
_claimed: list[Path] = []

#: Lends a database for a block: a file in the given folder, or a database on the server.
LendDatabase = Callable[[Path], AbstractContextManager[str]]

#: Copies the database at a URL for a block: into a file in the given folder, or into a database on the server.
CopyDatabase = Callable[[str, Path], AbstractContextManager[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", action="store_true", help="Rewrite the pictures of the console in docs/pictures.")


def pytest_configure() -> None:
    """Measure the coverage of this process only, and keep temporary files in memory if there is room.

    On a disk, the suite would mostly wait for it. These tests kill processes and not the system, so a file in memory
    survives as much as one on a disk. Tests about disks (tests/plug) examine the system calls, which are the same.
    `TMPDIR` stays as it is if it is set.
    """
    share_work()
    note_repeats()
    # A server that several tests share must not log into the captured output of a command.
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.__stderr__))
    # A shell starts background commands with SIGINT ignored, and processes started by tests inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Otherwise each process started by a test compiles all of the source, a quarter of the CPU time of its start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Tests kill the processes that they start, which would leave incomplete coverage files behind.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.pop("COVERAGE_PROCESS_START", None)
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM:
        # Killed test runs have left files behind.
        remove_abandoned(MEMORY)
        _claimed.append(claim_folder(MEMORY))
        os.environ["TMPDIR"] = str(_claimed[0])
        tempfile.tempdir = None


def pytest_sessionstart() -> None:
    """Ignore garbage that finds no stack: it may be collected in the middle of a document that is nested too deeply."""
    tell = sys.unraisablehook

    def tell_others(unraisable: Any) -> None:
        if unraisable.exc_type is not RecursionError:
            tell(unraisable)

    sys.unraisablehook = tell_others


def pytest_collection_finish() -> None:
    """Exempt everything imported so far from garbage collections, which would examine it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute files, and the tests of some files."""
    if config.getvalue("dist") != "loadfile":
        return None
    # Not every run has the plugin.
    from distribution import Distribution

    return Distribution(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """Remove this process's temporary files, unless a test failed and its files may be needed."""
    if exitstatus == pytest.ExitCode.OK and _claimed:
        shutil.rmtree(_claimed.pop(), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_turn(items, Path(__file__).parent)


#: Settings of a server without standbys, whose databases live for seconds. Without autovacuum, making and dropping a
#: database takes half as long.
LEAN = {
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "checkpoint_timeout": "1h",
    "max_wal_size": "256MB",
}


@pytest.fixture(autouse=True, scope="module")
def _logs_of_its_own() -> Iterator[None]:
    """Restore the log after each module, because a command or a server that runs in this process sets its level."""
    before, level = structlog.get_config(), logging.getLogger().level
    yield
    structlog.configure(**before)
    logging.getLogger().setLevel(level)


@pytest.fixture(autouse=True)
def _repeats_of_its_own() -> Iterator[None]:
    yield
    begin_anew()


@pytest.fixture(autouse=True, scope="module")
def _names_of_its_own() -> Iterator[None]:
    """Let each module meet event types and unknown sources anew: beyond a bound, a process counts them together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_names, "_types", few_names.Names(few_names.MOST_TYPES))
        patch.setattr(unhandled, "_told", few_names.Names(few_names.MOST_TYPES))
        for name in ("asked_instead", "largest_refused", "unknown_asked"):
            patch.setattr(few_names, name, {})
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Give the URL of a PostgreSQL server, which names a database that tests connect to and leave unchanged."""
    given = os.environ.get(SERVER)
    if given is not None:
        _demand_server(given)
        yield given
        return
    server = PostgresServer(**LEAN)
    try:
        server.start()
        yield server.url()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def databases(postgresql: str) -> Iterator[Databases]:
    making = Databases(postgresql, make_tables)
    yield making
    making.close()


@pytest.fixture
def new_postgresql_url(databases: Databases) -> Iterator[Callable[[], str]]:
    """Return a function that makes further empty databases, which are dropped at the end of the test."""
    made: list[str] = []

    def make() -> str:
        made.append(databases.create())
        return databases.url(made[-1])

    yield make
    for name in made:
        databases.drop(name)


@pytest.fixture
def postgresql_url(new_postgresql_url: Callable[[], str]) -> str:
    """Give an empty database on PostgreSQL."""
    return new_postgresql_url()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_system(request: pytest.FixtureRequest) -> str:
    """The database system of a test. All tests of a module run on one system first, and then on the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def lend_database(database_system: str, request: pytest.FixtureRequest) -> LendDatabase:
    """Return a function that lends databases of the present system, for tests that need several."""
    if database_system == "postgresql":
        return request.getfixturevalue("databases").lend

    @contextmanager
    def lend(folder: Path) -> Iterator[str]:
        shutil.copy(file_with_tables(), folder / "hookmirror.db")
        yield _file(folder)

    return lend


@pytest.fixture(scope="module")
def copy_database(database_system: str, request: pytest.FixtureRequest) -> CopyDatabase:
    """Return a function that copies a database of the present system, to which nobody is connected, for a block."""
    if database_system == "postgresql":
        return request.getfixturevalue("databases").copy

    @contextmanager
    def copy(url: str, folder: Path) -> Iterator[str]:
        shutil.copy(str(make_url(url).database), folder / "hookmirror.db")
        yield _file(folder)

    return copy


@pytest.fixture
def database_url(database_system: str, request: pytest.FixtureRequest) -> str:
    """Give an empty database of the present system."""
    if database_system == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return _file(request.getfixturevalue("tmp_path"))


@pytest.fixture
def mirror_url(lend_database: LendDatabase, tmp_path: Path) -> Iterator[str]:
    """Give a database of the present system with empty tables, which are copied from a template."""
    with lend_database(tmp_path) as url:
        yield url


def _file(folder: Path) -> str:
    return f"sqlite:///{folder / 'hookmirror.db'}"


def _demand_server(url: str) -> None:
    """Fail immediately and clearly if no server answers at the URL that the environment names."""
    shown = url.partition("://")[0]
    try:
        parsed = make_url(url)
        shown = parsed.render_as_string()
        if parsed.get_backend_name() != "postgresql":
            raise ValueError("it is no PostgreSQL URL")
        psycopg.connect(parsed.set(drivername="postgresql").render_as_string(False), connect_timeout=10).close()
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        pytest.exit(f"{SERVER} names {shown}, and it cannot be used: {reason}. Correct or unset it.", returncode=2)
