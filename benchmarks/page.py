"""Fills the tables of docs/speed.md with the figures of the last run: `make speed` measures and fills.

A block of the page begins with `<!-- figures of NAME -->` and ends with `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cores import ENOUGH
from benchmarks.record import FOLDER

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"

BLOCK = re.compile(r"(<!-- figures of (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    document = json.loads((FOLDER / "figures.json").read_text())
    measured = {each["name"]: "\n".join(_shown(each)) for each in document["measurements"]}
    measured["setup"] = "\n".join(f"- {line}" for line in document["setup"].values())
    page = PAGE.read_text()
    names = [found[2] for found in BLOCK.finditer(page)]
    PAGE.write_text(BLOCK.sub(lambda found: _filled(found, measured), page))
    for name in names:
        print(f"{name}: {'filled' if name in measured else 'not measured in the last run, left as it was'}")
    doubtful = [each["name"] for each in document["measurements"] if _is_doubtful(each)]
    if doubtful:
        print(f"NOT ALL CORES WERE AVAILABLE in {', '.join(doubtful)}: measure again before you commit the page")


def _filled(found: re.Match[str], measured: Mapping[str, str]) -> str:
    begin, name, end = found.groups()
    return f"{begin}\n{measured[name]}\n\n{end}" if name in measured else found[0]


def _shown(measurement: Mapping[str, Any]) -> Iterator[str]:
    """The measurement's own tables if it has any; otherwise its ratios and figures, or its lines as they are."""
    lines = measurement["lines"]
    if any(line.startswith("|") for line in lines):
        # Blank lines stay between two tables.
        yield from (line for line in lines if line.startswith("|") or not line)
    elif measurement["figures"]:
        yield "| | median | least to most |"
        yield "|---|---|---|"
        for each in (*measurement["ratios"], *measurement["figures"]):
            digits = 2 if each["median"] < 10 else 0
            median, least, most = (f"{each[name]:,.{digits}f}" for name in ("median", "least", "most"))
            unit = "" if each["unit"] == "ratio" else f", {each['unit']}"
            yield f"| {each['name']}{unit} | {median} | {least} to {most} |"
    else:
        yield from ("```text", *lines, "```")


def _is_doubtful(measurement: Mapping[str, Any]) -> bool:
    return any(cores < ENOUGH for figure in measurement["figures"] for cores in figure["cores"])


if __name__ == "__main__":
    main()
