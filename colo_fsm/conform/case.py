"""Cases: what is done to a side under test, and what it may answer.

A case is a script that begins with a side started afresh. Each step gives the side something and says
what it may do then; the first one gives nothing. `play.py` plays them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Protocol

import attrs

from colo_fsm.stream import Buffer

from .blackbox import END, Input, Output
from .voice import Voice

SINGLE = 64
"""Bytes: a message and the head of what is behind it. A guest's memory byte by byte would take for ever."""


class Act(Protocol):
    """What is given to a side: `str()` of it stands in scripts and reports."""

    @property
    def ends(self) -> bool:
        """Whether our half of the link ends behind it."""

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        """The bytes, in the pieces in which they are written."""


@attrs.frozen
class Given:
    """One input of the table; `out_of_turn`: without the state that stands behind it in its turn."""

    input: Input
    out_of_turn: bool = False

    @property
    def ends(self) -> bool:
        return self.input == END

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        if (message := self.input.message) is not None:
            yield (voice.bare(message),) if self.out_of_turn else voice.message(message)
        elif not self.ends:
            yield (voice.invalid,)

    def __str__(self) -> str:
        return str(self.input)


@attrs.frozen
class Together:
    """Several acts in one piece, so that all but the first are there before their turn."""

    acts: tuple[Act, ...]

    @property
    def ends(self) -> bool:
        return self.acts[-1].ends

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        yield (b"".join(whole(act, voice) for act in self.acts),)

    def __str__(self) -> str:
        return f"{' + '.join(map(str, self.acts))}, in one piece"


@attrs.frozen
class ByteByByte:
    """An act whose bytes are written one at a time; what is behind the first `SINGLE` in one piece."""

    act: Act

    @property
    def ends(self) -> bool:
        return self.act.ends

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        data = whole(self.act, voice)
        yield from ((bytes((byte,)),) for byte in data[:SINGLE])
        yield (data[SINGLE:],)

    def __str__(self) -> str:
        return f"{self.act}, byte by byte"


@attrs.frozen
class Initial:
    """The initial state, for a side that receives one."""

    ends = False

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        yield voice.opening()

    def __str__(self) -> str:
        return "the initial state"


@attrs.frozen
class Begun:
    """So many parts of a hundred of an act's bytes. `Rest` gives what is left, if anything does."""

    act: Act
    percent: int
    ends = False

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        data = whole(self.act, voice)
        cut = len(data) * self.percent // 100
        voice.left = data[cut:]
        yield (data[:cut],)

    def __str__(self) -> str:
        return f"{self.act}, the first {self.percent} % of its bytes"


@attrs.frozen
class Rest:
    """What the act that was begun last has left."""

    ends = False

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        yield (voice.left,)

    def __str__(self) -> str:
        return "the rest of it"


@attrs.frozen
class Raw:
    """These bytes, whatever they are."""

    data: bytes
    text: str
    ends: bool = False

    def pieces(self, voice: Voice) -> Iterator[Iterable[Buffer]]:
        yield (self.data,)

    def __str__(self) -> str:
        return self.text


def whole(act: Act, voice: Voice) -> bytes:
    """All bytes of an act."""
    return b"".join(bytes(buffer) for piece in act.pieces(voice) for buffer in piece)


@attrs.frozen
class Accepted:
    """An answer that passes. `why`, where an implementation may differ: then it passes leniently."""

    output: Output
    why: str = ""


@attrs.frozen
class Step:
    """Give `act` (None: nothing), and one of `accepted` has to follow, the declared one first.

    `idle`: give nothing, and watch for so many seconds. `row` is what the declared machine does, as its table
    says it: where several steps deviate there, it is one finding.
    """

    act: Act | None
    accepted: tuple[Accepted, ...]
    idle: float = attrs.field(default=0.0)
    row: str = ""

    @idle.validator
    def _nothing_is_given(self, _: object, idle: float) -> None:
        if idle and self.act is not None:
            raise ValueError("what is watched for a time is a step of its own")


@attrs.frozen
class Case:
    """A test of one side. `must` is one sentence, `source` where it comes from.

    `opening`: what a side that receives an initial state is given in its place; None: the initial state.
    """

    id: str
    must: str
    source: str
    steps: tuple[Step, ...]
    opening: Act | None = None

    @property
    def strict(self) -> bool:
        """Whether only one answer passes at every step."""
        return all(len(step.accepted) == 1 for step in self.steps)

    def script(self) -> Iterator[str]:
        """The case as a person reads it, a line a step's part."""
        if self.opening is not None:
            yield f"-> {self.opening}"
        for step in self.steps:
            if step.idle:
                yield f"-- {step.idle:g} s go by"
            if step.act is not None:
                yield f"-> {step.act}"
            yield f"<- {' | '.join(str(one.output) for one in step.accepted)}"


class Verdict(StrEnum):
    """What came of a case."""

    PASS = "pass"  # noqa: S105 - no password
    LENIENT = "lenient"
    """Passed with an answer in which implementations may differ."""
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """Played again with more patience, the side did something else: see both exchanges."""


@attrs.frozen
class Line:
    """One line of an exchange: seconds since it began, `->` we gave, `<-` it said, `--` what happened."""

    at: float
    way: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:8.3f} {self.way} {self.text}"


@attrs.frozen
class Seen:
    """What a side did. `late`: only a longer wait could show more.

    `garbled`: what it did beyond that, which nothing allows: it said what cannot be read, or crashed.
    """

    output: Output
    late: bool = False
    garbled: str | None = None


@attrs.frozen
class Deviation:
    """The first answer that was not accepted, at which step, and what the table says there."""

    step: int
    expected: tuple[Output, ...]
    seen: Seen
    row: str

    @property
    def got(self) -> str:
        """What the side did instead."""
        return self.seen.garbled or str(self.seen.output)

    def __str__(self) -> str:
        return f"expected {' or '.join(map(str, self.expected))}, got {self.got}"


@attrs.frozen
class Result:
    """What came of a case: `exchange` is that of its last play, `before` that of an earlier one, if any."""

    case: Case
    verdict: Verdict
    seconds: float
    exchange: tuple[Line, ...]
    deviation: Deviation | None = None
    before: tuple[Line, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why what was seen passes leniently."""
    evidence: str = ""
    """What else there is to say of a side that did not pass: its last words, say."""
