"""DOT in which every place is fixed: whoever lays it out, the picture is the same.

All of it is nodes, in the order in which they cover each other; only arrows are edges, on top of all nodes.
`layout=nop2` makes Graphviz keep the places. Lengths are points; heights are counted from the top downwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from .dot import FONT, HIDDEN, INK
from .renderer import new_digraph

POINT = {"shape": "point"} | HIDDEN
"""The look of a node at which an arrow begins or ends, and nothing is seen."""

Place = tuple[float, float]


class Canvas:
    """A picture on its own light ground. Raises DrawError without the `graphviz` package."""

    def __init__(self, name: str) -> None:
        self._graph = new_digraph(
            name,
            graph={
                "layout": "nop2", "outputorder": "nodesfirst", "splines": "line", "bgcolor": "#fcfcfd",
                "pad": "0.14",
            },
            node={
                "shape": "box", "style": "rounded,filled", "margin": "0.09,0.02", "width": "0", "height": "0",
                "fontname": FONT, "fontsize": "10", "fontcolor": INK, "fillcolor": "white",
            },
            edge={"arrowsize": "0.75", "penwidth": "1.6"},
        )  # fmt: skip

    @property
    def dot(self) -> str:
        return str(self._graph.source)

    def node(self, name: str, label: str, at: Place, look: Mapping[str, str], size: Place = (0, 0)) -> None:
        """A node with this middle and at least this size: it grows if its text needs more."""
        inches = {k: f"{v / 72:.3f}" for k, v in zip(("width", "height"), size, strict=True)}
        self._graph.node(name, label, pos=f"{at[0]:g},{-at[1]:g}", **inches, **look)

    def edge(self, tail: str, head: str, **look: str) -> None:
        """A straight arrow between two nodes."""
        self._graph.edge(tail, head, **look)


def plain(size: str, color: str = INK) -> dict[str, str]:
    """The look of text without a box."""
    return {"shape": "plaintext", "style": "", "fontsize": size, "fontcolor": color, "margin": "0.06,0"}


def left(lines: Iterable[str]) -> str:
    """A label of these lines, at its left."""
    return "".join(f"{quoted(line)}\\l" for line in lines)


def centered(lines: Iterable[str]) -> str:
    """A label of these lines, each in the middle."""
    return "".join(f"{quoted(line)}\\n" for line in lines)


def bold(lines: Iterable[str]) -> str:
    """A label of these lines, centered and bold."""
    return f"<<B>{'<BR/>'.join(map(quoted, lines))}</B>>"


def quoted(line: str) -> str:
    """A line to be shown as it is, never empty: pygraphviz crashes on a label that is one line break."""
    return escape(line).replace("\\", "\\\\") or "&#160;"
