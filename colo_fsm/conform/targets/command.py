"""The target `cmd:COMMAND`: a side that is started afresh for every case, and ended after it.

In the command, `{address}` is where it has to listen (a Secondary) or to connect to (a Primary): unix:PATH.
For those that do only TCP, `{port}` is a port of 127.0.0.1. `{folder}` is a folder of the case's own.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import attrs

from colo_fsm.fsm import CompleteTable, Side
from colo_fsm.replica.address import Address, address_of

from ..link import CannotTest, Link, SocketLink, moment
from ..voice import Voice
from .address import VoiceMaker, accepted

ADDRESS, PORT, FOLDER = "{address}", "{port}", "{folder}"
LOCAL = "127.0.0.1"
PORTS = range(20_000, 32_768)
"""Below those that the kernel gives to outgoing connections: these get into nobody's way."""
LAST_WORDS = 300
"""Characters of a command's last words that stand in a report."""
STEP = 0.005
"""Seconds between two looks at whether a command is there."""
EXITING = 0x4
"""PF_EXITING of Linux: set before the kernel closes what a process has open."""
CRASHES = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP"})
"""What a shell's status 128 + N is taken for, since one may say such a number itself."""

_ports_lock = threading.Lock()
_ports_in_use = set[int]()


class Process(SocketLink):
    """The link to a process. How it has ended, and the last that it has said, are evidence."""

    def __init__(
        self, sock: socket.socket, patience: float, process: subprocess.Popen[bytes], words: Path
    ) -> None:
        super().__init__(sock, patience)
        self._process, self._words = process, words

    def evidence(self) -> str:
        """How it has ended, if it has, and what it said last."""
        ended = "" if self._process.poll() is None else fate(self._process)
        return ": ".join(filter(None, (ended, last_words(self._words))))

    def crash(self, quiet: float = 0.0) -> str | None:
        """See `Link`. A process that is about to end is waited for; one that has started others may be."""
        if self._ended:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._patience if exiting(self._process.pid) else quiet)
        return None if self._process.poll() is None else signal_of(self._process)


def exiting(pid: int) -> bool:
    """Whether this process of ours, not waited for yet, is about to end."""
    with suppress(OSError):
        return bool(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6]) & EXITING)
    return False


def signal_of(process: subprocess.Popen[bytes]) -> str | None:
    """The signal that a process was ended by, or the crash that a shell has seen."""
    code = process.returncode
    number = -code if code < 0 else code - 128
    if number not in {each.value for each in signal.Signals}:
        return None
    name = signal.Signals(number).name
    return name if code < 0 or name in CRASHES else None


def fate(process: subprocess.Popen[bytes]) -> str:
    """How a process that has ended did, in words."""
    name = signal_of(process)
    return f"ended with status {process.returncode}" if name is None else f"ended by {name}"


def last_words(said: Path) -> str:
    """The end of what a command has said, in one line."""
    words = " / ".join(filter(None, said.read_text(errors="replace").split("\n")))
    return words if len(words) <= LAST_WORDS else f"...{words[-LAST_WORDS:]}"


@attrs.frozen
class Command:
    """`command` is split as a shell does; `patience`, in seconds, is how long it may take to be there.

    A Secondary is there when it can be connected to; with `ready`, once it has said a line with this text.
    Raises ValueError for a command that cannot be.
    """

    command: str
    table: CompleteTable
    voice: VoiceMaker
    patience: float
    ready: str | None = None

    def __attrs_post_init__(self) -> None:
        if not self._words():
            raise ValueError("a command is missing: write cmd:COMMAND")
        if (ADDRESS in self.command) == (PORT in self.command):
            raise ValueError(
                f"'{self.command}' does not say where its side is: write {ADDRESS} in it for unix:PATH, "
                f"or {PORT} for a port of {LOCAL}"
            )
        if self.ready is not None and self.table.side is Side.PRIMARY:
            raise ValueError("a Primary is there when it has connected: --ready goes with --side secondary")

    def _words(self) -> list[str]:
        try:
            return shlex.split(self.command)
        except ValueError as error:
            raise ValueError(f"'{self.command}': {str(error).lower()}") from None

    @property
    def name(self) -> str:
        return f"{self.command}, {self.table.side}"

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        """See `Target`."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="conformance-")))
            words = folder / "words"
            address, listener = self._place(stack, folder)
            process = stack.enter_context(started(self._arguments(address, folder), words))
            sock = self._reached(process, words, address, listener)
            link = Process(sock, self.patience, process, words)
            stack.callback(link.close)
            yield link, self.voice()

    def _place(self, stack: ExitStack, folder: Path) -> tuple[Address, socket.socket | None]:
        """Where we meet, and what we listen with if the side connects to us."""
        unix = ADDRESS in self.command
        if self.table.side is Side.PRIMARY:
            address = Address(path=str(folder / "link")) if unix else Address(host=LOCAL)
            listener = stack.enter_context(address.listen())
            return address_of(listener), listener
        if unix:
            return Address(path=str(folder / "link")), None
        return Address(host=LOCAL, port=stack.enter_context(free_port())), None

    def _arguments(self, address: Address, folder: Path) -> list[str]:
        values = {ADDRESS: address, PORT: address.port, FOLDER: folder}
        words = self._words()
        for name, value in values.items():
            words = [word.replace(name, str(value)) for word in words]
        return words

    def _reached(
        self,
        process: subprocess.Popen[bytes],
        words: Path,
        address: Address,
        listener: socket.socket | None,
    ) -> socket.socket:
        """The link, as soon as there is one. Raises CannotTest."""
        end = moment() + self.patience
        while True:
            ended = process.poll() is not None
            late = moment() >= end
            sock = self._try(words, address) if listener is None else _knocked(listener, address)
            if sock is not None:
                return sock
            if ended or late:
                why = fate(process) if ended else self._missing(address)
                raise CannotTest(f"{self.command}: {': '.join(filter(None, (why, last_words(words))))}")
            time.sleep(STEP)

    def _try(self, words: Path, address: Address) -> socket.socket | None:
        """A link to a Secondary that is there."""
        if self.ready is None or self.ready in words.read_text(errors="replace"):
            with suppress(OSError):
                return address.connect()
        return None

    def _missing(self, address: Address) -> str:
        """What has not happened in all the time."""
        if self.table.side is Side.PRIMARY:
            what = f"has not connected to {address}"
        elif self.ready is None:
            what = f"does not listen at {address}"
        else:
            what = f"has not said '{self.ready}', or does not listen at {address}"
        return f"{what} in {self.patience:g} s"


def _knocked(listener: socket.socket, address: Address) -> socket.socket | None:
    """The link of a Primary that has connected."""
    with suppress(CannotTest):
        return accepted(listener, address, 0.0)
    return None


@contextmanager
def free_port() -> Iterator[int]:
    """A port of 127.0.0.1 at which nobody listens, and that no other command of ours gets meanwhile."""
    with _ports_lock:
        port = next(filter(_free, iter(lambda: random.choice(PORTS), None)))  # noqa: S311 - no secret
        _ports_in_use.add(port)
    try:
        yield port
    finally:
        _ports_in_use.discard(port)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCAL, port))
        except OSError:
            return False
    return port not in _ports_in_use


@contextmanager
def started(command: list[str], words: Path, *inherited: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a group of its own, all of which is killed in the end. Raises CannotTest.

    It also dies with the thread that has started it, where util-linux has its setpriv. It has the sockets
    that are `inherited` under the same numbers.
    """
    if shutil.which(command[0]) is None:
        raise CannotTest(f"there is no program {command[0]} that can be started")
    leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with words.open("wb") as said:
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's command
                [*leash, *command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                pass_fds=[each.fileno() for each in inherited],
            )
        except OSError as error:
            raise CannotTest(f"{command[0]} cannot be started: {error.strerror}") from error
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
