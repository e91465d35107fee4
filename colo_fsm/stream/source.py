"""What the decoders stand on: bytes that come in any pieces, read as if they were all there.

A parser is a generator. It reads with `yield from source.take(n)` and is suspended, inside that
call, while bytes are missing; `Decoder.feed` lends it the next piece and resumes it. So no parser
knows about pieces, and nothing is kept but the one field that a piece cut in two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import TypeVar

import attrs

from .format import U8, U16, U32, U64
from .memory import Buffer

T = TypeVar("T")
Parsing = Generator[None, None, T]
"""A parser that returns T; it yields where it needs more bytes."""

_NOTHING = memoryview(b"")


@attrs.define
class StreamError(ValueError):
    """The stream is malformed, or holds what this decoder does not read.

    `offset` counts bytes from the start of the stream (of the round's part of it, in a round) to
    the field at fault. There is no way to go on: drop what has arrived of this checkpoint.
    """

    offset: int
    problem: str

    def __str__(self) -> str:
        return f"{self.problem} (at byte {self.offset})"


def capability_error(offset: int, what: str, capability: str) -> StreamError:
    """The error for `what`, which QEMU sends only while `capability` is on."""
    return StreamError(offset, f"{what} is not read here: switch {capability} off at the Primary")


class Source:
    """The bytes of one stream, in order.

    No slice of a lent piece may live on in a parser's variables: whoever lent a bytearray wants to
    resize it afterwards.
    """

    __slots__ = ("_base", "_position", "_view")

    def __init__(self) -> None:
        self._base = 0
        self.lend(_NOTHING)

    @property
    def offset(self) -> int:
        """Bytes read so far, from the start of the stream."""
        return self._base + self._position

    def lend(self, data: Buffer) -> None:
        """Make `data` the bytes that come next."""
        self._view = memoryview(data)
        self._position = 0

    def give_back(self) -> int:
        """Let go of the piece lent; return how many bytes of it were read."""
        consumed = self._position
        self._base += consumed
        self._view, self._position = _NOTHING, 0
        return consumed

    def take(self, size: int) -> Parsing[Buffer]:
        """The next `size` bytes: a slice of the piece lent where they lie whole in it.

        Bytes cut in two are collected as they come, so a length that lies allocates nothing.
        """
        start = self._position
        end = start + size
        if end <= len(self._view):
            self._position = end
            return self._view[start:end]
        held = bytearray(self._view[start:])
        self._position = len(self._view)
        while len(held) < size:
            yield
            self._position = min(size - len(held), len(self._view))
            held += self._view[: self._position]
        return held

    def peek(self) -> Parsing[int]:
        """The next byte, which stays where it is."""
        while self.dry:
            yield
        return self._view[self._position]

    def some(self, most: int) -> Parsing[bytes]:
        """A copy of what is there: at least one byte, at most `most`."""
        yield from self.peek()
        start = self._position
        self._position = min(start + most, len(self._view))
        return bytes(self._view[start : self._position])

    @property
    def dry(self) -> bool:
        """Whether all that has come was read."""
        return self._position == len(self._view)

    def window(self) -> tuple[memoryview, int]:
        """The piece lent and where its unread part starts; see `advance`. Keep it in no generator."""
        return self._view, self._position

    def advance(self, position: int) -> None:
        """Go to `position` of the piece lent: what lies before it has been read, and only that."""
        self._position = position

    def skip(self, size: int) -> Parsing[None]:
        """Pass over `size` bytes without keeping any."""
        while True:
            step = min(size, len(self._view) - self._position)
            self._position += step
            size -= step
            if not size:
                return
            yield

    def u8(self) -> Parsing[int]:
        (value,) = U8.unpack((yield from self.take(U8.size)))
        return int(value)

    def u16(self) -> Parsing[int]:
        (value,) = U16.unpack((yield from self.take(U16.size)))
        return int(value)

    def u32(self) -> Parsing[int]:
        (value,) = U32.unpack((yield from self.take(U32.size)))
        return int(value)

    def u64(self) -> Parsing[int]:
        (value,) = U64.unpack((yield from self.take(U64.size)))
        return int(value)

    def known(self, expected: int, kind: str, of: str, name: str | None = None) -> Parsing[None]:
        """A u32 that has to be `expected`: the `kind` (version, instance) `of` what has that `name`."""
        at = self.offset
        (found,) = U32.unpack((yield from self.take(U32.size)))
        if found != expected:
            whose = of if name is None else f"{of} {name!r}"
            raise StreamError(at, f"{kind} {found} of {whose}, expected {expected}")

    def length(self, what: str, limit: int) -> Parsing[int]:
        """A u32, the number of bytes of `what`; it has to be at most `limit`."""
        at = self.offset
        (size,) = U32.unpack((yield from self.take(U32.size)))
        if size > limit:
            raise StreamError(at, f"{what} of {size} bytes, at most {limit} are read")
        return int(size)

    def text(self, size: int) -> Parsing[str]:
        """A name of `size` bytes; it has to be UTF-8 and not empty."""
        at = self.offset
        raw = bytes((yield from self.take(size)))
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise StreamError(at, f"a name is not UTF-8: {raw!r}") from None
        if not text:
            raise StreamError(at, "a name is empty")
        return text

    def name(self) -> Parsing[str]:
        """A u8 length and a name."""
        return (yield from self.text((yield from self.u8())))


class Decoder(ABC):
    """One stream, or a part of one, decoded as it arrives."""

    def __init__(self) -> None:
        self.complete = False
        self._source = Source()
        self._parser = self._parse()
        self._failure: BaseException | None = None

    @abstractmethod
    def _parse(self) -> Parsing[None]:
        """Read all of it, and return where it ends."""

    def close(self) -> None:
        """Let go of all that it holds, at once: it will not be fed any more."""
        self._parser.close()
        if self._failure is not None:
            self._failure = self._failure.with_traceback(None)

    @property
    def bytes(self) -> int:
        """The bytes consumed so far."""
        return self._source.offset

    def feed(self, data: Buffer) -> int:
        """Decode the next bytes; return how many belonged to this stream.

        Fewer than `len(data)` only when the stream is `complete`: the rest is the caller's. Raises
        StreamError, and what `open` or the sink raises; from then on, every call raises it again.
        A stream that stops early raises nothing: see whether it is `complete`.
        """
        if self._failure is not None:
            raise self._failure
        self._source.lend(data)
        try:
            next(self._parser)
        except StopIteration:
            # So it goes again at every call after that, with nothing read.
            self.complete = True
        except BaseException as error:
            self._failure = error
            raise
        finally:
            consumed = self._source.give_back()
        return consumed


def within(source: Source, part: Decoder, reached: Callable[[], bool] | None = None) -> Parsing[None]:
    """Let `part` take what is its own of `source`, until it has `reached` a place (None: its end).

    An error's place is counted in `source`.
    """
    start = source.offset - part.bytes
    while True:
        _lend(source, part, start)
        if part.complete if reached is None else reached():
            return
        yield


def _lend(source: Source, part: Decoder, start: int) -> None:
    """Give `part` the piece that is there; no view of it may live on in a generator."""
    view, position = source.window()
    try:
        source.advance(position + part.feed(view[position:]))
    except StreamError as error:
        raise StreamError(start + error.offset, error.problem) from None
