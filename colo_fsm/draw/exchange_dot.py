"""The sequence diagram of an exchange as DOT in which every place is fixed.

Each side is a panel with a lifeline, the Primary's on the left; each moment is a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from colo_fsm.fsm import Side

from .canvas import POINT, Canvas, bold, centered, left, plain, quoted
from .dot import FAULT, GROUND, LINE, SOFT, WIRE
from .moment import MARKS, Moment, Tone, balanced, marks, wrapped

WRONG = "#b3261e"
LEGEND = "An arrow is a message that leaves; receiving it is a later step."

_CENTER = 340.0
_LIFELINE = {Side.PRIMARY: 241.0, Side.SECONDARY: 439.0}
_PANEL = {Side.PRIMARY: 134.0, Side.SECONDARY: 546.0}
_BOX = {Side.PRIMARY: 119.0, Side.SECONDARY: 561.0}
_PANEL_WIDTH, _BOX_WIDTH, _BAND_WIDTH, _DISC = 252.0, 210.0, 652.0, 18.0
_TITLE_LINE, _HEADING, _LINE, _GAP = 18.0, 30.0, 13.0, 9.0

_LONG = 12
"""With more rows than these the sides are named below too."""

_TITLE_CHARACTERS = 64
_BOX_CHARACTERS, _BAND_CHARACTERS, _NAME_CHARACTERS = 34, 90, 19
"""How many fit in a line in the widest of the fonts that may be there (DejaVu Sans)."""

_LOOK = {
    Tone.STEP: {"color": LINE},
    Tone.FAULT: {
        "fillcolor": "#fdf1ef", "color": FAULT, "fontcolor": FAULT, "style": "rounded,filled,dashed",
    },
    Tone.WRONG: {"fillcolor": WRONG, "color": WRONG, "fontcolor": "white"},
}  # fmt: skip
_DISC_LOOK = {
    Tone.STEP: {"fillcolor": "white", "color": LINE},
    Tone.FAULT: {"fillcolor": FAULT, "color": FAULT, "fontcolor": "white"},
    Tone.WRONG: {"fillcolor": "white", "color": WRONG, "fontcolor": WRONG, "penwidth": "1.6"},
}


@attrs.frozen
class _Row:
    """A moment with its lines, and the lines of each message it sends; `y` is the middle of its box."""

    number: int
    moment: Moment
    y: float
    lines: list[str]
    names: list[list[str]]

    @property
    def arrows(self) -> Iterator[tuple[float, list[str]]]:
        """The height of each arrow and its label: below one another, around the middle of the box."""
        top = self.y - sum(map(_arrow_height, self.names)) / 2
        for lines in self.names:
            yield top + _arrow_height(lines) / 2, lines
            top += _arrow_height(lines)


def drawn(title: str, moments: Sequence[Moment], names: tuple[str, str]) -> str:
    """These moments, in their order, of two with these names, as DOT.

    Raises DrawError without the `graphviz` package.
    """
    canvas = Canvas("exchange")
    heading = balanced(title, _TITLE_CHARACTERS)
    top = _TITLE_LINE * len(heading) + 14
    canvas.node("title", bold(heading), (_CENTER, top / 2 - 7), plain("14"))
    rows, end = _rows(moments, top + _HEADING)
    bottom = end + (_HEADING if len(rows) > _LONG else 4)
    for side, name in zip(Side, names, strict=True):
        _draw_side(canvas, side, name, top, end, bottom)
    for row in rows:
        _draw_row(canvas, row)
    legend = [line for line in (LEGEND, "   ".join(marks(moments))) if line]
    canvas.node("legend", centered(legend), (_CENTER, bottom + 10 + 6 * len(legend)), plain("9", SOFT))
    return canvas.dot


def _rows(moments: Sequence[Moment], top: float) -> tuple[list[_Row], float]:
    """The rows from this height downwards, and the height at which they end."""
    rows = []
    for number, moment in enumerate(moments, 1):
        text = f"{MARKS[moment.tone]} {moment.text}".strip()
        lines = balanced(text, _BOX_CHARACTERS if moment.actor else _BAND_CHARACTERS)
        names = [wrapped(name, _NAME_CHARACTERS, hyphens=True) for name in moment.sends]
        height = max(_box_height(lines), sum(map(_arrow_height, names)))
        rows.append(_Row(number, moment, top + height / 2, lines, names))
        top += height + _GAP
    return rows, top


def _draw_side(canvas: Canvas, side: Side, name: str, top: float, end: float, bottom: float) -> None:
    """A panel from top to bottom; its lifeline ends where the rows end, above the name if there is room."""
    look = {"fillcolor": GROUND[side], "color": "#d3dee9"}
    canvas.node(f"panel_{side}", "", (_PANEL[side], (top + bottom) / 2), look, (_PANEL_WIDTH, bottom - top))
    x = _PANEL[side]
    canvas.node(str(side), quoted(name), (x, top + _HEADING / 2), plain("14"))
    if bottom - end >= _HEADING:
        canvas.node(f"{side}_below", quoted(name), (x, bottom - _HEADING / 2), plain("14"))
    begin = top + _HEADING - 4
    line = {"style": "filled", "fillcolor": LINE, "color": LINE, "penwidth": "0"}
    canvas.node(f"lifeline_{side}", "", (_LIFELINE[side], (begin + end) / 2), line, (1.4, end - begin))


def _draw_row(canvas: Canvas, row: _Row) -> None:
    actor, look, height = row.moment.actor, _LOOK[row.moment.tone], _box_height(row.lines)
    name, y = f"step_{row.number}", row.y
    if actor is None:
        band = {"fillcolor": "#f1f4f7"} | look
        canvas.node(name, centered(row.lines), (_CENTER, y), band, (_BAND_WIDTH, height))
        _draw_number(canvas, row, _CENTER - _BAND_WIDTH / 2 + _DISC)
    else:
        canvas.node(name, left(row.lines), (_BOX[actor], y), look, (_BOX_WIDTH, height))
        _draw_number(canvas, row, _LIFELINE[actor])
        for i, (arrow_y, lines) in enumerate(row.arrows, 1):
            _draw_arrow(canvas, row, actor, f"{row.number}_{i}", arrow_y, lines)


def _draw_number(canvas: Canvas, row: _Row, x: float) -> None:
    disc = {"shape": "circle", "style": "filled", "fixedsize": "true", "margin": "0"}
    disc |= {"fontsize": "9" if row.number < 100 else "7.5"} | _DISC_LOOK[row.moment.tone]
    canvas.node(f"number_{row.number}", str(row.number), (x, row.y), disc, (_DISC, _DISC))


def _draw_arrow(canvas: Canvas, row: _Row, actor: Side, name: str, y: float, lines: list[str]) -> None:
    color = WRONG if row.moment.tone is Tone.WRONG else WIRE
    start, end = f"number_{row.number}", f"end_{name}"
    if abs(y - row.y) > 1:
        start = f"start_{name}"
        canvas.node(start, "", (_LIFELINE[actor], y), POINT)
    canvas.node(end, "", (_LIFELINE[actor.peer], y), POINT)
    canvas.node(f"message_{name}", bold(lines), (_CENTER, y), plain("11", color))
    canvas.edge(start, f"message_{name}", color=color, dir="none")
    canvas.edge(f"message_{name}", end, color=color)


def _box_height(lines: list[str]) -> float:
    return _LINE * len(lines) + 9


def _arrow_height(lines: list[str]) -> float:
    return _LINE * len(lines) + 6
