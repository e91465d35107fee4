"""The processes of the demo, a `colo-fsm primary`, `secondary` or `member` each, followed by their events."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from colo_fsm.colo import TABLES, Variant
from colo_fsm.fsm import FailoverStatus, Side, complete

Line = dict[str, Any]


_PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""
_libc = ctypes.CDLL(None, use_errno=True)


def _ends_with_us() -> None:
    """In the child: a demo that is killed cannot end its sides, which would serve on. Source: prctl(2)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class WorkerFailed(Exception):
    """A side ended before it said what was waited for."""


class Followed:
    """A process that says its events. `async with`: it is ended whatever happens."""

    def __init__(self, name: str, arguments: list[str], folder: Path | None = None) -> None:
        self.name = name
        self.killed = self.over = False
        self.complaint = ""
        self.checkpoints = 0
        self.last_checkpoint: Line = {}
        self._command = [sys.executable, "-m", "colo_fsm", *arguments, "--json"]
        self._folder = folder
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
            preexec_fn=_ends_with_us,
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._signal(signal.SIGKILL)
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        """To the end of both streams; a side that says what is no event is not listened to any more."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        complaining = asyncio.create_task(self._process.stderr.read())
        try:
            async for raw in self._process.stdout:
                self._take(json.loads(raw))
                await self._tell()
        except (ValueError, KeyError) as error:
            self.complaint = f"it said what is no event: {error}"
            self._signal(signal.SIGKILL)
        said = (await complaining).decode(errors="replace").split("\n")
        last = next((line for line in reversed(said) if line.strip()), "no reason given")
        self.complaint = self.complaint or last.removeprefix("Error: ")
        self.over = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _take(self, line: Line) -> None:
        """It has said this."""
        if line["event"] == "checkpoint":
            self.checkpoints += 1
            self.last_checkpoint = line

    async def until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Until this is so, it has ended, or so many seconds have passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._news:
                while not condition() and not self.over:
                    await self._news.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self.killed = True
        self._signal(signal.SIGKILL)

    async def stop(self, timeout: float) -> None:
        """SIGTERM: end in order."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), timeout)
            await self._reader

    def _signal(self, number: signal.Signals) -> None:
        """Not by the process's own methods: they reap a side that has just ended, behind asyncio's back."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


class MemberWorker(Followed):
    """A member of a data set."""

    state = ""
    address = ""
    """Where it serves, or has served."""

    def __init__(self, name: str, arguments: list[str], folder: Path | None = None) -> None:
        super().__init__(name, ["member", *arguments], folder)

    def _take(self, line: Line) -> None:
        super()._take(line)
        if line["event"] == "member":
            self.state = line["state"]
        elif line["event"] == "serving":
            self.address = line["address"]

    @property
    def protected(self) -> bool:
        """Whether it runs the guest, and the other one has what it acknowledges."""
        return self.state == "primary" and not self.killed and not self.over


class Worker(Followed):
    """A side of a pair."""

    def __init__(self, side: Side, arguments: list[str]) -> None:
        super().__init__(side, [side, *arguments])
        self.side = side
        table = complete(TABLES[side], Variant())
        self.state: str = table.initial
        self._alone = table.alone
        self._whole = {s for s, at in table.status.items() if at is FailoverStatus.NONE} - table.final
        self.lines: list[Line] = []
        self.reason: str | None = None
        """What first went wrong on this side."""

    def _take(self, line: Line) -> None:
        """A state is kept the first time: a long run has too many."""
        super()._take(line)
        if line["event"] in ("state", "over"):
            self.state = line["state"]
            self.reason = self.reason or line["error"]
        if line["event"] == "checkpoint":
            return
        if line["event"] != "state" or self.find("state", state=line["state"]) is None:
            self.lines.append(line)

    def find(self, event: str, **fields: object) -> Line | None:
        """The first line of this kind with these fields."""
        wanted = {"event": event, **fields}
        return next((x for x in self.lines if wanted.items() <= x.items()), None)

    async def line(self, event: str, timeout: float) -> Line:
        """The first line of this kind, waited for. Raises WorkerFailed."""
        await self.until(lambda: self.find(event) is not None, timeout)
        found = self.find(event)
        if found is None:
            ended = f"ended before '{event}'" if self.over else f"did not say '{event}' in {timeout:g} s"
            raise WorkerFailed(f"the {self.side} {ended}: {self.complaint or 'no reason given'}")
        return found

    async def settled(self, timeout: float) -> None:
        """Until it goes on alone or has ended."""
        await self.until(lambda: self.alone, timeout)

    @property
    def alone(self) -> bool:
        """Whether it goes on without the other side."""
        return self.state in self._alone

    @property
    def broken(self) -> bool:
        """Whether it does not replicate any more."""
        return self.over or self.state not in self._whole

    @property
    def final_state(self) -> str:
        """The state that it was last in, `killed` for a killed one."""
        return "killed" if self.killed else self.state
