"""Draws figures as SVG: a bar for each median, with a line from the least to the most, in one panel a measurement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from benchmarks.cores import ENOUGH
from benchmarks.rounds import Figure, Report

#: Sizes in pixels: of the text beside the bars, the longest bar, and one row.
LABELS, LONGEST, ROW = 520, 420, 20
WIDTH = LABELS + LONGEST + 180

STYLE = (
    "text{font:13px sans-serif;fill:#222}.title{font-weight:bold}.paper{fill:#fff}"
    ".bar{fill:#7aa6c2}.doubtful{fill:#ddd}.line{stroke:#222;fill:none}"
)


def drawn(reports: Mapping[str, Report]) -> str:
    """Draw the ratios and the figures of each report that has any."""
    rows, height = [], ROW
    for title, report in reports.items():
        for panel in _panels(report):
            rows.append(_text(10, height, f"{title} ({panel[0].unit or 'ratio'})", "title"))
            height += ROW
            most = max(figure.spread.most for figure in panel) or 1.0
            for figure in panel:
                rows += _row(figure, height, LONGEST / most)
                height += ROW
            height += ROW
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" role="img">'
    return "\n".join(
        [head, f"<style>{STYLE}</style>", '<rect class="paper" width="100%" height="100%"/>', *rows, "</svg>", ""]
    )


def _panels(report: Report) -> Iterator[Sequence[Figure]]:
    """The figures of one unit each, since bars of one panel have one scale."""
    every = [*report.ratios, *report.figures]
    for unit in dict.fromkeys(each.unit for each in every):
        yield [each for each in every if each.unit == unit]


def _row(figure: Figure, y: int, scale: float) -> list[str]:
    spread = figure.spread
    # Pale, if not all cores were there.
    kind = "bar" if min(figure.cores, default=ENOUGH) >= ENOUGH else "doubtful"
    left, right = (LABELS + value * scale for value in (spread.least, spread.most))
    return [
        _text(10, y, figure.name),
        f'<rect class="{kind}" x="{LABELS}" y="{y - 12}" width="{spread.median * scale:.1f}" height="14"/>',
        f'<path class="line" d="M{left:.1f} {y - 9}v8M{left:.1f} {y - 5}H{right:.1f}M{right:.1f} {y - 9}v8"/>',
        _text(LABELS + LONGEST + 10, y, f"{spread.median:,.2f}" if spread.median < 100 else f"{spread.median:,.0f}"),
    ]


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}"{f" class={kind!r}" if kind else ""}>{escape(text)}</text>'
