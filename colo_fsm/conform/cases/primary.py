"""What a Primary must do. Its initial state, and the state of each checkpoint, are read in every case."""

from __future__ import annotations

from collections.abc import Iterator

from colo_fsm.colo import State as S
from colo_fsm.fsm import CompleteTable
from colo_fsm.stream.format import U32

from ..case import ByteByByte, Case, Raw
from ..voice import state_on_wire
from .sources import AHEAD, CHECK, PROCESS, RECEIVE, SAVE, TRANSACTION
from .words import LOADED, LONG, READY, RECEIVED, REPLY, REQUEST, SOON, Story, backwards, beginning, case

CHECKPOINT = (REPLY, RECEIVED, LOADED)


def cases(table: CompleteTable) -> Iterator[Case]:
    """All of them, in order."""
    start = beginning(table)
    asked = start.give(READY)
    yield from before_ready(start)
    yield from requesting(asked)
    yield from sending(asked, state_on_wire(table))
    yield from committing(asked, state_on_wire(table))
    yield from ending(start)
    yield from in_pieces(start)
    yield from lasting(asked)


def before_ready(start: Story) -> Iterator[Case]:
    """1: before the Secondary is ready."""
    yield case(
        "1.1",
        "The Primary MUST ask for a checkpoint behind checkpoint-ready, and only once.",
        TRANSACTION,
        start.give(READY).quiet(),
    )
    yield case(
        "1.2",
        "The Primary MUST wait for checkpoint-ready, for as long as its Secondary loads the initial state.",
        PROCESS,
        start.quiet(LONG).give(READY),
    )
    yield case(
        "1.3",
        "The Primary MUST NOT take another message for checkpoint-ready.",
        CHECK,
        start.refuse(REPLY, then=(READY,)),
    )
    yield case(
        "1.4",
        "The Primary MUST NOT pass over an invalid value in place of checkpoint-ready.",
        RECEIVE,
        start.invalid(0xFFFFFFFF, then=(READY,)),
    )


def requesting(asked: Story) -> Iterator[Case]:
    """2: the request and its reply."""
    yield case(
        "2.1",
        "The Primary MUST say nothing more between checkpoint-request and checkpoint-reply.",
        TRANSACTION,
        asked.quiet(SOON),
    )
    yield case(
        "2.2",
        "The Primary MUST NOT take a second checkpoint-ready.",
        CHECK,
        asked.refuse(READY, then=(REPLY,)),
    )
    yield case(
        "2.3",
        "The Primary MUST NOT take vmstate-received for checkpoint-reply.",
        CHECK,
        asked.refuse(RECEIVED, then=(REPLY,)),
    )
    yield case(
        "2.4",
        "The Primary MUST NOT take the value 7 for a message.",
        RECEIVE,
        asked.invalid(7, then=(REPLY,)),
    )
    yield case(
        "2.5",
        "The Primary MUST NOT take a checkpoint-reply with its bytes in the wrong order.",
        RECEIVE,
        asked.invalid(backwards(REPLY), then=(REPLY,)),
    )
    yield case(
        "2.6",
        "The Primary MUST NOT pass over a message that only a Primary sends.",
        CHECK,
        asked.refuse(REQUEST, then=(REPLY,)),
    )


def sending(asked: Story, state: bool) -> Iterator[Case]:
    """3: the state."""
    yield case(
        "3.1",
        "The Primary MUST send its state behind checkpoint-reply and then wait for vmstate-received.",
        SAVE if state else TRANSACTION,
        asked.give(REPLY).quiet(),
    )


def committing(asked: Story, state: bool) -> Iterator[Case]:
    """4: received and loaded."""
    sent = asked.give(REPLY)
    yield case(
        "4.1",
        "The Primary MUST NOT ask for the next checkpoint before vmstate-loaded.",
        TRANSACTION,
        sent.give(RECEIVED).quiet(SOON).give(LOADED),
    )
    yield case(
        "4.2",
        "The Primary MUST NOT take vmstate-loaded for vmstate-received.",
        CHECK,
        sent.refuse(LOADED, then=(LOADED,)),
    )
    yield case(
        "4.3",
        "The Primary MUST NOT take a second checkpoint-reply in place of vmstate-received.",
        CHECK,
        sent.refuse(REPLY, then=(RECEIVED, LOADED)),
    )
    yield case(
        "4.4",
        "The Primary MUST NOT take a second vmstate-received for vmstate-loaded.",
        CHECK,
        sent.give(RECEIVED).refuse(RECEIVED, then=(LOADED,)),
    )
    yield case(
        "4.5",
        "The Primary MUST NOT pass over an invalid value in place of vmstate-received.",
        RECEIVE,
        sent.invalid(7, then=(RECEIVED, LOADED)),
    )
    yield case(
        "4.6",
        "The Primary MUST look at all four bytes of a message.",
        RECEIVE,
        sent.give(RECEIVED).invalid(0x0100 + LOADED, then=(LOADED,)),
    )
    if state:
        yield case(
            "4.7",
            "The Primary MUST announce the size of the device state that follows in each checkpoint.",
            SAVE,
            asked.give(*CHECKPOINT, *CHECKPOINT, REPLY),
        )


def ending(start: Story) -> Iterator[Case]:
    """7: the link's end."""
    asked = start.give(READY)
    before = (
        ("7.1", "checkpoint-ready", start),
        ("7.2", "checkpoint-reply", asked),
        ("7.3", "vmstate-received", asked.give(REPLY)),
        ("7.4", "vmstate-loaded", asked.give(REPLY, RECEIVED)),
    )
    for number, message, story in before:
        yield case(
            number,
            f"The Primary MUST give up when the link ends before {message}.",
            RECEIVE,
            story.end(),
        )
    half = Raw(U32.pack(REPLY)[:2], "half a checkpoint-reply")
    yield case(
        "7.5",
        "The Primary MUST give up when the link ends inside a message.",
        RECEIVE,
        asked.end_with(half, S.REQUESTED),
    )


def in_pieces(start: Story) -> Iterator[Case]:
    """8: bytes and pieces."""
    asked = start.give(READY)
    yield case(
        "8.1",
        "The Primary MUST take all of a Secondary's messages when they have come in one piece.",
        AHEAD,
        start.together(READY, *CHECKPOINT),
    )
    yield case(
        "8.2",
        "The Primary MUST take vmstate-loaded that has come with vmstate-received.",
        AHEAD,
        asked.give(REPLY).together(RECEIVED, LOADED),
    )
    yield case(
        "8.3",
        "The Primary MUST take messages that come byte by byte.",
        RECEIVE,
        start.give(READY, *CHECKPOINT, by=ByteByByte),
    )
    yield case(
        "8.4",
        "The Primary MUST wait for the rest of a message.",
        RECEIVE,
        asked.in_two(REPLY),
    )


def lasting(asked: Story) -> Iterator[Case]:
    """9: many checkpoints."""
    for number, times in (("9.1", 3), ("9.2", 10), ("9.3", 100)):
        yield case(
            number,
            f"The Primary MUST take {times} checkpoints, one after the other.",
            PROCESS,
            asked.rounds(times, *CHECKPOINT),
        )
    yield case(
        "9.4",
        "The Primary MUST be as strict in the third checkpoint as in the first.",
        CHECK,
        asked.rounds(2, *CHECKPOINT).give(REPLY).refuse(LOADED, then=(LOADED,)),
    )
    yield case(
        "9.5",
        "The Primary MUST wait for checkpoint-reply, for as long as its Secondary needs to suspend.",
        CHECK,
        asked.quiet(LONG).give(REPLY),
    )
