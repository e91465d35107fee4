"""What a command says that must go on, whoever reads it.

A write can block for ever (a terminal stopped by ^S, a pager, a full pipe) and it can fail (a full disk, a
reader that is gone). So inside `telling()` whoever speaks, a log record and an embedder's `print` too, only
puts lines on a queue; a daemon thread for each stream writes them. What there is no room for is dropped and
counted, what fails harms nothing, and the exit status does not depend on any of it.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import TextIO

import attrs
import click

from .shown import plain, shown

ROOM = 1 << 18
"""Bytes that may wait for a reader. From half of it on, what is only said by the way is dropped."""

PATIENCE = 1.0
"""Seconds that a reader has at the end to take what still waits."""


def in_words(count: int) -> str:
    """The line that stands where others are missing."""
    return f"{count} line{'s were' if count > 1 else ' was'} not told in time"


class Voice:
    """Lines on their way to one stream. For any thread; `say` never blocks and never fails."""

    def __init__(self, stream: TextIO, missing: Callable[[int], str] = in_words) -> None:
        self._like = stream
        self._missing = missing
        self._waiting: deque[tuple[int, bytes]] = deque()
        """Each with the number of lines that are missing before it."""
        self._lost = 0
        self._size = 0
        self._busy = self._over = self._torn = False
        self._failed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="telling", daemon=True).start()

    @property
    def encoding(self) -> str:
        """The stream's own."""
        return self._like.encoding or "utf-8"

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it."""
        return self._like.isatty()

    def line(self, text: str, *, by_the_way: bool = False) -> None:
        """Say this in one line, fit to be shown. `by_the_way`: the first to be dropped when nobody reads."""
        self.say(f"{shown(text)}\n", by_the_way=by_the_way)

    def say(self, text: str, *, by_the_way: bool = False) -> None:
        """Say this as it is."""
        data = text.encode(self.encoding, "backslashreplace")
        with self._changed:
            if by_the_way and self._size > ROOM // 2:
                self._lost += _lines(data)
                return
            self._waiting.append((self._lost, data))
            self._lost = 0
            self._size += len(data)
            while self._size > ROOM and len(self._waiting) > 1:
                before, dropped = self._waiting.popleft()
                self._size -= len(dropped)
                self._lose(before + _lines(dropped))
            self._changed.notify_all()

    def _lose(self, count: int) -> None:
        """So many lines are missing before the next one."""
        if self._waiting:
            before, data = self._waiting[0]
            self._waiting[0] = before + count, data
        else:
            self._lost += count

    def heard(self, patience: float | None = PATIENCE) -> bool:
        """Wait until all is written, for so many seconds (None: for ever); whether somebody takes it."""
        end = None if patience is None else time.monotonic() + patience
        with self._changed:
            while self._busy or self._waiting:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
            return not self._failed

    def end(self) -> None:
        """Nothing more will be said. The thread ends once it has written the rest, or with the process."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    # -- on the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            before, data = taken
            try:
                self._write(before, data)
                self._failed = False
            except (OSError, ValueError):  # ValueError: a stream that somebody has closed
                self._failed = True
                with self._changed:
                    self._lose(before + _lines(data))

    def _next(self) -> tuple[int, bytes] | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            while not self._waiting:
                if self._over:
                    return None
                self._changed.wait()
            self._busy = True
            before, data = self._waiting.popleft()
            self._size -= len(data)
            return before, data

    def _write(self, before: int, data: bytes) -> None:
        if before:
            data = f"{self._missing(before)}\n".encode(self.encoding, "backslashreplace") + data
        if self._torn:
            data = b"\n" + data
        try:
            number = self._like.fileno()
        except io.UnsupportedOperation:  # no file: a test's, or an embedder's
            self._like.write(data.decode(self.encoding))
            self._like.flush()
            return
        left = memoryview(data)
        while left:
            try:
                written = os.write(number, left)
            except BlockingIOError:
                select.select([], [number], [])
            else:
                left = left[written:]
                self._torn = bool(left)


def _lines(data: bytes) -> int:
    return max(1, data.count(b"\n"))


class _Stream(io.TextIOBase):
    """A voice as `sys.stdout` or `sys.stderr`, for whoever writes there."""

    def __init__(self, voice: Voice, like: TextIO) -> None:
        self._voice = voice
        self._like = like
        self._lock = threading.RLock()
        self._begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._voice.encoding

    def isatty(self) -> bool:
        return self._voice.is_terminal

    def fileno(self) -> int:
        return self._like.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        with self._lock:
            self._begun += text
            if "\n" in text:
                self.flush()
        return len(text)

    def flush(self) -> None:
        with self._lock:
            text, self._begun = self._begun, ""
        if text:
            self._voice.say(text)


@attrs.frozen
class Voices:
    """Standard output and standard error."""

    out: Voice
    err: Voice


@contextlib.contextmanager
def telling(
    missing: Callable[[int], str] = in_words, *, patience: float | None = PATIENCE
) -> Iterator[Voices]:
    """Inside, nobody who speaks depends on who reads; errors are said here, too, and then it exits.

    missing: the line of standard output that stands where others were dropped. patience: seconds that the
    readers have at the end; None: all the time they want.
    """
    voices = Voices(Voice(sys.stdout, missing), Voice(sys.stderr))
    try:
        with (
            contextlib.redirect_stdout(_Stream(voices.out, sys.stdout)),
            contextlib.redirect_stderr(_Stream(voices.err, sys.stderr)),
        ):
            try:
                yield voices
            except click.ClickException as error:
                plain(error).show()
                sys.exit(error.exit_code)
            except Exception:  # noqa: BLE001 - a fault of ours: said like all else, not behind a full pipe
                traceback.print_exc()
                sys.exit(1)
    finally:
        end = None if patience is None else time.monotonic() + patience
        for voice in (voices.out, voices.err):
            voice.end()
            voice.heard(None if end is None else max(0.0, end - time.monotonic()))
