"""The wire: messages and sizes byte by byte, in any chunking."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from colo_fsm.colo import COLO, PRIMARY, COLOMessage, PrimarySession, State, Variant
from colo_fsm.fsm import (
    SIGN_OF_LIFE,
    Inbox,
    InvalidMessage,
    Session,
    Truncated,
    TurnedAway,
    encode_refusal,
    encode_size,
    machine_for,
)


@pytest.mark.parametrize("message", COLOMessage)
def test_a_message_is_a_big_endian_u32(message: COLOMessage) -> None:
    encoded = COLO.encode(message)
    assert encoded == bytes([0, 0, 0, message])
    inbox = Inbox()
    inbox.feed(encoded)
    assert inbox.peek() == message
    assert inbox.take_value() == message
    assert len(inbox) == 0


@pytest.mark.parametrize("value", [7, 8, 255, 2**32 - 1, 2**32, -1])
def test_an_invalid_message_is_not_sent(value: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="colo_fsm")
    with pytest.raises(InvalidMessage) as caught:
        COLO.encode(value)
    assert str(caught.value) == "colo_send_message: Invalid message"
    assert (caught.value.value, caught.value.sending) == (value, True)
    assert caplog.messages == []


@pytest.mark.parametrize("value", [7, 8, 255, 0x01000000, 2**32 - 1])
def test_an_invalid_message_is_refused_and_removed(value: int, caplog: pytest.LogCaptureFixture) -> None:
    session = PrimarySession()
    caplog.set_level(logging.DEBUG, logger="colo_fsm")
    session.receive_data(value.to_bytes(4, "big") + b"\0\0\0\1")
    assert str(session.error) == "colo_receive_message: Invalid message"
    assert isinstance(session.error, InvalidMessage)
    assert (session.error.value, session.error.sending) == (value, False)
    assert not any(line.startswith("Receive") for line in caplog.messages)
    assert session.unread() == b"\0\0\0\1"


def test_messages_are_traced_as_qemu_traces_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="colo_fsm")
    PrimarySession().receive_data(COLO.encode(COLOMessage.CHECKPOINT_READY))
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("DEBUG", "Send 'checkpoint-ready' message"),
        ("DEBUG", "Receive 'checkpoint-ready' message"),
        ("DEBUG", "Change 'init' => 'ready'"),
    ]


@pytest.mark.parametrize("size", [0, 1, 2**32, 2**64 - 1])
def test_a_size_is_a_big_endian_u64(size: int) -> None:
    assert encode_size(size) == size.to_bytes(8, "big")
    inbox = Inbox()
    inbox.feed(encode_size(size))
    assert inbox.take_size() == size


def test_what_is_not_whole_stays() -> None:
    inbox = Inbox()
    inbox.feed(b"\0\0\0")
    assert inbox.peek() is None
    assert inbox.take_size() is None
    assert len(inbox) == 3
    inbox.feed(b"\5")
    assert inbox.take_value() == COLOMessage.VMSTATE_RECEIVED


def test_no_bytes_are_the_end_of_the_link() -> None:
    inbox = Inbox()
    ended = []
    for data in (b"\0", b""):
        inbox.feed(data)
        ended.append(inbox.eof)
    assert ended == [False, True]
    assert inbox.take() == b"\0"


def test_taking_bytes_is_bounded_and_gives_what_is_there() -> None:
    inbox = Inbox()
    inbox.feed(b"abcdef")
    assert inbox.take(4) == b"abcd"
    assert inbox.take(4) == b"ef"
    assert inbox.take(4) == b""
    inbox.feed(b"gh")
    assert inbox.take(0) == b""
    assert inbox.take() == b"gh"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_was_read_is_copied(kind: type[bytes | bytearray | memoryview]) -> None:
    buffer = bytearray(b"\0\0\0\1")
    data = buffer if kind is bytearray else kind(buffer)
    inbox = Inbox()
    inbox.feed(data)
    buffer[3] = 6
    assert inbox.take_value() == COLOMessage.CHECKPOINT_REQUEST


Item = COLOMessage | int | bytes
items = st.lists(
    st.sampled_from(COLOMessage) | st.integers(0, 2**64 - 1) | st.binary(min_size=1, max_size=20), max_size=8
)


def encoded(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item
    return COLO.encode(item) if isinstance(item, COLOMessage) else encode_size(item)


def take(inbox: Inbox, item: Item) -> Item | None:
    if isinstance(item, bytes):
        return inbox.take(len(item)) if len(inbox) >= len(item) else None
    if isinstance(item, COLOMessage):
        return inbox.take_value()
    return inbox.take_size()


@given(items, st.data())
@settings(deadline=None, database=None, max_examples=200)
def test_any_chunking_gives_the_same(script: list[Item], data: st.DataObject) -> None:
    stream = b"".join(map(encoded, script))
    ahead = list(script)
    inbox = Inbox()
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        inbox.feed(stream[:cut])
        stream = stream[cut:]
        while ahead and (taken := take(inbox, ahead[0])) is not None:
            assert taken == ahead.pop(0)
    assert ahead == []
    assert len(inbox) == 0


@pytest.mark.parametrize("step", [1, 3, 4, 100])
def test_signs_of_life_are_passed_over_between_messages(step: int) -> None:
    session = Session(machine_for(PRIMARY, Variant()), signs=True)
    data = SIGN_OF_LIFE * 2 + COLO.encode(COLOMessage.CHECKPOINT_READY) + SIGN_OF_LIFE
    for at in range(0, len(data), step):
        session.receive_data(data[at : at + step])
    session.next_effects()
    assert (session.state, session.error, session.unread()) == (State.READY, None, b"")


def test_a_sign_of_life_that_was_not_promised_is_no_message() -> None:
    """A QEMU, or whoever else speaks COLO alone, sends none."""
    session = PrimarySession()
    session.receive_data(SIGN_OF_LIFE)
    assert isinstance(session.error, InvalidMessage)


def test_a_link_that_ends_inside_a_sign_of_life_has_ended_too_early() -> None:
    session = Session(machine_for(PRIMARY, Variant()), signs=True)
    session.receive_data(SIGN_OF_LIFE[:2])
    session.receive_data(b"")
    assert isinstance(session.error, Truncated)


def refused(words: bytes) -> bytes:
    return b"\xff\xff\xff\xff" + len(words).to_bytes(2, "big") + words


@pytest.mark.parametrize("step", [1, 3, 4, 100])
@pytest.mark.parametrize("signs", [0, 2])
def test_a_refusal_in_any_pieces_is_told_in_the_secondarys_own_words(step: int, signs: int) -> None:
    session = Session(machine_for(PRIMARY, Variant()), signs=True)
    data = SIGN_OF_LIFE * signs + refused("zwölf\n\x1b[2J".encode())
    for at in range(0, len(data), step):
        assert session.wants_data
        session.receive_data(data[at : at + step])
    assert isinstance(session.error, TurnedAway)
    assert session.error.words == "zwölf??[2J"


@pytest.mark.parametrize("cut", range(4, 10))
def test_a_refusal_that_breaks_off_says_what_has_come(cut: int) -> None:
    session = Session(machine_for(PRIMARY, Variant()), signs=True)
    session.receive_data(refused(b"busy")[:cut])
    session.receive_data(b"")
    assert isinstance(session.error, TurnedAway)
    assert session.error.words == (b"busy"[: max(0, cut - 6)].decode() or "no reason given")


def test_a_refusal_is_what_our_own_decoder_reads() -> None:
    """Longer ones are cut."""
    inbox = Inbox(signs=True, refusable=True)
    inbox.feed(encode_refusal("why " * 1000))
    assert inbox.refusal() == "why " * 250


def test_who_may_not_refuse_sends_an_invalid_message() -> None:
    """A QEMU; one of ours behind its first message; a Primary."""
    for session in (PrimarySession(), Session(machine_for(PRIMARY, Variant()), signs=True)):
        if session.signs:
            session.receive_data(COLO.encode(COLOMessage.CHECKPOINT_READY))
        session.receive_data(refused(b"busy"))
        assert isinstance(session.error, InvalidMessage)
    inbox = Inbox(signs=True)
    inbox.feed(refused(b""))
    assert (inbox.refusal(), inbox.peek()) == (None, 2**32 - 1)
