"""What an exchange is made of, and the words of others as lines: shared by the ways to draw one."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from textwrap import wrap

import attrs

from colo_fsm.fsm import Side


class Tone(StrEnum):
    """What kind of step a moment is."""

    STEP = "step"
    FAULT = "fault"
    """A fault of the environment."""
    WRONG = "wrong"
    """The step that breaks the property."""


NAMES = ("Primary", "Secondary")

MARKS = {Tone.STEP: " ", Tone.FAULT: "↯", Tone.WRONG: "✗"}
"""One column wide in a terminal, where an emoji would take two."""

MEANS = {Tone.FAULT: "a fault of the environment", Tone.WRONG: "the step that breaks the property"}


@attrs.frozen
class Moment:
    """One step: what its actor does, and what it sends to its peer while doing so.

    The actor None is the world (link, arbiter, operator), which sends nothing: raises ValueError else.
    Line breaks in a text are taken as spaces; each picture breaks its lines where it needs to.
    """

    actor: Side | None
    text: str
    sends: tuple[str, ...] = attrs.field(default=())
    tone: Tone = Tone.STEP

    @sends.validator
    def _leave_a_side(self, _: object, sends: tuple[str, ...]) -> None:
        if sends and self.actor is None:
            raise ValueError(f"the world sends no messages, but {', '.join(sends)} would leave it")


def wrapped(text: str, width: int, hyphens: bool = False) -> list[str]:
    """A text of others as lines of at most this many printable characters; at least one line."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return wrap(" ".join(printable.split()), width, break_on_hyphens=hyphens) or [""]


def balanced(text: str, width: int) -> list[str]:
    """The same with lines as equal as their number allows: no last line of one word."""
    lines = wrapped(text, width)
    while width > 1 and len(narrower := wrapped(text, width - 1)) == len(lines):
        lines, width = narrower, width - 1
    return lines


def marks(moments: Iterable[Moment]) -> list[str]:
    """What the marks on these moments mean."""
    used = {m.tone for m in moments}
    return [f"{MARKS[tone]} {meaning}" for tone, meaning in MEANS.items() if tone in used]
