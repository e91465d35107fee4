"""What all processes of a run share: time, the network, the arbiter; and the machines they are on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import ClassVar

import attrs

from colo_fsm.arbiter import Arbiter, ArbiterUnreachable, Claim, SqliteArbiter
from colo_fsm.fsm import Side
from colo_fsm.replica.options import Options

from .clients import Clients
from .disk import Platter
from .kernel import Kernel
from .net import Network
from .schedule import Schedule
from .tables import Tables
from .witness import Witness


@attrs.frozen
class Grant:
    """A claim that the arbiter has recorded, as it answered it first."""

    at: float
    generation: int
    claim: Claim


class ArbiterService:
    """The one arbiter of a run, and how it can be reached."""

    def __init__(self, kernel: Kernel, real: SqliteArbiter) -> None:
        self.real: Arbiter = real
        self.grants: list[Grant] = []
        self.loses_answer: Callable[[], bool] = lambda: False
        """Asked when a claim is recorded: whether nobody hears the answer."""
        self._lost_until: dict[Side, float] = {}
        self._kernel = kernel

    def loss(self, sides: Iterable[Side], seconds: float) -> None:
        """These sides reach it no more, for so long."""
        self._lost_until |= dict.fromkeys(sides, self._kernel.now + seconds)

    def heal(self) -> None:
        """Everybody reaches it from now on."""
        self._lost_until.clear()

    def check_reachable(self, side: Side) -> None:
        """Raises ArbiterUnreachable."""
        if self._lost_until.get(side, 0.0) > self._kernel.now:
            raise ArbiterUnreachable("simulated", "no route")

    def claim(self, generation: int, side: Side) -> Claim:
        """See `Arbiter.claim`."""
        claim = self.real.claim(generation, side)
        if all(grant.generation != generation for grant in self.grants):
            self.grants.append(Grant(self._kernel.now, generation, claim))
            self._kernel.note(f"arbiter grants {generation} to the {claim.winner}")
        if self.loses_answer():
            raise ArbiterUnreachable("simulated", "the answer was lost")
        return claim


class ArbiterHandle:
    """One process's way to the arbiter. Its role may change from generation to generation."""

    local_only: ClassVar[bool] = True

    def __init__(self, service: ArbiterService, spend: Callable[[], object]) -> None:
        """`spend` is called for every question: it takes its time."""
        self.side = Side.PRIMARY
        self._service = service
        self._spend = spend

    def _ask(self) -> None:
        self._spend()
        self._service.check_reachable(self.side)

    def open(self) -> int:
        """See `Arbiter.open`."""
        self._ask()
        return self._service.real.open()

    def check(self, generation: int) -> None:
        """See `Arbiter.check`."""
        self._ask()
        self._service.real.check(generation)

    def claim(self, generation: int, side: Side) -> Claim:
        """See `Arbiter.claim`."""
        self._ask()
        return self._service.claim(generation, side)


class Setting:
    """What all processes of a run share."""

    def __init__(self, schedule: Schedule, arbiter: SqliteArbiter, tables: Tables) -> None:
        self.schedule = schedule
        self.tables = tables
        self.witness = Witness()
        self.kernel = kernel = Kernel()
        self.arbiter = ArbiterService(kernel, arbiter)
        self.random = Random(schedule.noise)
        self.clients = Clients(
            kernel, self.new_random(), schedule.clients, pause=schedule.pause, delay=schedule.latency
        )
        self.network = Network(
            kernel, self.new_random(), capacity=schedule.capacity, delay=schedule.latency, chop=schedule.chop
        )
        self.options = Options(
            release_on=schedule.release_on,
            resume_on=schedule.resume_on,
            interval=schedule.interval,
            min_interval=0.0 if schedule.on_demand else schedule.interval,
            deadline=schedule.deadline,
            claim_retry=schedule.claim_retry,
            connect_timeout=2 * schedule.deadline,
            hook_deadline=1.5 * schedule.deadline,
        )

    def new_random(self) -> Random:
        """A source of chance of one's own."""
        return Random(self.random.getrandbits(64))


class Machine:
    """What outlives a process: a disk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.platter = Platter()
        self.up = True
        self.kill_power = False
        """Whether its disk, if it kills a process in the middle of a call, does so by a power failure."""
        self.lost_power = False
        """Whether its disk has lost power since a store was opened on it."""
        self.stored: tuple[int, int] | None = None
        """The checkpoint that its disk must hold, or a later one."""

    def lose_power(self, random: Random) -> None:
        """It is down, and its disk holds what it must."""
        self.up, self.lost_power = False, True
        self.platter.lose_power(random)

    def wipe(self) -> None:
        """Remove what is on its disk."""
        self.platter, self.stored = Platter(), None
