"""One run of the demo: start both sides, let clients work, break what was named, and look."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path

import attrs

from colo_fsm.colo import State
from colo_fsm.fsm import Side
from colo_fsm.replica import Address

from .clients import SCHEMA, Clients, answers, contents
from .relay import Relay
from .verdict import Verdict, lost_rows, split_brain
from .worker import Worker, WorkerFailed

START = 20.0
"""Seconds until a side must be up; starting is not what the demo is about."""
SETTLE = 15.0
"""Seconds until the survivor must have taken over: more than one deadline and a claim."""

NOT_RUNNING = (State.ALONE, State.STOPPED, State.ENDED)


@attrs.frozen
class Plan:
    """What a run is to do."""

    kill: str = "primary"
    seconds: float = 10.0
    release_on: str = "loaded"
    interval_ms: float = 20.0
    clients: int = 4
    seed: int = 0


class Run:
    """A run under way; the picture on the terminal looks at its attributes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        self.phase = "starting"
        self.chance = random.Random(plan.seed)
        self.clients = Clients(plan.seed)
        self.broke_at: int | None = None
        self.primary: Worker | None = None
        self.secondary: Worker | None = None

    async def go(self) -> Verdict:
        """The whole run. Raises WorkerFailed or TimeoutError when it cannot even start."""
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="colo-fsm-demo-"))
            primary, secondary, relay = await self._start(stack, Path(folder))
            working = asyncio.create_task(self.clients.run(self.plan.clients))
            stack.push_async_callback(_ended, working)
            await self._work(primary, secondary, relay, working)
            return await self._check(primary, secondary)

    async def _start(self, stack: AsyncExitStack, folder: Path) -> tuple[Worker, Worker, Relay]:
        common = ["--arbiter", f"sqlite:{folder / 'claim.db'}", "--release-on", self.plan.release_on]
        schema = folder / "schema.sql"
        schema.write_text(SCHEMA)
        environment = os.environ | {
            "COLO_FSM_SQLITE_LISTEN": "tcp:127.0.0.1:0",
            "COLO_FSM_SQLITE_SCHEMA": str(schema),
        }
        listen = ["--listen", "tcp:127.0.0.1:0", "--store", str(folder / "store")]
        self.secondary = Worker(Side.SECONDARY, listen + common, environment)
        secondary = await stack.enter_async_context(self.secondary)
        there = Address.parse((await secondary.line("listening", START))["address"])
        relay = await stack.enter_async_context(Relay(there.host, there.port, self.chance))
        connect = ["--connect", relay.address, "--interval-ms", str(self.plan.interval_ms)]
        self.primary = Worker(Side.PRIMARY, connect + common, environment)
        primary = await stack.enter_async_context(self.primary)
        self.clients.addresses.append((await primary.line("serving", START))["address"])
        return primary, secondary, relay

    async def _work(
        self, primary: Worker, secondary: Worker, relay: Relay, working: asyncio.Task[None]
    ) -> None:
        """Clients work before the break and after it."""
        self.phase = "replicating"
        before = self.plan.seconds * self.chance.uniform(0.4, 0.6)
        await _for(before, working)
        if self.plan.kill == "none":
            await _for(self.plan.seconds - before, working)
        else:
            await self._break(primary, secondary, relay)
            await self._take_over(primary, secondary)
            await _for(self.plan.seconds - before, working)
        self.clients.stop()
        self.phase = "checking"
        await asyncio.wait([working], timeout=SETTLE)

    async def _break(self, primary: Worker, secondary: Worker, relay: Relay) -> None:
        """Mostly inside a checkpoint: right after the Primary has sent a part of it."""
        if self.plan.kill == "link":
            await relay.cut(silently=self.chance.random() < 0.5, patience=1.0)
        else:
            if self.chance.random() < 0.8:
                await relay.traffic(patience=1.0)
                await asyncio.sleep(self.chance.random() * 0.003)
            (primary if self.plan.kill == "primary" else secondary).kill()
        self.broke_at = time.monotonic_ns()
        self.phase = f"{self.plan.kill} {'cut' if self.plan.kill == 'link' else 'killed'}"

    async def _take_over(self, primary: Worker, secondary: Worker) -> None:
        """Until the sides that are left have settled who goes on."""
        left = [w for w in (primary, secondary) if not w.killed]
        waiting = [asyncio.create_task(w.settled(NOT_RUNNING, SETTLE)) for w in left]
        # after a silence an idle Secondary hears nothing, for ever: one side that goes on is enough
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if secondary.state is State.ALONE:
            # a survivor that then cannot serve is for the verdict to tell
            with contextlib.suppress(WorkerFailed, TimeoutError):
                self.clients.addresses.append((await secondary.line("serving", SETTLE))["address"])
        await asyncio.wait(waiting, timeout=1.0)
        for task in waiting:
            task.cancel()

    async def _check(self, primary: Worker, secondary: Worker) -> Verdict:
        clients = self.clients
        active = [a for a in self._addresses(primary, secondary) if await answers(a, 3.0)]
        rows, integrity = await contents(active[0]) if active else ([], "nobody answers")
        kept = {key for key, _ in rows}
        survivor = next((w for w in (primary, secondary) if w.state is State.ALONE), None)
        ready = primary.find("state", state="ready")
        if self.plan.kill == "none":
            # the wire has no goodbye: the Secondary goes first, then the Primary
            await secondary.stop(SETTLE)
            await primary.settled((State.ALONE,), SETTLE)
            await primary.stop(SETTLE)
        return Verdict(
            kill=self.plan.kill,
            seed=self.plan.seed,
            checkpoints=primary.checkpoints,
            acknowledged=len(clients.acknowledged),
            lost=lost_rows(clients.acknowledged, rows),
            reads=len(clients.read),
            reads_lost=len(clients.read - kept),
            survivor=None if survivor is None else str(survivor.side),
            active_sides=len(active),
            failover_ms=self._failover_ms(),
            split_brain=split_brain(clients.answers, (primary, secondary)),
            primary_state=primary.final_state,
            secondary_state=secondary.final_state,
            integrity=integrity,
            generation=ready["generation"] if ready else None,
        )

    def _addresses(self, *workers: Worker) -> list[str]:
        """Where sides have served, those that may be active now."""
        found = [line["address"] for w in workers if not w.killed and (line := w.find("serving"))]
        return list(dict.fromkeys(found))

    def _failover_ms(self) -> float | None:
        """From the break to the first acknowledged write of the side that goes on alone."""
        if self.broke_at is None:
            return None
        after = [a.at for a in self.clients.writes if a.token and a.at > self.broke_at]
        return round((min(after) - self.broke_at) / 1e6, 1) if after else None


async def _for(seconds: float, working: asyncio.Task[None]) -> None:
    """Let the clients work; an error of theirs ends the run at once."""
    await asyncio.wait([working], timeout=seconds)
    if working.done():
        working.result()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


Show = Callable[[Run], Coroutine[None, None, None]]


async def run_demo(plan: Plan, show: Show) -> Verdict:
    """A run, watched by `show` until it is over."""
    run = Run(plan)
    watching = asyncio.create_task(show(run))
    try:
        return await run.go()
    finally:
        await _ended(watching)
