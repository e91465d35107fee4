"""A link on a clock that only waiting moves: what comes over it, and when, is a script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import attrs

from colo_fsm.colo import TABLES, Profile, Variant
from colo_fsm.conform.link import Link
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.voice import OwnState, TableVoice, Voice
from colo_fsm.fsm import CompleteTable, Side, complete
from colo_fsm.stream import Buffer

Coming = Sequence[tuple[float, bytes]]
"""Seconds after something was given, or since the beginning, and what comes then; b"" is the link's end."""


@attrs.define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class ScriptedLink(Link):
    """`first` comes by itself; then, of `answers`, one to each time that something was written."""

    def __init__(self, clock: Clock, first: Coming, answers: Iterable[Coming]) -> None:
        self.clock = clock
        self.sent: list[bytes] = []
        self.has_ended = False
        self.signal: str | None = None
        self._answers = iter(answers)
        self._due: list[tuple[float, bytes]] = []
        self._add(first)

    def send(self, data: Iterable[Buffer]) -> None:
        written = b"".join(map(bytes, data))
        if written:
            self.sent.append(written)
            self._add(next(self._answers, ()))

    def receive(self, timeout: float) -> bytes | None:
        until = self.clock.now + timeout
        if not self._due or self._due[0][0] > until:
            self.clock.now = until
            return None
        at, data = self._due.pop(0)
        self.clock.now = max(self.clock.now, at)
        return data

    def end(self) -> None:
        self.has_ended = True
        self._add(next(self._answers, ()))

    def evidence(self) -> str:
        return "its last words"

    def crash(self, quiet: float = 0.0) -> str | None:
        return self.signal

    def _add(self, coming: Coming) -> None:
        self._due += [(self.clock.now + after, data) for after, data in coming]


PATCH = Variant(Profile.PATCH)
"""Without states on the wire: what comes is messages alone."""


@attrs.define
class ScriptedTarget:
    """A side that does in each play what `first` and `answers` say; by default one of the profile `patch`."""

    first: Coming = ()
    answers: Sequence[Coming] = ()
    side: Side = Side.SECONDARY
    variant: Variant = PATCH
    signal: str | None = None
    clock: Clock = attrs.field(factory=Clock)
    plays: int = 0
    name = "scripted"

    @property
    def table(self) -> CompleteTable:
        return complete(TABLES[self.side], self.variant)

    def link(self) -> ScriptedLink:
        self.plays += 1
        link = ScriptedLink(self.clock, self.first, self.answers)
        link.signal = self.signal
        return link

    def pace(self, timeout: float) -> Pace:
        return Pace(timeout, clock=self.clock)

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        yield self.link(), TableVoice(self.table, OwnState())


def said(*values: int) -> bytes:
    """These messages, as they stand on the wire."""
    return b"".join(value.to_bytes(4, "big") for value in values)
