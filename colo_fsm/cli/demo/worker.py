"""One side of the demo: a `colo-fsm primary` or `colo-fsm secondary` process, followed by its events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable
from typing import Any, Self

from colo_fsm.colo import State
from colo_fsm.fsm import Side

Line = dict[str, Any]

GUEST = "colo_fsm.replica.sqlite_server:guest"


class WorkerFailed(Exception):
    """A side ended before it said what was waited for."""


class Worker:
    """A side as a process. `async with`: it is ended whatever happens."""

    def __init__(self, side: Side, arguments: list[str], environment: dict[str, str]) -> None:
        self.side = side
        self.state = State.INIT
        self.lines: list[Line] = []
        self.killed = False
        self.checkpoints = 0
        self.last_checkpoint: Line = {}
        self._command = [sys.executable, "-m", "colo_fsm", side, "--guest", GUEST, "--json", *arguments]
        self._environment = environment
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            self._take(json.loads(raw))
            async with self._news:
                self._news.notify_all()
        assert self._process.stderr is not None
        self.complaint = (await self._process.stderr.read()).decode(errors="replace").strip()
        async with self._news:
            self._news.notify_all()

    def _take(self, line: Line) -> None:
        self.lines.append(line)
        if line["event"] in ("state", "over"):
            self.state = State(line["state"])
        elif line["event"] == "checkpoint":
            self.checkpoints += 1
            self.last_checkpoint = line

    def find(self, event: str, **fields: object) -> Line | None:
        """The first line of this kind with these fields."""
        wanted = {"event": event, **fields}
        return next((x for x in self.lines if wanted.items() <= x.items()), None)

    async def line(self, event: str, timeout: float, **fields: object) -> Line:
        """The same, waited for. Raises WorkerFailed, TimeoutError."""
        found: Line | None = await self._until(lambda: self.find(event, **fields), timeout)
        if found is None:
            raise WorkerFailed(
                f"the {self.side} ended before '{event}': {self.complaint or 'no reason given'}"
            )
        return found

    async def settled(self, states: tuple[State, ...], timeout: float) -> None:
        """Until it is in one of these states or has ended."""
        with contextlib.suppress(TimeoutError):
            await self._until(lambda: self.state in states or None, timeout)

    async def _until(self, condition: Callable[[], Any], timeout: float) -> Any:
        async with asyncio.timeout(timeout), self._news:
            while (found := condition()) is None and not self._reader.done():
                await self._news.wait()
            return found

    @property
    def final_state(self) -> str:
        """The state that it was last in, `killed` for a killed one."""
        return "killed" if self.killed else str(self.state)

    def kill(self) -> None:
        """SIGKILL."""
        self.killed = True
        self._process.kill()

    async def stop(self, timeout: float) -> None:
        """SIGTERM: end in order."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout)
            await self._reader
