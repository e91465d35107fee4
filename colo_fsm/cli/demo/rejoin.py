"""`colo-fsm demo --rejoin`: two members of a data set are killed in turn, and come back, under load."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import attrs

from ..shown import as_markup
from .clients import PATIENCE, Answer, Clients, Refused, answers, contents
from .ledger import SCHEMA
from .run import DEADLINE, Plan, ended, watched
from .worker import MemberWorker

NAMES = ("a", "b")
ROWS = 50
"""Acknowledged in each phase: fewer prove nothing."""


@attrs.frozen(kw_only=True)
class Rejoined:
    """The facts of a run; `ok` when it proved what the demo promises. Times in milliseconds.

    `failovers`: from each kill to the first row acknowledged by the survivor; `rejoins`: from each start of
    the killed one, by the same command, to the moment when it protects the survivor.
    """

    seed: int
    acknowledged: int
    lost: int
    reads: int
    reads_lost: int
    failovers: list[float]
    rejoins: list[float]
    active_members: int
    split_brain: bool
    integrity: str
    faults: list[str]

    @property
    def problems(self) -> list[str]:
        """What keeps this run from being a proof, one text each."""
        found = {
            f"{self.lost} acknowledged rows are lost, changed or there twice": self.lost > 0,
            f"{self.reads_lost} rows that were read are gone": self.reads_lost > 0,
            "split brain: two members answered at a time": self.split_brain,
            f"{self.active_members} members answer, not one": self.active_members != 1,
            f"the database is not sound: {self.integrity}": self.integrity != "ok",
            "the members did not change places twice": (len(self.failovers), len(self.rejoins)) != (2, 2),
        }
        return [*self.faults, *(text for text, holds in found.items() if holds)]

    @property
    def ok(self) -> bool:
        return not self.problems


class RejoinRun:
    """A run under way; what is shown of it looks at its attributes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        self.phase = "starting"
        self.clients = Clients(plan.seed, plan.clients, plan.rate, self._addresses)
        self.workers: dict[str, MemberWorker] = {}
        self.failovers: list[float] = []
        self.rejoins: list[float] = []

    async def go(self) -> Rejoined:
        """The whole run. Raises WorkerFailed, OSError when it cannot even start."""
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="colo-fsm-demo-")))
            (folder / "schema.sql").write_text(SCHEMA)
            for name in NAMES:
                await self._start(stack, folder, name)
            await self._protected()
            working = asyncio.create_task(self.clients.run())
            stack.push_async_callback(ended, working)
            for _ in NAMES:
                await self._kill_and_come_back(stack, folder)
            self.phase = "checking"
            self.clients.stop()
            await working
            return await self._check()

    async def _start(self, stack: AsyncExitStack, folder: Path, name: str) -> None:
        """This member, by the command that it is started with each time."""
        peer = NAMES[1 - NAMES.index(name)]
        arguments = [
            *("--name", name, "--listen", f"unix:{name}.link", "--peer", f"unix:{peer}.link"),
            *(
                "--arbiter",
                self.plan.arbiter or "sqlite:claim.db",
                "--data-set",
                folder.name,
                "--store",
                name,
            ),
            *("--guest", "sqlite", "--serve", f"unix:{folder}/{name}.serve", "--schema", "schema.sql"),
            *("--capacity", str(self.plan.capacity)),
            *("--interval-ms", str(self.plan.interval_ms), "--deadline", str(DEADLINE)),
        ]
        worker = MemberWorker(name, arguments, folder)
        self.workers[name] = await stack.enter_async_context(worker)

    async def _kill_and_come_back(self, stack: AsyncExitStack, folder: Path) -> None:
        runs = await self._protected()
        self.phase = f"{runs.name} runs, protected"
        await self._rows(ROWS)
        runs.kill()
        killed = time.monotonic()
        self.phase = f"{runs.name} killed"
        await self._rows(1)
        self.failovers.append(_since(killed))
        survivor = next(w for w in self.workers.values() if w is not runs)
        self.phase = f"{survivor.name} runs alone"
        await self._rows(ROWS)
        started = time.monotonic()
        await self._start(stack, folder, runs.name)
        self.phase = f"{runs.name} joins again"
        await self._protected()
        self.rejoins.append(_since(started))
        await self._rows(ROWS)

    async def _protected(self) -> MemberWorker:
        """The one that runs the guest, once the other has what it acknowledges."""
        await self._until(lambda: any(w.protected for w in self.workers.values()))
        return next((w for w in self.workers.values() if w.protected), next(iter(self.workers.values())))

    async def _rows(self, count: int) -> None:
        goal = self.clients.ledger.acknowledged + count
        await self._until(lambda: self.clients.ledger.acknowledged >= goal)

    async def _until(self, true: Callable[[], bool]) -> None:
        """Wait for it: how long that takes is the machine's, that it takes for ever is a fault."""
        end = time.monotonic() + PATIENCE
        while not true() and not self.clients.faults:
            if time.monotonic() > end:
                self.clients.faults.append(f"nothing happens any more: {self.phase}")
            for worker in self.workers.values():
                if worker.over and not worker.killed:
                    self.clients.faults.append(f"{worker.name} has ended: {worker.complaint}")
            await asyncio.sleep(0.01)

    def _addresses(self) -> list[str]:
        return [w.address for w in self.workers.values() if w.address and not w.killed]

    async def _check(self) -> Rejoined:
        clients, ledger = self.clients, self.clients.ledger
        addresses = self._addresses()
        active = [a for a in addresses if await answers(a)]
        try:
            rows, integrity = await contents(active[0]) if active else ([], "nobody answers")
        except (OSError, Refused) as error:
            rows, integrity = [], f"it cannot be read ({error or 'no answer'})"
        ledger.check(rows)
        return Rejoined(
            seed=self.plan.seed,
            acknowledged=ledger.acknowledged,
            lost=ledger.lost,
            reads=ledger.reads,
            reads_lost=ledger.reads_lost,
            failovers=self.failovers,
            rejoins=self.rejoins,
            active_members=len(active),
            split_brain=overlap(clients.answers, clients.first_write),
            integrity=integrity,
            faults=clients.faults,
        )


def overlap(heard: list[Answer], first: dict[int, int]) -> bool:
    """Whether somebody answered under an older token once a newer one had acknowledged something."""
    return any(
        answer.token < token and answer.released > at for answer in heard for token, at in first.items()
    )


def _since(moment: float) -> float:
    return round((time.monotonic() - moment) * 1000, 1)


def summary(v: Rejoined) -> Iterator[str]:
    """What happened, and what it proves, in rich's markup."""
    yield "\n[bold]What happened[/]"
    yield "  Two members held a database. Each was killed (SIGKILL) in turn while it ran, and started"
    yield "  again by the same command; the other one took over, served alone, and took it in again."
    for kind, times in (("take over", v.failovers), ("protected again", v.rejoins)):
        yield f"  {kind:<16} {'  '.join(f'{t:6.0f} ms' for t in times)}"
    yield ""
    yield "[bold]What was checked[/]"
    yield f"  {v.acknowledged} acknowledged rows: {v.lost} lost, changed or there twice"
    yield f"  {v.reads} rows read by clients: {v.reads_lost} gone"
    split = "YES" if v.split_brain else "none"
    yield f"  {v.active_members} member answers    split brain: {split}    database: {as_markup(v.integrity)}"
    yield ""
    if v.ok:
        yield "[bold green]PROVED[/] nothing acknowledged was lost through two failovers and two rejoins."
    for problem in v.problems:
        yield f"[bold red]FAILED[/] {as_markup(problem)}"


Show = Callable[[RejoinRun], Coroutine[None, None, None]]


async def run_rejoin(plan: Plan, show: Show) -> Rejoined:
    """A run, watched by `show` until it is over."""
    run = RejoinRun(plan)
    return await watched(run.go(), show(run))
