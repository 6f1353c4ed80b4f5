"""Raises limits of time in each Python that has this folder in PYTHONPATH, such as the processes of one server."""

from __future__ import annotations

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[1] / "longer_limits.py"))["raise_limits"]()
