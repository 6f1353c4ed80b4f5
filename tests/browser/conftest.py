"""What tests in a browser share: one Chromium for all of them, and the console with data."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browsing import Browser, running_chromium


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for this folder. It ends with the folder, since other tests run event loops in this thread."""
    with running_chromium() as browser:
        yield browser
