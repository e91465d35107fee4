"""`colo-fsm standby` as a process, and a Primary of a tiny VM that is only a stream, to drive it fast."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from qemu_lines import PATIENCE
from vm_stream import BLOCKS, described, device, head, ram, record, start

from colo_fsm.stream import PAGE_SIZE

T = TypeVar("T")

REPLACE = "--replace-store"
"""For a standby that is started again over the checkpoint of a VM that is gone."""
COMMAND = [sys.executable, "-m", "colo_fsm"]
READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = (struct.pack(">I", n) for n in range(7))


def until(found: Callable[[], T | None], what: str) -> T:
    """What `found` returns once that is not None."""
    deadline = time.monotonic() + PATIENCE
    while (value := found()) is None:
        assert time.monotonic() < deadline, f"no {what} in {PATIENCE} s"
        time.sleep(0.002)
    return value


class StandbyProcess:
    """The command with --json, in a `with` block that ends it; its store is `store`."""

    def __init__(self, folder: Path, *options: str, listen: str = "tcp:127.0.0.1:0") -> None:
        self.store = folder / "vm"
        self._out, self._log = folder / "standby.out", folder / "standby.log"
        if not {"--arbiter", "--no-arbiter"} & set(options):
            options = (*options, "--no-arbiter")
        where = ("--listen", listen, "--store", str(self.store))
        self._command = [*COMMAND, "standby", *where, "--json", *options]

    def __enter__(self) -> Self:
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        try:
            found = self.says(r"listening at (\S+), generation (\d+)")
        except BaseException:
            self.kill()
            raise
        self.uri, self.generation = found[1], int(found[2])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def said(self) -> str:
        """What is on its standard error."""
        return self._log.read_text()

    def says(self, pattern: str, *, start: int = 0) -> re.Match[str]:
        """Wait until it says that, in `said[start:]`."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.said[start:])
            assert match or self.process.poll() is None, f"it ended: {self.said}"
            return match

        return until(found, f"{pattern!r} from the standby")

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What it has printed."""
        return [json.loads(line) for line in self._out.read_text().splitlines()]

    @property
    def memory(self) -> int:
        """Bytes that it has in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def connect(self) -> socket.socket:
        host, port = self.uri.removeprefix("tcp:").rsplit(":", 1)
        link = socket.create_connection((host, int(port)), PATIENCE)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link


# -- a VM whose every page holds the number of its checkpoint


def page(number: int) -> bytes:
    return struct.pack(">Q", number) * (PAGE_SIZE // 8)


def every_page(number: int) -> bytes:
    """The records that fill all of RAM."""
    records = b""
    for block, size in BLOCKS.items():
        for offset in range(0, size, PAGE_SIZE):
            records += record(offset, 0x28 if offset else 0x08, "" if offset else block) + page(number)
    return records


def devices(number: int) -> bytes:
    return device(0, "timer", struct.pack(">Q", number)) + device(4, "cpu", page(number)[:100])


def initial(number: int = 0) -> bytes:
    return head() + start() + ram(2, every_page(number)) + ram(3, b"") + devices(number) + b"\0" + described()


def live(number: int) -> bytes:
    return ram(3, every_page(number)) + b"\0"


def state(number: int) -> bytes:
    data = devices(number) + b"\0"
    return struct.pack(">Q", len(data)) + data


class StreamPrimary:
    """The Primary's part over `link`, by hand. `received` is the newest round answered so."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.received = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()

    def expect(self, *messages: bytes) -> None:
        wanted = b"".join(messages)
        found = b""
        while len(found) < len(wanted):
            data = self.link.recv(len(wanted) - len(found))
            if not data:
                raise ConnectionResetError
            found += data
        assert found == wanted

    def begin(self, number: int = 0) -> Self:
        self.link.sendall(initial(number))
        self.expect(READY)
        self.received = 0
        return self

    def round(self, number: int) -> None:
        """All of RAM is `number` after it."""
        self.link.sendall(REQUEST)
        self.expect(REPLY)
        self.link.sendall(SEND + live(number) + SIZE + state(number))
        self.expect(RECEIVED)
        self.received = number
        self.expect(LOADED)

    def rounds(self, first: int, last: int) -> None:
        for number in range(first, last + 1):
            self.round(number)
