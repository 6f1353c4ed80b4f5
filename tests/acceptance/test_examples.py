"""The example projects work for users: beside an installed wheel, and installed themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from installing import ROOT, installed_by_pip
from users_pytest import USERS_PYTEST

EXAMPLES = ROOT / "examples"


def run(python, folder, *command, **settings):
    env = settings | {
        name: value for name, value in os.environ.items() if not name.startswith(("HOOKMIRROR_", "COV_", "PYTEST_"))
    }
    asked = [python, "-m", *command]
    done = subprocess.run(asked, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_tests(python, folder):
    printed = run(python, folder, *USERS_PYTEST[2:], "-W", "error")
    assert "skipped" not in printed


def test_the_shop_project_passes_its_tests_and_its_settings_start(python, tmp_path):
    folder = shutil.copytree(EXAMPLES / "shopify", tmp_path / "shopify")
    run_tests(python, folder)
    for shop in ("north", "south"):
        (folder / f"shop-{shop}.secret").write_text(f"the secret of {shop}")
    settings = {"HOOKMIRROR_CONFIG": "hookmirror.toml", "HOOKMIRROR_SECRET_KEY": "k" * 32}
    assert "MEND" not in run(python, folder, "receiver", "doctor", **settings)


def test_the_project_with_certificates_by_url_passes_its_tests_and_its_settings_start(python, tmp_path):
    folder = shutil.copytree(EXAMPLES / "sns", tmp_path / "sns")
    run_tests(python, folder)
    settings = {"HOOKMIRROR_CONFIG": "hookmirror.toml", "HOOKMIRROR_SECRET_KEY": "k" * 32}
    assert "MEND" not in run(python, folder, "receiver", "doctor", **settings)


def test_the_package_is_installed_by_pip_and_its_dialect_is_found_by_the_entry_point(python, tmp_path):
    folder = shutil.copytree(EXAMPLES / "plugin-package", tmp_path / "plugin")
    (folder / "hookmirror.toml").write_text('[sources.kiln]\nsecrets = ["the secret of kiln"]\n')
    settings = {"HOOKMIRROR_CONFIG": "hookmirror.toml", "HOOKMIRROR_SECRET_KEY": "k" * 32}
    with installed_by_pip(python, folder):
        # Otherwise the tests would find the module beside them.
        (folder / "kiln.py").unlink()
        run_tests(python, folder)
        assert "MEND" not in run(python, folder, "receiver", "doctor", **settings)


def test_the_examples_pass_the_format_and_lint_checks():
    rules = ["--isolated", "--line-length", "120", str(EXAMPLES)]
    for command in (["format", "--check"], ["check", "--select", "E,F,W,I,B"]):
        asked = [sys.executable, "-m", "ruff", *command, *rules]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
