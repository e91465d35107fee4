"""Processes whose standard output nobody reads, or nobody can write; and what they do, seen from outside."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "colo_fsm"]
KINDS = ("stalled", "full", "gone", "closed")
"""A pipe that is full and never read; a disk without room; a pipe without a reader; no descriptor at all."""

GUESTS = '''
"""Guests whose files say what has happened: `loaded` how far the Secondary is, `alone` that it goes on."""
import os
from pathlib import Path
from colo_fsm import StateGuest

class Counter:
    value = 0
    def get_state(self):
        self.value += 1
        print("the guest itself says something, too: " + "x" * 1000)
        return b"%d" % self.value
    def set_state(self, state):
        Path("loaded.new").write_bytes(state)
        os.replace("loaded.new", "loaded")

def first():
    return StateGuest(Counter(), 4096)

class Second(StateGuest):
    def resume(self):
        Path("alone").touch()

def second():
    return Second(Counter(), 4096)

class Hanging(StateGuest):
    def save(self, full):
        Path("saving").touch()
        while True:
            __import__("time").sleep(3600)

def hanging():
    return Hanging(Counter(), 4096)
'''


def write_guests(folder: Path) -> None:
    """What `side()` names, into the folder that its commands run in."""
    (folder / "guests.py").write_text(GUESTS)


def side(name: str, *arguments: str) -> list[str]:
    """The command line of a side; the claim and the link are files in the folder."""
    at, guest = ("--listen", "second") if name == "secondary" else ("--connect", "first")
    arbiter = ["--arbiter", "sqlite:claim.db"]
    return [*COMMAND, name, at, "unix:link", "--guest", f"guests:{guest}", *arbiter, *arguments]


def loaded(folder: Path) -> int:
    """The number of the checkpoint that the Secondary has loaded, 0 before the first."""
    with contextlib.suppress(FileNotFoundError):
        return int((folder / "loaded").read_bytes())
    return 0


def listens(path: Path) -> bool | None:
    """For `until`: whether there is a socket at this path."""
    return path.is_socket() or None


@contextlib.contextmanager
def output(kind: str) -> Iterator[int]:
    """A descriptor of one of KINDS; for `closed`, see `spoken_to_nobody`."""
    with contextlib.ExitStack() as stack:
        if kind in ("full", "closed"):
            number = os.open("/dev/full", os.O_WRONLY)
            stack.callback(os.close, number)
            yield number
            return
        reader, writer = os.pipe()
        stack.callback(os.close, writer)
        if kind == "gone":
            os.close(reader)
        else:
            stack.callback(os.close, reader)
            size = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
            os.write(writer, b"." * size)
            assert not select.select([], [writer], [], 0)[1]
        yield writer


@contextlib.contextmanager
def spoken_to_nobody(command: list[str], folder: Path, kind: str) -> Iterator[subprocess.Popen[Any]]:
    """This command, its standard output and error both of this kind; killed at the end."""
    closed = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh"] if kind == "closed" else []
    with (
        output(kind) as out,
        subprocess.Popen(
            [*closed, *command], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
