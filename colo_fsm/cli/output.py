"""Standard output and error of a command whose output is its result: it waits for its reader.

What cannot be written is an error in one line and status 1, never a traceback; what is said of errors can
fail, and changes nothing. Commands that must go on whoever reads use `telling()` on top of this.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

import click

from .shown import plain

INTERRUPTED = 130
"""The status after ^C, as a shell has it."""


class OutputFailed(click.ClickException):
    """Standard output cannot be written."""

    def __init__(self, cause: OSError) -> None:
        said = "nobody reads it any more" if isinstance(cause, BrokenPipeError) else cause.strerror
        super().__init__(f"standard output cannot be written: {said}")


class _Raw(io.FileIO):
    def write(self, data: Any, /) -> int:
        while (written := super().write(data)) is None:  # somebody has made it non-blocking
            select.select([], [self], [])
        return written


class _Out(_Raw):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _to_nowhere(self.fileno())  # else what is buffered fails once more at the end
            raise OutputFailed(error) from None


class _Err(_Raw):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def open_streams() -> None:
    """Make `sys.stdout` and `sys.stderr` such streams. First of all: before any file is opened.

    A descriptor that came closed would be given to the next file, and what is said would be written into
    that. So it gets one: of standard output one that refuses every write, as a closed one does.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR), True)
    sys.stdout = _text(_Out(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Err(2, "w", closefd=False), sys.stderr)


def _text(raw: io.FileIO, like: Any) -> io.TextIOWrapper:
    """In lines for a terminal, and for whoever is told of an error."""
    at_once = raw.isatty() or raw.fileno() == 2
    encoding = getattr(like, "encoding", None) or "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=at_once
    )


class Commands(click.Group):
    """A group of commands that end as their help says, also by ^C, and whose errors can be shown."""

    def invoke(self, ctx: click.Context) -> Any:
        """See click."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except click.ClickException as error:
            raise plain(error) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
