"""The Primary's part towards a real QEMU Secondary, from a recorded or a stored VM.

The order of messages is the Primary's table. Here is what its effects mean when there is no guest:
`send_initial`, `send_live` and `send_state` come from a `Source`, everything else is nothing.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import partial
from typing import Protocol

import attrs

from colo_fsm.colo import COLO, PrimarySession, State
from colo_fsm.fsm import (
    MESSAGE_SIZE,
    Do,
    Effects,
    Fault,
    LinkLost,
    ProtocolError,
    Send,
    SendFailed,
    TimedOut,
    Transition,
    begin,
    done,
    encode_size,
    fault,
)
from colo_fsm.replica.link import READ_SIZE
from colo_fsm.stream import Buffer
from colo_fsm.stream.format import COMMAND, ENABLE_COLO, OPEN_RETURN_PATH, U8, U16

from ..checkpoint import END_MARK, VmCheckpoint
from .capture import Capture
from .channel import Return, Said
from .shadow import VARIANT


def _command(number: int) -> bytes:
    return U8.pack(COMMAND) + U16.pack(number) + U16.pack(0)


class Source(Protocol):
    """What a Primary sends besides messages. `rounds` are those it has; any number can be made of it."""

    rounds: int

    def initial(self) -> Iterable[Buffer]:
        """The initial stream, with its description."""

    def live(self, number: int) -> Iterable[Buffer]:
        """The live state of a round, with its end mark. Rounds count from 1."""

    def vmstate(self, number: int) -> bytes:
        """The vmstate of a round, with its end mark."""


class Recorded:
    """A capture. After its rounds come rounds in which nothing changes. Raises CaptureError."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._layout = capture.layout()
        self.rounds = len(self._layout.rounds)

    def initial(self) -> Iterator[bytes]:
        return self._capture.read(self._layout.initial)

    def live(self, number: int) -> Iterator[bytes]:
        if number > self.rounds:
            return iter((END_MARK,))
        return self._capture.read(self._layout.rounds[number - 1][0])

    def vmstate(self, number: int) -> bytes:
        if not self.rounds:
            return self._layout.devices + END_MARK
        return b"".join(self._capture.read(self._layout.rounds[min(number, self.rounds) - 1][1]))


class Stored:
    """A checkpoint: rounds in which nothing changes.

    `return_path`: begin as QEMU 11 and later do; False: as those before; None: as the VM's Primary did.
    A Secondary of the other kind refuses that, or aborts.
    """

    rounds = 0

    def __init__(self, checkpoint: VmCheckpoint, return_path: bool | None = None) -> None:
        opened = checkpoint.return_path if return_path is None else return_path
        begun = _command(OPEN_RETURN_PATH if opened else ENABLE_COLO)
        self._checkpoint = attrs.evolve(checkpoint, head=checkpoint.head + begun)

    def initial(self) -> Iterator[Buffer]:
        return self._checkpoint.stream()

    def live(self, number: int) -> Iterator[bytes]:
        return iter((END_MARK,))

    def vmstate(self, number: int) -> bytes:
        return self._checkpoint.devices + END_MARK


class How(StrEnum):
    """How a replay ends, when it has made its rounds."""

    STOP = "stop"
    """In order, between two rounds."""
    BREAK = "break"
    """By closing the link; in `sending` and `sized`, one byte before the end of the state."""
    ILLEGAL = "illegal"
    """By a message that does not belong there."""


@attrs.frozen
class End:
    """How and where a replay ends: `at` is the Primary's state, `loaded` being between two rounds."""

    how: How = How.STOP
    at: StrEnum = State.LOADED
    message: int = 0
    """The illegal one: any u32."""


@attrs.frozen
class Outcome:
    """What came of a replay. `ended`: it ended as it was told to.

    `answers` are the messages that came behind an illegal one, before `silence` seconds without any.
    """

    ready: bool
    rounds: int
    ended: bool
    answers: tuple[int, ...]
    state: StrEnum
    error: str | None


class Replay:
    """A Primary on a connected `link`, which it closes. `deadline` and `silence` are in seconds.

    `on_message` is told of every message: whether it was sent, and which. `run` plays it all.
    """

    def __init__(
        self,
        source: Source,
        link: socket.socket,
        rounds: int,
        end: End = End(),
        *,
        deadline: float = 30.0,
        silence: float = 0.5,
        on_message: Callable[[bool, int], object] = lambda sent, message: None,
    ) -> None:
        self.session = PrimarySession(VARIANT)
        self.rounds = 0
        """Rounds that the Secondary has loaded."""
        self._source = source
        self._link = link
        self._wanted = rounds
        self._end = end
        self._deadline = deadline
        self._silence = silence
        self._on_message = on_message
        self._return = Return()
        self._out = bytearray()
        self._ready = self._ended = False
        self._answers: list[int] = []
        self._effects: dict[Do, Callable[[], None]] = {
            Do.send_initial: lambda: self._write(source.initial()),
            Do.send_live: lambda: self._write(self._cut(source.live(self.rounds + 1))),
            Do.send_state: self._send_state,
            Do.disconnect: link.close,
        }
        self.session.on_transition(self._moved)

    def run(self) -> Outcome:
        """To the end. What goes wrong on the link stands in the outcome.

        Raises what the source or `on_message` raises: the link is closed then.
        """
        session = self.session
        step: Callable[[], Effects] | None = session.start
        with self._link:
            self._link.settimeout(self._deadline)
            while step is not None:
                try:
                    self._perform(step())
                    step = None if session.over or session.state is session.table.failover else self._next
                except ProtocolError as error:
                    step = partial(session.fire, fault(error.kind or Fault.SEND_FAILED), error)
        reason = None if self._ended or session.error is None else str(session.error)
        return Outcome(self._ready, self.rounds, self._ended, tuple(self._answers), session.state, reason)

    def _moved(self, moved: Transition) -> None:
        if moved.dest in self.session.table.idle:
            self.rounds += self._ready  # the first time, it is the initial state
            self._ready = True

    def _perform(self, effects: Effects) -> None:
        """Perform these effects, and all that follows from them and from messages that came early."""
        while effects:
            effects = self._row(effects) or (
                self._finish() if self._ends_here else self.session.next_effects()
            )

    def _row(self, effects: Effects) -> Effects:
        follow: Effects = ()
        for effect in effects:
            if isinstance(effect, Send):
                self._on_message(True, effect.message)
                self._out += COLO.encode(effect.message)
                continue
            if (action := self._effects.get(effect)) is not None:
                action()
            if effect in self.session.table.awaited:
                follow += self._finish() if self._ends_here else self.session.fire(done(effect))
        return follow

    def _next(self) -> Effects:
        """What happens when nothing is left to do: the next round begins, or the Secondary says something."""
        session = self.session
        if self._ends_here:
            return self._finish()
        if session.may(begin.checkpoint):
            return session.fire(begin.checkpoint)
        self._flush()
        data = self._receive()
        messages = b"".join(value.to_bytes(MESSAGE_SIZE, "big") for value in self._messages(data))
        return session.receive_data(messages) if messages or not data else ()

    def _messages(self, data: bytes) -> Iterator[int]:
        """The messages in these bytes: answers to pings are none."""
        for event in self._return.events(data):
            if isinstance(event, Said):
                self._on_message(False, event.value)
                yield event.value

    # -- the end

    @property
    def _ends_here(self) -> bool:
        session = self.session
        if self._ended or self.rounds < self._wanted:
            return False
        here = State.LOADED if session.may(begin.checkpoint) else session.state
        return here is self._end.at

    def _finish(self) -> Effects:
        if self._end.how is How.ILLEGAL:
            self._on_message(True, self._end.message)
            self._out += self._end.message.to_bytes(MESSAGE_SIZE, "big")
        self._flush()
        self._ended = True
        if self._end.how is How.STOP:
            return self.session.fire(begin.leave)
        if self._end.how is How.ILLEGAL:
            self._listen()
        return self.session.fire(fault(Fault.FAILOVER_REQUEST))

    def _listen(self) -> None:
        """Hear what the Secondary makes of it: a QEMU says nothing, and keeps the link open."""
        self._link.settimeout(self._silence)
        with contextlib.suppress(LinkLost, TimedOut):
            while data := self._receive():
                self._answers += self._messages(data)

    # -- the link

    def _send_state(self) -> None:
        vmstate = self._source.vmstate(self.rounds + 1)
        self._out += encode_size(len(vmstate))
        self._write(self._cut([vmstate]))

    def _cut(self, pieces: Iterable[Buffer]) -> Iterable[Buffer]:
        """To break inside a state, its last byte is left out."""
        if self._ends_here and self._end.how is How.BREAK:
            return [b"".join(pieces)[:-1]]
        return pieces

    def _write(self, pieces: Iterable[Buffer]) -> None:
        for piece in pieces:
            self._out += piece
            if len(self._out) >= READ_SIZE:
                self._flush()

    def _flush(self) -> None:
        """Small messages leave together with what follows them. Raises SendFailed."""
        try:
            self._link.sendall(self._out)
        except OSError as error:
            raise SendFailed(error) from error
        self._out.clear()

    def _receive(self) -> bytes:
        """Raises LinkLost, TimedOut."""
        try:
            return self._link.recv(READ_SIZE)
        except TimeoutError as error:
            raise TimedOut(self.session.state, self._deadline) from error
        except OSError as error:
            raise LinkLost(error) from error
