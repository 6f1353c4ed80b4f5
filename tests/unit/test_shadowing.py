"""The path on which another interpreter finds the modules of this process."""

from __future__ import annotations

import os
import sys

import pytest

from receiver import shadowing

STANDARD = os.path.dirname(os.__file__)

#: The folders of Python's own modules.
PYTHON = [STANDARD, f"{STANDARD}/lib-dynload"]


@pytest.fixture(autouse=True)
def others(monkeypatch, tmp_path) -> list[str]:
    """Lay out the path as after an installation of the wheel, and return the folders besides Python's own."""
    others = [str(tmp_path / "operators"), str(shadowing.HOME)]
    monkeypatch.setattr(sys, "path", [others[0], *PYTHON, others[1]])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    monkeypatch.setattr(shadowing, "_added", set())
    return others


def test_another_interpreter_searches_the_folder_of_our_packages_where_this_process_does(others):
    assert shadowing.path_of_packages() == [*PYTHON, *others]


@pytest.mark.parametrize("is_current", [False, True])
def test_an_added_folder_is_left_out(others, tmp_path, monkeypatch, is_current):
    if is_current:
        monkeypatch.chdir(tmp_path)
        sys.path.insert(0, "")
    before = sys.path[:]
    shadowing.add_folder(tmp_path)
    assert sys.path == [str(tmp_path), *before]
    assert shadowing.path_of_packages() == [*PYTHON, *others]


def test_the_folder_of_our_packages_comes_last_if_it_is_not_on_the_path(others):
    sys.path.pop()
    assert shadowing.path_of_packages() == [*PYTHON, *others]


def test_relative_folders_are_those_of_this_process(others, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sys.path.insert(0, "")
    assert shadowing.path_of_packages() == [*PYTHON, str(tmp_path), *others]
