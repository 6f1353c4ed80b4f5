"""The record of a run: every figure of every round, as JSON for machines and as a drawing for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.rounds import Figure, Report

#: The folder of the files.
FOLDER = Path(os.environ.get("BENCHMARK_FOLDER") or Path(__file__).parents[1] / "build" / "bench")


class Record:
    """The results of one run, written after each measurement, so that an interrupted run leaves something."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._setup = setup
        self._measured: list[dict[str, Any]] = []
        self._drawn: dict[str, Report] = {}

    def add(self, name: str, title: str, report: Report, seconds: float) -> None:
        self._measured.append(
            {
                "name": name,
                "title": title,
                "seconds": round(seconds, 1),
                "figures": [_told(each) for each in report.figures],
                "ratios": [_told(each) for each in report.ratios],
                "lines": report.lines,
            }
        )
        self._drawn[title] = report
        FOLDER.mkdir(parents=True, exist_ok=True)
        document = {"setup": self._setup, "measurements": self._measured}
        (FOLDER / "figures.json").write_text(json.dumps(document, indent=1) + "\n")
        (FOLDER / "figures.svg").write_text(plot.drawn(self._drawn))


def _told(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        "unit": figure.unit or "ratio",
        **{name: round(value, 4) for name, value in figure.spread._asdict().items()},
        "rounds": [round(value, 4) for value in figure.values],
        "cores": [round(value, 2) for value in figure.cores],
    }
