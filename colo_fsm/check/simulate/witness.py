"""What a run has shown: everything that is later judged is written down here, as it happens."""

from __future__ import annotations

import attrs

from colo_fsm.fsm import Side

from .schedule import Fault
from .service import KeyValue, Request


@attrs.frozen
class Strike:
    """A fault that has struck, and the states of both sides at that moment."""

    at: float
    fault: Fault
    primary: str
    secondary: str


@attrs.frozen
class Release:
    """An answer that left a side."""

    at: float
    process: str
    side: Side
    generation: int
    checkpoint: int
    request: Request


@attrs.frozen
class Won:
    """A side that was told that it has won, and the checkpoint that it goes on from."""

    process: str
    side: Side
    generation: int
    token: int
    checkpoint: int


@attrs.define(eq=False)
class Witness:
    """The record of one run."""

    strikes: list[Strike] = attrs.field(factory=list)
    releases: list[Release] = attrs.field(factory=list)
    won: list[Won] = attrs.field(factory=list)
    claims_lost: int = 0
    checkpoints: int = 0
    generations: list[int] = attrs.field(factory=list)
    """Those in which the guest has run, in order."""
    alone: list[int] = attrs.field(factory=list)
    """The generations in which a side ran alone."""
    saved: set[bytes] = attrs.field(factory=set)
    torn: list[str] = attrs.field(factory=list)
    """A state was loaded that nobody ever saved, or saved while it was changing."""
    broken: list[str] = attrs.field(factory=list)
    """A store was not what it must be when it was opened again."""
    bad_ends: list[str] = attrs.field(factory=list)
    """A side ended with an error of its own."""


class WatchedKeyValue(KeyValue):
    """The service, with what it saves and loads compared."""

    def __init__(self, witness: Witness, name: str) -> None:
        super().__init__()
        self._witness = witness
        self._name = name

    def get_state(self) -> bytes:
        state = super().get_state()
        if self.open_turns:
            self._witness.torn.append(f"{self._name} was saved while {self.open_turns} turns were open")
        self._witness.saved.add(state)
        return state

    def set_state(self, state: bytes) -> None:
        if state not in self._witness.saved:
            self._witness.torn.append(f"{self._name} was loaded with a state that nobody saved")
        super().set_state(state)
