"""The picture of one checkpoint: that it shows what the tables say, for any pair of them."""

from __future__ import annotations

import re
from enum import StrEnum
from html import unescape
from xml.etree import ElementTree

import attrs
import pygraphviz
import pytest
from protocols import goodbye, remus

from colo_fsm import draw
from colo_fsm.colo import PRIMARY, SECONDARY, Mode, ReleaseOn, Variant
from colo_fsm.draw.bars import Tone, guest, packets
from colo_fsm.draw.course import course
from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Fault,
    Kind,
    Message,
    Send,
    Side,
    SyncPoint,
    Table,
    TableError,
    Words,
    begin,
    complete,
    done,
    fault,
    otherwise,
    recv,
    row,
)

Pair = tuple[CompleteTable, CompleteTable]


def colo(variant: Variant = Variant()) -> Pair:  # noqa: B008 - frozen
    return complete(PRIMARY, variant), complete(SECONDARY, variant)


REMUS = complete(remus.PRIMARY), complete(remus.SECONDARY)
GOODBYE = complete(goodbye.PRIMARY, Variant()), complete(goodbye.SECONDARY, Variant())
every_pair = pytest.mark.parametrize(
    "pair",
    [*map(colo, Variant.all()), REMUS, GOODBYE],
    ids=lambda pair: f"{pair[0].words.name}-{pair[0].variant}",
)


class Chart:
    """The picture as it is laid out; lengths are points from the left and from the bottom."""

    def __init__(self, pair: Pair) -> None:
        self.graph = pygraphviz.AGraph(string=draw.checkpoint(*pair).dot)
        self.graph.layout(prog="dot")
        self.nodes = {str(node): node for node in self.graph.nodes()}

    def text(self, name: str) -> str:
        label = re.sub(r"<BR/>|\\n", " ", re.sub("</?B>", "", str(self.nodes[name].attr["label"] or "")))
        return unescape(label).replace("- ", "-").strip()

    def box(self, name: str) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        x, y = (float(v) for v in self.nodes[name].attr["pos"].split(","))
        width, height = (float(self.nodes[name].attr[size]) * 36 for size in ("width", "height"))
        return x - width, y - height, x + width, y + height

    def lane(self, side: Side, name: str) -> list[tuple[str, int, int]]:
        """The bars of a lane, with where they begin and end, and those of nameless lanes under it."""
        lanes = sorted(n for n in self.nodes if re.fullmatch(rf"{side}_\d", n))
        first = next(i for i, lane in enumerate(lanes) if self.text(lane) == name)
        more = [lane for lane in lanes[first + 1 :] if self.text(lane) == "\xa0" or not self.text(lane)]
        bars = [n for lane in (lanes[first], *more) for n in self.nodes if n.startswith(f"{lane}_")]
        return [(self.text(n), round(self.box(n)[0]), round(self.box(n)[2])) for n in bars]

    def arrow(self, message: str) -> tuple[tuple[float, float], tuple[float, float]]:
        """From where to where, each as x and y."""
        [label] = [n for n in self.nodes if self.text(n) == message]
        [tail] = [str(e[0]) for e in self.graph.edges() if str(e[1]) == label]
        [head] = [str(e[1]) for e in self.graph.edges() if str(e[0]) == label]
        return self.middle(tail), self.middle(head)

    def middle(self, name: str) -> tuple[float, float]:
        left, bottom, right, top = self.box(name)
        return (left + right) / 2, (bottom + top) / 2

    @property
    def let_out(self) -> list[float]:
        return [self.middle(n)[0] for n in self.nodes if self.text(n) == "packets let out"]


def near(x: float) -> object:
    return pytest.approx(x, abs=2)


def test_the_primary_is_paused_from_the_reply_until_the_state_is_loaded() -> None:
    chart = Chart(colo())
    (reply, loaded) = (chart.arrow(name)[1][0] for name in ("checkpoint-reply", "vmstate-loaded"))
    before, paused, after = chart.lane(Side.PRIMARY, "guest")
    assert (before[0], paused[0], after[0]) == ("runs", "paused", "runs")
    assert paused[1:] == (near(reply), near(loaded))
    assert (before[2], after[1]) == (near(reply), near(loaded))
    assert [text for text, _, _ in chart.lane(Side.SECONDARY, "guest")] == ["paused"]


@pytest.mark.parametrize("release_on", [ReleaseOn.RECEIVED, ReleaseOn.LOADED])
def test_packets_are_let_out_by_the_message_that_releases_them(release_on: ReleaseOn) -> None:
    chart = Chart(colo(Variant(release_on=release_on)))
    at = chart.arrow(f"vmstate-{release_on}")[1][0]
    first, second = chart.lane(Side.PRIMARY, "packets")
    assert (first[0], second[0]) == ("held", "held")
    assert first[2] == near(at)
    assert second[1] == near(chart.arrow("vmstate-loaded")[1][0])
    assert chart.let_out == [near(at)]


def test_at_a_gate_packets_are_let_out_by_the_secondary_before_the_guest_runs_on() -> None:
    chart = Chart(colo(Variant(release_on=ReleaseOn.GATE)))
    (sent, _), (taken, _) = chart.arrow("vmstate-loaded")
    assert chart.let_out == [near(sent)]
    assert sent < taken


def test_in_hybrid_mode_both_run_and_their_packets_are_compared() -> None:
    chart = Chart(colo(Variant(mode=Mode.HYBRID)))
    guests = [[text for text, _, _ in chart.lane(side, "guest")] for side in Side]
    assert guests == [["runs", "paused", "runs"]] * 2
    compared, held, again = chart.lane(Side.PRIMARY, "packets")
    assert (compared[0], held[0], again[0]) == ("compared", "held", "compared")
    assert held[1] == near(chart.arrow("checkpoint-request")[0][0])
    assert chart.lane(Side.SECONDARY, "guest")[1][1] == near(chart.arrow("checkpoint-request")[1][0])


def test_a_guest_that_runs_on_has_packets_of_two_epochs_held() -> None:
    chart = Chart(REMUS)
    sent, committed = chart.arrow("epoch")[0][0], chart.arrow("committed")[1][0]
    assert [text for text, _, _ in chart.lane(Side.PRIMARY, "guest")] == ["runs", "paused", "runs"]
    assert chart.lane(Side.PRIMARY, "guest")[1][2] == near(sent)
    first, second = chart.lane(Side.PRIMARY, "packets")
    assert (first[2], second[1]) == (near(committed), near(sent))
    assert second[2] > first[2]
    assert chart.let_out == [near(committed)]
    assert [chart.text(n) for n in ("primary_0_0", "primary_1_0")] == ["held", "held"]
    assert chart.box("primary_0_0")[1] > chart.box("primary_1_0")[3]


def test_work_lasts_until_what_waits_for_it() -> None:
    chart = Chart(colo())
    save, live, _ = chart.lane(Side.PRIMARY, "work")
    assert save == (
        "save",
        near(chart.arrow("checkpoint-reply")[1][0]),
        near(chart.arrow("vmstate-send")[0][0]),
    )
    assert live == (
        "send live",
        near(chart.arrow("vmstate-send")[0][0]),
        near(chart.arrow("vmstate-size")[0][0]),
    )
    store = next(bar for bar in chart.lane(Side.SECONDARY, "work") if "store" in bar[0])
    assert store[1:] == (near(chart.arrow("vmstate-size")[1][0]), near(chart.arrow("vmstate-received")[0][0]))


@every_pair
def test_each_message_of_a_round_slants_from_its_sender_to_its_peer_in_order(pair: Pair) -> None:
    chart = Chart(pair)
    panels = {side: chart.box(f"panel_{side}") for side in Side}
    round_ = course(*pair).again
    taken = [s.row.trigger.message for s in round_ if s.row.trigger.message is not None]
    assert len(taken) >= 2
    for message in taken:
        (x, y), (end_x, end_y) = chart.arrow(message.text)
        assert end_x > x
        top, bottom = near(panels[Side.PRIMARY][1]), near(panels[Side.SECONDARY][3])
        down = pair[0].words.sender[message] is Side.PRIMARY
        assert (y, end_y) == ((top, bottom) if down else (bottom, top))
    starts = [chart.arrow(message.text)[0][0] for message in taken]
    assert sorted(starts) == starts


@every_pair
def test_words_fit_in_their_bars_and_the_picture_on_a_page(
    pair: Pair, capfd: pytest.CaptureFixture[str]
) -> None:
    svg = ElementTree.fromstring(draw.checkpoint(*pair).to("svg"))
    assert "too small" not in capfd.readouterr().err
    assert float(svg.attrib["width"].removesuffix("pt")) * 96 / 72 < 1150
    shown = {"".join(e.itertext()) for e in svg.iter() if e.tag.endswith("}text")}
    assert {"Primary", "Secondary", "packets", "held", "packets let out", "runs", "time"} <= shown
    ground = next(e for e in svg.iter() if e.tag.endswith("}polygon"))
    assert ground.attrib["fill"] == "#fcfcfd"


def test_it_can_be_had_as_what_can_show_it() -> None:
    picture = draw.checkpoint(*colo())
    assert draw.dot_hash(picture.to("svg").decode()) is not None
    assert picture.to("png").startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no mermaid of this picture: choose one of dot, svg, png"):
        picture.to("mermaid")


def test_a_pair_that_takes_no_checkpoint_has_no_such_picture() -> None:
    silent = tuple(
        attrs.evolve(line, effects=()) if line.trigger == recv(remus.M.EPOCH) else line
        for line in remus.SECONDARY.lines
        if line.trigger.kind is not Kind.DONE or remus.S.EPOCH not in line.sources
    )
    deaf = complete(attrs.evolve(remus.SECONDARY, lines=silent))
    with pytest.raises(TableError, match="undisturbed, the two tables take none to its end"):
        draw.checkpoint(REMUS[0], deaf).to("dot")
    assert "epoch" in draw.pair(REMUS[0], deaf).mermaid
    assert "loop" not in draw.pair(REMUS[0], deaf).mermaid


class Said(Message):
    HELLO = 0
    SAVED = 1


class At(StrEnum):
    BEGUN = "begun"
    GREETED = "greeted"
    SAVING = "saving"
    EARLY = "early"
    READY = "ready"
    BROKEN = "broken"


TOLD = Words(
    "Told",
    (SyncPoint(Said.HELLO, Side.PRIMARY, At.GREETED), SyncPoint(Said.SAVED, Side.PRIMARY, At.READY)),
    initial=At.BEGUN,
    failover=At.BROKEN,
)
BROKEN = row(At.BROKEN, otherwise, None)
TELLS = Table(
    Side.PRIMARY,
    TOLD,
    start=(Send(Said.HELLO), Do.resume),
    lines=(
        row((At.BEGUN, At.READY), begin.checkpoint, At.SAVING, Do.save),
        row(At.SAVING, done(Do.save), At.READY, Send(Said.SAVED), Do.release),
        BROKEN,
    ),
)
HEARS = row((At.BEGUN, At.GREETED), recv(Said.HELLO), At.GREETED)
LISTENS = Table(
    Side.SECONDARY,
    TOLD,
    lines=(
        HEARS,
        row(At.GREETED, recv(Said.SAVED), At.EARLY, Do.store),
        row((At.EARLY, At.READY), recv(Said.SAVED), At.READY, Do.store),
        BROKEN,
    ),
)


def test_what_is_sent_and_begun_at_the_start_is_drawn() -> None:
    pair = complete(TELLS), complete(LISTENS)
    assert "    primary->>secondary: hello\n" in draw.pair(*pair).mermaid
    chart = Chart(pair)
    assert [text for text, _, _ in chart.lane(Side.PRIMARY, "guest")] == ["runs"]
    graph = pygraphviz.AGraph(string=draw.pair(*pair).dot)
    assert graph.has_edge("primary_begun", "hello")
    graph.layout(prog="dot")
    height = {str(n): float(n.attr["pos"].split(",")[1]) for n in graph.nodes()}
    assert height["saved"] == near(height["secondary_ready"])
    assert height["saved"] != near(height["secondary_early"])


def test_messages_that_nobody_takes_end_no_checkpoint() -> None:
    deaf = complete(attrs.evolve(LISTENS, lines=(HEARS, BROKEN)))
    with pytest.raises(TableError, match="undisturbed, the two tables take none to its end"):
        draw.checkpoint(complete(TELLS), deaf).to("dot")


def test_a_side_that_never_comes_to_rest_has_none_either() -> None:
    restless = tuple(
        row(remus.S.SAVING, done(Do.save), remus.S.SAVING, Do.save) if line.trigger == done(Do.save) else line
        for line in remus.PRIMARY.lines
    )
    reached = row(remus.S.COMMITTED, fault(Fault.EOF), remus.S.EPOCH)
    table = attrs.evolve(remus.PRIMARY, lines=(*restless, reached))
    with pytest.raises(TableError, match="undisturbed, the two tables take none to its end"):
        draw.checkpoint(complete(table), REMUS[1]).to("dot")


def test_a_walk_tells_the_beginning_from_what_repeats() -> None:
    way = course(*colo())
    assert [str(s.row.trigger) for s in way.beginning] == ["done_receive_initial", "recv_checkpoint_ready"]
    assert way.loop[0].row.source != way.again[0].row.source
    assert [s.row.dest for s in way.loop] == [s.row.dest for s in way.again]
    for step in way.again:
        assert step.sent_at is None or step.sent_at < step.at


def test_bars_end_where_the_next_begins() -> None:
    pair = colo()
    way = course(*pair)
    steps = (*way.beginning, *way.loop, *way.again)
    bars = list(guest(pair[0], steps))
    assert [bar.tone for bar in bars] == [Tone.STILL, Tone.RUNS] * 3
    assert [bar.end for bar in bars[:-1]] == [bar.start for bar in bars[1:]]
    first, second, third = packets(pair[0], steps)
    assert first.released == bars[3].start
    assert second.released == bars[5].start
    assert third.released == float("inf")
