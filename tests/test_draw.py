"""Pictures: that they show the tables, all of them and nothing stale."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from hashlib import sha256
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pygraphviz
import pytest
from protocols import goodbye, remus

from colo_fsm import draw
from colo_fsm.colo import COLO, PRIMARY, SECONDARY, COLOMessage, State, Variant
from colo_fsm.draw.__main__ import main
from colo_fsm.draw.arrows import among, asked, said
from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Fault,
    Line,
    Row,
    Send,
    Side,
    Table,
    TableError,
    Trigger,
    Words,
    begin,
    complete,
    done,
    fault,
    otherwise,
    recv,
    row,
    won,
)

REPOSITORY = Path(__file__).resolve().parents[1]
PAIRS = [(complete(PRIMARY, variant), complete(SECONDARY, variant)) for variant in Variant.all()]
REMUS = complete(remus.PRIMARY), complete(remus.SECONDARY)
GOODBYE = complete(goodbye.PRIMARY, Variant()), complete(goodbye.SECONDARY, Variant())


def _id(pair: tuple[CompleteTable, CompleteTable]) -> str:
    return f"{pair[0].words.name}-{pair[0].variant}"


every_pair = pytest.mark.parametrize("pair", [*PAIRS, REMUS, GOODBYE], ids=_id)
all_pairs = pytest.mark.parametrize("pair", PAIRS, ids=_id)
all_tables = pytest.mark.parametrize(
    "table",
    [table for pair in (*PAIRS, REMUS, GOODBYE) for table in pair],
    ids=lambda t: f"{t.side}-{t.words.name}-{t.variant}",
)


class Graph:
    """DOT read back: the text of its nodes and edges, invisible ones left out."""

    def __init__(self, dot: str) -> None:
        graph = pygraphviz.AGraph(string=dot)
        self.nodes = {str(n): _text(n.attr["label"]) for n in graph.nodes()}
        visible = [e for e in graph.edges() if e.attr["style"] != "invis"]
        self.edges = [(*_ends(e), _text(e.attr["label"])) for e in visible]
        self.directions = {(str(e[0]), str(e[1])): e.attr["dir"] or "forward" for e in visible}
        self.dashed = [_ends(e) for e in visible if e.attr["style"] == "dashed"]
        graph.close()

    def says(self, table: CompleteTable, row: Row) -> bool:
        """Whether this row is drawn, with its trigger and its effects."""
        source, dest = f"{table.side}_{row.source}", f"{table.side}_{row.dest}"
        direct = any(e[:2] == (source, dest) and _tells(e[2], row) for e in self.edges)
        back = self.nodes.get(f"{source}_to_{row.dest}")
        told = [*(e[2] for e in self.edges if e[1] == dest), back or []]
        round_trip = back is not None and any(_tells(lines, row) for lines in told)
        notes = [self.nodes[tail] for tail, head, _ in self.edges if head == dest]
        return direct or round_trip or any(_notes(note, table, row) for note in notes)


def _text(label: str | None) -> list[str]:
    cells = re.findall(r"<TD[^>]*>(.*?)</TD>", label or "") or [label or ""]
    return [unescape(re.sub("<[^>]*>", "", cell)).strip() for cell in cells]


def _ends(edge: pygraphviz.Edge) -> tuple[str, str]:
    ends = (str(edge[0]), str(edge[1]))
    return ends[::-1] if edge.attr["dir"] == "back" else ends


def _tells(lines: list[str], row: Row) -> bool:
    triggers = [line.removeprefix("or ") for line in lines]
    return said(row.trigger) in triggers and asked(row.effects) in [*lines, ""]


def _notes(lines: list[str], table: CompleteTable, row: Row) -> bool:
    """A note has, for each arrow: its trigger, `in` its states, its effects."""
    for trigger, names, *effects in (lines[i:] for i in range(len(lines) - 1)):
        if trigger == said(row.trigger) and row.source in _named(names, table.states):
            return effects[:1] == [asked(row.effects)]
    return False


def _named(text: str, states: tuple[StrEnum, ...]) -> Iterator[StrEnum]:
    names = [*map(str, states)]
    for part in text.removeprefix("in ").split(", "):
        first, _, last = part.partition(" … ")
        if first in names:
            yield from states[names.index(first) : names.index(last or first) + 1]


def _changed(table: Table, *lines: Line) -> CompleteTable:
    return complete(attrs.evolve(table, lines=(*table.lines, *lines)), Variant())


@all_tables
def test_a_side_shows_every_written_row(table: CompleteTable) -> None:
    graph = Graph(draw.side(table).dot)
    assert [str(r) for r in table.written if not graph.says(table, r)] == []
    assert {f"{table.side}_{s}" for s in table.states} <= set(graph.nodes)


@all_tables
def test_one_dashed_edge_stands_for_all_error_rows(table: CompleteTable) -> None:
    graph = Graph(draw.side(table).dot)
    [dest, *more] = {r.dest for r in table.rows if r.implied and r.dest and r.dest not in table.final}
    dest = table.failover if more else dest
    into_failover = [tail for tail, head in graph.dashed if head == f"{table.side}_{dest}"]
    assert len(into_failover) == 1
    trigger, names, effects = graph.nodes[into_failover[0]]
    errors = [r for r in table.rows if r.implied and r.dest is dest]
    assert trigger == "anything else"
    assert set(_named(names, table.states)) == {r.source for r in errors}
    assert effects == asked(errors[0].effects)


@every_pair
def test_every_message_of_the_handshake_crosses_once_from_its_sender(
    pair: tuple[CompleteTable, CompleteTable],
) -> None:
    graph, words = Graph(draw.pair(*pair).dot), pair[0].words
    sent = {e.message for table in pair for r in table.written for e in r.effects if isinstance(e, Send)}
    passing = {message for message in sent if words.mirror[message] not in pair[0].final}
    assert set(graph.nodes) & {m.text for m in words.sender} == {m.text for m in passing}
    for message in passing:
        [into] = [tail for tail, head in graph.directions if head == message.text]
        [out] = [head for tail, head in graph.directions if tail == message.text]
        assert (into, out) == (f"primary_{words.mirror[message]}", f"secondary_{words.mirror[message]}")
        ways = graph.directions[into, message.text], graph.directions[message.text, out]
        assert ways == (("none", "forward") if words.sender[message] is Side.PRIMARY else ("back", "none"))


def test_a_message_outside_the_handshake_is_said_where_it_is_sent_and_taken() -> None:
    picture = draw.pair(*GOODBYE)
    notes = Graph(picture.dot).nodes
    assert notes["primary_init_begin_leave_to_ended"] == [
        *("leave", "in init", "leave", "in ready, loaded", "send goodbye")
    ]
    assert notes["secondary_init_begin_leave_to_ended"][-2:] == ["goodbye", "in ready, loaded"]
    lines = [line.strip() for line in picture.mermaid.splitlines()]
    at = lines.index("primary->>secondary: goodbye")
    assert lines[at - 2] == "break Primary: leave in ready, loaded"
    assert lines[at + 1].startswith("Note right of secondary: ended (in ready, loaded): ")
    assert lines[at + 2] == "end"


@all_pairs
def test_a_pair_shows_both_machines(pair: tuple[CompleteTable, CompleteTable]) -> None:
    graph = Graph(draw.pair(*pair).dot)
    for table in pair:
        name = table.side.value
        assert {f"{name}_{s}" for s in table.states} <= set(graph.nodes)
        assert [head for _, head in graph.dashed].count(f"{name}_failover") == 1
        assert (f"{name}_loaded_to_requested_up", f"{name}_requested", [""]) in graph.edges
        assert any(
            e[:2] == (f"{name}_failover", f"{name}_alone") and "claim won" in e[2] for e in graph.edges
        )
        assert any(e[:2] == (f"{name}_alone", f"{name}_ended") and "leave" in e[2] for e in graph.edges)
    assert any(head == "secondary_finishing" for _, head in graph.dashed)


@every_pair
def test_the_columns_stand_in_order_and_what_corresponds_at_one_height(
    pair: tuple[CompleteTable, CompleteTable],
) -> None:
    place = _layout(draw.pair(*pair).dot)
    words = pair[0].words
    for state in {words.initial, words.failover, *pair[0].alone, *pair[0].final, *words.mirror.values()}:
        if f"primary_{state}" in place:
            (x, y), (other_x, other_y) = place[f"primary_{state}"], place[f"secondary_{state}"]
            assert x < other_x
            assert y == pytest.approx(other_y, abs=1)
    for message in (m.text for m in words.sender if m.text in place):
        assert place["primary_init"][0] < place[message][0] < place["secondary_init"][0]


@all_pairs
def test_what_leads_back_goes_round_on_the_outer_side(pair: tuple[CompleteTable, CompleteTable]) -> None:
    place = _layout(draw.pair(*pair).dot)
    assert place["primary_loaded_to_requested"][0] < place["primary_sending"][0]
    assert place["secondary_loaded_to_requested"][0] > place["secondary_sending"][0]


def test_a_side_may_have_states_of_its_own() -> None:
    nodes = Graph(draw.pair(*REMUS).dot).nodes
    assert "primary_saving" in nodes
    assert "secondary_saving" not in nodes
    assert "secondary_loading" in nodes
    assert "primary_loading" not in nodes


def test_a_table_without_choices_has_no_variant_in_its_title() -> None:
    assert draw.pair(*REMUS).mermaid.startswith("%% Remus. anything else")
    assert draw.side(REMUS[0]).to("markdown").startswith(b"# Primary of Remus\n")
    assert "Primary of Remus. Upright" in draw.side(REMUS[0]).dot
    assert draw.pair(*GOODBYE).mermaid.startswith("%% COLO with a goodbye, qemu/periodic/loaded.")


def test_tables_of_two_protocols_are_no_pair() -> None:
    for make in (draw.pair, draw.checkpoint):
        with pytest.raises(TableError, match="the Primary's are Remus, the Secondary's COLO"):
            make(REMUS[0], PAIRS[0][1])


def test_a_state_of_two_words_has_a_name_that_mermaid_takes() -> None:
    class Odd(StrEnum):
        INIT = "not yet"
        BROKEN = "broken off"

    words = Words("Odd", (), initial=Odd.INIT, failover=Odd.BROKEN)
    table = complete(Table(Side.PRIMARY, words, lines=(row((Odd.INIT, Odd.BROKEN), otherwise, None),)))
    mermaid = draw.side(table).mermaid
    assert 'state "not yet" as init' in mermaid
    assert "[*] --> init\n" in mermaid


def _layout(dot: str) -> dict[str, list[float]]:
    graph = pygraphviz.AGraph(string=dot)
    graph.layout(prog="dot")
    place = {str(n): [float(x) for x in n.attr["pos"].split(",")] for n in graph.nodes()}
    graph.close()
    return place


def test_a_row_added_to_a_table_is_drawn() -> None:
    added = row(State.FINISHING, begin.leave, State.ENDED, Do.disconnect)
    before, after = complete(SECONDARY, Variant()), _changed(SECONDARY, added)
    new = after.by_input[State.FINISHING, begin.leave]
    assert not Graph(draw.side(before).dot).says(before, new)
    assert Graph(draw.side(after).dot).says(after, new)
    assert "finishing --> ended : leave / disconnect" in draw.side(after).mermaid


@pytest.mark.parametrize(
    "added",
    [
        row(State.SIZED, begin.leave, State.REQUESTED, Do.discard, Do.compare),
        row(State.SIZED, begin.leave, State.SIZED, Do.discard, Do.compare),
        row(State.SIZED, begin.leave, State.SENDING, Do.discard, Do.compare),
        row(State.ALONE, begin.checkpoint, State.READY, Do.resume, Do.compare),
        row((State.REPLIED, State.ALONE), fault(Fault.EOF), State.FAILOVER, Do.claim, Do.compare),
    ],
    ids=["far-back", "itself", "one-back", "from-the-end", "a-written-error"],
)
def test_rows_unlike_those_of_today_are_drawn_too(added: Line) -> None:
    table = _changed(PRIMARY, added)
    pictures = draw.side(table), draw.pair(table, complete(SECONDARY, Variant()))
    for r in table.written:
        if r not in complete(PRIMARY, Variant()).written:
            words = [line for lines in _all_text(Graph(pictures[0].dot)) for line in lines]
            assert said(r.trigger) in words
            assert asked(r.effects) in words
    for picture in pictures:
        ElementTree.fromstring(picture.to("svg"))


def _all_text(graph: Graph) -> list[list[str]]:
    return [*graph.nodes.values(), *(text for _, _, text in graph.edges)]


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (recv(COLOMessage.VMSTATE_SEND), "vmstate-send"),
        (begin.checkpoint, "checkpoint"),
        (done(Do.send_live), "send live done"),
        (fault(Fault.GUEST_FAILED), "guest failed"),
        (won, "claim won"),
    ],
)
def test_triggers_in_words(trigger: Trigger, words: str) -> None:
    assert said(trigger) == words


def test_effects_and_states_in_words() -> None:
    assert asked([Do.release_all, Send(COLOMessage.VMSTATE_SIZE)]) == "release all, send vmstate-size"
    states = tuple(State)
    assert (
        among([State.READY, State.REQUESTED, State.REPLIED, State.LOADED], states)
        == "ready … replied, loaded"
    )
    assert among([State.INIT, State.READY], states) == "init, ready"


@all_tables
def test_mermaid_of_a_side_has_every_written_row(table: CompleteTable) -> None:
    comment, first, *lines = draw.side(table).mermaid.splitlines()
    assert (comment[:2], first) == ("%%", "stateDiagram-v2")
    shape = re.compile(r'    (\S+ --> \S+( : [^:;]+)?|state "[^":;]+" as \w+)')
    assert [line for line in lines if not shape.fullmatch(line)] == []
    for r in table.written:
        drawn = [line for line in lines if line.startswith(f"    {r.source} --> {r.dest} :")]
        assert any(said(r.trigger) in line and asked(r.effects) in line for line in drawn), str(r)
    assert len([line for line in lines if line.startswith("    rest_")]) == len(
        {(r.dest, r.effects) for r in table.rows if r.implied and r.dest and r.dest not in table.final}
    )


@all_pairs
def test_mermaid_of_a_pair_is_one_round_in_order(pair: tuple[CompleteTable, CompleteTable]) -> None:
    comment, first, *lines = (line.strip() for line in draw.pair(*pair).mermaid.splitlines())
    assert (comment[:2], first) == ("%%", "sequenceDiagram")
    opened = [line.split()[0] for line in lines if line.startswith(("loop ", "break "))]
    assert opened == ["loop", "break", "break", "break"]
    assert lines.count("end") == len(opened)
    sent = [line for line in lines if "->>" in line]
    used = [m for m in COLOMessage if any(Send(m) in r.effects for table in pair for r in table.written)]
    assert sent == [f"{COLO.sender[m]}->>{COLO.sender[m].peer}: {m.text}" for m in used]
    assert lines.index("loop next checkpoint") > lines.index(sent[0])
    assert lines.index("loop next checkpoint") < lines.index(sent[1])


def test_an_svg_carries_the_hash_of_its_dot() -> None:
    picture = draw.pictures()["pair"]
    svg = picture.to("svg").decode()
    assert ElementTree.fromstring(svg.encode()).tag.endswith("svg")
    assert draw.dot_hash(svg) == sha256(picture.to("dot")).hexdigest()
    assert draw.dot_hash("<svg/>") is None
    assert draw.render(picture.dot, "png").startswith(b"\x89PNG")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot render 'gif': choose one of svg, png"):
        draw.render("digraph {}", "gif")


def test_the_dot_executable_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dot = tmp_path / "dot"
    dot.write_text("#!/bin/sh\nwhile read -r line; do :; done\necho '<svg/>'\n")
    dot.chmod(0o755)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    text = "digraph {}\n"
    assert draw.dot_hash(draw.render(text, "svg").decode()) == sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("missing", [("pygraphviz",), ("pygraphviz", "graphviz")])
def test_without_a_renderer_one_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    missing: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(draw.DrawError, match=r"pip install 'colo-fsm\[draw\]'"):
        draw.pictures()["pair"].to("svg")
    assert main([str(tmp_path / "out")]) == 1
    assert "pip install" in capsys.readouterr().err
    assert draw.pictures()["pair"].to("mermaid")


def test_dot_needs_the_graphviz_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(draw.DrawError, match=r"pip install 'colo-fsm\[draw\]'"):
        draw.pictures()["pair"].to("dot")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pictures, drawn once by the command in a process of its own."""
    folder = tmp_path_factory.mktemp("first") / "diagrams"
    _run(folder, "1")
    return folder


def _run(folder: Path, seed: str) -> None:
    command = [sys.executable, "-m", "colo_fsm.draw", str(folder)]
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment)


def _copy(folder: Path, target: Path) -> Path:
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_every_run_draws_the_same(written: Path, tmp_path: Path) -> None:
    _run(tmp_path, "2")
    expected = {
        f"{name}.{end}"
        for name in ("primary", "secondary", "pair", "member", "watch-primary")
        for end in ("dot", "mmd", "md", "svg")
    } | {
        f"{name}.{end}"
        for name in ("checkpoint", "checkpoint-saved", "checkpoint-gate")
        for end in ("dot", "svg")
    }
    assert {path.name for path in tmp_path.iterdir()} == expected
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (written / path.name).read_bytes()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pair.dot", "checkpoint-reply", "checkpoint-replay"),
        ("primary.mmd", "release", "resume"),
        ("secondary.svg", "sha256 of the DOT text: ", "sha256 of the DOT text: 0"),
    ],
)
def test_a_changed_file_is_stale_and_is_mended(
    written: Path, tmp_path: Path, name: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _copy(written, tmp_path)
    assert main([str(folder), "--check"]) == 0
    path = folder / name
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert main([str(folder), "--check"]) == 1
    said = capsys.readouterr().out
    assert f"stale: {path}" in said
    assert said.count("stale:") == 1
    assert "run `make diagrams`" in said
    assert draw.write_all(folder) == [path]
    assert draw.stale(folder) == []


def test_a_missing_file_is_stale(written: Path, tmp_path: Path) -> None:
    folder = _copy(written, tmp_path)
    (folder / "pair.svg").unlink()
    assert draw.stale(folder) == [folder / "pair.svg"]


def test_a_changed_table_makes_its_pictures_stale(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = row(State.ALONE, fault(Fault.EOF), State.ENDED, Do.suspend)
    monkeypatch.setattr("colo_fsm.draw.kept.PRIMARY", attrs.evolve(PRIMARY, lines=(*PRIMARY.lines, added)))
    stale = {path.name for path in draw.stale(written)}
    assert {
        "primary.dot",
        "primary.mmd",
        "primary.md",
        "primary.svg",
        "pair.dot",
        "pair.md",
        "pair.svg",
    } == stale


def test_the_pictures_of_this_repository_are_fresh() -> None:
    assert draw.stale(REPOSITORY / "diagrams") == [], "run `make diagrams`"
