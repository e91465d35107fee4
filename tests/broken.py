"""Implementations with one fault each, as somebody might write them: every one has to fail a suite.

Most are sessions of a table with a row changed, the others a driver with a slip. `served` puts one behind a
real socket. One fault that was thought of is not here: a Secondary that replies before it has suspended its
guest. Nobody can tell that from the wire.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from colo_fsm.colo import TABLES, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import State as S
from colo_fsm.conform.link import Link
from colo_fsm.conform.targets.sessions import SessionLink, Sessions, Working
from colo_fsm.conform.voice import OwnState, TableVoice, Voice
from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Effect,
    Fault,
    Inbox,
    LinkLost,
    Row,
    Send,
    Session,
    Side,
    TableMachine,
    Trigger,
    begin,
    complete,
    done,
    encode_size,
    fault,
    recv,
)
from colo_fsm.fsm.errors import InvalidState, Truncated
from colo_fsm.replica.address import Address
from colo_fsm.replica.link import hang_up
from colo_fsm.stream import Buffer, Decoder, LiveDecoder, StreamError, decode_device_state

At = tuple[S, Trigger]
Rows = Callable[[CompleteTable], Iterable[Row]]
"""Rows that stand in place of those of a sound table."""

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = M
IDLE = (S.READY, S.LOADED)
TICK = 0.05
"""Seconds in which a real one looks at its clock."""


@attrs.frozen
class Broken:
    """An implementation of COLO in the profile `qemu` with one fault, which `name` says."""

    name: str
    side: Side
    case: str
    """The number of the case by hand whose sentence names the fault."""
    rows: Rows = attrs.field(default=lambda _: ())
    link: type[SessionLink] = SessionLink
    start: tuple[Effect, ...] | None = None
    source: OwnState = attrs.field(factory=OwnState)

    def target(self) -> BrokenSessions:
        """It, held against the sound table."""
        return BrokenSessions(self)


class BrokenSessions(Sessions):
    """The target of a broken implementation."""

    def __init__(self, broken: Broken) -> None:
        sound = complete(TABLES[broken.side], Variant())
        self._broken = broken
        super().__init__(TableMachine(altered(sound, broken)), sound, broken.source)

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        link = self._broken.link(Session(self._machine), self._source)
        yield link, TableVoice(self.table, OwnState())


def altered(sound: CompleteTable, broken: Broken) -> CompleteTable:
    """The table with the fault in it."""
    rows = {(r.source, r.trigger): r for r in sound.rows}
    rows |= {(r.source, r.trigger): r for r in broken.rows(sound)}
    start = sound.start if broken.start is None else broken.start
    return attrs.evolve(sound, rows=tuple(rows.values()), start=start)


# -- rows -------------------------------------------------------------------------------------


def says(state: S, trigger: Trigger, *effects: Effect | M, dest: S | None = None) -> Rows:
    """In this row, these effects; a message is sent."""
    doing = tuple(Send(each) if isinstance(each, M) else each for each in effects)

    def rows(sound: CompleteTable) -> Iterable[Row]:
        row = sound.by_input[state, trigger]
        yield attrs.evolve(row, effects=doing, dest=dest or row.dest, implied=False)

    return rows


def passes_over(states: Iterable[S], *triggers: Trigger, to: S | None = None) -> Rows:
    """These change nothing there; `to`: lead there and do nothing. What is in turn stays as it is."""

    def rows(sound: CompleteTable) -> Iterable[Row]:
        for state in states:
            for trigger in triggers:
                if not sound.may(state, trigger):
                    yield Row(state, trigger, to, implied=True)

    return rows


def never(state: S, trigger: Trigger) -> Rows:
    """What this row does by itself does not happen."""
    return lambda sound: [attrs.evolve(sound.by_input[state, trigger], implied=True)]


def all_of(*some: Rows) -> Rows:
    return lambda sound: [row for rows in some for row in rows(sound)]


MESSAGES = tuple(map(recv, M))
EOF, INVALID = fault(Fault.EOF), fault(Fault.INVALID)
LISTENING = (S.INIT, S.READY, S.REQUESTED, S.REPLIED, S.SENDING, S.SIZED, S.RECEIVED, S.LOADED)


# -- drivers ----------------------------------------------------------------------------------


class OffByOne(SessionLink):
    def do(self, effect: Do | Send) -> Working:
        if isinstance(effect, Send):
            self.say((effect.message + 1).to_bytes(4, "big"))
            return
        yield from super().do(effect)


class LittleEndian(SessionLink):
    def do(self, effect: Do | Send) -> Working:
        if isinstance(effect, Send):
            self.say(effect.message.to_bytes(4, "little"))
            return
        yield from super().do(effect)


class Counting(SessionLink):
    """`saying` is told how often its message has been to be said, and says it or does not."""

    sent: dict[M, int]

    def do(self, effect: Do | Send) -> Working:
        if isinstance(effect, Send):
            self.sent = vars(self).get("sent", {})
            message = M(effect.message)
            self.sent[message] = self.sent.get(message, 0) + 1
            self.saying(message, self.sent[message])
            return
        yield from super().do(effect)

    def saying(self, message: M, times: int) -> None:
        raise NotImplementedError

    def says(self, *messages: M) -> None:
        for message in messages:
            self.say(message.to_bytes(4, "big"))


class TwiceInThird(Counting):
    def saying(self, message: M, times: int) -> None:
        self.says(*((message, message) if message in (LOADED, SEND) and times == 3 else (message,)))


class SilentToSecond(Counting):
    def saying(self, message: M, times: int) -> None:
        if (message, times) != (REPLY, 2):
            self.says(message)


class TiredAfterFifty(Counting):
    def saying(self, message: M, times: int) -> None:
        if times <= 50:
            self.says(message)


class RepliesLate(Counting):
    """As with a buffer that nobody flushes."""

    def saying(self, message: M, times: int) -> None:
        if message is not REPLY:
            self.says(*((REPLY, message) if message is RECEIVED else (message,)))


class Clocked(SessionLink):
    """Knows how long nothing has come: what the tester waits in vain goes by."""

    idle = 0.0
    after = 1.0

    def send(self, data: Iterable[Buffer]) -> None:
        self.idle = 0.0
        super().send(data)

    def receive(self, timeout: float) -> bytes | None:
        said = super().receive(timeout)
        if said is None:
            before, self.idle = self.idle, self.idle + timeout
            if before < self.after <= self.idle:
                self.is_late()
                return super().receive(timeout)
        return said

    def is_late(self) -> None:
        raise NotImplementedError


class HangsUp(Clocked):
    def is_late(self) -> None:
        self._ended = True


class Forgets(Clocked):
    def is_late(self) -> None:
        self._session.state = S.READY


class Chatters(Clocked):
    after = 0.4

    def is_late(self) -> None:
        self.say(READY.to_bytes(4, "big"))


class AsksAgain(Clocked):
    def is_late(self) -> None:
        self.say(REQUEST.to_bytes(4, "big"))


class Hearing(SessionLink):
    """`heard` changes what comes in."""

    def send(self, data: Iterable[Buffer]) -> None:
        super().send(map(self.heard, map(bytes, data)))

    def heard(self, data: bytes) -> bytes:
        raise NotImplementedError


class EitherOrder(Hearing):
    def heard(self, data: bytes) -> bytes:
        return data[::-1] if len(data) == 4 and data[0] in tuple(M) and not any(data[1:]) else data


class LowByte(Hearing):
    def heard(self, data: bytes) -> bytes:
        return bytes(3) + data[3:] if len(data) == 4 else data


class ShortReads(Hearing):
    def heard(self, data: bytes) -> bytes:
        return b"\xff" * 4 if 0 < len(data) < 4 else data


class DropsAhead(SessionLink):
    """Throws away what has come before its own answer."""

    def do(self, effect: Do | Send) -> Working:
        yield from super().do(effect)
        if isinstance(effect, Send):
            self._session.unread()


class EndFirst(SessionLink):
    """Notices the link's end before it has read what came with it."""

    coming: tuple[bytes, ...] = ()

    def send(self, data: Iterable[Buffer]) -> None:
        self.coming = (*self.coming, *map(bytes, data))

    def receive(self, timeout: float) -> bytes | None:
        coming, self.coming = self.coming, ()
        super().send(coming)
        return super().receive(timeout)

    def end(self) -> None:
        self.coming = ()
        super().end()


class HalfIsNothing(SessionLink):
    """Does not notice an end inside a message."""

    def end(self) -> None:
        left = self._session.unread()
        if not left:
            super().end()


# -- drivers of a Secondary that read a state wrongly ------------------------------------------


class Reading(SessionLink):
    """`read` takes the device state of this size out of what has come; None: there is not enough."""

    def _receive_state(self) -> Working:
        inbox = Inbox()
        inbox.feed(self._session.unread() or (yield from self._more(False)))
        size = None
        while True:
            if size is None and (size := inbox.take_size()) is not None:
                self.announced(size)
            if size is not None and self.read(inbox, size):
                break
            inbox.feed((yield from self._more(True)))
        self._session.give_back(inbox.take())

    def announced(self, size: int) -> None:
        pass

    def read(self, inbox: Inbox, size: int) -> bool:
        raise NotImplementedError


class OneTooFew(Reading):
    def read(self, inbox: Inbox, size: int) -> bool:
        return len(inbox.take(size - 1)) == size - 1 if len(inbox) >= size else False


class OneTooMany(Reading):
    def read(self, inbox: Inbox, size: int) -> bool:
        return len(inbox.take(size + 1)) == size + 1 if len(inbox) > size else False


class Unchecked(Reading):
    def read(self, inbox: Inbox, size: int) -> bool:
        return len(inbox.take(size)) == size if len(inbox) >= size else False


class NoneIsEnough(Reading):
    def read(self, inbox: Inbox, size: int) -> bool:
        if len(inbox) < size:
            return False
        if data := inbox.take(size):
            checked(data)
        return True


class ByItsForm(Reading):
    """Does not look at the size."""

    def read(self, inbox: Inbox, size: int) -> bool:
        data = inbox.take()
        for end in range(len(data) + 1):
            with suppress(StreamError):
                decode_device_state(data[:end])
                inbox.feed(data[end:])
                return True
        inbox.feed(data)
        return False


class ReceivedWithTheSize(Reading):
    def announced(self, size: int) -> None:
        self.say(RECEIVED.to_bytes(4, "big"))

    def read(self, inbox: Inbox, size: int) -> bool:
        if len(inbox) < size:
            return False
        checked(inbox.take(size))
        return True


class CutIsWhole(SessionLink):
    def _receive_state(self) -> Working:
        with suppress(LinkLost):
            yield from super()._receive_state()


class LiveUnchecked(SessionLink):
    def _receive(self, decoder: Decoder) -> Working:
        with suppress(*(InvalidState,) * isinstance(decoder, LiveDecoder)):
            yield from super()._receive(decoder)


class LiveCutIsWhole(SessionLink):
    def _receive(self, decoder: Decoder) -> Working:
        with suppress(*(LinkLost,) * isinstance(decoder, LiveDecoder)):
            yield from super()._receive(decoder)


class PauseIsTheEnd(SessionLink):
    def _more(self, begun: bool) -> Generator[None, bytes, bytes]:
        if begun and self._session.state is S.SENDING:
            raise Truncated
        return (yield from super()._more(begun))


class AnyInitial(SessionLink):
    def _receive_initial(self) -> Working:
        with suppress(InvalidState):
            yield from super()._receive_initial()


def checked(data: bytes) -> None:
    try:
        decode_device_state(data)
    except StreamError as cause:
        raise InvalidState(cause) from cause


# -- drivers and states of a Primary ------------------------------------------------------------


class SizeOff(SessionLink):
    by = 0

    def _send_state(self) -> Working:
        state = self._source.vmstate(self._number)
        self.say(encode_size(len(state) + self.by), state)
        yield from ()


class SizeTooLarge(SizeOff):
    by = 1


class SizeTooSmall(SizeOff):
    by = -1


class WithoutEndMark(OwnState):
    def live(self, number: int) -> Iterable[Buffer]:
        yield b"".join(map(bytes, super().live(number)))[:-1]


class InitialCutShort(OwnState):
    def initial(self) -> Iterable[Buffer]:
        yield b"".join(map(bytes, super().initial()))[:100]


class GarbledState(OwnState):
    def vmstate(self, number: int) -> bytes:
        return bytes(byte ^ 0xFF for byte in super().vmstate(number))


_S, _P = Side.SECONDARY, Side.PRIMARY
_LOADING = (S.RECEIVED, done(Do.load))

SECONDARIES = (
    Broken("a wrong reply", _S, "2.1", says(S.REQUESTED, done(Do.suspend), RECEIVED)),
    Broken("messages off by one", _S, "1.1", link=OffByOne),
    Broken("little-endian messages", _S, "1.1", link=LittleEndian),
    Broken("takes messages in either byte order", _S, "2.7", link=EitherOrder),
    Broken("looks at the lowest byte only", _S, "2.5", link=LowByte),
    Broken("takes a short read for a broken message", _S, "8.5", link=ShortReads),
    Broken(
        "ready before the initial state has come",
        _S,
        "1.2",
        link=SessionLink,
        start=(Send(READY), Do.receive_initial),
    ),
    Broken("ready twice", _S, "1.1", says(S.INIT, done(Do.receive_initial), READY, READY)),
    Broken("ready again behind each checkpoint", _S, "6.1", says(*_LOADING, LOADED, READY)),
    Broken("takes any initial state", _S, "1.4", link=AnyInitial),
    Broken("passes over a message between checkpoints", _S, "9.5", passes_over(IDLE, recv(REPLY))),
    Broken("passes over any message behind its reply", _S, "3.2", passes_over((S.REPLIED,), *MESSAGES)),
    Broken("passes over an invalid value", _S, "3.3", passes_over(LISTENING, INVALID)),
    Broken("answers an invalid value", _S, "2.4", says(S.READY, INVALID, Do.suspend, dest=S.REQUESTED)),
    Broken(
        "begins anew behind a wrong message",
        _S,
        "3.4",
        passes_over((S.REPLIED, S.SENDING), *MESSAGES, to=S.LOADED),
    ),
    Broken(
        "answers a request inside a checkpoint",
        _S,
        "3.1",
        says(S.REPLIED, recv(REQUEST), Do.suspend, dest=S.REQUESTED),
    ),
    Broken(
        "takes vmstate-size without vmstate-send",
        _S,
        "3.2",
        says(S.REPLIED, recv(SIZE), Do.receive_state, Do.store, dest=S.SIZED),
    ),
    Broken(
        "takes vmstate-send twice", _S, "5.1", says(S.SENDING, recv(SEND), Do.receive_live, dest=S.SENDING)
    ),
    Broken("no live state behind vmstate-send", _S, "4.1", says(S.REPLIED, recv(SEND))),
    Broken(
        "received behind the live state", _S, "4.1", says(S.REPLIED, recv(SEND), Do.receive_live, RECEIVED)
    ),
    Broken(
        "received when it knows the size",
        _S,
        "6.2",
        says(S.SIZED, done(Do.store), Do.load),
        link=ReceivedWithTheSize,
    ),
    Broken("no vmstate-received", _S, "6.1", says(S.SIZED, done(Do.store), Do.load)),
    Broken("no vmstate-loaded", _S, "6.1", says(*_LOADING)),
    Broken("loaded twice", _S, "6.1", says(*_LOADING, LOADED, LOADED)),
    Broken(
        "loaded before received",
        _S,
        "6.1",
        all_of(says(S.SIZED, done(Do.store), LOADED, Do.load), says(*_LOADING, RECEIVED)),
    ),
    Broken("reads one byte too few of the device state", _S, "9.1", link=OneTooFew),
    Broken("reads one byte too many of the device state", _S, "6.1", link=OneTooMany),
    Broken("ignores the size", _S, "5.8", link=ByItsForm),
    Broken("does not look at the device state", _S, "5.4", link=Unchecked),
    Broken("takes a device state of no bytes", _S, "5.3", link=NoneIsEnough),
    Broken("takes a device state that is cut off", _S, "5.5", link=CutIsWhole),
    Broken("takes a live state that is malformed", _S, "4.4", link=LiveUnchecked),
    Broken("takes a live state that is cut off", _S, "4.6", link=LiveCutIsWhole),
    Broken("takes a pause in the live state for its end", _S, "4.8", link=PauseIsTheEnd),
    Broken("ignores the link's end", _S, "7.1", passes_over(LISTENING, EOF)),
    Broken("ignores an end inside a message", _S, "7.5", link=HalfIsNothing),
    Broken("forgets what came with the link's end", _S, "7.6", link=EndFirst),
    Broken("throws away what has come ahead", _S, "8.1", link=DropsAhead),
    Broken("does not flush its reply", _S, "2.1", link=RepliesLate),
    Broken("silent to the second request", _S, "9.1", link=SilentToSecond),
    Broken("a fault in the third checkpoint only", _S, "9.1", link=TwiceInThird),
    Broken("silent after fifty checkpoints", _S, "9.3", link=TiredAfterFifty),
    Broken("forgets its state after a long idle time", _S, "9.7", link=Forgets),
    Broken("hangs up after a long idle time", _S, "9.6", link=HangsUp),
    Broken("speaks unasked", _S, "1.1", link=Chatters),
)

PRIMARIES = (
    Broken("messages off by one", _P, "1.1", link=OffByOne),
    Broken("little-endian messages", _P, "1.1", link=LittleEndian),
    Broken("takes messages in either byte order", _P, "2.5", link=EitherOrder),
    Broken("looks at the lowest byte only", _P, "4.6", link=LowByte),
    Broken("takes a short read for a broken message", _P, "8.4", link=ShortReads),
    Broken("an initial state that is cut short", _P, "1.2", source=InitialCutShort()),
    Broken("asks before the Secondary is ready", _P, "1.2", start=(Do.send_initial, Send(REQUEST))),
    Broken("takes ready twice", _P, "2.2", passes_over((S.REQUESTED,), recv(READY))),
    Broken("asks twice", _P, "1.1", says(S.READY, begin.checkpoint, REQUEST, REQUEST)),
    Broken(
        "does not wait for the reply",
        _P,
        "1.1",
        says(S.READY, begin.checkpoint, REQUEST, Do.save, dest=S.REPLIED),
    ),
    Broken("passes over any message but the reply", _P, "2.3", passes_over((S.REQUESTED,), *MESSAGES)),
    Broken("passes over an invalid value", _P, "2.4", passes_over(LISTENING, INVALID)),
    Broken(
        "sends the size before the live state",
        _P,
        "3.1",
        all_of(
            says(S.REPLIED, done(Do.save), SIZE, Do.send_state, SEND, Do.send_live),
            says(S.SENDING, done(Do.send_live)),
        ),
    ),
    Broken("a live state without its end mark", _P, "3.1", source=WithoutEndMark()),
    Broken("a size that is one too large", _P, "3.2", link=SizeTooLarge),
    Broken("a size that is one too small", _P, "3.2", link=SizeTooSmall),
    Broken("a device state that is malformed", _P, "3.1", source=GarbledState()),
    Broken("does not wait for loaded", _P, "4.1", says(S.SIZED, recv(RECEIVED), dest=S.LOADED)),
    Broken("takes loaded for received", _P, "4.2", says(S.SIZED, recv(LOADED), dest=S.RECEIVED)),
    Broken("takes received for loaded", _P, "4.4", says(S.RECEIVED, recv(RECEIVED), dest=S.LOADED)),
    Broken("takes the reply twice", _P, "4.3", passes_over((S.SIZED,), recv(REPLY))),
    Broken(
        "asks anew behind a wrong message",
        _P,
        "4.2",
        passes_over((S.SIZED, S.RECEIVED), *MESSAGES, INVALID, to=S.LOADED),
    ),
    Broken("does not ask again", _P, "9.1", never(S.LOADED, begin.checkpoint)),
    Broken("goes on after the link's end", _P, "7.1", passes_over(LISTENING, EOF)),
    Broken("ignores an end inside a message", _P, "7.5", link=HalfIsNothing),
    Broken("throws away what has come ahead", _P, "8.1", link=DropsAhead),
    Broken("a fault in the third checkpoint only", _P, "9.1", link=TwiceInThird),
    Broken("silent after fifty checkpoints", _P, "9.3", link=TiredAfterFifty),
    Broken("asks again after a long idle time", _P, "9.5", link=AsksAgain),
    Broken("hangs up after a long idle time", _P, "9.5", link=HangsUp),
)

ALL = (*SECONDARIES, *PRIMARIES)


@contextmanager
def served(broken: Broken, folder: Path) -> Iterator[Address]:
    """Where it listens, a Secondary: it begins afresh on each link."""
    address = Address(path=str(folder / "broken"))
    with address.listen() as listener, ThreadPoolExecutor() as pool:
        pool.submit(_accept, broken.target(), listener, pool)
        yield address
        hang_up(listener)


def _accept(target: BrokenSessions, listener: socket.socket, pool: ThreadPoolExecutor) -> None:
    with suppress(OSError):
        while True:
            pool.submit(_serve, target, listener.accept()[0])


def _serve(target: BrokenSessions, sock: socket.socket) -> None:
    with sock, target.fresh() as (link, _), suppress(OSError):
        while True:
            if not select.select([sock], [], [], TICK)[0]:
                data = None
            elif data := sock.recv(1 << 16):
                link.send((data,))
            else:
                link.end()
            said = link.receive(TICK if data is None else 0.0)
            if said:
                sock.sendall(said)
            if said == b"" or data == b"":
                return
