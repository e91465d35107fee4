"""The same bytes give the same verdict: both drivers, whole and byte by byte, and the sans-IO session.

The test plays the other side on a raw socket, with bytes written out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
from replicas import (
    DRIVERS,
    LOADED,
    NEVER,
    PATIENCE,
    READY,
    RECEIVED,
    REPLY,
    REQUEST,
    SEND,
    SIZE,
    Counting,
    DriverName,
    Live,
    LoopThread,
    OneShot,
    initial_bytes,
    live,
    live_bytes,
    round_bytes,
    state_bytes,
)

from colo_fsm.colo import PrimarySession, ReleaseOn, SecondarySession, State, Variant
from colo_fsm.fsm import Do, Effect, Fault, ProtocolError, Session, Side, begin, done, fault, won
from colo_fsm.replica import Options, link_pair

P, S = Side.PRIMARY, Side.SECONDARY
STRANGE = struct.pack(">I", 7)
HUGE = struct.pack(">I", 0xFFFFFFFF)
INITIAL = initial_bytes(b"4")
BULK = {Do.receive_initial: INITIAL, Do.receive_live: live_bytes(), Do.receive_state: state_bytes(b"5")}
SAFE = Variant(release_on=ReleaseOn.LOADED)

PRIMARY_HEARS = {
    "nothing": b"",
    "part of ready": READY[:3],
    "not ready": REPLY,
    "a strange value first": STRANGE,
    "ready": READY,
    "ready twice": READY + READY,
    "a strange value when idle": READY + STRANGE,
    "no reply": READY + RECEIVED,
    "reply": READY + REPLY,
    "reply twice": READY + REPLY + REPLY,
    "a huge value for received": READY + REPLY + HUGE,
    "loaded before received": READY + REPLY + LOADED,
    "its own message": READY + REPLY + SEND,
    "received": READY + REPLY + RECEIVED,
    "received and a part": READY + REPLY + RECEIVED + LOADED[:2],
    "received twice": READY + REPLY + RECEIVED + RECEIVED,
    "a round": READY + REPLY + RECEIVED + LOADED,
    "a round and more": READY + REPLY + RECEIVED + LOADED + RECEIVED,
    "two rounds": READY + (REPLY + RECEIVED + LOADED) * 2,
}
SECONDARY_HEARS = {
    "nothing": b"",
    "initial": INITIAL,
    "a part of a request": INITIAL + REQUEST[:1],
    "a strange value": INITIAL + STRANGE,
    "no request": INITIAL + SEND,
    "its own message": INITIAL + READY,
    "request": INITIAL + REQUEST,
    "request twice": INITIAL + REQUEST + REQUEST,
    "send": INITIAL + REQUEST + SEND,
    "no size": INITIAL + REQUEST + SEND + live_bytes() + SEND,
    "a huge value for size": INITIAL + REQUEST + SEND + live_bytes() + HUGE,
    "size": INITIAL + REQUEST + SEND + live_bytes() + SIZE,
    "a round": INITIAL + round_bytes(b"5"),
    "a round and a stranger": INITIAL + round_bytes(b"5") + SIZE,
    "two rounds": INITIAL + round_bytes(b"5") * 2,
    "two rounds and a part": INITIAL + round_bytes(b"5") * 2 + REQUEST[:3],
}
CASES = [
    pytest.param(side, data, id=f"{side}: {name}")
    for side, cases in ((P, PRIMARY_HEARS), (S, SECONDARY_HEARS))
    for name, data in cases.items()
]


class SansIo:
    """A session and nothing else: everything it asks for succeeds at once; begins a round when idle."""

    def __init__(self, side: Side) -> None:
        self.session: Session = PrimarySession(SAFE) if side is P else SecondarySession(SAFE)
        self.rounds = 0
        self._left = b""

    def hear(self, data: bytes) -> StrEnum:
        self._left = data
        self._do(self.session.start())
        while self.session.wants_data and self._left:
            self._feed(self._left)
            while self.session.state in (State.READY, State.LOADED) and self.session.side is P and self._left:
                self._do(self.session.fire(begin.checkpoint))
                self._do(self.session.next_effects())
        if self.session.error is None:
            self._do(self.session.receive_data(b""))
        return self.session.state

    def _feed(self, data: bytes) -> None:
        piece, self._left = data[:4], data[4:]
        self._do(self.session.receive_data(piece))

    def _do(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            before = self.session.state
            if isinstance(effect, Do) and effect in BULK:
                part, self._left = self._left[: len(BULK[effect])], self._left[len(BULK[effect]) :]
                if part != BULK[effect]:
                    self._do(self.session.fire(fault(Fault.EOF)))
            if effect == Do.claim:
                self._do(self.session.fire(won))
            if self.session.state is before and effect in self.session.table.awaited:
                self._do(self.session.fire(done(Do(effect))))
        if effects:
            self._do(self.session.next_effects())


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread() as thread:
        yield thread


def verdict(error: ProtocolError | None) -> tuple[Any, ...]:
    assert error is not None
    return error.kind, str(error)


def heard(loop: LoopThread, driver: DriverName, side: Side, data: bytes, whole: bool) -> Live:
    """A pair that has heard these bytes and then the end of the link."""
    ours, theirs = link_pair()
    with theirs:
        options = Options(interval=0.0 if side is P else NEVER)
        pair = live(driver, loop, side, Counting(paged=False), ours, arbiter=OneShot(), options=options)
        theirs.settimeout(PATIENCE)
        if side is P and not data.startswith(READY):
            play(theirs, data, whole)
            theirs.shutdown(1)
            with pytest.raises(ProtocolError):
                pair.enter()
        else:
            if side is P:
                theirs.sendall(READY)
                data = data[4:]
            pair.enter()
            play(theirs, data, whole)
            theirs.shutdown(1)
        pair.settled()
    pair.leave()
    return pair


def play(sock: Any, data: bytes, whole: bool) -> None:
    step = len(data) if whole else 1
    for at in range(0, len(data), step or 1):
        try:
            sock.sendall(data[at : at + step])
        except OSError:
            return  # the pair has had enough


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("side", "data"), CASES)
def test_the_same_verdict(loop: LoopThread, driver: DriverName, side: Side, data: bytes, whole: bool) -> None:
    reference = SansIo(side)
    reference.hear(data)
    pair = heard(loop, driver, side, data, whole).pair
    found = verdict(pair.session.error)
    assert found == verdict(reference.session.error)
