"""One side of one pair: a small object that moves through the shared machine. Sans-IO.

A driver hands in what happened and does, in order and one after the other, what each call returns:

    effects = session.start()
    while effects:
        for effect in effects: ...          # send, suspend, save, ...: see `Do`
        effects = session.next_effects()    # from bytes that came before their turn

Effects in `table.awaited` are reported with `done(effect)` when they have completed, which returns
effects too; one that fails is reported with `fault(...)`, and what was left of its list is dropped.
Nothing that arrives raises: it becomes a row of the table, and `session.error` says what was wrong.

The verdict depends on the order of the bytes, never on when they came: a message is looked at when
its turn has come, and waits until then. Only a message that cannot be right whatever follows is
taken in an idle state at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar

import attrs

from .complete import CompleteTable
from .errors import (
    ColoError,
    FailoverRequested,
    GuestFailed,
    InvalidMessage,
    InvalidState,
    LinkLost,
    NoReturnPath,
    OutOfOrder,
    SendFailed,
    TimedOut,
    Truncated,
    UnexpectedMessage,
    UnknownMessage,
)
from .machine import ColoMachine, machine_for
from .table import Trigger, begin, done, fault, lost, recv, won
from .vocabulary import COLOMessage, Do, Effect, FailoverStatus, Fault, Side, State, Variant
from .wire import Inbox

_log = logging.getLogger(__name__)

Effects = tuple[Effect, ...]

_FAILOVER_STATUS = {
    State.FINISHING: FailoverStatus.RELAUNCH,
    State.FAILOVER: FailoverStatus.ACTIVE,
    State.ALONE: FailoverStatus.COMPLETED,
}


_ERRORS: dict[Fault, Callable[[State, BaseException | None], ColoError]] = {
    Fault.EOF: lambda _, cause: LinkLost(cause),
    Fault.TIMEOUT: lambda state, _: TimedOut(state),
    Fault.INVALID: lambda _, cause: InvalidState(cause),
    Fault.SEND_FAILED: lambda _, cause: SendFailed(cause),
    Fault.GUEST_FAILED: lambda _, cause: GuestFailed("guest", cause),
    Fault.NO_RETURN_PATH: lambda _, cause: NoReturnPath(cause),
    Fault.FAILOVER_REQUEST: lambda _, cause: FailoverRequested(cause),
}


@attrs.frozen
class Transition:
    """What an observer is told: this side has moved. `error` is set when something was wrong."""

    side: Side
    source: State
    trigger: str
    dest: State
    error: ColoError | None


Observer = Callable[[Transition], object]


@attrs.define(slots=True, eq=False, init=False)
class Session:
    """See `PrimarySession` and `SecondarySession`."""

    side: ClassVar[Side]

    machine: ColoMachine = attrs.field(repr=False)
    state: State
    error: ColoError | None
    """What was wrong last, None while nothing was."""
    _observers: tuple[tuple[State | None, Observer], ...] = attrs.field(repr=False)
    _inbox: Inbox | None = attrs.field(repr=False)
    _telling: bool = attrs.field(repr=False)

    def __init__(self, variant: Variant = Variant()) -> None:  # noqa: B008 - frozen
        self.machine = machine_for(self.side, variant)
        self.state = State.INIT
        self.error = None
        self._observers = ()
        self._inbox = None
        self._telling = False

    # -- what it is ---------------------------------------------------------------------------

    @property
    def table(self) -> CompleteTable:
        """The rows that this session follows."""
        return self.machine.table

    @property
    def awaits_message(self) -> bool:
        """Whether a message from the peer is what comes next: the states that deadlines are for."""
        return bool(self.table.accepts[self.state])

    @property
    def _listens(self) -> bool:
        """Whether messages are looked at: where one is awaited, and between two checkpoints."""
        return self.awaits_message or self.may(begin.checkpoint)

    @property
    def wants_data(self) -> bool:
        """Whether reading from the link can help now: a driver that reads only then stays bounded."""
        if self._inbox is not None and (self._inbox.eof or self._inbox.peek() is not None):
            return False
        return self._listens

    @property
    def over(self) -> bool:
        """Whether nothing can happen to this session any more."""
        return self.state in self.table.final

    @property
    def failover_status(self) -> FailoverStatus:
        """QEMU's FailoverStatus, derived from the state."""
        return _FAILOVER_STATUS.get(self.state, FailoverStatus.NONE)

    def may(self, trigger: Trigger) -> bool:
        """Whether this trigger is in order now: whether the table has a written row for it."""
        return not self.table.by_input[self.state, trigger].implied

    def on_transition(self, observer: Observer, state: State | None = None) -> None:
        """Call `observer` after every transition of this session, or after those into `state`.

        It cannot veto, and it cannot feed the session. One that raises is `fault(guest failed)` with
        its exception as the cause; once the replication is over that is only logged, so that it
        cannot stop the side that goes on alone.
        """
        self._observers += ((state, observer),)

    # -- what happened ------------------------------------------------------------------------

    def start(self) -> Effects:
        """What to do first. To be called once."""
        return self.table.start

    def feed(self, message: int) -> Effects:
        """This message has arrived and is looked at now."""
        try:
            valid = COLOMessage(message)
        except ValueError:
            return self.fault(Fault.INVALID, InvalidMessage(message))
        return self._fire(recv(valid))

    def receive_data(self, data: bytes | bytearray | memoryview) -> Effects:
        """These bytes have arrived; b"" is the end of the link, as from `socket.recv`.

        Stops behind the first message that asks something of the driver. After a row with
        `receive_live` or `receive_state` the bytes that follow are no messages: take them with
        `unread()`, and give back what is left over.
        """
        self._buffer().feed(data)
        return self.next_effects()

    def next_effects(self) -> Effects:
        """What follows from bytes received before; () when more must happen first."""
        inbox = self._inbox
        while inbox is not None and self._listens:
            value = inbox.peek()
            if value is None:
                return self._end_of_link(inbox) if inbox.eof else ()
            if not self.awaits_message and value == self.table.expects[self.state]:
                return ()  # early: its turn comes
            try:
                effects = self.feed(inbox.take_message())
            except InvalidMessage as error:
                effects = self.fault(Fault.INVALID, error)
            if effects:
                return effects
        return ()

    def unread(self) -> bytes:
        """Take the bytes that were received and not looked at."""
        return self._inbox.take() if self._inbox is not None else b""

    def give_back(self, data: bytes | bytearray | memoryview) -> None:
        """Hand over bytes without a look at them yet; `next_effects()` looks."""
        if len(data):
            self._buffer().feed(data)

    def _buffer(self) -> Inbox:
        if self._inbox is None:
            self._inbox = Inbox()
        return self._inbox

    def begin_checkpoint(self) -> Effects:
        """Start a checkpoint (Primary, between two)."""
        return self._fire(begin.checkpoint)

    def leave(self) -> Effects:
        """End in order, between two checkpoints: nothing is claimed."""
        return self._fire(begin.leave)

    def done(self, effect: Do) -> Effects:
        """This effect, one of `table.awaited`, has completed. Raises ValueError for another."""
        if effect not in self.table.awaited:
            raise ValueError(f"nobody awaits '{effect}': report {sorted(self.table.awaited)} only")
        return self._fire(done(effect))

    def fault(self, kind: Fault, cause: BaseException | None = None) -> Effects:
        """The handshake is broken. `cause` is the error itself, or what led to it."""
        return self._fire(fault(kind), self._error_for(kind, cause))

    def won(self) -> Effects:
        """The arbiter has granted the claim to this side."""
        return self._fire(won)

    def lost(self) -> Effects:
        """The arbiter has granted the claim to the peer."""
        return self._fire(lost)

    # -- how it moves -------------------------------------------------------------------------

    def _fire(self, trigger: Trigger, error: ColoError | None = None) -> Effects:
        """The one place where the state changes."""
        if self._telling:
            raise RuntimeError("an observer cannot feed the session: make a request of the pair instead")
        source = self.state
        row = self.table.by_input[source, trigger]
        self.machine.events[trigger.name].trigger(self)
        if row.dest is None:
            return row.effects
        if row.implied and error is None:
            error = self._out_of_order(source, trigger)
        _log.debug("Change '%s' => '%s'", source, row.dest)
        if error is not None:
            self.error = error
            _log.error("%s", error)
        return row.effects + self._tell(Transition(self.side, source, trigger.name, row.dest, error))

    def _tell(self, transition: Transition) -> Effects:
        raised: list[Exception] = []
        self._telling = True
        for state, observer in self._observers:
            if state is None or state is transition.dest:
                try:
                    observer(transition)
                except Exception as cause:  # noqa: BLE001 - whatever an observer raises is its fault
                    raised.append(cause)
        self._telling = False
        if raised and not self.over and self.failover_status is FailoverStatus.NONE:
            return self.fault(Fault.GUEST_FAILED, GuestFailed("observer", raised[0]))
        for late in raised:
            _log.error("%s", GuestFailed("observer", late))
        return ()

    def _out_of_order(self, state: State, trigger: Trigger) -> ColoError:
        if trigger.message is not None:
            return self._unexpected(state, trigger.message)
        return OutOfOrder(self.side, state, trigger.name)

    def _unexpected(self, state: State, message: COLOMessage) -> UnexpectedMessage:
        return UnexpectedMessage(self.side, state, message, self.table.expects[state])

    def _end_of_link(self, inbox: Inbox) -> Effects:
        return self.fault(Fault.EOF, Truncated() if len(inbox) else LinkLost())

    def _error_for(self, kind: Fault, cause: BaseException | None) -> ColoError:
        """The error object of a fault: the cause itself if it is one of ours for this kind."""
        if isinstance(cause, ColoError) and cause.kind is kind:
            return cause
        error = _ERRORS[kind](self.state, cause)
        error.__cause__ = cause
        return error


@attrs.define(slots=True, eq=False, init=False)
class PrimarySession(Session):
    """The Primary's side of a pair; `colo_fsm.protocol.primary` has its rows."""

    side = Side.PRIMARY


@attrs.define(slots=True, eq=False, init=False)
class SecondarySession(Session):
    """The Secondary's side of a pair; `colo_fsm.protocol.secondary` has its rows."""

    side = Side.SECONDARY

    def _unexpected(self, state: State, message: COLOMessage) -> UnexpectedMessage:
        expected = self.table.expects[state]
        idle = COLOMessage.CHECKPOINT_REQUEST in self.table.accepts[state]
        error = UnknownMessage if idle else UnexpectedMessage
        return error(self.side, state, message, expected)
