"""A user's folders and files beside the settings, with names that are already taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Forked
from users_pytest import USERS_PYTEST
from waiting import TIMEOUT

SETTINGS = """
secret_key = "secret-key-of-these-tests-only"
dialects = [{dialects}]

[sources.sigma]
secrets = ["TestSecretOf32CharactersForTests"]
"""

DIALECT = """
from datetime import UTC, datetime
from receiver import Dialect, Envelope, Unsigned

mine = Dialect("mine", verify=Unsigned())

@mine.envelope
def read(body: dict) -> Envelope:
    return Envelope(event_type="a", entity=None, occurred_at=datetime(2026, 1, 1, tzinfo=UTC), data=None)
"""


#: The names of our packages.
OURS = ("handlers", "receiver", "simulator", "vendors")


def environment_for(folder: Path, *dialects: str) -> dict[str, str]:
    """Write a settings file with these dialects, and return the environment of a command that reads it."""
    settings = folder / "hookmirror.toml"
    settings.write_text(SETTINGS.format(dialects=", ".join(f'"{each}"' for each in dialects)))
    return {**os.environ, "HOOKMIRROR_CONFIG": str(settings)}


def doctor(folder: Path, *dialects: str) -> str:
    """Return the output of `hookmirror doctor` with these dialects."""
    with Forked(["doctor"], folder, environment_for(folder, *dialects)) as command:
        return command.communicate(TIMEOUT)[0]


def package(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    (folder / name / "mine.py").write_text(DIALECT)


@pytest.fixture(scope="module")
def beside_all(tmp_path_factory) -> str:
    """Run the installed `hookmirror doctor` in a folder with packages of all these names, and return its output.

    It runs in a process of its own, as for a user: the order of its first imports is under test.
    """
    folder = tmp_path_factory.mktemp("beside")
    for name in OURS:
        package(folder, name)
    command = [Path(sys.executable).with_name("hookmirror"), "doctor"]
    environment = environment_for(folder)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    ).stdout


@pytest.mark.parametrize("name", OURS)
def test_a_folder_with_the_name_of_one_of_our_packages_breaks_nothing_and_is_reported(beside_all, name):
    assert "dialects iimmpact, indexed, sigma, sticky" in beside_all
    assert f"LOOK wiring: The name '{name}' is taken by a package of Hookmirror" in beside_all
    assert "MEND wiring" not in beside_all


def test_a_dialect_in_such_a_folder_is_refused_with_the_taken_name(tmp_path):
    package(tmp_path, "handlers")
    said = doctor(tmp_path, "handlers.mine:mine")
    assert (
        "MEND wiring: The dialect 'handlers.mine:mine' in `dialects` cannot be used: the name 'handlers' is taken"
        in said
    )
    assert "Rename yours, such as my_handlers." in said


def test_a_dialect_in_a_folder_with_another_name_is_found(tmp_path):
    package(tmp_path, "my_handlers")
    assert "mine" in doctor(tmp_path, "my_handlers.mine:mine").split("dialects ")[1].splitlines()[0]


def test_a_file_with_the_name_of_an_installed_package_is_reported(tmp_path):
    (tmp_path / "hypothesis.py").write_text(DIALECT)
    said = doctor(tmp_path, "hypothesis:mine")
    assert "hypothesis.py has the name of the installed" in said
    assert "rename yours, such as my_hypothesis" in said


def test_a_file_with_the_name_of_a_python_module_is_reported(tmp_path):
    (tmp_path / "calendar.py").write_text(DIALECT)
    assert "calendar.py has the name of a module of Python's own" in doctor(tmp_path, "calendar:mine")


def test_a_file_with_the_name_of_a_python_module_is_reported_although_no_dialect_names_it(tmp_path):
    (tmp_path / "secrets.py").write_text("TOKEN = 'mine'")
    said = doctor(tmp_path)
    assert f"LOOK wiring: {tmp_path / 'secrets.py'} has the name of a module of Python's own" in said
    assert "MEND wiring" not in said


def test_folders_without_code_are_ignored(tmp_path):
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "notes.txt").touch()
    assert "is taken" not in doctor(tmp_path)


def test_a_pytest_run_in_such_a_folder_uses_our_packages(tmp_path):
    package(tmp_path, "handlers")
    (tmp_path / "test_ours.py").write_text(
        "from receiver.testing import *\n\n"
        "def test_ours(webhooks):\n"
        "    from handlers.catalog import Product\n"
        "    assert webhooks.source('sigma').dialect.name == 'sigma'\n"
    )
    done = subprocess.run(
        [*USERS_PYTEST, str(tmp_path / "test_ours.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
