"""What every driver does, written once: performs the effects of a session against a guest and a link.

A script is a generator. It yields what it wants from the outside (`Read`, `Write`, `Call`,
`Disconnect`) and is sent the result, or thrown the exception. The blocking and the asyncio driver are
loops of a few lines that serve these four; a simulation is a third. The script knows no order of
messages: the session's table has it. Here: `primary_script.py` and `secondary_script.py` add what
only one side does.

One row's effects are performed to the end, in order, before anything else is looked at; the first one
that fails becomes a fault, and the rest of its row is dropped. Messages gather until something waits
or works, so that neighbours leave in one write.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import attrs

from colo_fsm.arbiter import Arbiter, UnknownGeneration
from colo_fsm.colo import COLO, State
from colo_fsm.fsm import (
    Do,
    Effects,
    FailoverRequested,
    FailoverStatus,
    Fault,
    GuestFailed,
    LinkLost,
    NoReturnPath,
    ProtocolError,
    Send,
    SendFailed,
    Session,
    TimedOut,
    begin,
    done,
    fault,
    lost,
    won,
)
from colo_fsm.stream.memory import Buffer

from .events import ClaimAnswered, ClaimUnanswered, Event
from .guest import AsyncGuest, Guest
from .options import Options
from .outbox import Outbox

_log = logging.getLogger(__name__)
T = TypeVar("T")


@attrs.frozen
class Read:
    """Bytes from the link, b"" at its end; None when somebody made a request meanwhile.

    Without `from_link`: just wait. Raises TimeoutError after `timeout` seconds, OSError.
    """

    timeout: float | None
    from_link: bool = True


@attrs.frozen
class Write:
    """Write all of this; None, or what is left when somebody made a request meanwhile.

    Raises TimeoutError when nothing moved for `timeout` seconds, OSError.
    """

    buffers: list[Buffer]
    timeout: float | None


@attrs.frozen
class Call:
    """Call a hook, where it may take its time; its result, or what it raises."""

    hook: Callable[..., Any]
    args: tuple[Any, ...] = ()


@attrs.frozen
class OpenReturnPath:
    """Make sure that the peer can be heard. Raises OSError."""


@attrs.frozen
class Disconnect:
    """Close the link, if it is open."""


Op = Read | Write | Call | OpenReturnPath | Disconnect
Script = Generator[Op, Any, T]


def at_once(action: Callable[[], None]) -> Callable[[], Script[Effects]]:
    """An effect that neither waits nor asks the outside for anything."""

    def step() -> Script[Effects]:
        try:
            action()
        except Exception as cause:
            raise GuestFailed("output", cause) from cause
        yield from ()
        return ()

    return step


class _Leaving(Exception):
    """Somebody wants to leave, and this is a moment where one may."""


class Gate(Protocol):
    """Lets turns in while the guest runs (see `Pair.turn`). Its methods may be coroutines."""

    def open(self) -> Any:
        """Turns may begin."""

    def close(self) -> Any:
        """No turn may begin any more; returns when none is open."""


class Replica:
    """One side at work. Make requests from any thread and then wake the driver."""

    def __init__(
        self,
        session: Session,
        guest: Guest | AsyncGuest,
        arbiter: Arbiter,
        options: Options,
        *,
        gate: Gate,
        emit: Callable[[Event], None],
        clock: Callable[[], float],
    ) -> None:
        self.session = session
        self.guest = guest
        self.arbiter = arbiter
        self.options = options
        self.outbox = Outbox()
        self.generation: int | None = None
        self.token = 0
        self.checkpoint = 0
        self.leave_requested = False
        self.failover_requested = False
        self._gate = gate
        self._emit = emit
        self._clock = clock
        self._outgoing: list[Buffer] = []
        self._running = False
        self._connected = True
        self._claim_at: float | None = None
        self._quiet: tuple[StrEnum, float] = session.state, clock()
        """Since when nothing has moved on the link, in which state."""
        self._effects: Mapping[Do, Callable[[], Script[Effects]]] = {
            Do.suspend: self._suspend,
            Do.resume: self._resume,
            Do.release_all: at_once(self.outbox.release_all),
            Do.discard: self._discard,
            Do.disconnect: self._disconnect,
            Do.claim: self._claim,
            **self.own_effects(),
        }
        session.on_transition(emit)

    def own_effects(self) -> Mapping[Do, Callable[[], Script[Effects]]]:
        """What only this side's table asks for."""
        raise NotImplementedError

    def begin(self) -> Script[Effects]:
        """What comes before the table's start. Its effects, if any, take the place of the start's."""
        raise NotImplementedError

    def due(self) -> float | None:
        """When this side begins a checkpoint by itself, by the clock; None: never."""
        return None

    @property
    def failover_status(self) -> FailoverStatus:
        """QEMU's FailoverStatus: what the session says, or `require` while a request waits."""
        status = self.session.failover_status
        waits = self.failover_requested and status is FailoverStatus.NONE and not self.session.over
        return FailoverStatus.REQUIRE if waits else status

    # -- the loop -----------------------------------------------------------------------------

    def run(self) -> Script[None]:
        """From the first effect to a state that nothing leaves."""
        session = self.session
        yield from self._perform((yield from self._guarded(self.begin)) or session.start())
        while not session.over:
            yield from self._perform((yield from self._guarded(self._next)))

    def _perform(self, effects: Effects) -> Script[None]:
        """Perform these effects and all that follows from them and from bytes that came early."""
        while effects:
            effects = yield from self._row(effects)
            if not effects:
                effects = self.session.next_effects()

    def _row(self, effects: Effects) -> Script[Effects]:
        """Perform the effects of one row; what follows from their completion."""
        session = self.session
        follow: Effects = ()
        for effect in effects:
            if isinstance(effect, Send):
                self._outgoing.append(COLO.encode(effect.message))
                continue
            before = session.state
            follow += yield from self._guarded(self._effects[effect])
            if session.state is not before:
                return follow
            if session.awaits(effect):
                # a request that came meanwhile comes before the completion: nothing more is sent
                follow += self._failover() + session.fire(done(effect))
        return follow

    def _guarded(self, step: Callable[[], Script[Effects]]) -> Script[Effects]:
        """Take a step; what it raises becomes a fault."""
        try:
            return (yield from step())
        except _Leaving:
            return self.session.fire(begin.leave)
        except ProtocolError as error:
            return self.session.fire(fault(error.kind or Fault.GUEST_FAILED), error)
        except Exception as cause:  # noqa: BLE001 - whatever else it is, the side must not just vanish
            return self.session.fire(fault(Fault.GUEST_FAILED), cause)

    def _next(self) -> Script[Effects]:
        """Wait until something happens, and tell the session."""
        session = self.session
        yield from self._flush()
        if self.leave_requested and session.may(begin.leave):
            return session.fire(begin.leave)
        if self.failover_requested:
            return self._failover()
        now = self._clock()
        if self._claim_at is not None and now >= self._claim_at:
            return (Do.claim,)
        if session.may(begin.checkpoint) and (due := self.due()) is not None and now >= due:
            return session.fire(begin.checkpoint)
        try:
            data = yield from self._read(self._patience(now), session.wants_data)
        except TimedOut:
            if session.awaits_message:
                raise
            return ()
        return self.arrived(data) if data is not None else ()

    def arrived(self, data: bytes) -> Effects:
        """Bytes have arrived where a message may begin."""
        return self.session.receive_data(data)

    def _failover(self) -> Effects:
        """Feed a failover request that waits, once."""
        if not self.failover_requested:
            return ()
        self.failover_requested = False
        return self.session.fire(fault(Fault.FAILOVER_REQUEST))

    # -- time and the link --------------------------------------------------------------------

    def _deadline(self) -> float | None:
        """How long nothing may move on the link in this state."""
        return self.options.deadlines.get(State(self.session.state))

    def _left(self) -> float | None:
        """What is left of the deadline: a wake-up is no progress."""
        if self._quiet[0] is not self.session.state:
            self._moved()
        deadline = self._deadline()
        return None if deadline is None else max(0.0, self._quiet[1] + deadline - self._clock())

    def _moved(self) -> None:
        self._quiet = self.session.state, self._clock()

    def _patience(self, now: float) -> float | None:
        """How long the next wait may take: the deadline of the state, or until something is due."""
        if self.session.awaits_message:
            return self._left()
        due = self.due() if self.session.may(begin.checkpoint) else self._claim_at
        return None if due is None else max(0.0, due - now)

    def _read(self, timeout: float | None, from_link: bool = True) -> Script[bytes | None]:
        try:
            data: bytes | None = yield Read(timeout, from_link)
        except TimeoutError as cause:
            raise TimedOut(self.session.state, self._deadline()) from cause
        except OSError as cause:
            raise LinkLost(cause) from cause
        if data is not None:
            self._moved()
        return data

    def receive(self) -> Script[bytes]:
        """Bytes of a state that is under way, b"" at the end of the link."""
        if early := self.session.unread():
            return early
        yield from self._flush()
        while True:
            self._heed()
            data = yield from self._read(self._left())
            if data is not None:
                return data

    def _heed(self) -> None:
        """Break off what is under way for a request that cannot wait."""
        if self.leave_requested and self.session.may(begin.leave):
            raise _Leaving
        if self.failover_requested:
            self.failover_requested = False
            raise FailoverRequested

    def send(self, *buffers: Buffer) -> None:
        """Queue bytes behind the messages queued before."""
        self._outgoing += buffers

    def _flush(self) -> Script[None]:
        """Let everything queued leave in one write."""
        if not self._outgoing or not self._connected:
            self._outgoing.clear()
            return
        buffers, self._outgoing = self._outgoing, []
        left = sum(map(len, buffers))
        self._moved()
        while buffers:
            try:
                buffers = yield Write(buffers, self._left())
            except TimeoutError as cause:
                raise TimedOut(self.session.state, self._deadline(), sending=True) from cause
            except OSError as cause:
                raise SendFailed(cause) from cause
            if buffers:
                before, left = left, sum(map(len, buffers))
                if left < before:
                    self._moved()
                self._heed()
        self._moved()

    def call(self, name: str, hook: Callable[..., Any], *args: Any) -> Script[Any]:
        """Call a hook of the embedder's; `name` says in the error which one raised."""
        yield from self._flush()
        try:
            return (yield Call(hook, args))
        except Exception as cause:
            raise GuestFailed(name, cause) from cause

    def open_return_path(self) -> Script[None]:
        """The Primary's first step (colo_process_checkpoint)."""
        try:
            yield OpenReturnPath()
        except OSError as cause:
            raise NoReturnPath(cause) from cause

    # -- effects of both sides ----------------------------------------------------------------

    def _suspend(self) -> Script[Effects]:
        if self._running:
            self._running = False
            yield from self.call("a turn", self._gate.close)
            yield from self.call("guest.suspend", self.guest.suspend)
            _log.debug("Change '%s' => '%s'", "run", "stop")
        return ()

    def _resume(self) -> Script[Effects]:
        yield from self.call("guest.resume", self.guest.resume)
        self._running = True
        _log.debug("Change '%s' => '%s'", "stop", "run")
        yield from self.call("a turn", self._gate.open)
        return ()

    def _discard(self) -> Script[Effects]:
        return (yield from at_once(self.outbox.discard)())

    def _disconnect(self) -> Script[Effects]:
        self._connected = False
        self._outgoing.clear()
        yield Disconnect()
        return ()

    def _claim(self) -> Script[Effects]:
        """Ask once. Without an answer the side stays suspended, says so, and asks again later.

        A side whose own guest or store has failed lets a healthy peer ask first: that decides when
        it claims, not who may run.
        """
        error = self.session.error
        if self._claim_at is None and isinstance(error, GuestFailed):
            self._claim_at = self._clock() + self.options.claim_retry
            return ()
        self._claim_at = None
        try:
            claim = yield Call(self.arbiter.claim, (self.generation, self.session.side))
        except UnknownGeneration as cause:
            self._emit(ClaimUnanswered(cause, None))
            return self.session.fire(lost)
        except Exception as cause:  # noqa: BLE001 - whatever it is, the claim is not granted
            self._claim_at = self._clock() + self.options.claim_retry
            self._emit(ClaimUnanswered(cause, self.options.claim_retry))
            return ()
        granted = claim.winner is self.session.side
        if granted:
            self.token = claim.token
        self._emit(ClaimAnswered(claim, granted))
        return self.session.fire(won) if granted else self.session.fire(lost)
