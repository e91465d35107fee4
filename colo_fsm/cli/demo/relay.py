"""The cable of the demo: a TCP relay between the two sides that can be cut, by a close or a silence."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Self

CHUNK = 1 << 16


class Relay:
    """Forwards one connection to `host:port`. `async with Relay(...)`; `address` is where it listens."""

    def __init__(self, host: str, port: int, chance: random.Random) -> None:
        self._target = host, port
        self._chance = chance
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._traffic = asyncio.Event()
        self._cut: str | None = None
        self.has_cut = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """Where the Primary connects."""
        host, port = self._server.sockets[0].getsockname()
        return f"tcp:{host}:{port}"

    async def traffic(self, patience: float) -> None:
        """Until the Primary sends something: a checkpoint is under way."""
        self._traffic.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._traffic.wait(), patience)

    async def cut(self, silently: bool, patience: float) -> None:
        """Cut the cable inside the next chunk that the Primary sends, or now if it sends none."""
        self._cut = "silence" if silently else "close"
        try:
            await asyncio.wait_for(self.has_cut.wait(), patience)
        except TimeoutError:
            self._do_cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()  # the Primary tells what that is to it
            return
        self._writers = [writer, far_writer]
        self._tasks = [
            asyncio.create_task(self._pump(reader, far_writer, forward=True)),
            asyncio.create_task(self._pump(far_reader, writer, forward=False)),
        ]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, forward: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self.has_cut.is_set():
                    return
                if forward:
                    self._traffic.set()
                if forward and self._cut and self._wants(data):
                    writer.write(data[: self._chance.randrange(len(data))])
                    await writer.drain()
                    self._do_cut()
                    return
                writer.write(data)
                await writer.drain()
        if not self.has_cut.is_set():
            writer.close()

    def _wants(self, data: bytes) -> bool:
        """Mostly the middle of a state, sometimes the middle of a message."""
        return len(data) > 64 or self._chance.random() < 0.2

    def _do_cut(self) -> None:
        self.has_cut.set()
        if self._cut == "close":
            self._close()

    def _close(self) -> None:
        for writer in self._writers:
            writer.close()
