"""A command of the site's, run for a bounded time: it decides a claim, or it fences."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from typing import IO

import attrs

from colo_fsm.fsm import Side

from . import spare

_LINE_LIMIT = 4096


@attrs.frozen
class Ran:
    """How a command ended, and what it said.

    `status`: its exit status, the negative of the signal that ended it, or None after a time-out.
    `first`, `last`: the first line of its stdout and the last one of its stderr, of at most 4 KiB, or "".
    """

    status: int | None
    first: str = ""
    last: str = ""

    def told(self, meaning: str) -> str:
        """What went wrong, in a line; `meaning` is what is said of its exit status."""
        if self.status is None:
            how = "the command took too long and was killed"
        elif self.status < 0:
            how = f"the command was ended by signal {-self.status}"
        else:
            how = f"status {self.status} {meaning}"
        return f"{how}; it says: {self.last}" if self.last else how


def split(command: str) -> tuple[str, ...]:
    """Its words, as a shell would split them, but there is no shell. Descriptors are kept for it from now on.

    Raises:
        ValueError: that is no command, or there is none of that name.
    """
    argv = tuple(shlex.split(command))
    if not argv or shutil.which(argv[0]) is None:
        raise ValueError("name a command that can be executed")
    spare.keep()
    return argv


def run(argv: tuple[str, ...], generation: int, side: Side, timeout: float, *more: str) -> Ran:
    """Run it, these appended, for at most `timeout` seconds: then its process group is killed.

    Files, not pipes: a process that it leaves behind must not hold up the answer. Raises OSError: it cannot
    be run.
    """
    with spare.lent(), tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(  # noqa: S603 - the embedder's command and words of ours, no shell
            (*argv, str(generation), side.value, *more),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return Ran(status, _first_line(stdout), _last_line(stderr))


def _first_line(file: IO[bytes]) -> str:
    file.seek(0)
    return file.readline(_LINE_LIMIT).decode(errors="replace").strip()


def _last_line(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _LINE_LIMIT))
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
