"""Fixtures: databases with one table (`notes`), of both systems or of one."""

from __future__ import annotations

import pytest
from notes import with_notes


@pytest.fixture
def database(database_url):
    with with_notes(database_url) as opened:
        yield opened


@pytest.fixture
def file(tmp_path):
    return tmp_path / "mirror.db"


@pytest.fixture
def sqlite(file):
    with with_notes(f"sqlite:///{file}") as opened:
        yield opened


@pytest.fixture
def postgres(postgresql_url):
    with with_notes(postgresql_url) as opened:
        yield opened
