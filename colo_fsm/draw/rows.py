"""A machine of plain rows as pictures: where it begins is on top, what runs on the right."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

from colo_fsm.fsm import Side

from .dot import BACK, FONT, GROUND, HIDDEN, INK, LINE, PLAIN, SMALL, SOFT
from .renderer import new_digraph

if TYPE_CHECKING:
    from graphviz import Digraph

Row = tuple[str, str, str]
"""Source, trigger and end: words without blanks."""


@attrs.frozen
class Rows:
    """What is drawn: the rows, the state of the beginning, and the states in which something runs."""

    title: str
    rows: Sequence[Row]
    initial: str
    runs: Collection[str]

    @property
    def states(self) -> tuple[str, ...]:
        """All of them, that of the beginning first, the others as the rows name them."""
        named = (state for source, _, dest in self.rows for state in (source, dest))
        return tuple(dict.fromkeys((self.initial, *named)))

    @property
    def everywhere(self) -> tuple[tuple[str, str], ...]:
        """Trigger and end of the rows that every other state has, if they are many: drawn as one."""
        ends = dict.fromkeys((trigger, dest) for _, trigger, dest in self.rows)
        sources = {end: {row[0] for row in self.rows if row[1:] == end} for end in ends}
        return tuple(
            end for end in ends if len(sources[end]) > 2 and sources[end] == {*self.states} - {end[1]}
        )

    @property
    def first_level(self) -> list[str]:
        """The states that follow that of the beginning: first those from which one only comes back to it."""
        after = {dest for source, dest in self.arrows if source == self.initial} - {self.initial}
        onward = {source for source, dest in self.arrows if dest != self.initial}
        return sorted(after, key=lambda s: (s in self.runs, s in onward, self.states.index(s)))

    @property
    def arrows(self) -> dict[tuple[str, str], list[str]]:
        """The triggers from one state to another, of all other rows."""
        found: dict[tuple[str, str], list[str]] = {}
        for source, trigger, dest in self.rows:
            if (trigger, dest) not in self.everywhere:
                found.setdefault((source, dest), []).append(trigger)
        return found


def markdown(drawn: Rows) -> str:
    """The rows as a Markdown table."""
    lines = [f"# {drawn.title}\n", f"First: {drawn.initial}.\n", "| in | on | to |", "|---|---|---|"]
    lines += [f"| {s} | {' or '.join(map(_said, on))} | {d} |" for (s, d), on in drawn.arrows.items()]
    lines += [f"| every other | {_said(trigger)} | {dest} |" for trigger, dest in drawn.everywhere]
    return "\n".join(lines) + "\n"


def mermaid(drawn: Rows) -> str:
    """The machine as a `stateDiagram-v2`."""
    lines = [f"%% {drawn.title}", "stateDiagram-v2", f"    [*] --> {drawn.initial}"]
    lines += [f"    {s} --> {d} : {' or '.join(map(_said, on))}" for (s, d), on in drawn.arrows.items()]
    if drawn.everywhere:
        lines.append('    state "every other state" as every_other')
    lines += [f"    every_other --> {dest} : {_said(trigger)}" for trigger, dest in drawn.everywhere]
    return "\n".join(lines) + "\n"


def dot(drawn: Rows) -> str:
    """The machine as DOT. Raises DrawError without the `graphviz` package."""
    graph = new_digraph(
        "machine",
        graph={
            "bgcolor": "#fcfcfd", "fontname": FONT, "fontsize": "9", "fontcolor": SOFT, "newrank": "true",
            "label": f"{drawn.title}. On green its guest runs.", "nodesep": "0.5", "ranksep": "0.6",
            "pad": "0.1",
        },
        node={
            "shape": "box", "style": "rounded,filled", "fillcolor": "white", "color": LINE, "width": "0.95",
            "height": "0.29", "margin": "0.08,0.02", "fontname": FONT, "fontcolor": INK, "fontsize": "12",
        },
        edge={"fontname": FONT, "fontcolor": INK, "fontsize": SMALL, "color": SOFT, "arrowsize": "0.6"},
    )  # fmt: skip
    for state in drawn.states:
        graph.node(state, state, **({"penwidth": "2"} if state == drawn.initial else {}))
    with graph.subgraph(name="cluster_runs") as cluster:
        cluster.attr(
            style="rounded,filled", fillcolor=GROUND[Side.SECONDARY], color="#d3dee9", margin="18", label=""
        )
        for state in drawn.runs:
            cluster.node(state)
    with graph.subgraph() as level:
        level.attr(rank="same")
        for here, beside in pairwise(drawn.first_level):
            level.edge(here, beside, **HIDDEN)
    _draw_everywhere(graph, drawn)
    _draw_arrows(graph, drawn)
    return str(graph.source)


def _draw_everywhere(graph: Digraph, drawn: Rows) -> None:
    """Below on the left, each end beside a note that says what leads to it."""
    for trigger, dest in drawn.everywhere:
        note = f"every_{trigger}"
        graph.node(note, _lines([_said(trigger), "in every other state"]), **PLAIN)
        with graph.subgraph() as level:
            level.attr(rank="same")
            level.edge(dest, note, dir="back")
        graph.edge((drawn.first_level or [drawn.initial])[0], dest, **HIDDEN)


def _draw_arrows(graph: Digraph, drawn: Rows) -> None:
    """What leads back to the beginning is laid out as if it led down: the beginning stays on top."""
    for (source, dest), triggers in drawn.arrows.items():
        words = _lines(map(_said, triggers))
        if dest != drawn.initial:
            graph.edge(source, dest, words)
        elif source == dest:
            graph.edge(source, dest, words, tailport="ne", headport="nw")
        else:
            graph.edge(dest, source, words, dir="back", color=BACK)


def _said(trigger: str) -> str:
    return trigger.replace("_", " ")


def _lines(words: Iterable[str]) -> str:
    cells = "".join(f'<TR><TD ALIGN="LEFT">&#160;{escape(word)}</TD></TR>' for word in words)
    return f'<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="1">{cells}</TABLE>>'
