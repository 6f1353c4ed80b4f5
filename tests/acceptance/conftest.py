"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from installing import installed_python
from patience import more_patience


@pytest.fixture(autouse=True, scope="session")
def _more_patience() -> Iterator[None]:
    """Raise limits of the servers that run in the tests' process; `Folder` raises those of the commands."""
    with more_patience():
        yield


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the Python of an environment with our wheel, which is built once in a run."""
    return installed_python(tmp_path_factory.mktemp("wheel"))
