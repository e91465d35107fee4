"""A pair of `colo-fsm` processes that serves the SQLite guest, and clients that speak to it by hand."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import replicas

from colo_fsm.replica import Address

GUEST = "sqlite"


class Process:
    """A side as a process; what it says is read one event at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self._out: IO[str] = process.stdout

    def until(self, event: str, **fields: object) -> dict[str, Any]:
        """Its next line of this kind. Raises AssertionError when it ends before."""
        wanted = {"event": event, **fields}
        for line in self._out:
            found: dict[str, Any] = json.loads(line)
            if wanted.items() <= found.items():
                return found
        assert self.process.stderr is not None
        raise AssertionError(f"ended before {wanted}: {self.process.stderr.read()}")

    def read_on(self) -> None:
        """Whatever it says from now on is not of interest, and it is never kept waiting for that."""

        def read() -> None:
            with contextlib.suppress(OSError, ValueError):  # closed under our hands at the end
                for _ in self._out:
                    pass

        threading.Thread(target=read, daemon=True).start()

    @property
    def memory(self) -> int:
        """Bytes of it that are in memory."""
        return replicas.memory(self.process.pid)

    @property
    def descriptors(self) -> int:
        return replicas.descriptors(self.process.pid)


@contextlib.contextmanager
def side(
    folder: Path,
    *arguments: str,
    files: int | None = None,
    guest: str = GUEST,
    serve: str = "tcp:127.0.0.1:0",
    **environment: str,
) -> Iterator[Process]:
    """A side in this folder, with at most so many files open; it is killed at the end."""
    replicated = ["--guest", guest, *(("--serve", serve) if guest == GUEST else ())]
    limited = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"] if files else []
    process = subprocess.Popen(
        [*limited, sys.executable, "-m", "colo_fsm", *arguments, *replicated, "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    with process:
        try:
            yield Process(process)
        finally:
            process.kill()


@contextlib.contextmanager
def served(
    folder: Path, *more: str, files: int | None = None, store: str | None = None
) -> Iterator[tuple[Process, Process, Address]]:
    """Primary, Secondary, and where the Primary serves."""
    common = ["--arbiter", "sqlite:claim.db"]
    kept = [] if store is None else ["--store", store]
    with side(folder, "secondary", "--listen", "unix:link", *common, *kept) as secondary:
        secondary.until("listening")
        with side(folder, "primary", "--connect", "unix:link", *common, *more, files=files) as primary:
            yield primary, secondary, Address.parse(primary.until("serving")["address"])


class Client:
    """A blocking client."""

    def __init__(self, address: Address) -> None:
        self.socket = address.connect()
        self.socket.settimeout(30)
        self._in = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        self.socket.close()

    def send(self, sql: str, **more: object) -> None:
        self.socket.sendall(json.dumps({"sql": sql, **more}).encode() + b"\n")

    def reply(self) -> dict[str, Any]:
        line = self._in.readline()
        if not line:
            raise ConnectionResetError("closed without an answer")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, sql: str, **more: object) -> dict[str, Any]:
        """The reply to one request. Raises OSError."""
        self.send(sql, **more)
        return self.reply()


@contextlib.contextmanager
def many(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """So many connections."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(address.connect()) for _ in range(count)]
