"""One checkpoint on a time axis: who sends what, when a guest runs, when packets are held and let out.

Time runs from left to right; each step and each message takes as long as any other. What is drawn is a
round as any later one is, with a little of what lies before it and behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from colo_fsm.fsm import CompleteTable, Side, TableError

from .arrows import titled
from .bars import Bar, Packets, Tone, guest, packets, work
from .canvas import POINT, Canvas, bold, centered, plain
from .course import Step, course
from .dot import GROUND, LINE, SOFT, WIRE
from .moment import wrapped

GO = "#2f7d4f"
LEGEND = "Each step and each message takes one unit of time here."

_LOOK = {
    Tone.RUNS: {"fillcolor": GO, "color": GO, "fontcolor": "white"},
    Tone.STILL: {"fillcolor": "#f1f4f7", "color": LINE, "fontcolor": SOFT, "style": "filled,dashed"},
    Tone.HELD: {"fillcolor": "#ffe0a3", "color": "#b98a2e", "fontcolor": "#5c3c00"},
    Tone.COMPARED: {"fillcolor": "#e2d7f5", "color": "#6b4fa0", "fontcolor": "#3d2a66"},
    Tone.WORK: {"color": LINE, "fontsize": "9"},
}
_UNIT, _LEAD = 64.0, 0.9
"""How wide a step is, and how many of them are shown before the first one and behind the last."""

_NAMES, _MARGIN, _HEADING, _TOP, _WIRE = 72.0, 12.0, 26.0, 54.0, 112.0
_BAR, _LINE, _GAP = 22.0, 11.5, 7.0
_CHARACTERS = 11
"""How many fit into a step in the widest of the fonts that may be there (DejaVu Sans)."""


@attrs.frozen
class _Lane:
    """Bars side by side, under one name; as high as the words in them need."""

    name: str
    bars: tuple[Bar, ...]

    @property
    def height(self) -> float:
        return max([_BAR, *(_LINE * len(_lines(bar)) + 6 for bar in self.bars)])


def drawn(primary: CompleteTable, secondary: CompleteTable) -> str:
    """A checkpoint of this pair, as DOT. Raises TableError if they never take one to its end."""
    way = course(primary, secondary)
    if not way.again:
        raise TableError("no checkpoint to draw", ["undisturbed, the two tables take none to its end"])
    return _Timeline(way.again, (*way.beginning, *way.loop, *way.again)).draw(primary, secondary)


class _Timeline:
    """The canvas, and the part of the time that is on it: that of the steps of one round."""

    def __init__(self, shown: Sequence[Step], steps: Sequence[Step]) -> None:
        self._canvas = Canvas("checkpoint")
        self._shown, self._steps = shown, steps
        self._start = shown[0].at - _LEAD
        self._end = max(step.at for step in shown) + _LEAD

    def draw(self, primary: CompleteTable, secondary: CompleteTable) -> str:
        """Everything, from the top downwards."""
        sent = packets(primary, self._steps)
        rows = [
            _Lane("" if i else "packets", self._cut(bar for part in row for bar in part.bars))
            for i, row in enumerate(_rows(sent, self._start))
        ]
        above = self._side(primary, _TOP, [*rows, *self._lanes(primary)])
        below = self._side(secondary, above + _WIRE, self._lanes(secondary)[::-1])
        for released in {part.released for part in sent if self._start < part.released < self._end}:
            self._let_out(released)
        for step in self._shown:
            if step.sent_at is not None:
                heights = (above, above + _WIRE)
                self._message(step, heights if step.side is Side.SECONDARY else heights[::-1])
        self._canvas.node("title", bold(["One checkpoint"]), (55 - _NAMES, 12), plain("14"))
        self._time(below + 14)
        legend = centered([f"{titled(primary)}. {LEGEND}"])
        self._canvas.node("legend", legend, (self._x(self._end) / 2, below + 34), plain("9", SOFT))
        return self._canvas.dot

    def _lanes(self, table: CompleteTable) -> list[_Lane]:
        return [
            _Lane("guest", self._cut(guest(table, self._steps))),
            _Lane("work", self._cut(work(table, self._shown))),
        ]

    def _x(self, at: float) -> float:
        return (at - self._start) * _UNIT

    def _cut(self, bars: Iterable[Bar]) -> tuple[Bar, ...]:
        return tuple(part for bar in bars for part in bar.within(self._start, self._end))

    def _side(self, table: CompleteTable, top: float, lanes: list[_Lane]) -> float:
        """A panel with its lanes; the height at which it ends."""
        side, width = table.side, self._x(self._end) + _NAMES + 2 * _MARGIN
        bottom = top + _HEADING + sum(lane.height + _GAP for lane in lanes)
        look = {"fillcolor": GROUND[side], "color": "#d3dee9"}
        middle = (width / 2 - _NAMES - _MARGIN, (top + bottom) / 2)
        self._canvas.node(f"panel_{side}", "", middle, look, (width, bottom - top))
        self._canvas.node(str(side), side.title(), (-5 - _NAMES / 2, top + _HEADING / 2), plain("14"))
        y = top + _HEADING
        for i, lane in enumerate(lanes):
            name = f"{side}_{i}"
            self._canvas.node(name, lane.name, (-5 - _NAMES / 2, y + lane.height / 2), plain("10", SOFT))
            for j, bar in enumerate(lane.bars):
                self._bar(f"{name}_{j}", bar, y, lane.height)
            y += lane.height + _GAP
        return bottom

    def _bar(self, name: str, bar: Bar, top: float, height: float) -> None:
        middle = ((self._x(bar.start) + self._x(bar.end)) / 2, top + height / 2)
        width = self._x(bar.end) - self._x(bar.start)
        look = {"style": "filled", "fixedsize": "true"} | _LOOK[bar.tone]
        self._canvas.node(name, centered(_lines(bar)), middle, look, (width - 2, height))

    def _message(self, step: Step, heights: tuple[float, float]) -> None:
        """An arrow down or up, from when it is sent to when it is taken."""
        message = step.row.trigger.message
        assert message is not None
        assert step.sent_at is not None
        name, ends = f"{message.text}_{step.at}", (self._x(step.sent_at), self._x(step.at))
        for end, x, y in zip(("start", "end"), ends, heights, strict=True):
            self._canvas.node(f"{name}_{end}", "", (x, y), POINT)
        label = bold(wrapped(message.text, _CHARACTERS, hyphens=True))
        self._canvas.node(name, label, (sum(ends) / 2, sum(heights) / 2), plain("10.5", WIRE))
        self._canvas.edge(f"{name}_start", name, color=WIRE, dir="none")
        self._canvas.edge(name, f"{name}_end", color=WIRE)

    def _let_out(self, at: float) -> None:
        x, y = self._x(at), _TOP + _HEADING
        self._canvas.node(f"held_{at}", "", (x, y), POINT)
        self._canvas.node(f"out_{at}", bold(["packets let out"]), (x, y - 48), plain("12", GO))
        self._canvas.edge(f"held_{at}", f"out_{at}", color=GO, penwidth="2.6")

    def _time(self, y: float) -> None:
        self._canvas.node("before", "", (0, y), POINT)
        self._canvas.node("time", "time", (self._x(self._end) / 2, y), plain("10", SOFT))
        self._canvas.node("after", "", (self._x(self._end), y), POINT)
        self._canvas.edge("before", "time", color=SOFT, dir="none", penwidth="1")
        self._canvas.edge("time", "after", color=SOFT, penwidth="1")


def _lines(bar: Bar) -> list[str]:
    return wrapped(bar.text, round(_CHARACTERS * (bar.end - bar.start)))


def _rows(parts: Sequence[Packets], start: float) -> list[list[Packets]]:
    """Those that still wait after this time, in as few rows as their bars need."""
    rows: list[list[Packets]] = []
    for part in (p for p in parts if p.released > start):
        free = (row for row in rows if row[-1].released <= part.tones[0][0])
        row = next(free, None)
        if row is None:
            rows.append([part])
        else:
            row.append(part)
    return rows
