"""Pictures as DOT, the text that Graphviz reads.

A side is a column: its handshake as a straight line downwards, then what may follow a break. A pair is two
columns and the messages between them. What both reach with a message stands at one height, and so do their
beginnings, their breaks and their ends; else a side may have states of its own.

An arrow out of the handshake starts at a note that names its states, above its end, or below it where
nothing follows: lines from seven states to one would cover the rest. The invisible edges hold that shape;
Graphviz sorts what stands at one height by the edges that come from above.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from html import escape
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from colo_fsm.fsm import CompleteTable, Message, Send, Side

from .arrows import (
    NEXT,
    REST,
    REST_MEANS,
    Arrow,
    Crossing,
    among,
    arrows,
    asked,
    crossings,
    handshake,
    said,
    titled,
)
from .renderer import new_digraph

if TYPE_CHECKING:
    from graphviz import Digraph

INK, SOFT, LINE = "#1f2933", "#52667a", "#7b8da0"
WIRE, BACK, FAULT = "#1d4f91", "#3f78b5", "#b5473c"
GROUND = {Side.PRIMARY: "#eaf2fb", Side.SECONDARY: "#ebf6ee"}
"""A picture brings its own light ground: GitHub's dark page would show through a transparent one."""

FONT = "Helvetica,Arial,sans-serif"
SMALL = "9.5"
PLAIN = {"shape": "plaintext", "style": "", "fontsize": SMALL, "width": "0", "margin": "0"}
MESSAGE = {"fontsize": "11", "fontcolor": WIRE, "margin": "0.08,0"}
HIDDEN = {"style": "invis"}


def side(table: CompleteTable) -> str:
    """One side's machine: every written row, with its trigger and its effects."""
    graph = _digraph(str(table.side), titled(table, table.side.title()))
    with graph.subgraph(name=f"cluster_{table.side}") as cluster:
        _Column(table, cluster, None).draw()
    return str(graph.source)


def pair(primary: CompleteTable, secondary: CompleteTable) -> str:
    """Both machines, the Primary on the left, and the messages that pass between them.

    An arrow between the columns is a message of the handshake, so it is not written again on the transition
    that sends or receives it; of the effects on the way into a final state, the pictures of a side have all.
    """
    graph = _digraph("pair", titled(primary))
    passing = crossings(primary, secondary)
    crossed = frozenset(crossing.message for crossing in passing)
    columns = []
    for table in (primary, secondary):
        with graph.subgraph(name=f"cluster_{table.side}") as cluster:
            columns.append(_Column(table, cluster, crossed))
            columns[-1].draw()
    left, right = columns
    for roles in zip(*map(_roles, columns), strict=True):
        _level(graph, *chain.from_iterable(roles))
    for crossing in passing:
        _draw_crossing(graph, crossing, left, right)
    _fix_order(graph, [left.start], [c.message.text for c in passing], [right.start])
    return str(graph.source)


def _roles(column: _Column) -> tuple[list[str], ...]:
    """The nodes whose heights do not follow from a message: where it begins, breaks, goes on alone, ends."""
    table = column.table
    roles = ({table.initial}, {table.failover}, table.alone, table.final)
    return tuple([column.node(state) for state in table.states if state in role] for role in roles)


class _Column:
    """One side in its cluster. `crossed`: the messages that are arrows between two columns; None if alone."""

    def __init__(self, table: CompleteTable, cluster: Digraph, crossed: frozenset[Message] | None) -> None:
        self.table = table
        self.spine = handshake(table)
        self.start = f"{table.side}_start"
        self._cluster = cluster
        self._crossed = crossed
        self._outer = "w" if table.side is Side.PRIMARY else "e"

    def node(self, state: StrEnum) -> str:
        return f"{self.table.side}_{state.name.lower()}"

    def draw(self) -> None:
        self._cluster.attr(
            label=self.table.side.title(), fontsize="15", fontcolor=INK, style="rounded,filled",
            color="#d3dee9", fillcolor=GROUND[self.table.side], margin="16",
        )  # fmt: skip
        drawn = arrows(self.table)
        broken = {a.dest for a in drawn if a.is_rest} - self.table.final
        for state in self.table.states:
            self._draw_state(state, state in broken)
        self._draw_start()
        last: dict[StrEnum, list[Arrow]] = {}
        for arrow in drawn:
            if arrow.dest in self.spine:
                self._draw_step(arrow)
            elif len(arrow.sources) == 1 and arrow.sources[0] not in self.spine:
                self._edge(arrow.sources[0], arrow)
            elif arrow.dest in self.table.final:
                last.setdefault(arrow.dest, []).append(arrow)
            else:
                self._draw_from_above(arrow)
        for dest, into in last.items():
            self._draw_from_below(dest, into)
        _level(self._cluster, *(self.node(s) for s in self.table.states if s in self.table.final))

    def _draw_state(self, state: StrEnum, broken: bool) -> None:
        look = {}
        if state in self.table.final:
            look["peripheries"] = "2"
        if state in self.spine:
            look["group"] = f"{self.table.side}_spine"
        if broken:
            look |= {"fillcolor": "#fdf1ef", "color": "#cf9089"}
        self._cluster.node(self.node(state), str(state), **look)

    def _draw_start(self) -> None:
        look = {"shape": "circle", "width": "0.09", "height": "0.09", "fillcolor": SOFT, "color": SOFT}
        self._cluster.node(self.start, "", **look, group=f"{self.table.side}_spine")
        label = html([(italic(asked(self.table.start)), SOFT)] if self.table.start else [])
        self._cluster.edge(self.start, self.node(self.table.initial), label, weight="50")

    def _draw_step(self, arrow: Arrow) -> None:
        """Into a state of the handshake. What comes from further down goes round on the outer side."""
        back = [s for s in arrow.sources if s in self.spine and self._steps(s, arrow.dest) < -1]
        for source in arrow.sources:
            if source not in back:
                self._edge(source, arrow, weight="50")
        for source in back:
            self._draw_back(source, arrow, alone=back == list(arrow.sources))

    def _steps(self, source: StrEnum, dest: StrEnum) -> int:
        return self.spine.index(dest) - self.spine.index(source)

    def _draw_back(self, source: StrEnum, arrow: Arrow, alone: bool) -> None:
        note = f"{self.node(source)}_to_{arrow.dest.name.lower()}"
        lines = list(self._lines(arrow)) if alone else [(word, BACK) for word in NEXT.split()]
        look = {"color": BACK, "penwidth": "1.2"}
        self._cluster.node(note, html(lines, align="CENTER"), **PLAIN, group=note)
        between = self.spine[self.spine.index(source) + self._steps(source, arrow.dest) // 2]
        self._beside(between, note, HIDDEN)
        for state, corner, head in ((arrow.dest, f"{note}_up", True), (source, f"{note}_down", False)):
            self._cluster.node(corner, "", shape="point", width="0.01", height="0.01", color=BACK, group=note)
            self._beside(state, corner, look, arrow=head)
        self._cluster.edge(f"{note}_up", note, dir="none", weight="20", **look)
        self._cluster.edge(note, f"{note}_down", dir="none", weight="20", **look)

    def _beside(self, state: StrEnum, outside: str, look: Mapping[str, str], arrow: bool = False) -> None:
        """Join a state to what stands on its outer side, at its height; an arrow leads to the state."""
        with self._cluster.subgraph() as level:
            level.attr(rank="same")
            if self._outer == "w":
                level.edge(outside, f"{self.node(state)}:w", dir="forward" if arrow else "none", **look)
            else:
                level.edge(f"{self.node(state)}:e", f"{outside}:w", dir="back" if arrow else "none", **look)

    def _draw_from_above(self, arrow: Arrow) -> None:
        note = self._note(arrow)
        self._cluster.node(note, html(self._noted(arrow)), **PLAIN)
        self._cluster.edge(note, self.node(arrow.dest), minlen="2", **_line([arrow]))
        self._cluster.edge(self.node(self.spine[-1]), note, weight="3", **HIDDEN)

    def _draw_from_below(self, dest: StrEnum, into: list[Arrow]) -> None:
        note = self._note(into[0])
        self._cluster.node(note, html([line for a in into for line in self._noted(a)]), **PLAIN)
        self._cluster.edge(self.node(dest), note, dir="back", weight="10", **_line(into))

    def _edge(self, source: StrEnum, arrow: Arrow, **look: str) -> None:
        label = html(self._lines(arrow))
        self._cluster.edge(self.node(source), self.node(arrow.dest), label, **_line([arrow]), **look)

    def _note(self, arrow: Arrow) -> str:
        why = "_or_".join(map(str, arrow.triggers)) or "else"
        return f"{self.node(arrow.sources[0])}_{why}_to_{arrow.dest.name.lower()}"

    def _noted(self, arrow: Arrow) -> Iterator[tuple[str, str]]:
        yield from self._causes(arrow)
        yield escape(f"in {among(arrow.sources, self.table.states)}"), FAULT if arrow.is_rest else INK
        yield from self._orders(arrow)

    def _lines(self, arrow: Arrow) -> Iterator[tuple[str, str]]:
        """What an arrow says, each line with its colour: the triggers, then the effects."""
        yield from self._causes(arrow)
        yield from self._orders(arrow)

    def _causes(self, arrow: Arrow) -> Iterator[tuple[str, str]]:
        if arrow.is_rest:
            yield REST, FAULT
        triggers = [said(t) for t in arrow.triggers if not self._is_drawn(t.message, arrow)]
        for i, trigger in enumerate(triggers):
            yield escape(f"or {trigger}" if i else trigger), INK

    def _orders(self, arrow: Arrow) -> Iterator[tuple[str, str]]:
        ends = self._crossed is not None and arrow.dest in self.table.final
        effects = [
            e
            for e in arrow.effects
            if (not self._is_drawn(e.message, arrow) if isinstance(e, Send) else not ends)
        ]
        if effects:
            yield italic(asked(effects)), SOFT

    def _is_drawn(self, message: Message | None, arrow: Arrow) -> bool:
        """Whether an arrow between the columns says it."""
        return self._crossed is not None and message in self._crossed and arrow.dest in self.spine


def _digraph(name: str, title: str) -> Digraph:
    legend = "Upright: what is waited for. Italic: what is then done."
    caption = f"{title}. {legend}\n{REST}: {REST_MEANS}"
    return new_digraph(
        name,
        graph={
            "bgcolor": "#fcfcfd", "fontname": FONT, "fontsize": "9", "fontcolor": SOFT, "label": caption,
            "newrank": "true", "nodesep": "0.2", "ranksep": "0.26", "pad": "0.1",
        },
        node={
            "shape": "box", "style": "rounded,filled", "fillcolor": "white", "color": LINE, "width": "0.95",
            "height": "0.29", "margin": "0.08,0.02", "fontname": FONT, "fontcolor": INK, "fontsize": "12",
        },
        edge={"fontname": FONT, "fontcolor": INK, "fontsize": SMALL, "color": SOFT, "arrowsize": "0.6"},
    )  # fmt: skip


def _draw_crossing(graph: Digraph, crossing: Crossing, left: _Column, right: _Column) -> None:
    name = crossing.message.text
    look = {"color": WIRE, "penwidth": "1.6", "arrowsize": "0.75"}
    with graph.subgraph(name="cluster_wire") as wire:
        wire.attr(peripheries="0", label="")
        text = f"<<B>{escape(name)}</B>>"
        wire.node(name, text, **PLAIN | MESSAGE, group="wire")
    outward, inward = [[column.node(s) for s in crossing.ends[column.table.side]] for column in (left, right)]
    _level(graph, name, outward[0], inward[0])
    rightward = crossing.sender is Side.PRIMARY
    for node in outward:
        graph.edge(node, name, dir="none" if rightward else "back", **look)
    for node in inward:
        graph.edge(name, node, dir="forward" if rightward else "none", **look)


def _fix_order(graph: Digraph, *columns: list[str]) -> None:
    """Keep the columns in this order: an invisible head for each, side by side, and a line down from it."""
    heads = [f"column_{i}" for i in range(len(columns))]
    with graph.subgraph() as level:
        level.attr(rank="min")
        for head in heads:
            level.node(head, "", shape="point", width="0.01", height="0.01", **HIDDEN)
        for here, beside in pairwise(heads):
            level.edge(here, beside, **HIDDEN)
    for head, column in zip(heads, columns, strict=True):
        for above, below in pairwise([head, *column]):
            graph.edge(above, below, weight="0", **HIDDEN)


def _level(graph: Digraph, *nodes: str) -> None:
    with graph.subgraph() as level:
        level.attr(rank="same")
        for node in nodes:
            level.node(node)


def _line(drawn: list[Arrow]) -> dict[str, str]:
    return {"style": "dashed", "color": FAULT} if all(a.is_rest for a in drawn) else {}


def italic(text: str) -> str:
    return f"<I>{escape(text)}</I>"


def html(lines: Iterable[tuple[str, str]], align: str = "LEFT") -> str:
    """Lines of markup with their colours, as a label; what is left-aligned keeps clear of its line."""
    space = "&#160;" if align == "LEFT" else ""
    cells = "".join(
        f'<TR><TD ALIGN="{align}"><FONT COLOR="{color}">{space}{text}</FONT></TD></TR>'
        for text, color in lines
    )
    return f'<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="1">{cells}</TABLE>>' if cells else ""
