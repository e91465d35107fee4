"""The target `self`: this package's own sessions of a table, with the least driver that a session needs.

There is no socket and no clock: what a session does, it has done once it was fed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Effects,
    Fault,
    Inbox,
    LinkLost,
    ProtocolError,
    Send,
    Session,
    TableMachine,
    Truncated,
    begin,
    done,
    encode_size,
    fault,
)
from colo_fsm.fsm.errors import InvalidState
from colo_fsm.stream import (
    DEFAULT_LIMIT,
    DEVICE_LIMIT,
    Buffer,
    Decoder,
    Delta,
    InitialDecoder,
    LiveDecoder,
    Ram,
    StreamError,
    decode_device_state,
)

from ..link import Link
from ..voice import OwnState, Source, TableVoice, Voice, state_on_wire

Working = Generator[None, bytes, None]
"""A driver at work: it yields where it needs bytes, b"" being the link's end."""


class SessionLink(Link):
    """A session and its driver, as whatever is at the other end of a link."""

    def __init__(self, session: Session, source: Source) -> None:
        self._session, self._source = session, source
        self._out = bytearray()
        self._ended = False
        self._ram = Ram()
        self._number = 0
        self._states = state_on_wire(session.table)
        self._work = self._driven()
        next(self._work)

    # -- as a link ----------------------------------------------------------------------------

    def send(self, data: Iterable[Buffer]) -> None:
        """See `Link`."""
        for buffer in data:
            if len(buffer) and not self._ended:
                self._work.send(bytes(buffer))

    def receive(self, timeout: float) -> bytes | None:
        """See `Link`: nothing comes later."""
        if self._out:
            said, self._out = bytes(self._out), bytearray()
            return said
        return b"" if self._ended else None

    def end(self) -> None:
        if not self._ended:
            self._work.send(b"")

    def evidence(self) -> str:
        return str(self._session.error or "")

    # -- as a driver --------------------------------------------------------------------------

    def _driven(self) -> Working:
        effects = self._session.start()
        while True:
            yield from self._perform(effects)
            effects = self._session.next_effects() or self._begin()
            if not effects:
                effects = self._session.receive_data((yield))

    def _begin(self) -> Effects:
        """A checkpoint, where one may begin."""
        may = self._session.may(begin.checkpoint)
        return self._session.fire(begin.checkpoint) if may else ()

    def _perform(self, effects: Effects) -> Working:
        queue = list(effects)
        while queue:
            effect = queue.pop(0)
            try:
                yield from self.do(effect)
            except ProtocolError as error:
                queue = list(self._session.fire(fault(error.kind or Fault.INVALID), error))
                continue
            if isinstance(effect, Do) and self._session.awaits(effect):
                queue += self._session.fire(done(effect))

    def do(self, effect: Do | Send) -> Working:
        """Perform one effect. What concerns no byte on the wire is nothing here."""
        if isinstance(effect, Send):
            self.say(self._session.table.words.encode(effect.message))
        elif effect is Do.disconnect:
            self._ended = True
        elif self._states and effect in self._ways:
            yield from self._ways[effect]()

    def say(self, *data: Buffer) -> None:
        """Send, unless the link has ended."""
        for each in () if self._ended else data:
            self._out += each

    @property
    def _ways(self) -> dict[Do, Callable[[], Working]]:
        return {
            Do.send_initial: partial(self._send, self._source.initial),
            Do.send_live: self._send_live,
            Do.send_state: self._send_state,
            Do.receive_initial: self._receive_initial,
            Do.receive_live: lambda: self._receive(LiveDecoder(self._ram, Delta())),
            Do.receive_state: self._receive_state,
        }

    def _send(self, what: Callable[[], Iterable[Buffer]]) -> Working:
        self.say(*what())
        yield from ()

    def _send_live(self) -> Working:
        self._number += 1
        return self._send(partial(self._source.live, self._number))

    def _send_state(self) -> Working:
        state = self._source.vmstate(self._number)
        return self._send(lambda: (encode_size(len(state)), state))

    def _receive_initial(self) -> Working:
        first = InitialDecoder(lambda _: Delta(), limit=DEFAULT_LIMIT)
        yield from self._receive(first)
        self._ram = first.ram

    def _receive(self, decoder: Decoder) -> Working:
        data = self._session.unread()
        while True:
            try:
                used = decoder.feed(data)
            except StreamError as cause:
                raise InvalidState(cause) from cause
            if decoder.complete:
                self._session.give_back(data[used:])
                return
            data = yield from self._more(bool(decoder.bytes))

    def _receive_state(self) -> Working:
        inbox = Inbox()
        inbox.feed(self._session.unread() or (yield from self._more(False)))
        size = None
        while size is None or len(inbox) < size:
            if size is None and (size := inbox.take_size()) is not None:
                if size > DEVICE_LIMIT:
                    raise InvalidState(ValueError(f"a device state of {size} bytes"))
                continue
            inbox.feed((yield from self._more(True)))
        try:
            decode_device_state(inbox.take(size))
        except StreamError as cause:
            raise InvalidState(cause) from cause
        self._session.give_back(inbox.take())

    def _more(self, begun: bool) -> Generator[None, bytes, bytes]:
        data = yield
        if not data:
            raise Truncated if begun else LinkLost
        return data


class Sessions:
    """The target `self`: sessions of `machine`, held against `table` (None: against their own)."""

    def __init__(
        self, machine: TableMachine, table: CompleteTable | None = None, source: Source | None = None
    ) -> None:
        self._machine, self._source = machine, source or OwnState()
        self.table = table or machine.table
        self.name = f"self, {self.table.side}"

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        """See `Target`."""
        session = Session(self._machine)
        yield SessionLink(session, self._source), TableVoice(self.table, self._source)
