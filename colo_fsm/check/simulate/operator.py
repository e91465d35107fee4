"""Whoever looks after the pair, by docs/failover.md: restarts machines, replicates from the survivor.

- Never starts a Primary that lacks the surviving data: only who runs alone becomes the next Primary, or
  who was stopped before its generation began while nobody ran in it.
- Kills what is left of a pair before the machines are used again; a spare machine needs no such thing.
- Asks for failover where a side cannot notice that its peer is gone: it has no deadline between rounds.
"""

from __future__ import annotations

import attrs

from colo_fsm.fsm import Side
from colo_fsm.replica.store import StoreError

from .disk import Killed
from .process import Process
from .setting import Machine
from .world import World

TICK = 0.05
"""Seconds between two looks."""
PATIENCE = 3.0
"""Seconds that a side may stand without its peer before somebody asks it for failover."""
MOST_STARTS = 6
"""Generations in a run: some schedules would go on for ever."""


@attrs.define(eq=False)
class Task:
    """A machine that is to be a Secondary's again, from `due` on."""

    machine: Machine
    due: float
    fence: bool = True


class Operator:
    """See the top. It looks every TICK."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: list[Task] = []
        self._alone_since: float | None = None
        self._spares = 0
        self._joining: Process | None = None

    @property
    def busy(self) -> bool:
        """Whether a machine is about to come back that somebody waits for."""
        return self._joining is not None or (bool(self._tasks) and not self._world.replicating)

    # -- what faults ask of it ----------------------------------------------------------------

    def restart(self, machine: Machine, seconds: float) -> None:
        """This machine will be back."""
        self._tasks = [task for task in self._tasks if task.machine is not machine]
        self._tasks.append(Task(machine, self._world.kernel.now + seconds))

    @property
    def wants_spare(self) -> bool:
        """Whether somebody runs alone, and nobody is about to join."""
        return self._survivor() is not None and not self.busy

    def spare(self, seconds: float) -> None:
        """A new machine, while what is left of the pair stays as it is, frozen perhaps."""
        self._spares += 1
        machine = Machine(f"spare{self._spares}")
        self._tasks.append(Task(machine, self._world.kernel.now + seconds, fence=False))

    # -- what it does by itself ---------------------------------------------------------------

    def look(self) -> None:
        """Once every TICK."""
        self._watch()
        if self._joining is None:
            survivor = self._survivor()
            if survivor is None and self._over():
                survivor = self._never_began()
                if survivor is None:
                    self._tasks.clear()  # nobody has the data
            if survivor is not None:
                self._replicate_from(survivor)

    def _watch(self) -> None:
        """Ask a side for failover whose peer has been away for long."""
        world = self._world
        left = [side for side in Side if self._stands_alone(side)]
        if not left:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = world.kernel.now
        elif world.kernel.now - self._alone_since > PATIENCE:
            self._alone_since = None
            for side in left:
                world.current(side).side.request_failover()

    def _stands_alone(self, side: Side) -> bool:
        """Whether this side waits for a peer that is not there, or for one that never answers."""
        process, peer = self._world.current(side), self._world.current(side.peer)
        table = self._world.tables[side]
        if not process.alive or process.frozen or process.settled or process.state == table.failover:
            return False
        return not peer.alive or peer.settled or process.state == table.initial

    def _survivor(self) -> Process | None:
        """Who runs alone and is well."""
        for process in self._world.pair:
            if process.alive and not process.frozen and process.alone:
                return process
        return None

    def _over(self) -> bool:
        """Whether nothing more will come of this pair by itself."""
        return self._world.settled and not any(p.alive and p.frozen for p in self._world.pair)

    def _never_began(self) -> Process | None:
        """A Primary that was stopped before its generation began: nobody has run since, it has it all."""
        primary, secondary = self._world.pair
        witness = self._world.witness
        if (
            not primary.alive
            or primary.alone
            or primary.generation in (*witness.generations, *witness.alone)
            or (secondary.alive and secondary.alone)
        ):
            return None
        if not self._tasks and secondary.machine.up:
            self.restart(secondary.machine, 0.05)
        return primary

    def _replicate_from(self, survivor: Process) -> None:
        world = self._world
        self._tasks = [task for task in self._tasks if task.machine is not survivor.machine]
        for task in self._tasks:
            if task.due <= world.kernel.now and world.generations < MOST_STARTS:
                joining = self._start(task, survivor)
                if joining is not None:
                    self._tasks.remove(task)
                    self._joining = joining
                    self._hand_over(survivor, joining)
                return
        if world.generations >= MOST_STARTS:
            self._tasks.clear()

    def _start(self, task: Task, survivor: Process) -> Process | None:
        """A new process on this machine; None when its disk does not let it start now."""
        world = self._world
        for process in world.processes:
            if process is not survivor and process.alive and (task.fence or process.machine is task.machine):
                process.die()
        task.machine.up = True
        process = world.new_process(task.machine)
        try:
            process.open_store()
        except (OSError, StoreError, Killed) as error:
            world.kernel.note(f"{process.name} cannot start: {type(error).__name__}")
            process.die(power=isinstance(error, Killed) and task.machine.kill_power)
            task.due = world.kernel.now + 0.2
            return None
        return process

    def _hand_over(self, survivor: Process, joining: Process) -> None:
        """End the survivor's time alone in order, and begin a new generation with the same guest."""
        world = self._world

        def begin(_: Process) -> None:
            survivor.on_end = lambda process: None
            world.kernel.after(0.005, lambda: survivor.do(start))

        def start() -> None:
            self._joining = None
            if joining.alive:
                world.begin_pair(survivor, joining)
            else:  # it has died while it waited; its machine may come back later
                self.restart(joining.machine, 0.1)

        if survivor.alone:
            survivor.on_end = begin
            survivor.side.request_leave()
        else:
            begin(survivor)
