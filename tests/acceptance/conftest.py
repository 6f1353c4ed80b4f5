"""Fixtures of the acceptance tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from installing import installed_python


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the Python of an environment with our wheel, which is built once in a run."""
    return installed_python(tmp_path_factory.mktemp("wheel"))
