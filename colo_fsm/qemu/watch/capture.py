"""A recorded link: what two QEMUs said to each other, and when. A directory of three files.

    p2s, s2p   the bytes of either channel, as they came
    index      "colo-fsm capture 1\\n", then for every piece that came, in order, 16 bytes, big-endian:
               u64 nanoseconds since the first piece, u32 channel (0 p2s, 1 s2p), u32 length

A length of 0 is the end of what that side sends. A piece is written before its entry, so a recording
that was killed is a shorter one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Self

import attrs

from colo_fsm.fsm import Side
from colo_fsm.replica.link import READ_SIZE

from .channel import CHANNELS, Described, DeviceState, Event, Forward, Initial, Live, Undecodable

HEADER = b"colo-fsm capture 1\n"
INDEX = "index"
_ENTRY = Struct(">QII")
_SIDES = (Side.PRIMARY, Side.SECONDARY)


class CaptureError(Exception):
    """A directory is no capture, or cannot become one. The text says what to do."""


@attrs.frozen
class Piece:
    """What one side sent, as it came, but a large one in parts: `time` in seconds since the first piece.

    Without data: the end of what this side sent.
    """

    time: float
    side: Side
    data: bytes


class Recorder:
    """Writes a capture to `path`, which must be empty or not there. Raises CaptureError, OSError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self._path.iterdir()):
            raise CaptureError(f"{path} is not empty: name another directory")
        self._began: float | None = None
        with contextlib.ExitStack() as stack:
            self._channels = {
                side: stack.enter_context(self._create(name)) for side, name in CHANNELS.items()
            }
            self._index = stack.enter_context(self._create(INDEX))
            self._index.write(HEADER)
            self._files = stack.pop_all()

    def _create(self, name: str) -> BinaryIO:
        """Unbuffered, so that a killed process has lost nothing of what it wrote."""
        return (self._path / name).open("xb", buffering=0)

    def write(self, at: float, side: Side, data: bytes) -> None:
        """Record a piece that came at this time (seconds, of any clock that does not go back)."""
        if self._began is None:
            self._began = at
        rest = memoryview(data)
        while rest:
            rest = rest[self._channels[side].write(rest) :]
        self._index.write(_ENTRY.pack(round((at - self._began) * 1e9), _SIDES.index(side), len(data)))

    def close(self) -> None:
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@attrs.frozen
class Layout:
    """Where things are in p2s. `initial` includes the description; `devices` are its device sections.

    A round is its live state and its vmstate. One that is not whole is not among `rounds`, nor is what
    comes behind what cannot be decoded.
    """

    initial: Event
    devices: bytes = attrs.field(repr=False)
    rounds: tuple[tuple[Live, DeviceState], ...]


class Capture:
    """A capture in the directory `path`: iterates over `Piece`. Raises CaptureError if it is none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.is_one(path):
            raise CaptureError(f"{path} is no capture: make one with colo-fsm tap --record")

    @staticmethod
    def is_one(path: str | os.PathLike[str]) -> bool:
        """Whether there is a capture in this directory."""
        try:
            with (Path(path) / INDEX).open("rb") as index:
                return index.read(len(HEADER)) == HEADER
        except (FileNotFoundError, NotADirectoryError):
            return False

    def __iter__(self) -> Iterator[Piece]:
        with contextlib.ExitStack() as stack:
            index = stack.enter_context((self.path / INDEX).open("rb"))
            index.seek(len(HEADER))
            files = [stack.enter_context((self.path / CHANNELS[side]).open("rb")) for side in _SIDES]
            left = [os.fstat(file.fileno()).st_size for file in files]
            while len(entry := index.read(_ENTRY.size)) == _ENTRY.size:
                time, channel, size = _ENTRY.unpack(entry)
                if channel >= len(_SIDES):
                    raise CaptureError(f"{self.path / INDEX} is damaged: channel {channel} at {time} ns")
                side = _SIDES[channel]
                left[channel] -= size
                if left[channel] < 0:  # before a byte of it is read: a damaged size may be 4 GiB
                    raise CaptureError(f"{self.path} is damaged: {CHANNELS[side]} is too short")
                if not size:
                    yield Piece(time / 1e9, side, b"")
                while size and (data := files[channel].read(min(size, READ_SIZE))):
                    size -= len(data)
                    yield Piece(time / 1e9, side, data)

    def layout(self) -> Layout:
        """Decode what the Primary sent. Raises CaptureError if there is no whole initial state."""
        problem = "it ends there"
        initial: Event | None = None
        devices = b""
        rounds: list[tuple[Live, DeviceState]] = []
        forward = Forward()
        whole = Event(0, (self.path / CHANNELS[Side.PRIMARY]).stat().st_size)
        try:
            for event in (event for data in self.read(whole) for event in forward.events(data)):
                match event:
                    case Initial(devices=devices):
                        initial = event
                    case Described(end=end):
                        initial = Event(0, end)
                    case Live():
                        live = event
                    case DeviceState():
                        rounds.append((live, event))
        except Undecodable as error:
            problem = str(error)
        if initial is None:
            raise CaptureError(f"{self.path} holds no whole initial state: {problem}")
        return Layout(initial, devices, tuple(rounds))

    def read(self, part: Event) -> Iterator[bytes]:
        """These bytes of p2s, in pieces."""
        with (self.path / CHANNELS[Side.PRIMARY]).open("rb") as file:
            file.seek(part.start)
            left = part.size
            while left and (data := file.read(min(left, READ_SIZE))):
                left -= len(data)
                yield data
