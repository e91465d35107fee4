"""A QEMU of our own: started, driven over QMP, and ended whatever happens.

QMP runs over a socket pair that the process inherits: no path, no port, no waiting for it to appear.
"""

from __future__ import annotations

import json
import resource
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_LAST_WORDS = 300
"""Characters of QEMU's last words that are told."""


class QemuError(Exception):
    """QEMU does not start, refuses a command, or has ended; the text says which, in QEMU's own words."""


class Qemu:
    """A QEMU process inside a `with` block, ended with SIGKILL: a deadlocked one ignores SIGTERM.

    It also dies with the thread that entered the block, which is the one that may use it. `log` gets its
    standard error; `patience`, in seconds, is how long it may take to answer. Select on it like on a file:
    it is readable when `read` has something to do.
    """

    def __init__(self, binary: str, arguments: Sequence[str], log: Path, patience: float) -> None:
        self.exit: str | None = None
        """The reason for which it has left COLO, as its event says."""
        self.ended = False
        """Whether the process has ended, or will this instant."""
        self._command = [binary, *arguments]
        self._log = log
        self._patience = patience
        self._rest = b""
        self._answers: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        """Raises QemuError."""
        self._qmp, theirs = socket.socketpair()
        with theirs, self._log.open("wb") as log:
            self._process = self._started(theirs.fileno(), log.fileno())
        self._qmp.settimeout(self._patience)
        try:
            self.ask("qmp_capabilities")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _started(self, qmp: int, log: int) -> subprocess.Popen[bytes]:
        binary = self._command[0]
        if shutil.which(binary) is None:
            self._qmp.close()
            raise QemuError(f"there is no {binary} that can be started")
        monitor = ["-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control"]
        try:
            process = subprocess.Popen(  # noqa: S603 - a QEMU that the user has named, no shell
                ["setpriv", "--pdeathsig", "KILL", *self._command, *monitor],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[qmp],
            )
        except OSError as error:
            self._qmp.close()
            raise QemuError(f"setpriv, of util-linux, cannot be started: {error.strerror}") from None
        with suppress(ProcessLookupError):  # an abort is to be told at once, not when its core is written
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        return process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._qmp.close()

    def fileno(self) -> int:
        return self._qmp.fileno()

    def ask(self, command: str, **arguments: object) -> Any:
        """What QEMU returns. Underscores in the names of arguments become dashes. Raises QemuError."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        with suppress(OSError):  # it has ended: `read` notices
            self._qmp.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        deadline = time.monotonic() + self._patience
        while not self._answers:
            if self.ended:
                raise QemuError(f"it {self.fate()} before it answered {command}{self._because()}")
            if not select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise QemuError(f"no answer to {command} in {self._patience:g} s{self._because()}")
            self.read()
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

    def fate(self) -> str:
        """How the process ends, in words; waits for it. Raises QemuError if it does not end."""
        try:
            code = self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            raise QemuError("it has closed its QMP, and goes on") from None
        return f"ended with status {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"

    def words(self) -> str:
        """The end of what it has said to its user, in one line."""
        lines = self._log.read_text(errors="replace").splitlines()
        return " / ".join(filter(None, lines))[-_LAST_WORDS:]

    def _because(self) -> str:
        words = self.words()
        return f": {words}" if words else ""
