"""What there is in one run: processes on machines, a network, an arbiter, clients. Nothing strikes here."""

from __future__ import annotations

from colo_fsm.arbiter import SqliteArbiter
from colo_fsm.fsm import Side

from .process import Process, Watcher
from .schedule import Schedule
from .setting import Machine, Setting
from .tables import DOWN, Tables, in_rounds


class World:
    """The processes of a run, and the pair that two of them are."""

    def __init__(self, schedule: Schedule, arbiter: SqliteArbiter, tables: Tables) -> None:
        self.setting = setting = Setting(schedule, arbiter, tables)
        self.schedule = schedule
        self.kernel, self.witness = setting.kernel, setting.witness
        self.arbiter, self.clients = setting.arbiter, setting.clients
        self.watcher = Watcher()
        """Told what every process does."""
        self.tables = {side: tables.complete(side, setting.options.variant) for side in Side}
        self.processes: list[Process] = []
        self.generations = 0
        """How often a pair has begun."""
        self._well = {side: in_rounds(table) for side, table in self.tables.items()}

    def begin(self) -> None:
        """A first pair, and clients that work."""
        first, second = (self.new_process(Machine(name)) for name in ("a", "b"))
        second.open_store()
        self.begin_pair(first, second)
        self.clients.start()

    def new_process(self, machine: Machine) -> Process:
        """Another process on this machine, for clients to find."""
        name = f"{machine.name}{sum(p.machine is machine for p in self.processes)}"
        process = Process(self.setting, machine, name, self.watcher)
        self.processes.append(process)
        self.clients.servers.append(process)
        return process

    def begin_pair(self, primary: Process, secondary: Process) -> None:
        """Let these two begin a new generation."""
        self._pair = primary, secondary
        self.generations += 1
        self.kernel.note(f"{primary.name} begins with {secondary.name}")
        where = f"unix:/pair{self.generations}"
        primary.begin(Side.PRIMARY, where)
        secondary.begin(Side.SECONDARY, where)
        primary.side.driver.start()
        secondary.side.driver.start()

    @property
    def pair(self) -> tuple[Process, Process]:
        """The Primary's and the Secondary's process of the newest generation."""
        return self._pair

    def current(self, side: Side) -> Process:
        """The newest process in this role."""
        return self._pair[0 if side is Side.PRIMARY else 1]

    def state_of(self, side: Side) -> str:
        """Where this side stands now."""
        process = self.current(side)
        return process.state if process.alive else DOWN

    @property
    def replicating(self) -> bool:
        """Whether the newest pair is well, as far as both sides know."""
        return all(p.alive and p.state in self._well[p.role] for p in self._pair)

    @property
    def settled(self) -> bool:
        """Whether nothing more will come of the newest pair by itself."""
        return all(not p.alive or p.settled for p in self._pair)
