"""A pair as it is seen from the link between its sides: rounds, their times, and a verdict.

Sans-IO: `Watch.saw` is handed what passed, and when; from a link (`tap`) or from a `capture`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import attrs

from colo_fsm.colo import COLO
from colo_fsm.fsm import Message, Send, Side, begin
from colo_fsm.replica.store import Store
from colo_fsm.stream import Buffer

from .channel import (
    CHANNELS,
    Channel,
    DeviceState,
    Event,
    Forward,
    Initial,
    Live,
    Return,
    Said,
    Undecodable,
)
from .shadow import TABLES, Deviation, Shadow

_REQUESTS = {
    effect.message
    for row in TABLES[Side.PRIMARY].written
    if row.trigger == begin.checkpoint
    for effect in row.effects
    if isinstance(effect, Send)
}
"""The messages that a round begins with."""


class Kind(StrEnum):
    """What a verdict says."""

    OK = "ok"
    """All was in order, and the link ended between two rounds, or because the watcher ended it."""
    DEVIATION = "deviation"
    NOT_DECODED = "not decoded"
    """A capability is on that is not read here, or a stream is malformed."""
    BROKE = "broke"
    """The link ended before the pair was ready or inside a round; all was in order until then."""


@attrs.frozen
class Verdict:
    """How it went. `text` is a sentence for people, with the place of what was wrong.

    `ended`: whose link ended first, if it was not the watcher who ended it. What the other side sent in
    answer to that is told, and is no deviation: a QEMU whose peer is gone may begin another round.
    """

    kind: Kind
    text: str
    ended: Side | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@attrs.frozen
class Round:
    """What is known of a round; number 0 is the initial state.

    `times` are seconds from the round's first message, or from the first byte in round 0, until each
    message was seen. `complete`: both sides had come to its end.
    """

    number: int
    began: float
    times: Mapping[Message, float]
    pages: int = 0
    zero_pages: int = 0
    live_bytes: int = 0
    vmstate_bytes: int = 0
    complete: bool = False

    @property
    def seconds(self) -> float:
        """Until the last message."""
        return max(self.times.values(), default=0.0)

    def as_json(self) -> dict[str, object]:
        """Like a round of the standby, with the time of every message."""
        fields = attrs.asdict(self, filter=attrs.filters.exclude("number", "began", "times"))
        times = {m.text: round(seconds, 6) for m, seconds in self.times.items()}
        return {"round": self.number, **fields, "seconds": round(self.seconds, 6), "times": times}

    def __str__(self) -> str:
        name = f"round {self.number}" if self.number else "initial state"
        state = f"{self.pages} pages ({self.zero_pages} zero), {self.live_bytes} + {self.vmstate_bytes} bytes"
        when = ", ".join(f"{COLO.sender[m]} {m.text} {t * 1000:.2f}" for m, t in self.times.items())
        return f"{name}: {state}; ms: {when or '-'}{'' if self.complete else '; not complete'}"


class Watch:
    """Decodes both channels and follows both machines. Checkpoints go to `store`, if there is one.

    `on_round` is called when a round is over, until it raises: `verdict` raises that. Once a channel holds
    something that cannot be read there is a `problem`, and the rest is not looked at.
    """

    def __init__(self, on_round: Callable[[Round], object], store: Store | None = None) -> None:
        self.shadow = Shadow()
        self.rounds = 0
        self.problem: str | None = None
        self._on_round = on_round
        self._channels: dict[Side, Channel] = {Side.PRIMARY: Forward(store), Side.SECONDARY: Return()}
        self._failure: Exception | None = None
        self._first = True
        self._round: Round | None = None
        self._ended: Side | None = None
        self._afterwards: Deviation | None = None

    def saw(self, at: float, side: Side, data: Buffer) -> None:
        """These bytes of this side's passed at this time, in seconds; none: its link has ended."""
        if not len(data) and self._ended is None:
            self._ended = side
        if self.problem is not None:
            return
        if self._first:
            self._first = False
            self._round = Round(0, at, {})
        try:
            for event in self._channels[side].events(data):
                self._event(at, side, event)
        except Undecodable as error:
            self.give_up(str(error))

    def give_up(self, problem: str) -> None:
        """Look at nothing any more."""
        self.problem = self.problem or problem

    def verdict(self, stopped: bool = False) -> Verdict:
        """To be asked when the link has ended, once: tells the round that was under way, too.

        `stopped`: who watches has ended the link.
        """
        self._close()
        if self._failure is not None:
            raise self._failure
        shadow = self.shadow
        if shadow.deviation is not None:
            return Verdict(Kind.DEVIATION, str(shadow.deviation))
        if self.problem is not None:
            return Verdict(Kind.NOT_DECODED, self.problem)
        where = ", ".join(f"the {side} in '{min(shadow.states(side))}'" for side in Side)
        if self._afterwards is not None:
            where += f"; after that, {self._afterwards}"
        rounds = f"{self.rounds} round{'s' if self.rounds != 1 else ''}"
        ended = None if stopped else self._ended
        link = "the link" if ended is None else f"the {ended}'s link"
        if shadow.between_rounds or (stopped and COLO.initial not in shadow.states(Side.PRIMARY)):
            how = "was stopped" if stopped else "ended"
            return Verdict(Kind.OK, f"{rounds}; {link} {how} with {where}", ended)
        return Verdict(Kind.BROKE, f"after {rounds} {link} ended with {where}", ended)

    def _event(self, at: float, side: Side, event: Event) -> None:
        match event:
            case Said():
                self._message(at, side, event.value, f"byte {event.start} of {CHANNELS[side]}")
            case Live():
                vmstate = len(event.devices) if isinstance(event, Initial) else 0
                self._add(
                    pages=event.pages,
                    zero_pages=event.zero_pages,
                    live_bytes=event.size - vmstate,
                    vmstate_bytes=vmstate,
                )
            case DeviceState():
                self._add(vmstate_bytes=event.size)

    def _message(self, at: float, side: Side, value: int, place: str) -> None:
        if self._ended is not None and self._is_answer_to_the_end(side, value, place):
            return
        if value in _REQUESTS:
            self._close()
            self._round = Round(self.rounds + 1, at, {})
        round_ = self._round
        if round_ is not None and (message := COLO.by_value.get(value)) is not None:
            self._add(times={**round_.times, message: at - round_.began})
        self.shadow.saw(side, value, f"{place}, round {round_.number if round_ else self.rounds}")
        if self.shadow.deviation is None and self.shadow.between_rounds:
            self._add(complete=True)
            self._close()

    def _is_answer_to_the_end(self, side: Side, value: int, place: str) -> bool:
        """Whether this is what the machines know nothing of, and all that comes behind it."""
        if self._afterwards is None and self.shadow.deviation is None:
            self._afterwards = Shadow(self.shadow.positions).saw(side, value, place)
        return self._afterwards is not None

    def _add(self, **known: Any) -> None:
        if self._round is not None:
            self._round = attrs.evolve(self._round, **known)

    def _close(self) -> None:
        """The round is over, be it complete or not."""
        if self._round is not None:
            self.rounds = self._round.number
            done, self._round = self._round, None
            if self._failure is None:
                try:
                    self._on_round(done)
                except Exception as error:  # noqa: BLE001 - it is the verdict's to raise
                    self._failure = error
