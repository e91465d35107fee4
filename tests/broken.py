"""Implementations with one fault each, as somebody might write them: every one has to fail a suite.

Most are sessions of a table with a row changed, the others a driver with a slip. `served` puts one behind a
real socket. One fault that was thought of is not here: a Secondary that replies before it has suspended its
guest. Nobody can tell that from the wire.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import broken_drivers as slip

from colo_fsm.colo import TABLES, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import State as S
from colo_fsm.conform.link import Link
from colo_fsm.conform.targets.sessions import SessionLink, Sessions
from colo_fsm.conform.voice import OwnState, TableVoice, Voice
from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Effect,
    Fault,
    Row,
    Send,
    Session,
    Side,
    TableMachine,
    Trigger,
    begin,
    complete,
    done,
    fault,
    recv,
)
from colo_fsm.replica.address import Address
from colo_fsm.replica.link import hang_up

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
        last = time.monotonic()
        while True:
            data = sock.recv(1 << 16) if select.select([sock], [], [], TICK)[0] else None
            if data:
                link.send((data,))
            elif data is not None:
                link.end()
            now = time.monotonic()
            said, last = link.receive(now - last), now
            sock.sendall(said or b"")
            if b"" in (data, said):
                return


_S, _P = Side.SECONDARY, Side.PRIMARY
_LOADING = (S.RECEIVED, done(Do.load))

SECONDARIES = (
    Broken("a wrong reply", _S, "2.1", says(S.REQUESTED, done(Do.suspend), RECEIVED)),
    Broken("messages off by one", _S, "1.1", link=slip.OffByOne),
    Broken("little-endian messages", _S, "2.1", link=slip.LittleEndian),
    Broken("takes messages in either byte order", _S, "2.7", link=slip.EitherOrder),
    Broken("looks at the lowest byte only", _S, "2.5", link=slip.LowByte),
    Broken("takes a short read for a broken message", _S, "8.5", link=slip.ShortReads),
    Broken(
        "ready before the initial state has come",
        _S,
        "1.2",
        says(S.INIT, done(Do.receive_initial)),
        start=(Send(READY), Do.receive_initial),
    ),
    Broken("ready twice", _S, "1.1", says(S.INIT, done(Do.receive_initial), READY, READY)),
    Broken("ready again behind each checkpoint", _S, "6.1", says(*_LOADING, LOADED, READY)),
    Broken("takes any initial state", _S, "1.4", link=slip.AnyInitial),
    Broken("passes over a message between checkpoints", _S, "9.5", passes_over(IDLE, recv(REPLY))),
    Broken("passes over any message behind its reply", _S, "3.5", passes_over((S.REPLIED,), *MESSAGES)),
    Broken("passes over its own messages", _S, "2.3", passes_over(IDLE, recv(LOADED))),
    Broken("passes over a request for vmstate-size", _S, "5.2", passes_over((S.SENDING,), recv(REQUEST))),
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
        "takes vmstate-send without a request",
        _S,
        "2.2",
        says(S.READY, recv(SEND), Do.receive_live, dest=S.SENDING),
    ),
    Broken(
        "takes vmstate-send twice", _S, "5.1", says(S.SENDING, recv(SEND), Do.receive_live, dest=S.SENDING)
    ),
    Broken(
        "takes any message for vmstate-send",
        _S,
        "4.7",
        says(S.REPLIED, recv(RECEIVED), Do.receive_live, dest=S.SENDING),
    ),
    Broken(
        "takes any message for vmstate-size",
        _S,
        "5.9",
        says(S.SENDING, recv(LOADED), Do.receive_state, Do.store, dest=S.SIZED),
    ),
    Broken("no live state behind vmstate-send", _S, "4.1", says(S.REPLIED, recv(SEND))),
    Broken("takes vmstate-size for an empty live state", _S, "4.2", link=slip.SizeIsLive),
    Broken(
        "received behind the live state", _S, "4.1", says(S.REPLIED, recv(SEND), Do.receive_live, RECEIVED)
    ),
    Broken(
        "received when it knows the size",
        _S,
        "6.4",
        says(S.SIZED, done(Do.store), Do.load),
        link=slip.ReceivedWithTheSize,
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
    Broken("reads one byte too few of the device state", _S, "9.1", link=slip.OneTooFew),
    Broken("reads one byte too many of the device state", _S, "6.1", link=slip.OneTooMany),
    Broken("ignores the size", _S, "5.8", link=slip.ByItsForm),
    Broken("does not look at the device state", _S, "5.4", link=slip.Unchecked),
    Broken("takes a device state of no bytes", _S, "5.3", link=slip.NoneIsEnough),
    Broken("takes a device state that is cut off", _S, "5.5", link=slip.CutIsWhole),
    Broken("takes a live state that is malformed", _S, "4.3", link=slip.LiveUnchecked),
    Broken("does not look at footers", _S, "5.10", link=slip.AnyFooter),
    Broken("takes a live state that is cut off", _S, "4.5", link=slip.LiveCutIsWhole),
    Broken("takes a pause in the live state for its end", _S, "6.3", link=slip.PauseIsTheEnd),
    Broken("ignores the link's end", _S, "7.1", passes_over(LISTENING, EOF)),
    Broken("ignores an end inside a message", _S, "7.5", link=slip.HalfIsNothing),
    Broken("forgets what came with the link's end", _S, "7.6", link=slip.EndFirst),
    Broken("throws away what has come ahead", _S, "8.1", link=slip.DropsAhead),
    Broken("does not flush its reply", _S, "2.1", link=slip.RepliesLate),
    Broken("silent to the second request", _S, "9.1", link=slip.SilentToSecond),
    Broken("a fault in the third checkpoint only", _S, "9.1", link=slip.TwiceInThird),
    Broken("silent after fifty checkpoints", _S, "9.3", link=slip.TiredAfterFifty),
    Broken("forgets its state after a long idle time", _S, "9.7", link=slip.Forgets),
    Broken("hangs up after a long idle time", _S, "9.6", link=slip.HangsUp),
    Broken("speaks unasked", _S, "1.1", link=slip.Chatters),
)

PRIMARIES = (
    Broken("messages off by one", _P, "1.1", link=slip.OffByOne),
    Broken("little-endian messages", _P, "1.1", link=slip.LittleEndian),
    Broken("takes messages in either byte order", _P, "2.5", link=slip.EitherOrder),
    Broken("looks at the lowest byte only", _P, "4.6", link=slip.LowByte),
    Broken("takes a short read for a broken message", _P, "8.4", link=slip.ShortReads),
    Broken("an initial state that is cut short", _P, "1.2", source=slip.InitialCutShort()),
    Broken("asks before the Secondary is ready", _P, "1.2", start=(Do.send_initial, Send(REQUEST))),
    Broken("takes the reply for ready", _P, "1.3", says(S.INIT, recv(REPLY), Do.resume, dest=S.READY)),
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
    Broken("a live state without its end mark", _P, "3.1", source=slip.WithoutEndMark()),
    Broken("a size that is one too large", _P, "4.7", link=slip.SizeTooLarge),
    Broken("a size that is one too small", _P, "4.7", link=slip.SizeTooSmall),
    Broken("a device state that is malformed", _P, "3.1", source=slip.GarbledState()),
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
    Broken("ignores an end inside a message", _P, "7.5", link=slip.HalfIsNothing),
    Broken("throws away what has come ahead", _P, "8.1", link=slip.DropsAhead),
    Broken("a fault in the third checkpoint only", _P, "9.1", link=slip.TwiceInThird),
    Broken("silent after fifty checkpoints", _P, "9.3", link=slip.TiredAfterFifty),
    Broken("speaks unasked", _P, "2.1", link=slip.Chatters),
    Broken("asks again after a long idle time", _P, "9.5", link=slip.AsksAgain),
    Broken("hangs up after a long idle time", _P, "9.5", link=slip.HangsUp),
)

ALL = (*SECONDARIES, *PRIMARIES)
