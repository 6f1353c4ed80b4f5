"""Files that a person names: devices without an end, and files that are too large."""

from __future__ import annotations

from pathlib import Path

import pytest

from receiver.errors import ConfigurationError
from receiver.settings.account import lines_of_secrets
from receiver.settings.files import read_bounded
from receiver.settings.settings import load

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
