"""Charts: bars drawn by the server as SVG, each with a link to a list about its time or its kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from markupsafe import Markup, escape

#: Width of one bar with its gap, and the height of the tallest, in units of the drawing.
BAR_WIDTH, CHART_HEIGHT = 10, 100

#: Space between two bars, in the same units.
GAP = 2


class Segment(NamedTuple):
    """A part of a bar."""

    #: The events that it counts, such as `processed`; also its class in the style sheet.
    kind: str
    number: int
    #: The address of the list of such ones, whenever they arrived; empty if there is none.
    link: str = ""


class Bar(NamedTuple):
    """The bar of one span of time."""

    at: datetime
    #: The parts of the bar, from the bottom up.
    segments: tuple[Segment, ...]
    #: The address of the deliveries that arrived in this span.
    arrived: str
    #: An event in this span, such as a new release; drawn as a line.
    mark: str = ""

    @property
    def total(self) -> int:
        return sum(segment.number for segment in self.segments)

    @property
    def link(self) -> str:
        """The address that the bar leads to: of all such ones if it counts one kind only that has a list."""
        counted = [segment for segment in self.segments if segment.number]
        return counted[0].link or self.arrived if len(counted) == 1 else self.arrived

    @property
    def told(self) -> str:
        """The bar in words."""
        parts = ", ".join(f"{part.number:,} {part.kind}" for part in self.segments if part.number) or "nothing"
        return f"{self.at:%Y-%m-%d %H:%M} UTC: {parts}{f'; {self.mark}' if self.mark else ''}"


def drawn(bars: Sequence[Bar], *, title: str) -> Markup:
    """The bars as an SVG drawing."""
    highest = max((bar.total for bar in bars), default=0) or 1
    width = max(len(bars), 1) * BAR_WIDTH
    inside = "".join(_bar(place * BAR_WIDTH, bar, highest) for place, bar in enumerate(bars))
    frame = f'class="chart" role="group" aria-label="{escape(title)}" viewBox="0 0 {width} {CHART_HEIGHT}"'
    return Markup(f'<svg {frame} preserveAspectRatio="none">{inside}</svg>')  # noqa: S704 (every text is escaped)


def _bar(x: int, bar: Bar, highest: int) -> str:
    """The markup of one bar. It is joined as text, because a page has hundreds of parts, and only texts are escaped."""
    # The whole column is the link, so that a low bar can be hit, too.
    parts = [f'<rect class="column" x="{x}" y="0" width="{BAR_WIDTH}" height="{CHART_HEIGHT}"/>']
    top = float(CHART_HEIGHT)
    for segment in bar.segments:
        height = segment.number / highest * CHART_HEIGHT
        if height:
            top -= height
            parts.append(
                f'<rect class="bar {escape(segment.kind)}" x="{x}" y="{top:.2f}" width="{BAR_WIDTH - GAP}" '
                f'height="{height:.2f}"/>'
            )
    if bar.mark:
        parts.append(f'<rect class="mark" x="{x}" y="0" width="1" height="{CHART_HEIGHT}"/>')
    told = escape(bar.told)
    # The table of the numbers has the same links. A person with a keyboard would have to pass dozens of bars.
    return f'<a href="{escape(bar.link)}" tabindex="-1" aria-label="{told}"><title>{told}</title>{"".join(parts)}</a>'
