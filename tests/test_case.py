"""Acts as bytes, cases as scripts, deviations as a sentence."""

from __future__ import annotations

import pytest

from colo_fsm.colo import COLO, TABLES, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.conform.blackbox import END, INVALID, Input, Output
from colo_fsm.conform.case import (
    SINGLE,
    Accepted,
    Act,
    Begun,
    ByteByByte,
    Case,
    Deviation,
    Given,
    Initial,
    Line,
    Raw,
    Rest,
    Seen,
    Step,
    Together,
)
from colo_fsm.conform.voice import OwnState, TableVoice
from colo_fsm.fsm import Side, complete, encode_size

REQUEST, REPLY, SEND, SIZE = M.CHECKPOINT_REQUEST, M.CHECKPOINT_REPLY, M.VMSTATE_SEND, M.VMSTATE_SIZE
STATE = OwnState()
LIVE, DEVICE = b"".join(map(bytes, STATE.live(1))), STATE.vmstate(1)
NOTHING = Output((), ended=False)


def voice() -> TableVoice:
    return TableVoice(complete(TABLES[Side.SECONDARY], Variant()), STATE)


def pieces(act: Act, voice: TableVoice) -> list[bytes]:
    return [b"".join(map(bytes, piece)) for piece in act.pieces(voice)]


ASK, TELL, END_IT = Given(Input(REQUEST)), Given(Input(SIZE)), Given(END)
WHOLE_SIZE = COLO.encode(SIZE) + encode_size(len(DEVICE)) + DEVICE


@pytest.mark.parametrize(
    ("act", "written", "text"),
    [
        (ASK, [COLO.encode(REQUEST)], "checkpoint-request"),
        (Given(Input(SEND)), [COLO.encode(SEND) + LIVE], "vmstate-send"),
        (Given(Input(SEND), out_of_turn=True), [COLO.encode(SEND)], "vmstate-send"),
        (TELL, [WHOLE_SIZE], "vmstate-size"),
        (Given(INVALID), [bytes.fromhex("00000007")], "invalid value"),
        (END_IT, [], "end of the link"),
        (
            Together((ASK, TELL)),
            [COLO.encode(REQUEST) + WHOLE_SIZE],
            "checkpoint-request + vmstate-size, in one piece",
        ),
        (
            Together((ASK, END_IT)),
            [COLO.encode(REQUEST)],
            "checkpoint-request + end of the link, in one piece",
        ),
        (ByteByByte(ASK), [b"\0", b"\0", b"\0", b"\1", b""], "checkpoint-request, byte by byte"),
        (Initial(), [b"".join(map(bytes, STATE.initial()))], "the initial state"),
        (Begun(ASK, 50), [b"\0\0"], "checkpoint-request, the first 50 % of its bytes"),
        (Raw(b"any", "these"), [b"any"], "these"),
    ],
)
def test_what_an_act_writes_and_says(act: Act, written: list[bytes], text: str) -> None:
    assert pieces(act, voice()) == written
    assert str(act) == text


@pytest.mark.parametrize(
    ("act", "ends"),
    [
        (ASK, False),
        (END_IT, True),
        (Together((ASK, END_IT)), True),
        (Together((END_IT, ASK)), False),
        (ByteByByte(END_IT), True),
        (Begun(ASK, 50), False),
        (Raw(b"", "the end", ends=True), True),
        (Raw(b"", "no end"), False),
    ],
)
def test_whether_our_half_ends_behind_it(act: Act, ends: bool) -> None:
    assert act.ends is ends


def test_a_memory_is_not_written_byte_by_byte() -> None:
    written = pieces(ByteByByte(Given(Input(SEND))), voice())
    assert [len(piece) for piece in written] == [*[1] * SINGLE, 4 + len(LIVE) - SINGLE]
    assert b"".join(written) == COLO.encode(SEND) + LIVE


@pytest.mark.parametrize("percent", [0, 1, 50, 99, 100])
def test_what_is_begun_can_be_finished(percent: int) -> None:
    here = voice()
    begun, rest = pieces(Begun(TELL, percent), here), pieces(Rest(), here)
    assert len(begun[0]) == len(WHOLE_SIZE) * percent // 100
    assert begun[0] + rest[0] == WHOLE_SIZE


def test_what_one_conversation_has_left_is_not_anothers() -> None:
    here, there = voice(), voice()
    pieces(Begun(TELL, 50), here)
    assert pieces(Rest(), there) == [b""]


def test_what_is_watched_for_a_time_is_a_step_of_its_own() -> None:
    with pytest.raises(ValueError, match="is a step of its own"):
        Step(ASK, (Accepted(NOTHING),), idle=1.0)


def test_a_case_is_strict_if_one_answer_passes_at_each_step() -> None:
    one, other = Accepted(Output((REPLY,), ended=False)), Accepted(NOTHING, "or not")
    assert Case("", "", "", (Step(ASK, (one,)), Step(ASK, (one,)))).strict
    assert not Case("", "", "", (Step(ASK, (one,)), Step(ASK, (one, other)))).strict


def test_a_case_as_a_script() -> None:
    reply = Accepted(Output((REPLY,), ended=False))
    steps = (
        Step(None, (Accepted(NOTHING),)),
        Step(None, (Accepted(NOTHING),), idle=1.5),
        Step(ASK, (reply, Accepted(Output((REPLY,), ended=True), "or end"))),
    )
    assert list(Case("", "", "", steps, opening=Initial()).script()) == [
        "-> the initial state",
        "<- nothing",
        "-- 1.5 s go by",
        "<- nothing",
        "-> checkpoint-request",
        "<- checkpoint-reply | checkpoint-reply, gives up",
    ]


def test_a_line_of_an_exchange() -> None:
    assert str(Line(1.5, "->", "checkpoint-request")) == "   1.500 -> checkpoint-request"


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (Seen(NOTHING, late=True), "expected checkpoint-reply or gives up, got nothing"),
        (
            Seen(Output((SEND,), ended=True)),
            "expected checkpoint-reply or gives up, got vmstate-send, gives up",
        ),
        (Seen(Output((9,), ended=False)), "expected checkpoint-reply or gives up, got invalid value 0x9"),
        (Seen(NOTHING, garbled="noise"), "expected checkpoint-reply or gives up, got noise"),
    ],
)
def test_a_deviation_as_a_sentence(seen: Seen, text: str) -> None:
    wanted = Output((REPLY,), ended=False), Output((), ended=True)
    assert str(Deviation(1, wanted, seen, "a row")) == text
