"""Setup for tests beside programs of other projects: no settings of this machine, and helpers of other tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The helpers run installations as processes, and lead connections to one server or another.
sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("support", "plug")]


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside():
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("HOOKMIRROR_", "PG"))]:
            patch.delenv(name)
        yield
