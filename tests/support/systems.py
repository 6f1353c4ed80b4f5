"""SQLite for most tests of a module whose SQL is the same on both systems, and both for tests with a mark.

A module imports both names. Each kind of statement that its tests lead to needs a test on both systems.
"""

from __future__ import annotations

import pytest

ON_BOTH = pytest.mark.parametrize("database_system", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="module")
def database_system(request: pytest.FixtureRequest) -> str:
    """The database system of a test: SQLite, unless the test is marked."""
    return str(getattr(request, "param", "sqlite"))
