"""Patience with a busy machine in the tests' own process: higher limits of time, and no round of a server by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest
from longer_limits import LIMITS, TIMEOUT, limits_of

from receiver.findings import watching


@contextmanager
def more_patience() -> Iterator[None]:
    """Raise the limits in this process until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        for module in LIMITS:
            for among, name, raised in limits_of(import_module(module)):
                patch.setitem(among, name, raised)
        # A server's own round, which would otherwise come in the middle of the tests that make one themselves.
        patch.setattr(watching, "FIRST_ROUND_SECONDS", 60 * TIMEOUT)
        yield
