"""Cells that take turns, round by round, and their figures: medians, spreads and ratios within a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks import cores


class Spread(NamedTuple):
    """The median of several values, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


class Figure(NamedTuple):
    """One figure, in each round."""

    name: str
    unit: str
    values: Sequence[float]
    #: The cores that were available in each round; empty if that was not checked.
    cores: Sequence[float] = ()

    @property
    def spread(self) -> Spread:
        return Spread.of(self.values)

    def __truediv__(self, other: Figure) -> Figure:
        """The ratio within each round, since levels drift from round to round."""
        ratios = [one / another for one, another in zip(self.values, other.values, strict=True)]
        fewer = [min(each) for each in zip(self.cores, other.cores, strict=False)]
        return Figure(f"{self.name} / {other.name}", "", ratios, fewer)


class Report(NamedTuple):
    """The result of a measurement: lines for people, and figures and ratios for machines."""

    lines: list[str]
    figures: Sequence[Figure] = ()
    ratios: Sequence[Figure] = ()


def take_turns(cells: Mapping[str, Callable[[], float]], *, rounds: int, unit: str) -> dict[str, Figure]:
    """Measure each cell once a round. Every second round is in reverse order, because a machine may be slower later."""
    values: dict[str, list[float]] = {name: [] for name in cells}
    there: dict[str, list[float]] = {name: [] for name in cells}
    for number in range(rounds):
        for name in list(cells) if number % 2 == 0 else reversed(list(cells)):
            value, seen = cores.checked(cells[name])
            values[name].append(value)
            there[name].append(seen)
    return {name: Figure(name, unit, values[name], there[name]) for name in cells}


def report(figures: Sequence[Figure], ratios: Sequence[Figure]) -> Report:
    """One line for each figure and each ratio, and one about cells without all cores."""
    width = max(len(each.name) for each in (*figures, *ratios))
    lines = [f"{each.name:<{width}}  {_shown(each.spread)} {each.unit}" for each in figures]
    lines += [f"{each.name:<{width}}  {each.spread}" for each in ratios]
    marked = [cell for figure in figures for cell in figure.cores if cell < cores.ENOUGH]
    if marked:
        measured = sum(len(figure.cores) for figure in figures)
        lines.append(
            f"NOT ALL CORES WERE AVAILABLE in {len(marked)} of {measured} cells, {min(marked):.2f} in the worst: "
            "measure again on a machine that does nothing else"
        )
    return Report(lines, figures, ratios)


def _shown(spread: Spread) -> str:
    places = 0 if spread.median >= 100 else 2
    return f"{spread.median:>9,.{places}f} ({spread.least:,.{places}f} to {spread.most:,.{places}f})"
