"""The arbiter behind a command: whatever the site already trusts to decide, as an executable."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from threading import Lock
from typing import IO, ClassVar

import attrs

from colo_fsm.fsm import Side

from . import spare
from .base import ArbiterUnreachable, Claim, a_time, fresh_number, wall_clock

_WON, _LOST = 0, 1
_LINE_LIMIT = 4096


@attrs.define(eq=False)
class ExecArbiter:
    """Claims by running `command` (split like a shell would, but no shell) for at most `timeout` s.

    The generation (decimal) and the side (`primary`, `secondary`) are appended as its last two
    arguments. Exit status 0: this side has won. 1: the other side has. Anything else, a signal, a
    time-out (the process group is killed) or a command that cannot be run is `ArbiterUnreachable`,
    with the last line it wrote to stderr.

    The command must record the first claim atomically and durably, out of reach of either side's
    failure, and must be idempotent: it runs again for every retry, and after a reply was lost.
    Take care that it cannot fail with status 1, as shells and interpreters like to do: a side that
    hears "lost" stops for good.

    If the first line of its stdout is a number, that is the token: it must rise over generations,
    and be the same for both sides. Without one, the generation is the token.

    Raises:
        ValueError: there is no such command, or no such time.
    """

    local_only: ClassVar[bool] = False

    command: str
    timeout: float = attrs.field(default=10.0, validator=a_time)
    _argv: tuple[str, ...] = attrs.field(init=False, repr=False)
    _opened: int = attrs.field(init=False, repr=False, factory=wall_clock)
    _lock: Lock = attrs.field(init=False, repr=False, factory=Lock)

    @_argv.default
    def _split(self) -> tuple[str, ...]:
        try:
            argv = tuple(shlex.split(self.command))
        except ValueError as error:
            raise ValueError(f"{self}: {error}") from None
        if not argv or shutil.which(argv[0]) is None:
            raise ValueError(f"{self}: name a command that can be executed")
        spare.keep()
        return argv

    def __str__(self) -> str:
        return f"exec:{self.command}"

    def open(self) -> int:
        """A new number, without asking the command.

        A generation only has to be new, and only the Primary opens any: the time in microseconds
        repeats none of an earlier start unless the clock is set back to that very microsecond.
        """
        with self._lock:
            self._opened = fresh_number(self._opened)
            return self._opened

    def check(self, generation: int) -> None:
        """Nothing: a command can only be asked to claim, which cannot be undone."""

    def claim(self, generation: int, side: Side) -> Claim:
        try:
            with spare.lent(), tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
                status = self._run((*self._argv, str(generation), side.value), stdout, stderr)
                if status in (_WON, _LOST):
                    winner = side if status == _WON else side.peer
                    return Claim(winner, _token(stdout, default=generation))
                raise ArbiterUnreachable(str(self), f"{_describe(status)}{_last_line(stderr)}")
        except OSError as error:
            raise ArbiterUnreachable(str(self), str(error)) from error

    def _run(self, argv: tuple[str, ...], stdout: IO[bytes], stderr: IO[bytes]) -> int | None:
        """The exit status (negative: the signal), None after a time-out.

        Files, not pipes: a process the command leaves behind must not hold up the answer.
        """
        process = subprocess.Popen(  # noqa: S603 - the embedder's command and two words of ours, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            return process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _token(stdout: IO[bytes], default: int) -> int:
    stdout.seek(0)
    line = stdout.readline(_LINE_LIMIT).strip()
    return int(line) if line.isdigit() else default


def _describe(status: int | None) -> str:
    if status is None:
        return "the command took too long and was killed"
    if status < 0:
        return f"the command was ended by signal {-status}"
    return f"the command exited with status {status} (0 is won, 1 is lost)"


def _last_line(stderr: IO[bytes]) -> str:
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _LINE_LIMIT))
    lines = stderr.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""
