"""The path on which another interpreter finds the modules of this process."""

from __future__ import annotations

import sys

import pytest

from receiver import shadowing


@pytest.fixture(autouse=True)
def path(monkeypatch, tmp_path) -> list[str]:
    """Lay out the path as after an installation of the wheel: our packages are in the last folder."""
    path = [str(tmp_path / name) for name in ("operators", "standard")] + [str(shadowing.HOME)]
    monkeypatch.setattr(sys, "path", path)
    monkeypatch.setattr(shadowing, "_added", set())
    return path


def test_another_interpreter_searches_in_the_same_order(path):
    assert shadowing.path_of_packages() == path


def test_an_added_folder_is_left_out(path, tmp_path):
    before = path[:]
    shadowing.add_folder(tmp_path)
    assert sys.path == [str(tmp_path), *before]
    assert shadowing.path_of_packages() == before


def test_the_folder_of_our_packages_comes_last_if_it_is_not_on_the_path(path):
    path.pop()
    assert shadowing.path_of_packages() == [*path, str(shadowing.HOME)]


def test_relative_folders_are_those_of_this_process(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path[0] = ""
    assert shadowing.path_of_packages() == [str(tmp_path), *path[1:]]
