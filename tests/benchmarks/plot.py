"""Curves as SVG: a panel for each picture, both axes logarithmic. The same rows give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

import attrs

Point = tuple[float, float]
COLORS = ("#1f5fa8", "#b3541e")
INK, LINE, GROUND = "#24303c", "#c9d3dd", "#fcfcfd"
WIDTH, HEIGHT = 380.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 26.0, 46.0, 40.0


@attrs.frozen
class Panel:
    """Curves by their name; all of them with the same axes, each through at least one point above 0."""

    title: str
    x: str
    y: str
    curves: Mapping[str, Sequence[Point]]


@attrs.frozen
class _Scale:
    """From a value to a place: whole powers of ten around the values, at least one apart."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def of(cls, values: Iterable[float], start: float, end: float) -> _Scale:
        tens = [math.log10(value) for value in values]
        low, high = math.floor(min(tens)), math.ceil(max(tens))
        return cls(low, max(high, low + 1), start, end)

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def svg(panels: Sequence[Panel]) -> str:
    """The panels, two beside each other."""
    height = HEIGHT * -(-len(panels) // 2)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH:g} {height:g}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="10">',
        f'<rect width="100%" height="100%" fill="{GROUND}"/>',
        *(line for i, panel in enumerate(panels) for line in _panel(panel, i % 2 * WIDTH, i // 2 * HEIGHT)),
        "</svg>\n",
    ])  # fmt: skip


def _panel(panel: Panel, left: float, top: float) -> Iterator[str]:
    points = [point for curve in panel.curves.values() for point in curve]
    x = _Scale.of((at for at, _ in points), left + LEFT, left + WIDTH - RIGHT)
    y = _Scale.of((value for _, value in points), top + HEIGHT - BOTTOM, top + TOP)
    yield _text(left + LEFT, top + 18, panel.title, weight="bold", size=12)
    for tick in x.ticks:
        yield _rule(x(tick), y.start, x(tick), y.end)
        yield _text(x(tick), y.start + 14, _short(tick), anchor="middle")
    for tick in y.ticks:
        yield _rule(x.start, y(tick), x.end, y(tick))
        yield _text(x.start - 6, y(tick) + 3, _short(tick), anchor="end")
    yield _text(x.end, y.start + 30, panel.x, anchor="end")
    yield _text(left + LEFT, top + 36, panel.y)
    for number, (name, curve) in enumerate(panel.curves.items()):
        color = COLORS[number % len(COLORS)]
        places = [f"{x(at):.1f},{y(value):.1f}" for at, value in curve]
        yield f'<polyline points="{" ".join(places)}" fill="none" stroke="{color}" stroke-width="2"/>'
        for place in places:
            cx, cy = place.split(",")
            yield f'<circle cx="{cx}" cy="{cy}" r="3" fill="{color}"/>'
        yield _text(left + WIDTH - RIGHT - 70 * number, top + 36, name, anchor="end", color=color)


def _rule(*ends: float) -> str:
    x1, y1, x2, y2 = (f"{end:.1f}" for end in ends)
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{LINE}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: float = 10,
    color: str = INK,
) -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'font-size="{size:g}" fill="{color}">{escape(text)}</text>'
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
