"""Patience with a busy machine in the tests' own process: limits of time are raised, if nothing else is slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest
from longer_limits import LIMITS, TIMEOUT

from receiver.findings import watching


@contextmanager
def more_patience() -> Iterator[None]:
    """Raise the limits in this process until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        for module, limits in LIMITS.items():
            for name, limit in limits.items():
                function, _, parameter = name.partition(".")
                if parameter:
                    patch.setitem(getattr(import_module(module), function).__kwdefaults__, parameter, limit)
                else:
                    patch.setattr(import_module(module), name, limit)
        # A server's own round, which would otherwise come in the middle of the tests that make one themselves.
        patch.setattr(watching, "FIRST_ROUND_SECONDS", 60 * TIMEOUT)
        yield
