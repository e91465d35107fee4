"""What a Secondary must do. A case that is about a state on the wire is not there in the profile `patch`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import State as S
from colo_fsm.fsm import CompleteTable, encode_size
from colo_fsm.stream import Buffer
from colo_fsm.stream.format import U32

from ..blackbox import END, INVALID, Input, Output, reaction
from ..case import Accepted, Begun, ByteByByte, Case, Given, Initial, Raw, Together
from ..voice import Voice, state_on_wire
from .words import LEFT_OPEN, LONG, SOON, Story, backwards, beginning, case, unready

READY, REQUEST, REPLY = M.CHECKPOINT_READY, M.CHECKPOINT_REQUEST, M.CHECKPOINT_REPLY
SEND, SIZE, RECEIVED, LOADED = M.VMSTATE_SEND, M.VMSTATE_SIZE, M.VMSTATE_RECEIVED, M.VMSTATE_LOADED

INCOMING = "the patch, colo_process_incoming_thread()"
WAIT = "the patch, colo_wait_handle_message()"
RECEIVE = "the patch, colo_receive_message()"
CHECK = "the patch, colo_receive_check_message()"
AHEAD = "the patch, note 3 under its sync points"
ROUND = "QEMU, colo_incoming_process_checkpoint()"
VALUE = "QEMU, colo_receive_message_value()"
LOADVM = "QEMU, qemu_loadvm_state_main()"
STREAM = "QEMU, docs/devel/migration/main.rst, Stream structure"

LATE = "QEMU says vmstate-received when it has the bytes, and finds out what they are when it loads them"
LOOSE = "QEMU loads a device state up to its end mark, and does not look at what is behind that"
WAITING = "a side may wait for what was announced until the link ends"

GARBAGE = b"\xa5" * 64
"""Begins neither a stream nor a section."""
END_MARK = b"\x00"
TAKEN = Output((RECEIVED, LOADED), ended=False)


@attrs.frozen
class Padded:
    """The device state in its turn, `behind` counted in."""

    behind: bytes
    ends = False

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        message, size, *state = voice.message(SIZE)
        more = int.from_bytes(size, "big") + len(self.behind)
        yield (b"".join(map(bytes, (message, encode_size(more), *state, self.behind))),)

    def __str__(self) -> str:
        return f"vmstate-size, with {len(self.behind)} bytes behind the end mark of its state"


def live(state: bytes, what: str) -> Raw:
    """vmstate-send, and these bytes."""
    return Raw(U32.pack(SEND) + state, f"vmstate-send, {what}")


def sized(size: int, state: bytes, what: str) -> Raw:
    """vmstate-size, this size, and these bytes."""
    return Raw(U32.pack(SIZE) + encode_size(size) + state, f"vmstate-size, {what}")


def cases(table: CompleteTable) -> Iterator[Case]:
    """All of them, in order."""
    start = beginning(table)
    state = state_on_wire(table)
    whole = (REQUEST, SEND, SIZE) if state else (REQUEST, SEND)
    yield from ready(start)
    if state:
        yield from initial_state(table)
    yield from between(start)
    yield from replying(start, whole)
    if state:
        yield from live_state(start.give(REQUEST))
        yield from device_state(start.give(REQUEST, SEND))
    yield from loading(start, whole, state)
    yield from ending(start, whole, state)
    yield from in_pieces(start, whole, state)
    yield from lasting(start, whole)


def ready(start: Story) -> Iterator[Case]:
    """1: before the first checkpoint."""
    yield case(
        "1.1",
        "The Secondary MUST say checkpoint-ready once it has the initial state, and only once.",
        INCOMING,
        start.quiet(SOON),
    )


def initial_state(table: CompleteTable) -> Iterator[Case]:
    half = Begun(Initial(), 50)
    yield case(
        "1.2",
        "The Secondary MUST NOT say checkpoint-ready before it has the whole initial state.",
        INCOMING,
        unready(table, half).finish(),
    )
    yield case(
        "1.3",
        "The Secondary MUST give up without checkpoint-ready when the link ends inside the initial state.",
        LOADVM,
        unready(table, Together((half, Given(END)))),
    )
    yield case(
        "1.4",
        "The Secondary MUST give up without checkpoint-ready when what comes is no initial state.",
        STREAM,
        unready(table, Together((Raw(GARBAGE, "what begins no stream"), Given(END)))),
    )


def between(start: Story) -> Iterator[Case]:
    """2: between two checkpoints."""
    yield case(
        "2.1",
        "The Secondary MUST answer checkpoint-request with checkpoint-reply.",
        INCOMING,
        start.give(REQUEST),
    )
    yield case(
        "2.2",
        "The Secondary MUST NOT take vmstate-send before a checkpoint-request.",
        WAIT,
        start.refuse(SEND, then=(SIZE,)),
    )
    yield case(
        "2.3",
        "The Secondary MUST NOT pass over a message that only a Secondary sends.",
        WAIT,
        start.refuse(LOADED, then=(REQUEST,)),
    )
    yield case(
        "2.4",
        "The Secondary MUST NOT take the value 7 for a message.",
        RECEIVE,
        start.invalid(7, then=(REQUEST,)),
    )
    yield case(
        "2.5",
        "The Secondary MUST look at all four bytes of a message.",
        RECEIVE,
        start.invalid(0x0101, then=(REQUEST,)),
    )
    yield case(
        "2.6",
        "The Secondary MUST NOT take the largest value there is for a message.",
        RECEIVE,
        start.invalid(0xFFFFFFFF, then=(REQUEST,)),
    )
    yield case(
        "2.7",
        "The Secondary MUST NOT take a checkpoint-request with its bytes in the wrong order.",
        RECEIVE,
        start.invalid(backwards(REQUEST), then=(REQUEST,)),
    )


def replying(start: Story, whole: tuple[M, ...]) -> Iterator[Case]:
    """3: behind the reply."""
    replied = start.give(REQUEST)
    yield case(
        "3.1",
        "The Secondary MUST NOT answer a second checkpoint-request inside a checkpoint.",
        CHECK,
        replied.refuse(REQUEST, then=(REQUEST,)),
    )
    yield case(
        "3.2",
        "The Secondary MUST NOT take vmstate-size before vmstate-send.",
        CHECK,
        replied.refuse(SIZE, then=whole[1:]),
    )
    yield case(
        "3.3",
        "The Secondary MUST NOT pass over an invalid value inside a checkpoint.",
        RECEIVE,
        replied.invalid(7, then=whole[1:]),
    )
    yield case(
        "3.4",
        "The Secondary MUST NOT begin anew behind a wrong message.",
        CHECK,
        replied.refuse(RECEIVED, then=(REQUEST,)),
    )
    yield case(
        "3.5",
        "The Secondary MUST NOT pass over a message that is out of turn inside a checkpoint.",
        CHECK,
        replied.refuse(REPLY, then=whole[1:]),
    )


def live_state(replied: Story) -> Iterator[Case]:
    """4: the live state."""
    malformed = reaction(replied.table, S.SENDING, INVALID)
    yield case(
        "4.1",
        "The Secondary MUST say nothing between vmstate-send and vmstate-size.",
        ROUND,
        replied.give(SEND).quiet(),
    )
    yield case(
        "4.2",
        "The Secondary MUST take a live state that is only its end mark, since nothing has changed.",
        LOADVM,
        replied.give(SEND, by=lambda _: live(END_MARK, "a live state without sections")).give(SIZE),
    )
    yield case(
        "4.3",
        "The Secondary MUST NOT take a vmstate-size that stands in place of the live state.",
        LOADVM,
        replied.give_up(Together((live(b"", "no live state"), Given(Input(SIZE)))), malformed, (SIZE,)),
    )
    yield case(
        "4.4",
        "The Secondary MUST give up when the live state is malformed.",
        STREAM,
        replied.give_up(live(GARBAGE, "a live state that begins no section"), malformed, (SIZE,)),
    )
    for number, percent in (("4.5", 0), ("4.6", 50), ("4.7", 99)):
        yield case(
            number,
            f"The Secondary MUST give up when the link ends at {percent} % of the live state.",
            LOADVM,
            replied.cut(SEND, percent),
        )
    yield case(
        "4.8",
        "The Secondary MUST NOT answer before the live state is whole, however it comes in pieces.",
        LOADVM,
        replied.in_two(SEND).give(SIZE),
    )


def device_state(sent: Story) -> Iterator[Case]:
    """5: the size and the device state."""
    malformed = reaction(sent.table, S.SIZED, INVALID)
    received = (
        Accepted(Output((RECEIVED,), ended=True), LATE),
        Accepted(Output((RECEIVED,), ended=False), f"{LATE}; {LEFT_OPEN}"),
    )
    yield case(
        "5.1",
        "The Secondary MUST NOT take a second vmstate-send in one checkpoint.",
        VALUE,
        sent.refuse(SEND, then=(SIZE,)),
    )
    yield case(
        "5.2",
        "The Secondary MUST NOT take a checkpoint-request in place of vmstate-size.",
        VALUE,
        sent.refuse(REQUEST, then=(SIZE,)),
    )
    yield case(
        "5.3",
        "The Secondary MUST NOT say vmstate-loaded of a device state of no bytes.",
        ROUND,
        sent.give_up(sized(0, b"", "0 bytes"), malformed, (REQUEST,), *received),
    )
    yield case(
        "5.4",
        "The Secondary MUST NOT say vmstate-loaded of a device state that is malformed.",
        STREAM,
        sent.give_up(
            sized(len(GARBAGE), GARBAGE, "a state that begins no section"), malformed, (REQUEST,), *received
        ),
    )
    yield case(
        "5.5",
        "The Secondary MUST NOT say vmstate-received when the link ends inside the device state.",
        ROUND,
        sent.cut(SIZE, 70),
    )
    yield case(
        "5.6",
        "The Secondary MUST give up when the link ends inside the size.",
        VALUE,
        sent.end_with(Raw(U32.pack(SIZE) + bytes(4), "vmstate-size, half of the size"), S.SIZED),
    )
    yield case(
        "5.7",
        "The Secondary MUST NOT say vmstate-received of a device state larger than what has come.",
        ROUND,
        sent.overreach(sized(1 << 62, b"", "2^62 bytes"), malformed, WAITING),
    )
    yield case(
        "5.8",
        "The Secondary MUST take as many bytes of state as vmstate-size says, and no message of them.",
        ROUND,
        sent.give_up(Padded(U32.pack(REQUEST)), malformed, (SIZE,), *received, Accepted(TAKEN, LOOSE)),
    )


def loading(start: Story, whole: tuple[M, ...], state: bool) -> Iterator[Case]:
    """6: received and loaded."""
    before = start.give(*whole[:-1])
    yield case(
        "6.1",
        "The Secondary MUST say vmstate-received and then vmstate-loaded, each once in a checkpoint.",
        INCOMING,
        before.give(whole[-1]).quiet(),
    )
    if state:
        yield case(
            "6.2",
            "The Secondary MUST NOT say vmstate-received before it has the whole device state.",
            ROUND,
            before.in_two(SIZE, 60),
        )


def ending(start: Story, whole: tuple[M, ...], state: bool) -> Iterator[Case]:
    """7: the link's end."""
    yield case(
        "7.1",
        "The Secondary MUST give up when the link ends before the first checkpoint-request.",
        RECEIVE,
        start.end(),
    )
    yield case(
        "7.2",
        "The Secondary MUST give up when the link ends behind its reply.",
        RECEIVE,
        start.give(REQUEST).end(),
    )
    if state:
        yield case(
            "7.3",
            "The Secondary MUST give up when the link ends behind the live state.",
            VALUE,
            start.give(REQUEST, SEND).end(),
        )
    yield case(
        "7.4",
        "The Secondary MUST give up when the link ends between two checkpoints.",
        RECEIVE,
        start.give(*whole).end(),
    )
    half = Raw(U32.pack(REQUEST)[:2], "half a checkpoint-request")
    yield case(
        "7.5",
        "The Secondary MUST give up when the link ends inside a message.",
        RECEIVE,
        start.end_with(half, S.READY),
    )
    yield case(
        "7.6",
        "The Secondary MUST answer what has come whole before the link's end.",
        AHEAD,
        start.together(*whole, end=True),
    )


def in_pieces(start: Story, whole: tuple[M, ...], state: bool) -> Iterator[Case]:
    """8: bytes and pieces."""
    yield case(
        "8.1",
        "The Secondary MUST take a whole checkpoint that has come in one piece.",
        AHEAD,
        start.together(*whole),
    )
    yield case(
        "8.2",
        "The Secondary MUST take two checkpoints that have come in one piece.",
        AHEAD,
        start.together(*whole, *whole),
    )
    yield case(
        "8.3",
        "The Secondary MUST take a checkpoint-request that has come with the checkpoint before it.",
        AHEAD,
        start.give(*whole[:-1]).together(whole[-1], REQUEST),
    )
    yield case(
        "8.4",
        "The Secondary MUST take messages and a size that come byte by byte.",
        RECEIVE,
        start.give(*whole, by=ByteByByte),
    )
    yield case(
        "8.5",
        "The Secondary MUST wait for the rest of a message.",
        RECEIVE,
        start.in_two(REQUEST),
    )
    yield case(
        "8.6",
        "The Secondary MUST take a checkpoint-request that has come before it was ready.",
        AHEAD,
        beginning(start.table, REQUEST),
    )


def lasting(start: Story, whole: tuple[M, ...]) -> Iterator[Case]:
    """9: many checkpoints."""
    for number, times in (("9.1", 3), ("9.2", 10), ("9.3", 100)):
        yield case(
            number,
            f"The Secondary MUST take {times} checkpoints, one after the other.",
            INCOMING,
            start.rounds(times, *whole),
        )
    third = start.rounds(2, *whole).give(REQUEST)
    yield case(
        "9.4",
        "The Secondary MUST be as strict in the third checkpoint as in the first.",
        CHECK,
        third.refuse(REQUEST, then=whole[1:]),
    )
    yield case(
        "9.5",
        "The Secondary MUST NOT pass over a wrong message behind a checkpoint.",
        WAIT,
        start.give(*whole).refuse(REPLY, then=(REQUEST,)),
    )
    yield case(
        "9.6",
        "The Secondary MUST wait between two checkpoints for as long as its Primary asks for none.",
        WAIT,
        start.give(*whole).quiet(LONG).give(*whole),
    )
    yield case(
        "9.7",
        "The Secondary MUST wait for vmstate-send while its Primary saves its state.",
        CHECK,
        start.give(REQUEST).quiet(LONG).give(*whole[1:]),
    )
