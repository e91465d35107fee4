"""What a Secondary must do with the states on the wire: the initial, the live and the device state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from colo_fsm.colo import State as S
from colo_fsm.fsm import CompleteTable, Message, encode_size
from colo_fsm.stream import Buffer
from colo_fsm.stream.format import U32

from ..blackbox import END, INVALID, Input, Output, reaction
from ..case import Accepted, Act, Begun, Case, Given, Initial, Raw, Together, whole
from ..voice import Voice
from .sources import CHECK, INCOMING, LOADVM, ROUND, STREAM, VALUE
from .words import LEFT_OPEN, LOADED, RECEIVED, REQUEST, SEND, SIZE, Story, case, unreadable, unready

LATE = "QEMU says vmstate-received when it has the bytes, and finds out what they are when it loads them"
LOOSE = "QEMU loads a device state up to its end mark, and does not look at what is behind that"
WAITING = "a side may wait for what was announced until the link ends"

GARBAGE = b"\xa5" * 64
"""Begins neither a stream nor a section."""
END_MARK = b"\x00"
LAST_FOOTER = -6
"""Where its mark stands: behind it are the section's number and the end mark."""
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


@attrs.frozen
class InPlace:
    """A message, and behind it the state that belongs behind another one."""

    message: Message
    of: Message
    ends = False

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        _, *state = voice.message(self.of)
        yield (b"".join((voice.bare(self.message), *map(bytes, state))),)

    def __str__(self) -> str:
        return f"{self.message.text}, with the state of {self.of.text} behind it"


@attrs.frozen
class Spoiled:
    """An act with one bit changed, in the byte that `at` is the index of; `text` says what that is."""

    act: Act
    at: int
    text: str
    ends = False

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        data = bytearray(whole(self.act, voice))
        data[self.at] ^= 1
        yield (data,)

    def __str__(self) -> str:
        return self.text


def live(state: bytes, what: str) -> Raw:
    """vmstate-send, and these bytes."""
    return Raw(U32.pack(SEND) + state, f"vmstate-send, {what}")


def sized(size: int, state: bytes, what: str) -> Raw:
    """vmstate-size, this size, and these bytes."""
    return Raw(U32.pack(SIZE) + encode_size(size) + state, f"vmstate-size, {what}")


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
    yield case(
        "1.5",
        "The Secondary MUST NOT say checkpoint-ready to a stream that begins with another magic.",
        STREAM,
        unreadable(table, Spoiled(Initial(), 0, "the initial state, its first byte changed")),
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
        "The Secondary MUST NOT take a vmstate-size that stands in place of the live state.",
        LOADVM,
        replied.give_up(Together((live(b"", "no live state"), Given(Input(SIZE)))), malformed, (SIZE,)),
    )
    yield case(
        "4.3",
        "The Secondary MUST give up when the live state is malformed.",
        STREAM,
        replied.give_up(live(GARBAGE, "a live state that begins no section"), malformed, (SIZE,)),
    )
    for number, percent in (("4.4", 0), ("4.5", 50), ("4.6", 99)):
        yield case(
            number,
            f"The Secondary MUST give up when the link ends at {percent} % of the live state.",
            LOADVM,
            replied.cut(SEND, percent),
        )
    yield case(
        "4.7",
        "The Secondary MUST NOT take another message for vmstate-send, if a live state is behind it.",
        CHECK,
        replied.give_up(
            InPlace(RECEIVED, SEND), reaction(replied.table, S.REPLIED, Input(RECEIVED)), (SIZE,)
        ),
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
    yield case(
        "5.9",
        "The Secondary MUST NOT take another message for vmstate-size, if a device state is behind it.",
        CHECK,
        sent.give_up(InPlace(LOADED, SIZE), reaction(sent.table, S.SENDING, Input(LOADED)), (REQUEST,)),
    )
    footer = Spoiled(Given(Input(SIZE)), LAST_FOOTER, "vmstate-size, the mark of the last footer changed")
    yield case(
        "5.10",
        "The Secondary MUST NOT say vmstate-loaded of a device state whose last section has no footer.",
        STREAM,
        sent.give_up(footer, malformed, (REQUEST,), *received),
    )


def taken(replied: Story) -> Iterator[Case]:
    """6: states that are taken, however they come. They are told last: none of it is of use without 6.1."""
    yield case(
        "6.2",
        "The Secondary MUST take a live state that is only its end mark, since nothing has changed.",
        LOADVM,
        replied.give(SEND, by=lambda _: live(END_MARK, "a live state without sections")).give(SIZE),
    )
    yield case(
        "6.3",
        "The Secondary MUST NOT answer before the live state is whole, however it comes in pieces.",
        LOADVM,
        replied.in_two(SEND).give(SIZE),
    )
    yield case(
        "6.4",
        "The Secondary MUST NOT say vmstate-received before it has the whole device state.",
        ROUND,
        replied.give(SEND).in_two(SIZE, 60),
    )
