"""One side of one pair: a small object that moves through the shared machine. Sans-IO.

A driver hands in what happened and does, in order and one after the other, what each call returns:

    effects = session.start()
    while effects:
        for effect in effects: ...          # send, suspend, save, ...: see `Do`
        effects = session.next_effects()    # from bytes that came before their turn

There are two ways in: `receive_data` for what came from the link, `fire` for all else. An effect that
the session `awaits` is reported with `fire(done(effect))` when it has completed, which returns effects
too; one that fails is reported with `fire(fault(...), cause)`, and what was left of its list is dropped.
Nothing that arrives raises: it becomes a row of the table, and `session.error` says what was wrong.

The verdict depends on the order of the bytes, never on when they came: a message is looked at when
its turn has come, and waits until then. Only a message that cannot be right whatever follows is
taken in an idle state at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import attrs

from .complete import CompleteTable
from .errors import (
    FailoverRequested,
    GuestFailed,
    InvalidState,
    LinkLost,
    NoReturnPath,
    OutOfOrder,
    ProtocolError,
    SendFailed,
    TimedOut,
    Truncated,
    TurnedAway,
    UnexpectedMessage,
    UnknownMessage,
    link_ended,
)
from .machine import TableMachine
from .table import Kind, Row, Trigger, begin, fault
from .terms import Do, Effect, FailoverStatus, Fault, Side
from .wire import REFUSED, Inbox

_log = logging.getLogger(__name__)

Effects = tuple[Effect, ...]

_ERRORS: dict[Fault, Callable[[StrEnum, BaseException | None], ProtocolError]] = {
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
    source: StrEnum
    trigger: str
    dest: StrEnum
    error: ProtocolError | None


Observer = Callable[[Transition], object]
Note = Callable[[StrEnum, Row, ProtocolError | None], object]
"""Told which state was left, by which row, and what was wrong."""


@attrs.define(slots=True, eq=False, init=False)
class Session:
    """One side, in the initial state of the machine's table: `Session(machine_for(table))`.

    `signs`: whether the peer may send signs of life between its messages, as this side may then; a
    Secondary that does may refuse its Primary in words, too.
    """

    machine: TableMachine = attrs.field(repr=False)
    state: StrEnum
    error: ProtocolError | None
    """What was wrong last, None while nothing was."""
    note: Note | None = attrs.field(repr=False)
    """For whoever drives it: called at every transition, before any observer. It must not raise."""
    _observers: tuple[tuple[StrEnum | None, Observer], ...] = attrs.field(repr=False)
    _inbox: Inbox | None = attrs.field(repr=False)
    _telling: bool = attrs.field(repr=False)

    def __init__(self, machine: TableMachine, *, signs: bool = False) -> None:
        self.machine = machine
        self.state = machine.table.initial
        self.error = None
        self.note = None
        self._observers = ()
        refusable = self.side is Side.PRIMARY
        self._inbox = Inbox(signs=True, refusable=refusable) if signs else None
        self._telling = False

    # -- what it is ---------------------------------------------------------------------------

    @property
    def table(self) -> CompleteTable:
        """The rows that this session follows."""
        return self.machine.table

    @property
    def side(self) -> Side:
        """Whose rows they are."""
        return self.table.side

    @property
    def signs(self) -> bool:
        """Whether a sign of life may come, and may be sent, where a message may begin."""
        return self._inbox is not None and self._inbox.signs

    @property
    def awaits_message(self) -> bool:
        """Whether a message from the peer is what comes next."""
        return bool(self.machine.table.accepts[self.state])

    @property
    def wants_data(self) -> bool:
        """Whether reading from the link can help now: a driver that reads only then stays bounded."""
        if self._inbox is not None and (self._inbox.eof or self._inbox.peek() is not None):
            return False
        return self.state in self.machine.table.listens

    @property
    def over(self) -> bool:
        """Whether nothing can happen to this session any more."""
        return self.state in self.machine.table.final

    @property
    def failover_status(self) -> FailoverStatus:
        """QEMU's FailoverStatus, derived from the state."""
        return self.machine.table.status[self.state]

    def may(self, trigger: Trigger) -> bool:
        """Whether this trigger is in order now: whether the table has a written row for it."""
        return self.table.may(self.state, trigger)

    def awaits(self, effect: Do) -> bool:
        """Whether a row waits here for this effect's completion: then report it, with `done(effect)`."""
        return self.machine.table.awaits(self.state, effect)

    def on_transition(self, observer: Observer, state: StrEnum | None = None) -> None:
        """Call `observer` after every transition of this session, or after those into `state`.

        It cannot veto, and it cannot feed the session. One that raises is `fault(guest failed)` with
        its exception as the cause, and nothing of the row is done, as if its first effect had failed. Once
        the replication is over that is only logged, so that it cannot stop the side that goes on alone.
        """
        self._observers += ((state, observer),)

    # -- what happened ------------------------------------------------------------------------

    def start(self) -> Effects:
        """What to do first. To be called once."""
        return self.table.start

    def fire(self, trigger: Trigger, cause: BaseException | None = None) -> Effects:
        """This has happened. `cause` is, for a fault, the error itself or what led to it.

        Returns what to do now, in order. The one place where the state changes. Raises ValueError for
        a trigger that the table does not know: a message of another protocol, or a `done` that no row
        of it awaits.
        """
        if self._telling:
            raise RuntimeError("an observer cannot feed the session: make a request of the pair instead")
        event: Any = self.machine.events.get(trigger.name)
        if event is None:
            raise ValueError(f"no row of the {self.side} awaits '{trigger}'")
        source = self.state
        row: Row = event.trigger(self)
        if row.dest is None:
            return row.effects
        _log.debug("Change '%s' => '%s'", source, row.dest)
        error = self._wrong(row, cause) if row.implied or trigger.kind is Kind.FAULT else None
        if self.note is not None:
            self.note(source, row, error)
        if not self._observers:
            return row.effects
        failed = self._tell(Transition(self.side, source, trigger.name, row.dest, error))
        return row.effects if failed is None else failed

    def _wrong(self, row: Row, cause: BaseException | None) -> ProtocolError:
        """Note what was wrong, and say it."""
        error = self._error(row, cause)
        self.error = error.worded(self.table.words.texts)
        if link_ended(error) and self._between_rounds(row.source):
            _log.info("The link ended")
        else:
            _log.error("%s", error)
        return error

    def _between_rounds(self, state: StrEnum) -> bool:
        """Whether a pair may end here: no round is under way, or all that has happened is its request."""
        begun = {row.dest for row in self.table.rows if row.trigger is begin.checkpoint}
        return state in self.table.idle | begun

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
        inbox, table = self._inbox, self.machine.table
        while inbox is not None and self.state in table.listens:
            value = inbox.peek()
            if value is None:
                return self._end_of_link(inbox) if inbox.eof else ()
            if value == REFUSED and (refused := self.refusal()) is not None:
                return self.fire(fault(Fault.EOF), refused)
            if not table.accepts[self.state] and value == table.expects[self.state]:
                return ()  # early: its turn comes
            inbox.take_value()
            if effects := self._arrived(value):
                return effects
        return ()

    def refusal(self) -> TurnedAway | None:
        """What the Secondary has said in place of its first message, if it refuses this side."""
        words = None if self._inbox is None else self._inbox.refusal()
        return None if words is None else TurnedAway(words=words)

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

    def _arrived(self, value: int) -> Effects:
        trigger, error = self.table.arrival(value)
        if trigger.message is not None:
            _log.debug("Receive '%s' message", trigger.message.text)
        return self.fire(trigger, error)

    def _end_of_link(self, inbox: Inbox) -> Effects:
        error = self.refusal() or (Truncated() if len(inbox) else LinkLost())
        return self.fire(fault(Fault.EOF), error)

    # -- what is told -------------------------------------------------------------------------

    def _tell(self, transition: Transition) -> Effects | None:
        """What to do in place of the row's effects, where an observer has failed: None if none has."""
        raised: list[Exception] = []
        self._telling = True
        for state, observer in self._observers:
            if state is None or state is transition.dest:
                try:
                    observer(transition)
                except Exception as cause:  # noqa: BLE001 - whatever an observer raises is its fault
                    raised.append(cause)
        self._telling = False
        if not raised:
            return None
        if not self.over and self.failover_status is FailoverStatus.NONE:
            return self.fire(fault(Fault.GUEST_FAILED), GuestFailed("observer", raised[0]))
        for late in raised:
            _log.error("%s", GuestFailed("observer", late))
        return None

    def _error(self, row: Row, cause: BaseException | None) -> ProtocolError:
        """What was wrong: a fault, or a trigger that the table has no row for."""
        trigger = row.trigger
        if isinstance(trigger.word, Fault):
            if isinstance(cause, ProtocolError) and cause.kind is trigger.word:
                return cause
            error = _ERRORS[trigger.word](row.source, cause)
            error.__cause__ = cause
            return error
        if trigger.message is None:
            return OutOfOrder(self.side, row.source, trigger.name)
        idle = row.source in self.table.idle and self.table.accepts[row.source]
        cls = UnknownMessage if idle else UnexpectedMessage
        return cls(self.side, row.source, trigger.message, self.table.expects[row.source])
