"""How much a run measures: `BENCHMARK_QUICK=1` measures less, for three minutes instead of twenty."""

from __future__ import annotations

import os
from typing import TypeVar

Value = TypeVar("Value")

QUICK = os.environ.get("BENCHMARK_QUICK", "") not in ("", "0")


def either(usual: Value, quick: Value) -> Value:
    return quick if QUICK else usual


def rounds(usual: int = 5, quick: int = 3) -> int:
    return int(os.environ.get("BENCHMARK_ROUNDS") or either(usual, quick))


def seconds(usual: int = 2, quick: int = 1) -> int:
    """Seconds of load in one cell."""
    return int(os.environ.get("BENCHMARK_SECONDS") or either(usual, quick))
