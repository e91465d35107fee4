"""What a Secondary must do. A case that is about a state on the wire is not there in the profile `patch`."""

from __future__ import annotations

from collections.abc import Iterator

from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import State as S
from colo_fsm.fsm import CompleteTable
from colo_fsm.stream.format import U32

from ..case import ByteByByte, Case, Raw
from ..voice import state_on_wire
from . import states
from .sources import AHEAD, CHECK, INCOMING, RECEIVE, VALUE, WAIT
from .words import (
    LOADED,
    LONG,
    RECEIVED,
    REPLY,
    REQUEST,
    SEND,
    SIZE,
    SOON,
    Story,
    backwards,
    beginning,
    case,
)


def cases(table: CompleteTable) -> Iterator[Case]:
    """All of them, in order."""
    start = beginning(table)
    state = state_on_wire(table)
    whole = (REQUEST, SEND, SIZE) if state else (REQUEST, SEND)
    yield from ready(start)
    if state:
        yield from states.initial_state(table)
    yield from between(start)
    yield from replying(start, whole)
    if state:
        yield from states.live_state(start.give(REQUEST))
        yield from states.device_state(start.give(REQUEST, SEND))
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
        yield from states.taken(start.give(REQUEST))


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
