"""A QEMU of our own, driven over QMP, and ended whatever happens.

QMP runs over a socket pair that the process inherits: no path, no port, no waiting for it to appear.
"""

from __future__ import annotations

import json
import re
import resource
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .command import LAST_WORDS, fate, started

_WARNING = re.compile(r"(.*: )?warning: ")


class QemuError(Exception):
    """QEMU refuses a command, does not answer, or has ended; the text says which, in QEMU's own words."""


class Qemu:
    """A QEMU process. `patience`, in seconds, is how long it may take to answer; `log` has what it says.

    For one thread. Select on it like on a file: it is readable when `read` has something to do.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], qmp: socket.socket, log: Path, patience: float
    ) -> None:
        self.process = process
        self.log = log
        self.exit: str | None = None
        """The reason for which it has left COLO, as its event says."""
        self.ended = False
        """Whether the process has ended, or does in this instant."""
        self._qmp = qmp
        self._patience = patience
        self._rest = b""
        self._answers: list[dict[str, Any]] = []

    def fileno(self) -> int:
        return self._qmp.fileno()

    def ask(self, command: str, **arguments: object) -> Any:
        """What QEMU returns. Underscores in the names of arguments become dashes. Raises QemuError."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        with suppress(OSError):  # it has ended: that is noticed below
            self._qmp.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        deadline = time.monotonic() + self._patience
        while not self._answers:
            if not select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self._error(f"does not answer {command} in {self._patience:g} s")
            self.read()
            if self.ended:
                raise self._error(f"{self._fate()} before it has answered {command}")
        answer = self._answers.pop()
        if "error" in answer:
            raise QemuError(f"{command}: {answer['error']['desc']}")
        return answer["return"]

    def read(self) -> None:
        """Take what it has said; blocks until there is something."""
        try:
            data = self._qmp.recv(1 << 16)
        except ConnectionResetError:  # it has ended with a line of ours unread
            data = b""
        self.ended = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        for said in map(json.loads, lines):
            if said.get("event") == "COLO_EXIT":
                self.exit = said["data"]["reason"]
            elif "return" in said or "error" in said:
                self._answers.append(said)

    def words(self) -> str:
        """The end of what it has said to its user, warnings apart, in one line."""
        return last_words(self.log.read_text(errors="replace"))

    def _fate(self) -> str:
        try:
            self.process.wait(self._patience)
        except subprocess.TimeoutExpired:
            return "has closed its QMP, and goes on,"
        return fate(self.process)

    def _error(self, what: str) -> QemuError:
        return QemuError(": ".join(filter(None, (what, self.words()))))


def last_words(said: str) -> str:
    """See `Qemu.words`. Each line begins with the name of the program, which says nothing."""
    lines = (re.sub(r"^[^ :]*qemu[^ :]*: ", "", line) for line in said.splitlines())
    return "; ".join(line for line in lines if line and not _WARNING.match(line))[-LAST_WORDS:]


@contextmanager
def running(command: Sequence[str], log: Path, patience: float) -> Iterator[Qemu]:
    """It answers QMP. Dies with the thread that started it, too. Raises CannotTest, QemuError."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monitor = ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-qmp", "chardev:qmp"]
        with started([*command, *monitor], log, theirs) as process:
            theirs.close()
            ours.settimeout(patience)
            with suppress(ProcessLookupError):  # an abort is to be seen at once, not when its core is written
                resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
            found = Qemu(process, ours, log, patience)
            found.ask("qmp_capabilities")
            yield found
