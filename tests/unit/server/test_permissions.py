"""Other users' rights to a file of secrets or a database, by its mode, its link and its folder."""

from __future__ import annotations

import os
from functools import partial

import pytest

from receiver.server.doctor import examine
from receiver.server.permissions import exposures, exposures_of_database
from receiver.settings.settings import load


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


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660])
def test_a_database_for_the_user_and_a_group_is_safe(file, mode):
    file.chmod(mode)
    assert list(exposures_of_database(f"sqlite:///{file}")) == []


@pytest.mark.parametrize(
    ("mode", "writable", "says"),
    [
        (0o644, False, "every user of this machine may read {file}, with all webhooks: chmod o-rw {file}*"),
        (0o666, True, "every user may write {file}, and so change the mirror: chmod o-rw {file}*"),
    ],
)
@pytest.mark.parametrize("url", ["sqlite:///{file}", "sqlite:///file:{file}?uri=true"])
def test_a_database_that_everybody_may_read_or_write_is_reported(file, url, mode, writable, says):
    file.chmod(mode)
    (found,) = exposures_of_database(url.format(file=file))
    assert (found.writable, found.says) == (writable, says.format(file=file))


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql://host:port/", "postgresql://localhost/mirror"])
def test_no_file_is_reported_for_another_database_or_a_wrong_url(url):
    assert list(exposures_of_database(url)) == []


@pytest.mark.parametrize(("mode", "verdict"), [(0o644, "LOOK"), (0o666, "MEND")])
def test_doctor_reports_a_database_that_everybody_may_read_or_write(file, monkeypatch, mode, verdict):
    file.write_bytes(b"")
    file.chmod(mode)
    settings = file.with_name("hookmirror.toml")
    settings.write_text(f'database_url = "sqlite:///{file}"\n')
    settings.chmod(0o600)
    monkeypatch.delenv("HOOKMIRROR_DATABASE_URL", raising=False)
    found = examine(partial(load, settings), beside=file.parent)
    assert [(each.verdict, str(file) in each.says) for each in found if each.subject == "files"] == [(verdict, True)]
