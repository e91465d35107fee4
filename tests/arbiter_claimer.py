"""One side as a process of its own: claims every generation it reads, and prints the answer.

    arbiter_claimer.py URL SIDE [STATEMENT SIGNAL]

With the last two it sends itself SIGNAL just before SQLite runs STATEMENT (BEGIN, UPDATE, COMMIT),
or, for STATEMENT `reply`, between the answer and its printing.
"""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import attrs

from colo_fsm.arbiter import Claim, open_arbiter
from colo_fsm.fsm import Side


@attrs.frozen
class Asker:
    """The handle on a process that answers a line with a line."""

    process: subprocess.Popen[str]

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_stopped(self) -> None:
        flags = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        status = os.waitid(os.P_PID, self.process.pid, flags)
        assert status is not None
        assert status.si_status == signal.SIGSTOP

    def wait_killed(self) -> None:
        assert self.process.wait() == -signal.SIGKILL


@attrs.frozen
class Claimer(Asker):
    """The handle on a process that claims."""

    def ask(self, generation: int) -> None:
        self.write(str(generation))

    def answer(self) -> Claim:
        winner, token = self.read().split()
        return Claim(Side(winner), int(token))


@contextmanager
def claimer(url: str, side: Side, *fault: str) -> Iterator[Claimer]:
    """A process that is ready to claim; it is killed at the end, frozen or not."""
    with asking(__file__, url, side, *fault) as process:
        yield Claimer(process)


@contextmanager
def asking(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is ready; it is killed at the end, frozen or not."""
    process = subprocess.Popen(
        [sys.executable, script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


_connect = sqlite3.connect


def answering(answer: Callable[[str], object], at: str = "", name: str = "") -> None:
    """Answer every line of the standard input, and strike ourselves `at` a statement."""

    def strike(statement: str) -> None:
        if at and statement.startswith(at):
            os.kill(os.getpid(), signal.Signals[name])

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        db: sqlite3.Connection = _connect(*args, **options)
        db.set_trace_callback(strike)
        return db

    say = functools.partial(print, flush=True)
    say("ready")
    for line in sys.stdin:
        with mock.patch("sqlite3.connect", traced):
            answered = answer(line)
        strike("reply")
        say(answered)


def main(url: str, side: Side, *fault: str) -> None:
    arbiter = open_arbiter(url)

    def claim(line: str) -> str:
        claim = arbiter.claim(int(line), side)
        return f"{claim.winner} {claim.token}"

    answering(claim, *fault)


if __name__ == "__main__":
    main(sys.argv[1], Side(sys.argv[2]), *sys.argv[3:])
