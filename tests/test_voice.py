"""How the tester speaks, and how it takes apart what a side says: whatever the table, however it is cut."""

from __future__ import annotations

import pytest
from protocols import goodbye, remus

from colo_fsm.colo import COLO, TABLES, Profile, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.conform.voice import OwnState, TableVoice, sent_behind, state_on_wire
from colo_fsm.fsm import (
    SIGN_OF_LIFE,
    CompleteTable,
    Do,
    Side,
    complete,
    encode_refusal,
    encode_size,
)
from colo_fsm.stream import DEVICE_LIMIT, PAGE_SIZE, Page, StreamError

STATE = OwnState({"ram": PAGE_SIZE}, [Page("ram", 0, b"\1" * PAGE_SIZE)], b"registers")
INITIAL, LIVE, DEVICE = (
    b"".join(map(bytes, STATE.initial())),
    b"".join(map(bytes, STATE.live(1))),
    STATE.vmstate(1),
)
PATCH = Variant(Profile.PATCH)
SIZED = COLO.encode(M.VMSTATE_SIZE) + encode_size(len(DEVICE)) + DEVICE
SENT = COLO.encode(M.VMSTATE_SEND) + LIVE + SIZED


def voice(side: Side, variant: Variant = Variant()) -> TableVoice:  # noqa: B008 - frozen
    return TableVoice(complete(TABLES[side], variant), STATE)


def told(voice: TableVoice, message: M) -> bytes:
    return b"".join(map(bytes, voice.message(message)))


# -- what is said -----------------------------------------------------------------------------------


def test_to_a_secondary_its_states_go_behind_their_messages() -> None:
    here = voice(Side.SECONDARY)
    assert b"".join(map(bytes, here.opening())) == INITIAL
    assert told(here, M.CHECKPOINT_REQUEST) == COLO.encode(M.CHECKPOINT_REQUEST)
    assert told(here, M.VMSTATE_SEND) + told(here, M.VMSTATE_SIZE) == SENT
    assert here.bare(M.VMSTATE_SEND) == COLO.encode(M.VMSTATE_SEND)


@pytest.mark.parametrize("side", Side)
def test_in_the_profile_patch_messages_are_all(side: Side) -> None:
    here = voice(side, PATCH)
    assert b"".join(map(bytes, here.opening())) == b""
    assert all(told(here, message) == COLO.encode(message) for message in M)
    assert here.ready


def test_to_a_primary_nothing_goes_with_any_message() -> None:
    here = voice(Side.PRIMARY)
    assert b"".join(map(bytes, here.opening())) == b""
    assert all(told(here, message) == COLO.encode(message) for message in M)


class Counting(OwnState):
    """Its rounds can be told apart."""

    def live(self, number: int) -> list[bytes]:
        return [b"live %d" % number]

    def vmstate(self, number: int) -> bytes:
        return b"device %d" % number


def test_each_round_has_its_own_state() -> None:
    here = TableVoice(complete(TABLES[Side.SECONDARY], Variant()), Counting())
    for number in (1, 2):
        assert told(here, M.VMSTATE_SEND).endswith(b"live %d" % number)
        assert told(here, M.VMSTATE_SIZE).endswith(b"device %d" % number)


@pytest.mark.parametrize(
    ("table", "value"),
    [
        (complete(TABLES[Side.SECONDARY], Variant()), 7),
        (complete(goodbye.SECONDARY, Variant()), 8),
    ],
)
def test_an_invalid_value_is_none_of_its_messages(table: CompleteTable, value: int) -> None:
    assert TableVoice(table, STATE).invalid == value.to_bytes(4, "big")


# -- what is heard ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 4, 1000, 1 << 20])
def test_a_primary_is_understood_however_its_bytes_come(size: int) -> None:
    here = voice(Side.PRIMARY)
    whole = INITIAL + COLO.encode(M.CHECKPOINT_REQUEST) + SENT + COLO.encode(M.CHECKPOINT_REQUEST)
    heard: list[int] = []
    for at in range(0, len(whole), size):
        heard += here.feed(whole[at : at + size])
        assert here.ready == (at + size >= len(INITIAL))
    assert heard == [M.CHECKPOINT_REQUEST, M.VMSTATE_SEND, M.VMSTATE_SIZE, M.CHECKPOINT_REQUEST]


def test_a_message_is_heard_before_the_state_behind_it_has_come() -> None:
    """So that it is noted in time, and not what is missing instead of it."""
    here = voice(Side.PRIMARY)
    assert list(here.feed(INITIAL + COLO.encode(M.VMSTATE_SEND) + LIVE[:-1])) == [M.VMSTATE_SEND]
    assert list(here.feed(LIVE[-1:] + SIZED[:-1])) == [M.VMSTATE_SIZE]
    assert list(here.feed(SIZED[-1:])) == []


def test_a_secondary_says_messages_alone() -> None:
    here = voice(Side.SECONDARY)
    assert here.ready
    assert list(here.feed(COLO.encode(M.VMSTATE_RECEIVED) * 2 + b"\0")) == [M.VMSTATE_RECEIVED] * 2
    assert here.unread == 1
    assert list(here.feed(b"\0\0\7")) == [7]
    assert here.unread == 0


def test_a_sign_of_life_is_no_message() -> None:
    here = voice(Side.SECONDARY)
    assert list(here.feed(SIGN_OF_LIFE + COLO.encode(M.CHECKPOINT_READY) + SIGN_OF_LIFE)) == [0]


def test_the_words_of_a_refusal_are_kept() -> None:
    here = voice(Side.SECONDARY)
    assert list(here.feed(encode_refusal("no\x1b room"))) == []
    assert here.refusal == "no? room"


@pytest.mark.parametrize(
    ("sent", "problem", "at"),
    [
        (COLO.encode(M.VMSTATE_SEND) + b"\xff" * 8, "section type 0xff does not belong here", 4),
        (
            COLO.encode(M.VMSTATE_SIZE) + encode_size(DEVICE_LIMIT + 1),
            f"a device state of {DEVICE_LIMIT + 1} bytes",
            4,
        ),
        (
            COLO.encode(M.VMSTATE_SIZE) + encode_size(len(DEVICE) - 1) + DEVICE,
            "the device state ends too early",
            12 + len(DEVICE) - 1,
        ),
        (
            COLO.encode(M.VMSTATE_SIZE) + encode_size(len(DEVICE) + 1) + DEVICE + b"\0",
            "1 bytes behind the end of the device state",
            12 + len(DEVICE),
        ),
    ],
)
def test_where_a_primarys_state_is_wrong(sent: bytes, problem: str, at: int) -> None:
    here = voice(Side.PRIMARY)
    list(here.feed(INITIAL))
    with pytest.raises(StreamError, match=problem) as raised:
        list(here.feed(sent))
    assert raised.value.offset == len(INITIAL) + at


# -- what a table says of it ------------------------------------------------------------------------


def test_what_a_side_sends_behind_its_messages() -> None:
    assert sent_behind(complete(TABLES[Side.PRIMARY], Variant())) == {
        M.VMSTATE_SEND: (Do.send_live,),
        M.VMSTATE_SIZE: (Do.send_state,),
    }
    assert sent_behind(complete(TABLES[Side.PRIMARY], PATCH)) == {}
    assert sent_behind(complete(TABLES[Side.SECONDARY], Variant())) == {}
    (behind,) = sent_behind(complete(remus.PRIMARY, Variant())).values()
    assert behind == (Do.send_live, Do.send_state)


@pytest.mark.parametrize("side", Side)
def test_whether_any_state_is_on_the_wire(side: Side) -> None:
    assert state_on_wire(complete(TABLES[side], Variant()))
    assert not state_on_wire(complete(TABLES[side], PATCH))
    assert state_on_wire(complete(getattr(remus, side.name), Variant()))
