"""Other users' rights to a file of secrets, by its mode, its link and its folder."""

from __future__ import annotations

import os

import pytest

from receiver.server.permissions import exposures


@pytest.fixture
def file(tmp_path):
    (tmp_path / "folder").mkdir(mode=0o700)
    made = tmp_path / "folder" / "secrets"
    made.write_text("secret\n")
    made.chmod(0o600)
    return made


def told(file) -> list[tuple[bool, str]]:
    return [(each.writable, each.says.partition(":")[0]) for each in exposures(file)]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o660, 0o711])
def test_a_file_for_the_user_and_the_group_is_safe(file, mode):
    file.chmod(mode)
    assert told(file) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to another group")
def test_a_file_that_another_group_may_write_is_reported(file):
    file.chmod(0o660)
    os.chown(file, -1, 12_345)
    assert told(file) == [(True, f"the group 12345 may write {file}, and so decide which webhooks verify")]


def test_a_file_that_everybody_may_read_is_reported(file):
    file.chmod(0o644)
    assert told(file) == [(False, f"every user of this machine may read {file}")]


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_a_file_that_everybody_may_write_is_reported_as_such(file, mode):
    file.chmod(mode)
    assert told(file) == [(True, f"every user may write {file}, and so decide which webhooks verify")]


def test_a_folder_that_everybody_may_write_is_reported_unless_it_is_sticky(file):
    file.parent.chmod(0o777)
    assert told(file) == [(True, f"every user may replace {file} with another file")]
    file.parent.chmod(0o1777)
    assert told(file) == []


def test_for_a_link_its_target_and_both_folders_count(file, tmp_path):
    (tmp_path / "open").mkdir()
    link = tmp_path / "open" / "link"
    link.symlink_to(file)
    file.chmod(0o644)
    (tmp_path / "open").chmod(0o777)
    assert told(link) == [
        (True, f"every user may replace {link} with another file"),
        (False, f"every user of this machine may read {file}"),
    ]


def test_a_missing_file_is_not_reported(file):
    assert told(file.with_name("absent")) == []
