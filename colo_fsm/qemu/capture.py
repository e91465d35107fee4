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
from types import TracebackType
from typing import BinaryIO, Self

import attrs

from colo_fsm.fsm import Side

from .channel import CHANNELS, Described, DeviceState, Forward, Initial, Live, Undecodable

HEADER = b"colo-fsm capture 1\n"
INDEX = "index"
_ENTRY = Struct(">QII")
_SIDES = (Side.PRIMARY, Side.SECONDARY)
_PIECE = 1 << 20


class CaptureError(Exception):
    """A directory is no capture, or cannot become one. The text says what to do."""


@attrs.frozen
class Piece:
    """What one side sent, as it came: `time` in seconds since the first piece. Without data: its end."""

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@attrs.frozen
class Part:
    """A range of bytes in p2s."""

    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@attrs.frozen
class RecordedRound:
    """The live state of a round, its end mark included, and its vmstate."""

    live: Part
    vmstate: Part


@attrs.frozen
class Layout:
    """Where things are in p2s. `initial` includes the description; `devices` are its device sections.

    A round that is not whole is not among `rounds`, nor is what comes behind what cannot be decoded.
    """

    initial: Part
    devices: bytes = attrs.field(repr=False)
    rounds: tuple[RecordedRound, ...]


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
            while len(entry := index.read(_ENTRY.size)) == _ENTRY.size:
                time, channel, size = _ENTRY.unpack(entry)
                if channel >= len(_SIDES):
                    raise CaptureError(f"{self.path / INDEX} is damaged: channel {channel} at {time} ns")
                data = files[channel].read(size)
                if len(data) < size:
                    raise CaptureError(f"{self.path} is damaged: {CHANNELS[_SIDES[channel]]} is too short")
                yield Piece(time / 1e9, _SIDES[channel], data)

    def layout(self) -> Layout:
        """Decode what the Primary sent. Raises CaptureError if there is no whole initial state."""
        problem = "it ends there"
        layout: Layout | None = None
        rounds: list[RecordedRound] = []
        live = Part(0, 0)
        forward = Forward()
        whole = Part(0, (self.path / CHANNELS[Side.PRIMARY]).stat().st_size)
        try:
            for event in (event for data in self.read(whole) for event in forward.feed(data)):
                match event:
                    case Initial(devices=devices, end=end):
                        layout = Layout(Part(0, end), devices, ())
                    case Described(end=end) if layout is not None:
                        layout = attrs.evolve(layout, initial=Part(0, end))
                    case Live(start=start, end=end):
                        live = Part(start, end)
                    case DeviceState(start, end):
                        rounds.append(RecordedRound(live, Part(start, end)))
        except Undecodable as error:
            problem = str(error)
        if layout is None:
            raise CaptureError(f"{self.path} holds no whole initial state: {problem}")
        return attrs.evolve(layout, rounds=tuple(rounds))

    def read(self, part: Part) -> Iterator[bytes]:
        """These bytes of p2s, in pieces."""
        with (self.path / CHANNELS[Side.PRIMARY]).open("rb") as file:
            file.seek(part.start)
            left = part.size
            while left and (data := file.read(min(left, _PIECE))):
                left -= len(data)
                yield data
