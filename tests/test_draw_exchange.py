"""Exchanges as sequence diagrams: every step in its place, in every format, whatever its words are."""

from __future__ import annotations

import re
import sys
from hashlib import sha256
from html import unescape
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pygraphviz
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colo_fsm import draw
from colo_fsm.draw import Exchange, Moment, Tone
from colo_fsm.draw.moment import balanced, wrapped
from colo_fsm.fsm import Side

P, S = Side.PRIMARY, Side.SECONDARY
SHORT = Exchange(
    "At most one side runs: broken in 5 steps",
    (
        Moment(P, "begins a checkpoint", ("checkpoint-request",)),
        Moment(S, "reads checkpoint-request → requested: suspend"),
        Moment(None, "the link breaks", tone=Tone.FAULT),
        Moment(S, "save done → sized", ("vmstate-send", "vmstate-size")),
        Moment(P, "claim won → alone: resume", tone=Tone.WRONG),
    ),
)
LONG = Exchange(
    "The Secondary never runs what the Primary has not let out, whatever the arbiter does " * 2,
    tuple(
        moment
        for number in range(8)
        for moment in (
            *SHORT.moments[:4],
            Moment(P, f"round {number} has a note of many words, " * 6, tuple("abcd")),
            Moment(None, f"the operator orders failover {number}, at length, " * 5),
            Moment(S, "0x" + "f" * 200, ("a-message-with-a-name-too-long-for-the-gap",) * 2),
        )
    ),
)
ODD = 'a;b #c <i>&amp; %%{init: {}}%% $$x$$ style:#y \\N \\l "q" \'\n  end\x00\tΩ '
ODD_SHOWN = 'a;b #c <i>&amp; %%{init: {}}%% $$x$$ style:#y \\N \\l "q" \' end Ω'

both = pytest.mark.parametrize("exchange", [SHORT, LONG], ids=["short", "long"])
words = st.text(st.characters(), max_size=60)
moments = st.builds(
    Moment,
    st.sampled_from(Side),
    words,
    st.lists(words, max_size=3).map(tuple),
    st.sampled_from(Tone),
) | st.builds(Moment, st.none(), words, tone=st.sampled_from(Tone))  # fmt: skip
exchanges = st.builds(Exchange, words, st.lists(moments, max_size=4).map(tuple))


class Layout:
    """The picture as Graphviz lays it out: what each node says, and the box that it takes."""

    def __init__(self, exchange: Exchange) -> None:
        graph = pygraphviz.AGraph(string=exchange.dot)
        graph.layout(prog="dot")
        self.nodes = {str(node): node for node in graph.nodes()}
        self.graph = graph
        self.arrows = [(str(e[0]), str(e[1]), e.attr["dir"] or "forward") for e in graph.edges()]

    def text(self, name: str) -> str:
        label = re.sub(r"<BR/>|\\[ln]", " ", re.sub("</?B>", "", self._label(name)))
        return unescape(label.replace("\\\\", "\\")).strip()

    def box(self, name: str) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        x, y = (float(v) for v in self.nodes[name].attr["pos"].split(","))
        width, height = (float(self.nodes[name].attr[size]) * 72 for size in ("width", "height"))
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2

    def middle(self, name: str) -> tuple[float, float]:
        left, bottom, right, top = self.box(name)
        return (left + right) / 2, (bottom + top) / 2

    def color(self, name: str) -> str:
        return str(self.nodes[name].attr["fillcolor"])

    def _label(self, name: str) -> str:
        return str(self.nodes[name].attr["label"] or "")


def _shown(text: str) -> str:
    """A text on one line, as the pictures show it."""
    return " ".join(text.split())


@both
def test_text_is_a_numbered_list_in_columns(exchange: Exchange) -> None:
    title, body = exchange.text.split("\n\n")[:2]
    assert _shown(title) == _shown(exchange.title)
    lines = body.splitlines()
    start = re.match(r"\S? +\d+ +\w+ +", lines[0])
    assert start is not None
    firsts = [i for i, line in enumerate(lines) if line[: start.end()].strip()]
    assert len(firsts) == len(exchange.moments)
    arrow = lines[0].index("  → checkpoint-request")
    for number, (moment, i, end) in enumerate(
        zip(exchange.moments, firsts, [*firsts[1:], len(lines)], strict=True), 1
    ):
        mark = {Tone.STEP: [], Tone.FAULT: ["↯"], Tone.WRONG: ["✗"]}[moment.tone]
        assert lines[i][: start.end()].split() == [*mark, str(number), moment.actor or "world"]
        said = "".join(line[start.end() : arrow] for line in lines[i:end])
        assert "".join(said.split()) == "".join(moment.text.split())
        assert lines[i][arrow:].strip() == (f"→ {', '.join(moment.sends)}" if moment.sends else "")


def test_text_says_what_its_marks_mean() -> None:
    assert SHORT.text.endswith("\n\n↯ a fault of the environment   ✗ the step that breaks the property\n")
    assert "↯" not in Exchange("t", SHORT.moments[:2]).text


@both
def test_mermaid_has_every_moment_and_message_in_order(exchange: Exchange) -> None:
    first, title, *participants_and_steps = (line.strip() for line in exchange.mermaid.splitlines())
    assert (first, title) == ("sequenceDiagram", f"title {_shown(exchange.title)}")
    assert participants_and_steps[:2] == [
        "participant primary as Primary",
        "participant secondary as Secondary",
    ]
    assert _without_breaks(participants_and_steps[2:]) == _without_breaks(_expected(exchange))


def _without_breaks(lines: list[str]) -> list[str]:
    return [re.sub(r"<br/>|\s", "", line) for line in lines]


def _expected(exchange: Exchange) -> list[str]:
    places = {P: "left of primary", S: "right of secondary", None: "over primary,secondary"}
    lines = []
    for number, m in enumerate(exchange.moments, 1):
        mark = {Tone.STEP: "", Tone.FAULT: "↯ ", Tone.WRONG: "✗ "}[m.tone]
        step = [f"Note {places[m.actor]}: {mark}{number}. {m.text}"]
        step += [f"{m.actor}->>{m.actor.peer}: {name}" for name in m.sends if m.actor]
        rect = {Tone.FAULT: "rect rgba(181, 71, 60, 0.15)", Tone.WRONG: "rect rgba(181, 71, 60, 0.5)"}
        lines += [rect[m.tone], *step, "end"] if m.tone in rect else step
    return lines


def test_mermaid_gets_nothing_that_it_would_not_take_as_text() -> None:
    lines = Exchange(ODD, (Moment(P, ODD, (ODD,)),)).mermaid.splitlines()
    assert len(lines) == 6
    for line, start in (
        (lines[1], "title "),
        (lines[4], "Note left of primary: 1. "),
        (lines[5], "primary->>secondary: "),
    ):
        said = line.strip().removeprefix(start).replace("<br/>", " ")
        assert re.sub(r"#\d+;", "", said).translate(dict.fromkeys(map(ord, "#;<>&%$"))) == re.sub(
            r"#\d+;", "", said
        )
        assert not re.search(r":\S*#", said)
        shown = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), said)
        assert shown.replace(" ", "") == ODD_SHOWN.replace(" ", "")


def test_mermaid_without_a_title_has_no_title_line() -> None:
    assert "title" not in Exchange(" \n", ()).mermaid


@both
def test_the_picture_has_every_moment_on_its_side_from_the_top(exchange: Exchange) -> None:
    layout = Layout(exchange)
    assert layout.text("title") == _shown(exchange.title)
    left, right = (layout.middle(f"lifeline_{side}")[0] for side in Side)
    assert left < right
    assert layout.text("primary") == "Primary"
    assert layout.middle("primary")[0] < left
    above = layout.middle("primary")[1]
    for number, moment in enumerate(exchange.moments, 1):
        said = layout.text(f"step_{number}").lstrip("↯✗ ")
        assert said.replace(" ", "") == "".join(moment.text.split())
        y = layout.middle(f"step_{number}")[1]
        assert y < above
        above = y
        box = layout.box(f"step_{number}")
        match moment.actor:
            case Side.PRIMARY:
                assert box[2] < left
            case Side.SECONDARY:
                assert box[0] > right
            case None:
                assert box[0] < left < right < box[2]
        number_x, number_y = layout.middle(f"number_{number}")
        assert number_y == pytest.approx(y)
        assert layout.text(f"number_{number}") == str(number)
        if moment.actor:
            assert number_x == pytest.approx(layout.middle(f"lifeline_{moment.actor}")[0])


@both
def test_the_picture_has_every_message_as_a_level_arrow_to_the_peer(exchange: Exchange) -> None:
    layout = Layout(exchange)
    heights = []
    for number, moment in enumerate(exchange.moments, 1):
        for i, name in enumerate(moment.sends, 1):
            label = f"message_{number}_{i}"
            assert layout.text(label).replace(" ", "") == name
            [(start, _, plain)] = [a for a in layout.arrows if a[1] == label]
            [(_, end, pointed)] = [a for a in layout.arrows if a[0] == label]
            assert (plain, pointed) == ("none", "forward")
            (x, y), (end_x, end_y) = layout.middle(start), layout.middle(end)
            assert moment.actor is not None
            assert x == pytest.approx(layout.middle(f"lifeline_{moment.actor}")[0])
            assert end_x == pytest.approx(layout.middle(f"lifeline_{moment.actor.peer}")[0])
            assert y == pytest.approx(end_y, abs=0.5)
            assert layout.middle(label)[1] == pytest.approx(y, abs=0.5)
            heights.append(y)
    assert heights == sorted(heights, reverse=True)
    assert len(layout.arrows) == 2 * len(heights)


@both
def test_nothing_in_the_picture_covers_a_text(exchange: Exchange) -> None:
    layout = Layout(exchange)
    texts = [
        n for n in layout.nodes if n.startswith(("step_", "message_", "title", "legend")) or n in list(Side)
    ]
    for one, other in combinations(texts, 2):
        assert _apart(layout.box(one), layout.box(other)), f"{one} over {other}"
    numbers = [n for n in layout.nodes if n.startswith("number_")]
    bands = {f"step_{i}" for i, m in enumerate(exchange.moments, 1) if m.actor is None}
    for number, text in ((n, t) for n in numbers for t in texts if t not in bands):
        assert _apart(layout.box(number), layout.box(text)), f"{number} over {text}"
    for name in texts:
        if name.startswith("step_"):
            lines = str(layout.nodes[name].attr["label"]).count("\\")
            assert layout.box(name)[3] - layout.box(name)[1] >= 12 * lines


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@both
def test_the_picture_is_as_wide_as_a_page(exchange: Exchange) -> None:
    root = ElementTree.fromstring(exchange.to("svg"))
    width = float(root.attrib["width"].removesuffix("pt")) * 96 / 72
    assert 850 < width < 950


def test_faults_and_the_wrong_step_look_different() -> None:
    layout = Layout(SHORT)
    step, fault, wrong = (layout.color(f"step_{number}") for number in (1, 3, 5))
    assert len({step, fault, wrong}) == 3
    assert layout.text("step_3") == "↯ the link breaks"
    assert layout.text("step_5").startswith("✗ ")
    assert layout.text("legend").endswith(
        "↯ a fault of the environment   ✗ the step that breaks the property"
    )
    assert "↯" not in Layout(Exchange("t", SHORT.moments[:2])).text("legend")


def test_a_long_picture_names_the_sides_below_too() -> None:
    assert "primary_below" not in Layout(SHORT).nodes
    layout = Layout(LONG)
    assert layout.text("secondary_below") == "Secondary"
    assert layout.box("secondary_below")[3] < layout.box(f"step_{len(LONG.moments)}")[1]


def test_the_picture_shows_odd_words_as_they_are() -> None:
    svg = Exchange(ODD, (Moment(P, ODD, (ODD,)), Moment(None, "<b>"), Moment(S, "", ("<>", "")))).to("svg")
    shown = ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")]
    joined = "".join("".join(shown).split())
    assert joined.count(ODD_SHOWN.replace(" ", "")) == 3
    assert {"<b>", "<>"} <= set(shown)


@given(exchanges)
def test_any_words_can_be_drawn(exchange: Exchange) -> None:
    assert len(exchange.to("mermaid").decode().split("\n")) - len(exchange.mermaid.splitlines()) == 1
    assert exchange.to("text").decode() == exchange.text
    assert ElementTree.fromstring(exchange.to("svg")).tag.endswith("svg")


def test_an_exchange_without_moments_is_a_title_over_two_sides() -> None:
    empty = Exchange("nothing happened", ())
    assert empty.text == "nothing happened\n\n"
    assert Layout(empty).text("secondary") == "Secondary"


def test_the_formats() -> None:
    svg = SHORT.to("svg").decode()
    assert draw.dot_hash(svg) == sha256(SHORT.dot.encode()).hexdigest()
    assert SHORT.to("png").startswith(b"\x89PNG")
    assert SHORT.to("mermaid") == SHORT.mermaid.encode()
    assert SHORT.to("text") == SHORT.text.encode()


def test_an_unknown_format_is_refused() -> None:
    format: Any = "gif"
    with pytest.raises(ValueError, match="cannot draw 'gif': choose one of svg, png, mermaid, text"):
        SHORT.to(format)


def test_the_world_sends_nothing() -> None:
    with pytest.raises(ValueError, match="the world sends no messages, but vmstate-size would leave it"):
        Moment(None, "the link", ("vmstate-size",))


@pytest.mark.parametrize("missing", [("graphviz",), ("pygraphviz",), ("pygraphviz", "graphviz")])
def test_without_graphviz_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: tuple[str, ...]
) -> None:
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for format in ("svg", "png"):
        with pytest.raises(draw.DrawError, match=r"pip install 'colo-fsm\[draw\]'"):
            SHORT.to(format)
    assert SHORT.to("mermaid")
    assert SHORT.to("text")


@given(words, st.integers(1, 40))
def test_balanced_lines_are_no_more_and_no_longer(text: str, width: int) -> None:
    lines, even = wrapped(text, width), balanced(text, width)
    assert len(even) == len(lines)
    assert max(map(len, even)) <= max(map(len, lines)) <= width
    assert "".join("".join(even).split()) == "".join("".join(lines).split())


def test_balanced_leaves_no_word_alone() -> None:
    assert balanced("suspend done → replied: receive live", 34) == ["suspend done →", "replied: receive live"]
    for one, other in pairwise(balanced("word " * 30, 34)):
        assert abs(len(one) - len(other)) <= len("word ")
