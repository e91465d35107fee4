"""One of the two simulated members: a process with a guest, its clients, and its way to the arbiter."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
from member_loop import Loop, MortalDisk, vanish

from colo_fsm.arbiter import ArbiterUnreachable
from colo_fsm.arbiter.register import Entry
from colo_fsm.check.simulate.disk import Killed
from colo_fsm.membership import Active, Member, Plan
from colo_fsm.membership.seat import Seat, Standing
from colo_fsm.replica import Address, NotCommitted, NotRunning, Options, StateGuest

if TYPE_CHECKING:
    from member_world import World

NAMES = ("a", "b")
CAPACITY = 8192
OPTIONS = Options(deadline=1.0, hook_deadline=5.0, claim_retry=0.2, connect_timeout=1.0)
CLIENTS = 2


@attrs.frozen
class Pace:
    """Seconds between two checkpoints, in a pair and alone (None: the same), and that a client thinks.

    `slow`: how many of the hooks, and of the questions to the arbiter, take their time.
    """

    interval: float
    alone_interval: float | None
    thinks: float
    slow: float


PACES = (Pace(0.2, None, 0.3, 0.05), Pace(1.0, 0.03, 0.03, 0.5))
"""Even, and such that a new Secondary is far behind a survivor, which is quick, for long."""


class Register:
    """The arbiter's record, in memory."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.away_until = 0.0


class RegisterOf:
    """A process's way to it."""

    local_only = True

    def __init__(self, process: Process) -> None:
        self._process = process
        self._register = process.world.register
        self.next_swap: Callable[[], None] | None = None
        """What happens instead of the next swap; and afterwards, if it returns."""

    def __str__(self) -> str:
        return "the register"

    def read(self) -> Entry | None:
        self._reach()
        return self._register.entry

    def swap(self, version: int | None, value: str) -> bool:
        self._reach()
        entry = self._register.entry
        if (None if entry is None else entry.version) != version:
            return False
        self._register.entry = Entry(value, 1 if version is None else version + 1)
        self._process.world.recorded(self._process, value)
        if (then := self.next_swap) is not None:
            self.next_swap = None
            then()
        return True

    def _reach(self) -> None:
        if not self._process.alive:
            raise Killed
        if self._register.away_until > self._process.world.clock.now:
            raise ArbiterUnreachable(str(self), "it is away")


class Keys(StateGuest):
    """The guest: the keys that were written, and the clients of whoever runs it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.keys = b""
        super().__init__(self, CAPACITY)

    def get_state(self) -> bytes:
        return self.keys

    def set_state(self, state: bytes) -> None:
        self.keys = state

    async def serve(self, active: Active) -> None:
        """Clients that write and read until this member does not run any more."""
        tenure = self._process.world.ledger.begin_tenure()
        self._process.world.note(f"{self._process.name}: serves, tenure {tenure}")
        await asyncio.gather(*(self._client(active, tenure) for _ in range(CLIENTS)))

    async def _client(self, active: Active, tenure: int) -> None:
        world = self._process.world
        try:
            while True:
                await asyncio.sleep(world.random.random() * world.pace.thinks)
                if world.random.random() < 0.3:
                    await self._read(world, active, tenure)
                else:
                    await self._write(world, active, tenure)
        except (NotRunning, NotCommitted):
            return

    async def _write(self, world: World, active: Active, tenure: int) -> None:
        async with active.turn():
            key, at = world.ledger.new_key(), world.steps
            self.keys += key
        await active.committed()
        world.ledger.wrote(key, tenure, at)

    async def _read(self, world: World, active: Active, tenure: int) -> None:
        expected = len(world.ledger.known)
        async with active.turn():
            seen, at = self.keys, world.steps
        await active.committed()
        world.ledger.read(seen, expected, tenure, at)


class Process:
    """A member from its start to its death. Raises Killed when it dies at its start."""

    def __init__(self, world: World, name: str, *, dies_at: int | None = None) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen_until = 0.0
        self.sockets: list[socket.socket] = []
        self.loop = Loop(world.clock, world.delay)
        self.disk = MortalDisk()
        self.disk.left = dies_at
        self.register = RegisterOf(self)
        self.guest = Keys(self)
        self.error: BaseException | None = None
        self.ended = False
        peer = NAMES[1 - NAMES.index(name)]
        here, there = (Address(path=str(world.folder / f"{each}.link")) for each in (name, peer))
        plan = Plan(
            here, there, attrs.evolve(OPTIONS, interval=world.pace.interval),
            look=0.5, patience=2.0, connect=0.2, alone_interval=world.pace.alone_interval,
        )  # fmt: skip
        try:
            seat = Seat(world.folder / name, name, disk=self.disk)
        except BaseException:
            self.die()
            raise
        self.seat = seat
        with self.loop.running():
            self.member = Member(self.guest, seat, Standing(self.register, seat), plan)
            self.task = self.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with self.member:
                await self.member.wait()
        except Exception as error:  # noqa: BLE001 - whatever a member ends with is looked at
            self.error = error
        self.ended = True

    @property
    def dead(self) -> bool:
        """Whether it has met its end in the middle of a step."""
        return self.disk.dead or not self.alive

    def links(self) -> list[socket.socket]:
        """To the other member."""
        self.sockets = [s for s in self.sockets if s.fileno() >= 0]
        found = []
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                if sock.getpeername() or sock.getsockname():
                    found.append(sock)
        return found

    def die(self) -> None:
        """All at once, and nothing else is done."""
        self.alive = False
        self.disk.die()
        for sock in self.sockets:
            vanish(sock)
        self.loop.die()
