"""Machines of inputs and answers, side by side and drawn alike, with what differs in red."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

import attrs

from colo_fsm.fsm import Side

from .arrows import REST
from .dot import FAULT, FONT, GROUND, HIDDEN, INK, LINE, PLAIN, SMALL, SOFT, html, italic
from .exchange_dot import WRONG
from .renderer import new_digraph

if TYPE_CHECKING:
    from graphviz import Digraph

LEGEND = "Upright: what is given. Italic: what is answered. Red: where they differ."
MANY = 4
"""Inputs, more than which are told by those that they are not."""


@attrs.frozen
class Step:
    """On `given`, a machine in `source` answers, and is in `dest`. `wrong`: the other machine does not."""

    source: str
    given: str
    answer: str
    dest: str
    wrong: bool = False


@attrs.frozen
class Answers:
    """A machine that takes `inputs`. `states`: that of the beginning, where it has said `first`, comes first.

    On everything that no step is about it gives the answer `rest`, and is in the state `end`, if there is
    one. `wrong`: states that the other machine has not.
    """

    title: str
    inputs: Sequence[str]
    states: Sequence[str]
    first: str
    steps: Sequence[Step]
    rest: str
    end: str | None
    wrong: Collection[str] = ()

    @property
    def arrows(self) -> dict[tuple[str, str, bool], dict[str, list[str]]]:
        """From where to where, and whether it is wrong: each answer with what is given for it."""
        found: dict[tuple[str, str, bool], dict[str, list[str]]] = {}
        for step in self.steps:
            answers = found.setdefault((step.source, step.dest, step.wrong), {})
            answers.setdefault(step.answer, []).append(step.given)
        return found

    def lines(self, given: Sequence[str], answer: str, wrong: bool) -> Iterator[tuple[str, str]]:
        """What an arrow says, each line with its colour: the inputs, then the answer to each of them."""
        others = [text for text in self.inputs if text not in given]
        few, link = (others, "and") if MANY < len(given) > len(others) else (list(given), "or")
        if few is others:
            yield ("all but" if others else "anything"), WRONG if wrong else INK
        for number, text in enumerate(few):
            yield escape(f"{link} {text}" if number else text), WRONG if wrong else INK
        for text in answer.split(", "):
            yield italic(text), WRONG if wrong else SOFT


def dot(machines: Sequence[Answers], caption: str) -> str:
    """The machines as DOT, the first one on the left. Raises DrawError without the `graphviz` package."""
    graph = new_digraph(
        "answers",
        graph={
            "bgcolor": "#fcfcfd", "fontname": FONT, "fontsize": "9", "fontcolor": SOFT,
            "label": f"{caption}\n{LEGEND}", "nodesep": "0.3", "ranksep": "0.35", "pad": "0.1",
        },
        node={
            "shape": "box", "style": "rounded,filled", "fillcolor": "white", "color": LINE, "width": "0.95",
            "height": "0.29", "margin": "0.08,0.02", "fontname": FONT, "fontcolor": INK, "fontsize": "12",
        },
        edge={"fontname": FONT, "fontcolor": INK, "fontsize": SMALL, "color": SOFT, "arrowsize": "0.6"},
    )  # fmt: skip
    for number, machine in enumerate(machines):
        with graph.subgraph(name=f"cluster_{number}") as cluster:
            cluster.attr(
                label=machine.title, fontsize="15", fontcolor=INK, style="rounded,filled",
                color="#d3dee9", fillcolor=GROUND[[*Side][number % 2]], margin="16",
            )  # fmt: skip
            _draw(cluster, machine, f"{number} ")
    return str(graph.source)


def _draw(graph: Digraph, machine: Answers, prefix: str) -> None:
    """One below the other, so that machines that are alike look alike; the end with its note stands last."""
    for state in machine.states:
        look = {"color": WRONG, "fontcolor": WRONG} if state in machine.wrong else {}
        graph.node(prefix + state, state, **look, **({"peripheries": "2"} if state == machine.end else {}))
    start, rest = f"{prefix}start", f"{prefix}rest"
    look = {"shape": "circle", "width": "0.09", "height": "0.09", "fillcolor": SOFT, "color": SOFT}
    graph.node(start, "", **look)
    graph.edge(start, prefix + machine.states[0], html(_wide([(italic(machine.first), SOFT)])))
    for (source, dest, wrong), answers in machine.arrows.items():
        look = {"color": WRONG, "penwidth": "1.6"} if wrong else {}
        lines = [line for answer, given in answers.items() for line in machine.lines(given, answer, wrong)]
        graph.edge(prefix + source, prefix + dest, html(_wide(lines)), **look)
    column = [prefix + state for state in machine.states if state != machine.end]
    if machine.end is not None:
        lines = [(f"{REST}, in any state", FAULT), (italic(machine.rest), SOFT)]
        graph.node(rest, html(_wide(lines)), **PLAIN)
        graph.edge(rest, prefix + machine.end, color=FAULT, style="dashed")
        column.append(rest)
    for here, below in pairwise(column):
        graph.edge(here, below, weight="10", **HIDDEN)


def _wide(lines: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Lines of markup with room for a font that is wider than the one that Graphviz reckons with."""
    return [(text + "&#160;" * (len(text) // 4), color) for text, color in lines]
