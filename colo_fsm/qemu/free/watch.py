"""Watches a Primary's QEMU over QMP, and sets its VM going when the standby is lost: behind a claim."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import attrs

from colo_fsm.arbiter import Arbiter
from colo_fsm.fsm import Side

from .machine import OVER, On, S, WatchMachine
from .monitor import Monitor, MonitorError, MonitorGone, open_gate, shut_gate

MOMENT = 0.05
"""The same while a migration is put away."""

COLO = "colo"
"""What QEMU calls both: the migration of a VM that is replicated, and its guest inside a round."""


@attrs.frozen
class Happened:
    """What has become of the watch, and why; `token` is that of a claim that was won, else 0."""

    state: S
    on: On | None = None
    why: str = ""
    token: int = 0


@attrs.define
class PrimaryWatch:
    """Watches until the VM runs alone, must not run, or has gone; `tell` is called with all that happens.

    `deadline`, in seconds: for how long a guest may stand still in a round, and a round be overdue. Make it
    longer than the longest pause of the guest. `gates`: QOM ids of the filters that hold the guest's packets.
    `claim_retry`: seconds until what was not answered is asked again. `poll`: seconds between looks at what
    no event tells.
    """

    monitor: Monitor
    arbiter: Arbiter
    generation: int
    tell: Callable[[Happened], object]
    deadline: float = 10.0
    gates: Sequence[str] = ()
    claim_retry: float = 1.0
    poll: float = 0.5
    machine: WatchMachine = attrs.Factory(WatchMachine)
    token: int = 0

    async def run(self) -> Happened:
        """To one of `OVER`; returns what happened last. Cancel it to leave: the VM stays as it is."""
        does = {
            S.WAITING: self._wait,
            S.WATCHING: self._watch,
            S.CLAIMING: self._claim,
            S.FREEING: self._free,
        }
        while True:
            why = ""
            try:
                on, why = await does[self.machine.state]()
            except asyncio.CancelledError:
                on = On.LEAVE
            except MonitorGone as error:
                on, why = On.GONE, str(error)
            self.machine.trigger(on)
            happened = Happened(self.machine.state, on, why, self.token)
            self.tell(happened)
            if happened.state in OVER:
                return happened

    async def _wait(self) -> tuple[On, str]:
        while not await self._replicates():
            if (gate := await shut_gate(self.monitor, self.gates)) is not None:
                await open_gate(self.monitor, gate)
                return On.GATE_SHUT, f"nobody was at {gate} any more: it is open"
            await self.monitor.event(self.poll)
        return On.COLO, ""

    async def _watch(self) -> tuple[On, str]:
        """A QEMU that believes in COLO begins a round every x-checkpoint-delay."""
        looked = moved = time.monotonic()
        while True:
            event = await self.monitor.event(self.poll)
            if time.monotonic() - looked >= self.poll:
                if (gate := await shut_gate(self.monitor, self.gates)) is not None:
                    return On.GATE_SHUT, f"nobody is at {gate} any more"
                looked = time.monotonic()
            if event == "COLO_EXIT":
                return On.COLO_EXIT, "QEMU has left COLO"
            if event is not None:
                moved = time.monotonic()
                continue
            inside = await self._status() == COLO
            parameters = {} if inside else await self.monitor.ask("query-migrate-parameters")
            allowed = self.deadline + parameters.get("x-checkpoint-delay", 0) / 1000
            if time.monotonic() - moved > allowed:
                what = "its guest stands still in a round" if inside else "no round has begun"
                return On.LATE, f"{what} for {allowed:g} s"

    async def _claim(self) -> tuple[On, str]:
        try:
            await self._stop()
            claim = await asyncio.to_thread(self.arbiter.claim, self.generation, Side.PRIMARY)
            if claim.winner is not Side.PRIMARY:
                await self._stop()  # a round that was under way may have set it going
                return On.LOST, f"the {claim.winner} has claimed generation {self.generation}"
        except MonitorGone:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the claim is not granted
            await asyncio.sleep(self.claim_retry)
            return On.UNANSWERED, str(error)
        self.token = claim.token
        return On.WON, ""

    async def _free(self) -> tuple[On, str]:
        try:
            if await self._replicates():
                await self.monitor.ask("x-colo-lost-heartbeat")
            while await self._replicates():
                await asyncio.sleep(MOMENT)
            if not await self._runs():
                await self.monitor.ask("cont")
            for gate in self.gates:
                await open_gate(self.monitor, gate)
        except MonitorGone:
            raise
        except MonitorError as error:
            await asyncio.sleep(self.claim_retry)
            return On.UNANSWERED, str(error)
        return On.RUNS, ""

    async def _stop(self) -> None:
        if await self._runs():
            await self.monitor.ask("stop")

    async def _replicates(self) -> bool:
        return bool((await self.monitor.ask("query-migrate")).get("status") == COLO)

    async def _runs(self) -> bool:
        return bool((await self.monitor.ask("query-status"))["running"])

    async def _status(self) -> str:
        return str((await self.monitor.ask("query-status"))["status"])
