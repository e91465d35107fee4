"""Drivers and states with a slip, of which `broken.py` makes implementations."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import suppress

from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import State as S
from colo_fsm.conform.targets.sessions import SessionLink, Working
from colo_fsm.conform.voice import OwnState
from colo_fsm.fsm import Do, Inbox, LinkLost, Send, encode_size
from colo_fsm.fsm.errors import InvalidState, Truncated
from colo_fsm.stream import Buffer, Decoder, LiveDecoder, StreamError, decode_device_state

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = M


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
    after = 0.3

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


class SizeIsLive(SessionLink):
    def _receive(self, decoder: Decoder) -> Working:
        data = self._session.unread()
        while isinstance(decoder, LiveDecoder) and len(data) < 4:
            data += yield from self._more(bool(data))
        self._session.give_back(data)
        if not (isinstance(decoder, LiveDecoder) and data.startswith(SIZE.to_bytes(4, "big"))):
            yield from super()._receive(decoder)


class LiveUnchecked(SessionLink):
    def _receive(self, decoder: Decoder) -> Working:
        with suppress(*(InvalidState,) * isinstance(decoder, LiveDecoder)):
            yield from super()._receive(decoder)


class AnyFooter(SessionLink):
    def _receive_state(self) -> Working:
        try:
            yield from super()._receive_state()
        except InvalidState as error:
            if "footer" not in str(error):
                raise


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
