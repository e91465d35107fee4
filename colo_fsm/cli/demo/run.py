"""One run of the demo: start both sides, let clients work, break what was named, and look."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import attrs

from colo_fsm.fsm import Side
from colo_fsm.replica import Address
from colo_fsm.services.sqlite_server import CAPACITY

from .clients import PATIENCE, Clients, Refused, answers, contents
from .ledger import SCHEMA
from .relay import Relay
from .verdict import ENOUGH_CHECKPOINTS, ENOUGH_ROWS, Verdict, split_brain
from .worker import Worker

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds that the link may stand still inside a checkpoint. On a machine slowed to a tenth a whole one took
0.8 s at most, so that nothing but a cut is taken for one."""

TOO_SLOW = 300.0
"""Seconds over and above its own time that a run may take to show enough."""

MOMENT = 1.0
"""Seconds to wait for a checkpoint to break something in. Without one it is broken between two."""


@attrs.frozen
class Plan:
    """What a run is to do."""

    kill: str = "primary"
    seconds: float = 10.0
    release_on: str = "loaded"
    interval_ms: float = 20.0
    clients: int = 4
    rate: float = 200.0
    seed: int = 0
    capacity: int = CAPACITY
    arbiter: str = ""
    """Empty: a claim file of its own."""


class Run:
    """A run under way; the picture on the terminal looks at its attributes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        self.phase = "starting"
        self.chance = random.Random(plan.seed)
        self.clients = Clients(plan.seed, plan.clients, plan.rate, self._addresses)
        self.broke_at: int | None = None
        self.primary: Worker | None = None
        self.secondary: Worker | None = None

    async def go(self) -> Verdict:
        """The whole run. Raises WorkerFailed, OSError when it cannot even start."""
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="colo-fsm-demo-"))
            primary, secondary, relay = await self._start(stack, Path(folder))
            working = asyncio.create_task(self.clients.run())
            stack.push_async_callback(ended, working)
            await self._work(primary, secondary, relay)
            self.phase = "checking"
            self.clients.stop()
            await working  # nothing is acknowledged behind the verdict's back
            return await self._check(primary, secondary)

    async def _start(self, stack: AsyncExitStack, folder: Path) -> tuple[Worker, Worker, Relay]:
        arbiter = self.plan.arbiter or f"sqlite:{folder / 'claim.db'}"
        common = ["--arbiter", arbiter, "--release-on", self.plan.release_on]
        common += ["--deadline", str(DEADLINE)]
        schema = folder / "schema.sql"
        schema.write_text(SCHEMA)
        common += ["--guest", "sqlite", "--serve", "tcp:127.0.0.1:0", "--schema", str(schema)]
        common += ["--capacity", str(self.plan.capacity)]
        listen = ["--listen", "tcp:127.0.0.1:0", "--store", str(folder / "store")]
        self.secondary = Worker(Side.SECONDARY, listen + common)
        secondary = await stack.enter_async_context(self.secondary)
        there = Address.parse((await secondary.line("listening", PATIENCE))["address"])
        relay = await stack.enter_async_context(Relay(there.host, there.port, self.chance))
        connect = ["--connect", relay.address, "--interval-ms", str(self.plan.interval_ms)]
        self.primary = Worker(Side.PRIMARY, connect + common)
        primary = await stack.enter_async_context(self.primary)
        await primary.line("serving", PATIENCE)
        return primary, secondary, relay

    async def _work(self, primary: Worker, secondary: Worker, relay: Relay) -> None:
        """Clients work before the break and after it."""
        sides, ledger = (primary, secondary), self.clients.ledger

        def replicated() -> bool:
            return primary.checkpoints >= ENOUGH_CHECKPOINTS and ledger.acknowledged >= ENOUGH_ROWS // 2

        def broken() -> bool:
            return any(side.broken for side in sides)

        def taken_over() -> bool:
            return any(self.clients.first_write) or all(side.over for side in sides)

        self.phase = "replicating"
        before = self.plan.seconds * self.chance.uniform(0.4, 0.6)
        await self._until(before, lambda: replicated() or broken())
        if self.plan.kill != "none" and not broken() and not self.clients.faults:
            await self._break(primary, secondary, relay)
            await self._until(0, taken_over)
        await self._until(
            self.plan.seconds - before,
            lambda: (
                all(side.over for side in sides)
                or (ledger.acknowledged >= ENOUGH_ROWS and (taken_over() or not broken()))
            ),
        )

    async def _until(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Let the clients work for so long, and until it is enough: how fast that is, is the machine's.

        A fault ends it at once; so does, as a fault, that it is not enough for very long.
        """
        began = time.monotonic()
        while not self.clients.faults and ((passed := time.monotonic() - began) < seconds or not enough()):
            if passed > seconds + TOO_SLOW:
                rows, checkpoints = (
                    self.clients.ledger.acknowledged,
                    self.primary and self.primary.checkpoints,
                )
                self.clients.faults.append(
                    f"this machine is too slow, or the pair stands still: {rows} rows and {checkpoints} "
                    f"checkpoints after {time.monotonic() - self.started:.0f} s, {self.phase}"
                )
            await asyncio.sleep(0.02)

    async def _break(self, primary: Worker, secondary: Worker, relay: Relay) -> None:
        """Mostly inside a checkpoint: right after the Primary has sent a part of it."""
        if self.plan.kill == "link":
            await relay.cut(silently=self.chance.random() < 0.5, patience=MOMENT)
        else:
            if self.chance.random() < 0.8:
                await relay.traffic(patience=MOMENT)
                await asyncio.sleep(self.chance.random() * 0.003)
            (primary if self.plan.kill == "primary" else secondary).kill()
        self.broke_at = time.monotonic_ns()
        self.phase = f"{self.plan.kill} {'cut' if self.plan.kill == 'link' else 'killed'}"

    async def _check(self, primary: Worker, secondary: Worker) -> Verdict:
        clients, ledger = self.clients, self.clients.ledger
        addresses = self._addresses()
        answering = await asyncio.gather(*map(answers, addresses))
        active = [address for address, answers in zip(addresses, answering, strict=True) if answers]
        rows, integrity = await self._contents(active)
        ledger.check(rows)
        sides = primary, secondary
        survivor = next((side for side in sides if side.alone), None)
        by_itself = None
        if self.broke_at is None and any(side.broken for side in sides):
            by_itself = next((side.reason for side in sides if side.reason), "no reason was given")
        if self.plan.kill == "none":
            # the wire has no goodbye: the Secondary goes first, then the Primary
            await secondary.stop(PATIENCE)
            await primary.settled(PATIENCE)
            await primary.stop(PATIENCE)
        return Verdict(
            kill=self.plan.kill,
            seed=self.plan.seed,
            checkpoints=primary.checkpoints,
            acknowledged=ledger.acknowledged,
            lost=ledger.lost,
            reads=ledger.reads,
            reads_lost=ledger.reads_lost,
            survivor=None if survivor is None else str(survivor.side),
            active_sides=len(active),
            failover_ms=self._failover_ms(),
            split_brain=split_brain(clients.answers, sides),
            primary_state=primary.final_state,
            secondary_state=secondary.final_state,
            integrity=integrity,
            generation=next((line["generation"] for line in primary.lines if line.get("generation")), None),
            by_itself=by_itself,
            faults=clients.faults,
        )

    async def _contents(self, active: list[str]) -> tuple[list[tuple[int, str, str]], str]:
        """What the first that answers holds; that it cannot tell is a fault."""
        if not active:
            return [], "nobody answers"
        try:
            return await contents(active[0])
        except (OSError, Refused) as error:
            return [], f"it cannot be read ({error or 'no answer'})"

    def _addresses(self) -> list[str]:
        """Where sides have served, those that may be active now."""
        sides = [side for side in (self.primary, self.secondary) if side and not side.killed]
        found = [line["address"] for side in sides if (line := side.find("serving"))]
        return list(dict.fromkeys(found))

    def _failover_ms(self) -> float | None:
        """From the break to the first acknowledged write of the side that goes on alone."""
        if self.broke_at is None:
            return None
        after = [at for token, at in self.clients.first_write.items() if token and at > self.broke_at]
        return round((min(after) - self.broke_at) / 1e6, 1) if after else None


async def ended(task: asyncio.Task[None]) -> None:
    """End this task, however it takes that."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


async def watched(going: Coroutine[None, None, T], showing: Coroutine[None, None, None]) -> T:
    """What comes of a run, which is shown until it is over."""
    watching = asyncio.create_task(showing)
    try:
        return await going
    finally:
        await ended(watching)


Show = Callable[[Run], Coroutine[None, None, None]]


async def run_demo(plan: Plan, show: Show) -> Verdict:
    """A run, watched by `show` until it is over."""
    run = Run(plan)
    return await watched(run.go(), show(run))
