"""Files that a person names: devices without an end, and files that are too large."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from receiver.errors import ConfigurationError
from receiver.settings import files
from receiver.settings.account import lines_of_secrets
from receiver.settings.files import has_changed, noting_stamps, read_bounded
from receiver.settings.settings import load, settings_folder

ENDLESS = Path("/dev/zero")


def test_a_file_of_the_largest_size_is_read_and_a_larger_one_is_not(tmp_path):
    file = tmp_path / "body.json"
    file.write_bytes(b"12345")
    assert read_bounded(file, most=5) == b"12345"
    with pytest.raises(OSError, match="File too large"):
        read_bounded(file, most=4)


def test_a_settings_file_without_an_end_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"HOOKMIRROR_CONFIG names '/dev/zero', which cannot be read \(File too"
    ):
        load(ENDLESS)


def test_a_file_of_secrets_without_an_end_is_refused():
    with pytest.raises(ConfigurationError, match=r"The source names it, which cannot be read \(File too large\)"):
        lines_of_secrets(ENDLESS, named="The source names it", setting="secrets_file")


@pytest.fixture
def pipe(tmp_path, monkeypatch):
    """Make a pipe into which nothing is written, and shorten the wait for its writer."""
    monkeypatch.setattr(files, "WRITER_TIMEOUT", 0.05)
    made = tmp_path / "pipe"
    os.mkfifo(made)
    return made


def test_settings_and_secrets_from_a_pipe_without_a_writer_are_refused_instead_of_awaited(pipe):
    with pytest.raises(ConfigurationError, match=r"which cannot be read \(nothing was written into it for 0 seconds\)"):
        load(pipe)
    with pytest.raises(ConfigurationError, match=r"The source names it, which cannot be read \(nothing was written"):
        lines_of_secrets(pipe, named="The source names it", setting="secrets_file")


def test_a_writer_that_pauses_in_the_middle_is_not_awaited_for_ever(pipe):
    # Opened for both directions, so that the pipe has a writer.
    with pipe.open("r+b", buffering=0) as writer:
        writer.write(b"secret_")
        with pytest.raises(OSError, match="nothing was written into it"):
            read_bounded(pipe, timeout=0.05)


def test_a_pipe_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    written = b"x" * 300_000
    threading.Thread(target=pipe.write_bytes, args=(written,), daemon=True).start()
    assert read_bounded(pipe, most=300_000) == written


def test_a_settings_file_that_is_a_link_to_itself_is_refused(tmp_path, monkeypatch):
    link = tmp_path / "loop.toml"
    link.symlink_to(link)
    monkeypatch.setenv("HOOKMIRROR_CONFIG", str(link))
    assert settings_folder() == tmp_path
    with pytest.raises(ConfigurationError, match=r"cannot be read \(Too many levels of symbolic links\)"):
        load()


def stamped(file: Path) -> str:
    """Read the file, and return its stamp."""
    with noting_stamps() as stamps:
        read_bounded(file)
    return stamps[str(file)]


def test_a_file_that_is_only_read_again_has_not_changed(tmp_path):
    file = tmp_path / "hookmirror.toml"
    file.write_text("secret")
    stamp = stamped(file)
    file.read_text()
    assert not has_changed(str(file), stamp)


@pytest.mark.parametrize("modified", [0, 4_000_000_000], ids=["long ago", "in the future"])
def test_a_file_that_is_put_back_with_its_time_has_changed_and_once_read_it_has_not(tmp_path, modified):
    file = tmp_path / "hookmirror.toml"
    file.write_text("newer")
    stamp = stamped(file)
    file.write_text("older")
    os.utime(file, (modified, modified))
    assert has_changed(str(file), stamp)
    assert not has_changed(str(file), stamped(file))


def test_a_file_to_which_another_link_leads_has_changed_although_size_and_time_are_the_same(tmp_path):
    current = tmp_path / "current"
    for release in ("two", "one"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "secrets").write_text(release)
        os.utime(tmp_path / release / "secrets", (0, 0))
    current.symlink_to("one")
    stamp = stamped(current / "secrets")
    current.unlink()
    current.symlink_to("two")
    assert has_changed(str(current / "secrets"), stamp)


def test_a_file_that_is_gone_counts_as_unchanged_because_its_reader_reports_it(tmp_path):
    file = tmp_path / "hookmirror.toml"
    file.write_text("")
    stamp = stamped(file)
    file.unlink()
    assert not has_changed(str(file), stamp)


def test_a_file_that_is_not_there_has_changed_once_it_is(tmp_path):
    file = tmp_path / "secrets"
    with noting_stamps() as stamps, pytest.raises(FileNotFoundError):
        read_bounded(file)
    assert not has_changed(str(file), stamps[str(file)])
    file.write_text("secret")
    assert has_changed(str(file), stamps[str(file)])


def test_a_file_that_cannot_be_opened_has_changed_once_it_is_replaced(tmp_path, monkeypatch):
    file = tmp_path / "secrets"
    file.write_text("secret")
    monkeypatch.setattr(files, "os", SimpleNamespace(**vars(os) | {"open": refused}))
    with noting_stamps() as stamps, pytest.raises(PermissionError):
        read_bounded(file)
    assert not has_changed(str(file), stamps[str(file)])
    file.write_text("another secret")
    assert has_changed(str(file), stamps[str(file)])


def refused(*_: object) -> int:
    raise PermissionError


def test_a_pipe_has_no_stamp():
    reading, writing = os.pipe()
    os.close(writing)
    with noting_stamps() as stamps, os.fdopen(reading, "rb"):
        assert read_bounded(Path(f"/dev/fd/{reading}")) == b""
    assert stamps == {}
