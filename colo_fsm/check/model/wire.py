"""What travels between the two sides, as numbers: messages by their value, and what is no message."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import count

import attrs

from colo_fsm.fsm import CompleteTable, Do, Kind, Row, Send, Words

_STATES = frozenset({Do.send_initial, Do.send_live, Do.send_state, Do.receive_live, Do.receive_state})


@attrs.frozen(eq=False, slots=False)
class Wire:
    """The numbers of one protocol. `carrier` is the message that a state comes with, where it travels so.

    It does in tables that never send a state of its own (COLO's profile `patch`): then the initial state
    is there without being sent, and each checkpoint comes with the first message after the save.
    """

    words: Words
    bare: bool = False
    carrier: int | None = None

    @classmethod
    def between(cls, primary: CompleteTable, secondary: CompleteTable) -> Wire:
        """The wire between two sides that follow these tables."""
        asked = {effect for t in (primary, secondary) for r in t.rows for effect in (*t.start, *r.effects)}
        if asked & _STATES:
            return cls(primary.words)
        return cls(primary.words, bare=True, carrier=_after_the_save(primary.written))

    @cached_property
    def invalid(self) -> int:
        """Stands for every value that is no message."""
        return next(value for value in count() if value not in self.words.by_value)

    @cached_property
    def values(self) -> tuple[int, ...]:
        """All that can stand where a message may: each message, and one that is none."""
        return tuple(sorted((*self.words.by_value, self.invalid)))

    @property
    def initial(self) -> int:
        """The initial state."""
        return self.values[-1] + 1

    @property
    def live(self) -> int:
        """A round's live state."""
        return self.values[-1] + 2

    @property
    def state(self) -> int:
        """A round's device state."""
        return self.values[-1] + 3

    @cached_property
    def names(self) -> Mapping[int, str]:
        """What each number is, in words."""
        return {value: message.text for value, message in self.words.by_value.items()} | {
            self.invalid: "an invalid message",
            self.initial: "the initial state",
            self.live: "live state",
            self.state: "device state",
        }

    def has_state(self, value: int) -> bool:
        """Whether a state travels in this."""
        return value == self.carrier if self.bare else value > self.values[-1]


def _after_the_save(rows: tuple[Row, ...]) -> int | None:
    sent = (
        int(effect.message)
        for r in rows
        if r.trigger.kind is Kind.DONE and r.trigger.word is Do.save
        for effect in r.effects
        if isinstance(effect, Send)
    )
    return next(sent, None)
