"""What all processes of a run share, and the machines they are on."""

from __future__ import annotations

from random import Random

from colo_fsm.arbiter import SqliteArbiter
from colo_fsm.replica.options import Options

from .arbiter import ArbiterService
from .clients import Clients
from .disk import Platter
from .kernel import Kernel
from .net import Network
from .schedule import Schedule
from .tables import Tables
from .witness import Witness


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
            interval=schedule.interval,
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
