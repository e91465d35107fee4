"""Whether QEMU itself can load a checkpoint: nothing else proves it."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

from ..checkpoint import VmCheckpoint

PATIENCE = 60.0
"""Seconds that a QEMU may take to load a checkpoint."""

PARTING = 1.0
"""Seconds from the first sign of trouble until QEMU has said why."""


class CheckFailed(Exception):
    """QEMU did not load it, or did not start; the text has QEMU's own words."""


def check_loads(vm: VmCheckpoint, command: str) -> str:
    """Load `vm` into a QEMU started by `command`, stopped; QEMU's status when it has. Raises CheckFailed.

    `command` is the VM's own command line, without -incoming; what would open a disk for writing, or
    take an address that is in use, has no place in it.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CheckFailed(f"{command}: {error}") from None
    if not words:
        raise CheckFailed("name the command that starts the VM's QEMU")
    with tempfile.TemporaryDirectory(prefix="colo-fsm-") as folder:
        monitor, incoming = Path(folder) / "qmp", Path(folder) / "in"
        arguments = [
            *words, "-S",
            "-qmp", f"unix:{monitor},server=on,wait=off",
            "-incoming", f"unix:{incoming}",
        ]  # fmt: skip
        try:
            qemu = subprocess.Popen(  # noqa: S603 - the command line that the user has typed, no shell
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise CheckFailed(f"cannot start '{arguments[0]}': {error.strerror}") from None
        try:
            return _loaded(vm, qemu, monitor, incoming)
        except (OSError, ValueError) as error:
            why = _last_words(qemu) or str(error)
            if folder in why or "AF_UNIX" in why:
                why += "; let TMPDIR name a short folder that this QEMU sees, too"
            raise CheckFailed(f"checkpoint {vm.number} does not load: {why}") from None
        finally:
            qemu.kill()
            qemu.communicate()


def _last_words(qemu: subprocess.Popen[bytes]) -> str:
    """What a QEMU that ends by itself has said; one that does not is ended."""
    try:
        _, words = qemu.communicate(timeout=PARTING)
    except subprocess.TimeoutExpired:
        qemu.kill()
        _, words = qemu.communicate()
    return "; ".join(words.decode(errors="replace").strip().splitlines())


def _loaded(vm: VmCheckpoint, qemu: subprocess.Popen[bytes], monitor: Path, incoming: Path) -> str:
    end = time.monotonic() + PATIENCE
    with _connect(incoming, qemu, end) as link:
        for piece in vm.stream():
            link.sendall(piece)
    with _connect(monitor, qemu, end) as qmp, qmp.makefile("rw") as lines:
        _ask(lines, "qmp_capabilities")
        while time.monotonic() < end:
            status = str(_ask(lines, "query-status")["status"])
            if status != "inmigrate":
                return status
            time.sleep(0.02)
    raise ValueError("it takes too long")


def _connect(path: Path, qemu: subprocess.Popen[bytes], end: float) -> socket.socket:
    while True:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(PATIENCE)
        try:
            link.connect(str(path))
            return link
        except OSError:
            link.close()
            if qemu.poll() is not None or time.monotonic() > end:
                raise
        time.sleep(0.02)


def _ask(lines: TextIO, command: str) -> Any:
    """One QMP command; its return. What QEMU says unasked is passed over. Raises ValueError, OSError."""
    lines.write(json.dumps({"execute": command}) + "\n")
    lines.flush()
    while line := lines.readline():
        answer = json.loads(line)
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            raise ValueError(answer["error"]["desc"])
    raise ConnectionResetError("QEMU has ended")
