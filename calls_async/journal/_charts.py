"""Charts as inline SVG; the rule: each has a title, a description and its numbers as a table.

A drawing stretches with the page, from a phone to a wide screen, so it has no text: scales are HTML
beside it, which stays as large as the reader wants it. Colours are classes of the page's style.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

import attrs

from calls_async.journal._printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDE: Final = 1000.0
_HIGH: Final = 240.0


def shown(value: object) -> str:
    """Any text as HTML: on one line, escaped, in one direction."""
    return escape(printable(str(value)))


def number(value: float) -> str:
    """Such as `1,234`, `12.3` or `0.05`: three digits at most where there are decimals."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ceiling(value: float) -> float:
    """The next round number, which a scale ends at: one digit with zeros, that can be halved."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9)
    )


@attrs.frozen(kw_only=True)
class Table:
    """The numbers of a chart.

    Attributes:
        head: The names of the columns.
        rows: The cells. The first of a row names it.
        style: The class of the table in the page's style.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    style: str = "numbers"

    def html(self, caption: str) -> str:
        """The table, for all who cannot or will not read the drawing."""
        head = "".join(f'<th scope="col">{shown(cell)}</th>' for cell in self.head)
        body = "\n".join(
            f'<tr><th scope="row">{shown(first)}</th>'
            + "".join(f"<td>{shown(cell)}</td>" for cell in rest)
            + "</tr>"
            for first, *rest in self.rows
        )
        return (
            '<div class="scroll" role="region" tabindex="0" '
            f'aria-label="{shown(caption)}"><table class="{self.style}">\n'
            f"<caption>{shown(caption)}</caption>\n"
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
        )


@attrs.frozen(kw_only=True)
class Chart:
    """A drawing with everything that belongs to it.

    Attributes:
        name: Its id in the page.
        title: What it shows.
        description: What can be seen in it, in a sentence.
        shapes: The inside of the SVG.
        upright: Labels of the vertical scale, from the top; none if it has none.
        along: Labels of the horizontal scale, from the left.
        legend: Classes of colours and what they mean.
        table: The numbers.
    """

    name: str
    title: str
    description: str
    shapes: str
    upright: Sequence[str] = ()
    along: Sequence[str]
    legend: Sequence[tuple[str, str]] = ()
    table: Table

    def html(self) -> str:
        """The chart as a figure."""
        kind = "chart" if self.upright else "chart strip"
        legend = "".join(
            f'<li><svg class="key" viewBox="0 0 10 10" aria-hidden="true">'
            f'<rect class="{colour}" width="10" height="10" rx="2"/></svg>{shown(meaning)}</li>'
            for colour, meaning in self.legend
        )
        return f"""<figure class="{kind}">
{f'<ul class="legend">{legend}</ul>' if legend else ""}
<div class="plot">
{_scale("upright", self.upright)}<svg viewBox="0 0 {_WIDE:.0f} {_HIGH:.0f}" \
preserveAspectRatio="none" role="img" aria-labelledby="{self.name}-title {self.name}-desc">
<title id="{self.name}-title">{shown(self.title)}</title>
<desc id="{self.name}-desc">{shown(self.description)}</desc>
{self.shapes}
</svg>
{_scale("along", self.along)}</div>
<figcaption>{shown(self.description)}</figcaption>
<details><summary>{shown(self.title)}: the numbers</summary>
{self.table.html(self.title)}
</details>
</figure>"""


def _scale(side: str, labels: Sequence[str]) -> str:
    if not labels:
        return ""
    inside = "".join(f"<span>{shown(label)}</span>" for label in labels)
    return f'<div class="{side}" aria-hidden="true">{inside}</div>\n'


# --- Shapes --------------------------------------------------------------------------------------


def grid() -> str:
    """Lines at the top, the middle and the bottom."""
    return "\n".join(
        f'<path class="grid" d="M0 {y:.0f}H{_WIDE:.0f}"/>' for y in (0, _HIGH / 2, _HIGH)
    )


def bars(columns: Sequence[Sequence[float]], colours: Sequence[str], top: float) -> str:
    """Stacked bars next to each other; the last value of a column is on top."""
    width = _WIDE / max(len(columns), 1)
    gap = min(width * 0.15, 3.0)
    shapes: list[str] = []
    for i, column in enumerate(columns):
        base = _HIGH
        for value, colour in zip(column, colours, strict=True):
            high = value / top * _HIGH
            base -= high
            if value:
                x = i * width + gap / 2
                shapes.append(rectangle(colour, x, base, width - gap, high))
    return "\n".join(shapes)


def spans(times: Iterable[tuple[float, float]]) -> str:
    """Pieces of a line that goes from 0 to 1; each can be seen, however short it is."""
    return "\n".join(
        rectangle("fetched", min(a * _WIDE, _WIDE - 3), 0, max((b - a) * _WIDE, 3), _HIGH)
        for a, b in times
    )


def rectangle(colour: str, x: float, y: float, wide: float, high: float) -> str:
    """One rectangle. Two decimals are less than anybody sees, and the same on every machine."""
    return (
        f'<rect class="{colour}" x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" height="{high:.2f}"/>'
    )


def share_bar(share: float, colour: str) -> str:
    """A bar in a cell of a table that says the same in words."""
    inside = rectangle(colour, 0, 0, max(share * 100, 0.5), 10)
    return (
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f"{inside}</svg>"
    )
