"""Drafted dialects run unchanged, side by side in one folder, and are formatted."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from captured import CAPTURED, SENT_TOO
from forked import Forked
from users_pytest import FORKED, USERS_PYTEST
from waiting import TIMEOUT

from receiver.commands.new_dialect import example_of, new_dialect, refuse_name, write_files
from receiver.drafting.captures import capture_of
from receiver.drafting.draft import draft
from receiver.errors import ConfigurationError


def hookmirror(folder, *arguments):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOOKMIRROR_", "COV_"))}
    with Forked(["new-dialect", *arguments], folder, kept) as command:
        said, errors = command.communicate(TIMEOUT)
    assert command.returncode == 0, errors
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder with a dialect for each captured webhook, and with fixtures of the other webhooks of a sender."""
    folder = tmp_path_factory.mktemp("dialects")
    for name, (body, headers) in CAPTURED.items():
        write_files(folder, draft(name, capture_of(body.encode(), headers, name=name), origin="a test").files)
    for name, sent in SENT_TOO.items():
        for number, (body, rows) in enumerate(sent):
            file = folder / "fixtures" / name / f"other.{number}"
            file.with_name(f"{file.name}.json").write_text(body)
            file.with_name(f"{file.name}.expected.json").write_text(json.dumps({"rows": rows}))
    return folder


def test_drafted_tests_pass_at_once(folder):
    with Forked([*USERS_PYTEST[1:], "-W", "error", *FORKED], folder, os.environ, python=True) as tests:
        said = "".join(tests.communicate(TIMEOUT))
    assert tests.returncode == 0, said
    assert "skipped" not in said


def test_drafted_code_passes_format_and_lint_checks(folder):
    rules = ["--isolated", "--line-length", "120"]
    for command in (["format", "--check"], ["check", "--select", "E,F,W,I,B,UP,SIM,RET"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *rules, "."],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_the_command_reports_its_guesses_and_what_it_could_not_guess(tmp_path):
    body, headers = CAPTURED["kiln"]
    (tmp_path / "captured.json").write_text(body)
    (tmp_path / "captured.headers.json").write_text(json.dumps(headers))
    said = hookmirror(tmp_path, "kiln", "--from", "captured.json")
    assert "event type: `what` (item.updated)" in said
    assert "The webhook does not show:" in said
    assert "[sources.kiln]" in said


def test_the_command_of_the_guide_works_as_written(tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "writing-a-dialect.md").read_text("utf-8")
    (line,) = re.findall(r"^hookmirror new-dialect (.+)$", guide, re.M)
    (body,) = re.findall(r"<!-- file: (fixtures/depot/item.updated.json) -->\n```json\n(.*?)```", guide, re.S)
    (tmp_path / body[0]).parent.mkdir(parents=True)
    (tmp_path / body[0]).write_text(body[1])
    assert "HmacSha256" in hookmirror(tmp_path, *shlex.split(line))
    assert (tmp_path / "drafted" / "test_depot.py").exists()


@pytest.mark.parametrize("folder", [".", "/", ""])
def test_a_folder_in_place_of_a_captured_body_is_refused_in_one_line(folder):
    with pytest.raises(ConfigurationError, match=r"The capture '[./]' cannot be read \(Is a directory\)"):
        new_dialect("kiln", capture=Path(folder))


def test_existing_files_are_not_overwritten(tmp_path):
    (tmp_path / "kiln.py").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists, and nothing is overwritten"):
        write_files(tmp_path, {"kiln.py": b"", "test_kiln.py": b""})
    assert [path.name for path in tmp_path.iterdir()] == ["kiln.py"]


def test_without_a_capture_an_invented_webhook_is_the_example():
    assert example_of("big_shop", []).headers == {"x-big-shop-signature": f"sha256={'0' * 64}"}
    with pytest.raises(ConfigurationError, match="--from"):
        example_of("shop", ["X-A: 1"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-shop", "such as my_shop"),
        ("Shop", "such as shop"),
        ("1a", "small letter"),
        ("", "small letter"),
        ("a" * 41, "small letter"),
        ("ключ", "small letter"),
        ("../x", "small letter"),
        ("class", "small letter"),
        ("json", "installed module json"),
        ("httpx", "installed module httpx"),
        ("handlers", "a special meaning"),
        ("read", "a special meaning"),
        ("sigma", "installed dialect sigma"),
    ],
)
def test_a_name_that_would_shadow_or_break_something_is_refused(tmp_path, name, says):
    with pytest.raises(ConfigurationError, match=says):
        refuse_name(name, tmp_path)


def test_a_folder_whose_name_is_too_long_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigurationError, match="File name too long"):
        write_files(tmp_path / ("a" * 300), {"shop.py": b""})


def test_if_a_file_cannot_be_written_none_is_left(tmp_path):
    (tmp_path / "fixtures").write_text("a file where a folder should be")
    with pytest.raises(ConfigurationError, match="Nothing was written"):
        write_files(tmp_path, {"shop.py": b"", "fixtures/shop/a.json": b""})
    assert not (tmp_path / "shop.py").exists()
