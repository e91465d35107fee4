"""Pictures as DOT, the text that Graphviz reads.

Of both sides: a column each and the messages between them, the same sync point at the same height.
The invisible edges do nothing but hold that shape: Graphviz sorts what stands on one height by the edges
that lead to it from above.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from ..protocol import COLOMessage, CompleteTable, Effect, Send, Side, State, Trigger
from .arrows import NEXT, REST, REST_MEANS, Arrow, Crossing, among, arrows, asked, crossings, handshake, said
from .errors import DrawError

if TYPE_CHECKING:
    from graphviz import Digraph

INK, SOFT, LINE = "#1f2933", "#52667a", "#7b8da0"
WIRE, BACK, FAULT = "#1d4f91", "#3f78b5", "#b5473c"
GROUND = {Side.PRIMARY: "#eaf2fb", Side.SECONDARY: "#ebf6ee"}
"""Every picture brings its own light ground: GitHub's dark page shows through a transparent one."""

PLAIN = {"shape": "plaintext", "style": "", "fontsize": "9.5", "width": "0", "margin": "0"}
FONT = "Helvetica,Arial,sans-serif"


def side(table: CompleteTable) -> str:
    """One side's machine as DOT: every written row with its trigger and its effects."""
    graph = _digraph(str(table.side), f"The {table.side.title()} ({table.variant})")
    with graph.subgraph(name=f"cluster_{table.side}") as column:
        _Column(table, column, with_messages=True).draw(table.side.title())
    return str(graph.source)


def pair(primary: CompleteTable, secondary: CompleteTable) -> str:
    """Both machines as DOT, the Primary on the left, and the messages that pass between them."""
    graph = _digraph("pair", f"COLO, {primary.variant}")
    columns = []
    for table in (primary, secondary):
        with graph.subgraph(name=f"cluster_{table.side}") as cluster:
            columns.append(_Column(table, cluster, with_messages=False))
            columns[-1].draw(table.side.title())
    for state in primary.states:
        if state in secondary.states:
            _level(graph, *(c.node(state) for c in columns))
    for crossing in crossings(primary, secondary):
        _draw_crossing(graph, crossing, columns)
    return str(graph.source)


def _digraph(name: str, caption: str) -> Digraph:
    try:
        from graphviz import Digraph
    except ImportError as e:
        raise DrawError("DOT is written with the graphviz package") from e
    text = f"{caption}.  {REST}: {REST_MEANS}"
    return Digraph(
        name,
        graph_attr={
            "bgcolor": "#fcfcfd", "fontname": FONT, "fontsize": "9", "fontcolor": SOFT, "label": text,
            "newrank": "true", "nodesep": "0.2", "ranksep": "0.26", "pad": "0.1",
        },
        node_attr={
            "shape": "box", "style": "rounded,filled", "fillcolor": "white", "color": LINE, "fontname": FONT,
            "fontcolor": INK, "fontsize": "12", "width": "0.95", "height": "0.29", "margin": "0.08,0.02",
        },
        edge_attr={"fontname": FONT, "fontcolor": INK, "fontsize": "9.5", "color": SOFT, "arrowsize": "0.6"},
    )  # fmt: skip


class _Column:
    """One side: its handshake as a straight line downwards, and below it what may follow."""

    def __init__(self, table: CompleteTable, graph: Digraph, with_messages: bool) -> None:
        self.table = table
        self.graph = graph
        self.spine = handshake(table)
        self._with_messages = with_messages
        self._below: dict[State, list[Arrow]] = {}
        self._outer = "w" if table.side is Side.PRIMARY else "e"

    def node(self, state: State) -> str:
        return f"{self.table.side}_{state}"

    def draw(self, title: str) -> None:
        self.graph.attr(
            label=title, fontsize="15", fontcolor=INK, style="rounded,filled", color="#d3dee9",
            fillcolor=GROUND[self.table.side], margin="12",
        )  # fmt: skip
        for state in self.table.states:
            self._draw_state(state)
        for arrow in arrows(self.table):
            self._draw_arrow(arrow)
        _level(self.graph, *(self.node(s) for s in self.table.states if s in self.table.final))
        for dest, below in self._below.items():
            note = f"{self.node(dest)}_from"
            lines = [l for a in below for l in _lines(a, self._with_messages, f"in {among(a.sources, self.table.states)}")]
            self.graph.node(note, _html(lines), **PLAIN)
            color = FAULT if all(a.is_rest for a in below) else SOFT
            look = {"color": color} | ({"style": "dashed"} if all(a.is_rest for a in below) else {})
            self.graph.edge(self.node(dest), note, dir="back", weight="10", **look)

    def _draw_state(self, state: State) -> None:
        look = {"peripheries": "2"} if state in self.table.final else {}
        if state in self.spine:
            look |= {"group": self.node(self.spine[0])}
        self.graph.node(self.node(state), str(state), **look)

    def _draw_arrow(self, arrow: Arrow) -> None:
        ahead = [s for s in arrow.sources if not self._goes_back(s, arrow.dest)]
        for source in arrow.sources:
            if source not in ahead:
                self._draw_back(source, arrow.dest)
        if arrow.dest in self.spine:
            for source in ahead:
                self._edge(source, arrow, weight="50")
        elif len(ahead) == 1 and ahead[0] not in self.spine:
            self._edge(ahead[0], arrow)
        elif arrow.dest in self.table.final:
            self._below.setdefault(arrow.dest, []).append(arrow)
        elif ahead:
            self._draw_gathered(arrow)

    def _goes_back(self, source: State, dest: State) -> bool:
        return {source, dest} <= set(self.spine) and self.spine.index(dest) <= self.spine.index(source)

    def _edge(self, source: State, arrow: Arrow, **look: str) -> None:
        if arrow.is_rest:
            look |= {"style": "dashed", "color": FAULT}
        self.graph.edge(self.node(source), self.node(arrow.dest), self._label(arrow), **look)

    def _draw_gathered(self, arrow: Arrow) -> None:
        """From many states to one: a single edge, from a note that names them."""
        note = f"{self.node(arrow.dest)}_{len(arrow.sources)}_{'_'.join(map(str, arrow.triggers))}"
        names = among(arrow.sources, self.table.states)
        color = FAULT if arrow.is_rest else SOFT
        look = {"color": color} | ({"style": "dashed"} if arrow.is_rest else {})
        self.graph.node(note, self._label(arrow, f"in {names}"), shape="plaintext", style="", margin="0", fontsize="9.5")
        self.graph.edge(note, self.node(arrow.dest), **look)
        self.graph.edge(self.node(self.spine[-1]), note, style="invis", weight="3")

    def _draw_back(self, source: State, dest: State) -> None:
        """The way back to an earlier state, on the outer side, through a label at half its height."""
        note = f"{self.node(source)}_{dest}"
        between = self.spine[(self.spine.index(source) + self.spine.index(dest)) // 2]
        look = {"color": BACK, "penwidth": "1.2"}
        self.graph.node(note, NEXT.replace(" ", "\n"), **PLAIN, fontcolor=BACK, group=note)
        ends = f"{note}_down", f"{note}_up"
        for end in ends:
            self.graph.node(end, "", shape="point", width="0.01", height="0.01", color=BACK, group=note)
        self._beside(self.node(dest), ends[1], dir="back", **look)
        self._beside(self.node(source), ends[0], dir="none", **look)
        self._beside(self.node(between), note, style="invis")
        self.graph.edge(ends[1], note, dir="none", weight="20", **look)
        self.graph.edge(note, ends[0], dir="none", weight="20", **look)

    def _beside(self, state: str, other: str, dir: str = "none", **look: str) -> None:
        """Put `other` on the outer side of a state, at its height."""
        with self.graph.subgraph() as level:
            level.attr(rank="same")
            if self._outer == "w":
                level.edge(other, f"{state}:w", dir={"back": "forward"}.get(dir, dir), **look)
            else:
                level.edge(f"{state}:e", f"{other}:w", dir=dir, **look)

    def _label(self, arrow: Arrow, *more: str) -> str:
        return _html(_lines(arrow, self._with_messages, *more))


def _lines(arrow: Arrow, with_messages: bool, *more: str) -> Iterator[tuple[str, str]]:
    def shown(message: COLOMessage | None) -> bool:
        return with_messages or message is None

    triggers = " or ".join(said(t) for t in arrow.triggers if shown(t.message))
    effects = asked(e for e in arrow.effects if not isinstance(e, Send) or with_messages)
    if not with_messages and arrow.dest in (State.STOPPED,State.ENDED): effects=""
    if arrow.is_rest:
        yield REST, FAULT
    if triggers:
        yield triggers, INK
    for line in more:
        yield line, FAULT if arrow.is_rest else INK
    if effects:
        yield f"<I>{effects}</I>", SOFT


def _html(lines: Iterator[tuple[str, str]]) -> str:
    cells = "".join(
        f'<TR><TD ALIGN="LEFT"><FONT COLOR="{color}">{text}</FONT></TD></TR>' for text, color in lines
    )
    return f'<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="1">{cells}</TABLE>>' if cells else ""


def _level(graph: Digraph, *nodes: str) -> None:
    with graph.subgraph() as level:
        level.attr(rank="same")
        for node in nodes:
            level.node(node)


def _draw_crossing(graph: Digraph, crossing: Crossing, columns: list[_Column]) -> None:
    left, right = columns
    name = crossing.message.text
    look = {"color": WIRE, "penwidth": "1.6", "arrowsize": "0.75"}
    with graph.subgraph(name="cluster_wire") as wire:
        wire.attr(peripheries="0", label="")
        wire.node(name, f"<<B>{escape(name)}</B>>", shape="plaintext", style="", fontcolor=WIRE, group="wire", fontsize="11")
    _level(graph, left.node(crossing.end(Side.PRIMARY)), name, right.node(crossing.end(Side.SECONDARY)))
    to_right = crossing.sender is Side.PRIMARY
    graph.edge(left.node(crossing.end(Side.PRIMARY)), name, dir="none" if to_right else "back", **look)
    graph.edge(name, right.node(crossing.end(Side.SECONDARY)), dir="forward" if to_right else "none", **look)
    for column in columns:
        above = column.spine.index(crossing.end(column.table.side)) - 1
        if above >= 0:
            graph.edge(column.node(column.spine[above]), name, style="invis", weight="0")
