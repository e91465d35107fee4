"""A machine of plain rows as pictures: every row is there, and the picture is as it is said to be."""

from __future__ import annotations

import re
from html import unescape

import pygraphviz
import pytest

from colo_fsm import draw
from colo_fsm.membership.machine import ROWS, S

MEMBER = draw.pictures()["member"]
LAMP = draw.machine(
    "A lamp", [("off", "push", "on"), ("on", "push", "off"), ("on", "hold", "on")], "off", ("on",)
)


class Layout:
    """The picture as Graphviz lays it out; an arrow is (source, end, triggers)."""

    def __init__(self, dot: str) -> None:
        graph = pygraphviz.AGraph(string=dot)
        graph.layout(prog="dot")
        self.place = {str(n): tuple(map(float, n.attr["pos"].split(","))) for n in graph.nodes()}
        self.said = {str(n): _words(n.attr["label"]) for n in graph.nodes()}
        self.arrows = [
            ((e[1], e[0]) if e.attr["dir"] == "back" else (e[0], e[1]), _words(e.attr["label"]))
            for e in graph.edges()
            if e.attr["style"] != "invis"
        ]
        graph.close()


def _words(label: str | None) -> list[str]:
    return [unescape(cell).strip() for cell in re.findall(r"<TD[^>]*>(.*?)</TD>", label or "")]


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(MEMBER.dot)


def test_every_row_is_an_arrow_or_in_the_one_that_stands_for_every_state(layout: Layout) -> None:
    drawn = {
        (source, word.replace(" ", "_"), dest) for (source, dest), words in layout.arrows for word in words
    }
    assert drawn == {tuple(row) for row in ROWS if row.dest is not S.ENDED}
    assert len(layout.arrows) == len({(row.source, row.dest) for row in ROWS if row.dest is not S.ENDED}) + 1
    assert [ends for ends, words in layout.arrows if not words] == [("every_leave", "ended")]
    assert layout.said["every_leave"] == ["leave", "in every other state"]


def test_it_begins_on_top_and_what_runs_is_on_the_right(layout: Layout) -> None:
    place = layout.place
    assert all(place["looking"][1] > y for state, (_, y) in place.items() if state != "looking")
    still = [place[state][0] for state in S if state not in (S.ALONE, S.PRIMARY)]
    assert min(place[S.ALONE][0], place[S.PRIMARY][0]) > max(still)


def test_what_one_state_lacks_is_not_said_of_every_state() -> None:
    lamp = Layout(LAMP.dot)
    assert sorted(lamp.arrows) == [
        (("off", "on"), ["push"]),
        (("on", "off"), ["push"]),
        (("on", "on"), ["hold"]),
    ]
    assert "other" not in LAMP.mermaid


def test_as_text() -> None:
    assert LAMP.mermaid == (
        "%% A lamp\nstateDiagram-v2\n    [*] --> off\n"
        "    off --> on : push\n    on --> off : push\n    on --> on : hold\n"
    )
    rows = ["| off | push | on |", "| on | push | off |", "| on | hold | on |"]
    table = ["| in | on | to |", "|---|---|---|", *rows]
    assert LAMP.to("markdown").decode().splitlines() == ["# A lamp", "", "First: off.", "", *table]
    assert "    every_other --> ended : leave\n" in MEMBER.mermaid
    assert "| every other | leave | ended |\n" in MEMBER.to("markdown").decode()
