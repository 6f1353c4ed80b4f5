"""Charts: bars drawn by the server as SVG, each with a link to the list that it counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from markupsafe import Markup

#: Width of one bar with its gap, and the height of the tallest, in units of the drawing.
BAR_WIDTH, CHART_HEIGHT = 10, 100

#: Space between two bars, in the same units.
GAP = 2


class Segment(NamedTuple):
    """A part of a bar."""

    #: What it counts, such as `processed`. It is also its class in the style sheet.
    kind: str
    number: int


class Bar(NamedTuple):
    """The bar of one span of time."""

    at: datetime
    #: The parts of the bar, from the bottom up.
    segments: tuple[Segment, ...]
    #: The address of the list that it counts.
    link: str
    #: What happened in this span, such as a new release; drawn as a line.
    mark: str = ""

    @property
    def total(self) -> int:
        return sum(segment.number for segment in self.segments)

    @property
    def told(self) -> str:
        """The bar in words."""
        parts = ", ".join(f"{part.number:,} {part.kind}" for part in self.segments if part.number) or "nothing"
        return f"{self.at:%Y-%m-%d %H:%M} UTC: {parts}{f'; {self.mark}' if self.mark else ''}"


def drawn(bars: Sequence[Bar], *, title: str) -> Markup:
    """The bars as an SVG drawing."""
    highest = max((bar.total for bar in bars), default=0) or 1
    inside = Markup("").join(_bar(place * BAR_WIDTH, bar, highest) for place, bar in enumerate(bars))
    return Markup(
        '<svg class="chart" role="group" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>'
    ).format(title, max(len(bars), 1) * BAR_WIDTH, CHART_HEIGHT, inside)


def _bar(x: int, bar: Bar, highest: int) -> Markup:
    parts, top = [], float(CHART_HEIGHT)
    # The whole column is the link, so that a low bar can be hit, too.
    parts.append(
        Markup('<rect class="column" x="{}" y="0" width="{}" height="{}"/>').format(x, BAR_WIDTH, CHART_HEIGHT)
    )
    for segment in bar.segments:
        height = segment.number / highest * CHART_HEIGHT
        if height:
            top -= height
            place = (segment.kind, x, f"{top:.2f}", BAR_WIDTH - GAP, f"{height:.2f}")
            parts.append(Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"/>').format(*place))
    if bar.mark:
        parts.append(Markup('<rect class="mark" x="{}" y="0" width="1" height="{}"/>').format(x, CHART_HEIGHT))
    drawn_bar = Markup("").join(parts)
    return Markup('<a href="{}" aria-label="{}"><title>{}</title>{}</a>').format(
        bar.link, bar.told, bar.told, drawn_bar
    )
