"""Members with handles, and those who use them: `ctl` as a process, HTTP by http.client, systemd's socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from members import PATIENCE, Process
from qemu import free_port

from colo_fsm.cli.app import cli


def ctl(folder: Path, path: str, *more: str) -> Result:
    """`colo-fsm ctl PATH ...`, to its end, in this process."""
    return CliRunner().invoke(cli, ["ctl", str(folder / path), *more])


def asked(path: Path, deed: str) -> dict[str, Any]:
    """The reply of a control socket, by hand."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE)
        link.connect(str(path))
        link.sendall(json.dumps({"do": deed}).encode() + b"\n")
        with link.makefile("rb") as reader:
            reply: dict[str, Any] = json.loads(reader.readline())
            return reply


def status(path: Path) -> dict[str, Any]:
    """What it is, by its control socket."""
    known: dict[str, Any] = asked(path, "status")["status"]
    return known


def until(so: Callable[[], bool], what: str = "") -> None:
    """Wait until this is so; what nobody can listen for is looked at again and again."""
    end = time.monotonic() + PATIENCE
    while not so():
        assert time.monotonic() < end, what or so
        time.sleep(0.02)


def http_ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        link.request(method, path)
        reply = link.getresponse()
        return reply.status, reply.read().decode()
    finally:
        link.close()


class Supervisor:
    """systemd's end of sd_notify: a bound datagram socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, *wanted: str) -> list[str]:
        """The next message that has all these lines in it; a line is meant that begins so."""
        while True:
            lines = self._socket.recv(4096).decode().splitlines()
            if all(any(line.startswith(each) for line in lines) for each in wanted):
                return lines

    def until_silent(self, seconds: float) -> None:
        """Until nothing has come for so long."""
        self._socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while True:
                self._socket.recv(4096)
        self._socket.settimeout(PATIENCE)


def handles(name: str) -> tuple[list[str], Path, int]:
    """Options for a member of this name, its control socket, and its port for HTTP."""
    port = free_port()
    return ["--control", f"{name}.ctl", "--http", f"tcp:127.0.0.1:{port}"], Path(f"{name}.ctl"), port


__all__ = ["Process", "Supervisor", "asked", "ctl", "handles", "http_ask", "status", "until"]
