"""Commands beside no database, or one of another release: only those that fill a database make one."""

from __future__ import annotations

import pytest
from commanding import SETTINGS, Folder, Forks

from receiver.cli import COMMANDS

#: A command line of each command that reads or changes an existing database.
ON_A_DATABASE: dict[str, tuple[str, ...]] = {
    "console": (),
    "follow": ("--list",),
    "reload": (),
    "sessions": (),
    "findings": (),
    "faults": (),
    "refused": (),
    "capture": ("sigma",),
    "top": (),
    "tail": (),
    "sources": (),
    "search": ("lamp",),
    "deliveries": (),
    "show": ("1",),
    "rows": ("products",),
    "row": ("products", "sigma", "A1"),
    "changes": (),
    "replay": ("--state", "dead"),
    "retry": ("1",),
    "reconcile": ("iimmpact", "--dry-run"),
    "ask": ("products", "iimmpact", "A1"),
    "rehearse": ("--source", "sigma"),
    "prune": (),
    "runs": (),
    "actions": (),
}

#: Commands that make a database, or need none.
WITHOUT_A_DATABASE = {"serve", "worker", "token", "console-link", "doctor", "send", "new-dialect", "migrate", "copy"}

#: An account with an API, at which no server answers.
WITH_API = SETTINGS.replace(
    "[sources.iimmpact]",
    '[sources.iimmpact]\napi_url = "http://127.0.0.1:1"\napi_key = "key"\napi_secret = "c2VjcmV0"',
)


@pytest.fixture(scope="module")
def forks():
    with Forks(1) as running:
        yield running


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path, settings=WITH_API)


def files_of_databases(folder: Folder) -> list[str]:
    return [each.name for each in folder.path.glob("*.db*")]


def test_every_command_is_one_that_needs_a_database_or_one_that_does_not():
    assert set(COMMANDS) == ON_A_DATABASE.keys() | WITHOUT_A_DATABASE


@pytest.mark.parametrize("command", ON_A_DATABASE)
def test_a_command_on_a_database_makes_none(folder, forks, command):
    done = forks.run(folder, command, *ON_A_DATABASE[command])
    assert (done.returncode, done.stdout, files_of_databases(folder)) == (1, "", [])
    assert f"There is no database at {folder.database}: correct HOOKMIRROR_DATABASE_URL" in done.stderr


def test_a_command_makes_no_database_that_a_uri_names(folder, forks):
    folder.database_url = f"sqlite:///file:{folder.database}?uri=true"
    done = forks.run(folder, "deliveries")
    assert (done.returncode, files_of_databases(folder)) == (1, [])
    assert f"There is no database at {folder.database}" in done.stderr


def test_a_plan_to_migrate_makes_no_database(folder, forks):
    done = forks.run(folder, "migrate", "--dry-run")
    assert (done.returncode, files_of_databases(folder)) == (0, [])
    assert "receiver would go from nothing to " in done.stdout


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("reconcile", "sigma"), "has no `api_url`"),
        (("reconcile", "indexed"), "has no list of its source"),
        (("reconcile", "indexed", "--misdated"), "There is no database at "),
    ],
    ids=["without an API", "without a list", "of news from the future"],
)
def test_a_reconcile_that_cannot_fill_a_database_makes_none(folder, forks, command, told):
    done = forks.run(folder, *command)
    assert (done.returncode, told in done.stderr) == (1, True), done
    assert files_of_databases(folder) == []


@pytest.mark.parametrize(
    ("revision", "told"),
    [
        ("9999", "This hookmirror is older than the database"),
        ("0011", "The database is behind this release: run `hookmirror migrate`."),
    ],
    ids=["of a newer release", "of an older release"],
)
def test_a_rehearsal_refuses_a_database_of_another_release_and_leaves_it_so(folder, forks, revision, told):
    folder.migrate()
    folder.query(f"UPDATE alembic_version_receiver SET version_num = '{revision}'")
    done = forks.run(folder, "rehearse", "--source", "sigma")
    assert (done.returncode, told in done.stderr) == (1, True), done
    assert folder.query("SELECT version_num FROM alembic_version_receiver") == [(revision,)]
