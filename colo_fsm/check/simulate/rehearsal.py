"""What a pair does when it is well, learned by running it: where faults of a kind find something to strike.

So no state of a protocol, and no step of the drivers, is written down a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache

import attrs

from colo_fsm.fsm import Side
from colo_fsm.stream.memory import Buffer

from .process import Process, Watcher
from .run import Bench, Run
from .schedule import Fault, Kind, Schedule
from .tables import Tables, in_rounds

At = tuple[Side, str]
"""A side, and a state in which it was."""


@attrs.frozen
class Seen:
    """What was seen. States are in the order of the table."""

    rounds: Mapping[Side, tuple[str, ...]]
    """Where a side takes a step in every round."""
    once: Mapping[Side, tuple[str, ...]]
    """Where it takes one when a generation begins."""
    passed: Mapping[Side, tuple[str, ...]]
    """Where it is in every round, and takes none."""
    during: Mapping[Kind, frozenset[At]]
    """Where both sides are while what such a fault strikes is happening."""


class _Spectator(Watcher):
    """Notes what happens, and tells the faults of the run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.visits: Counter[At] = Counter()
        self.steps: set[At] = set()
        self.during: dict[Kind, set[At]] = {}

    def began(self, process: Process) -> None:
        self.visits[process.role, process.state] += 1
        self.run.faults.began(process)

    def entered(self, process: Process) -> None:
        self.visits[process.role, process.state] += 1
        self.run.faults.entered(process)

    def before_step(self, process: Process) -> None:
        self.steps.add((process.role, process.state))
        if (link := process.link) is not None and link.tamper is None:
            link.tamper = self._wrote
        if process.role is Side.SECONDARY:
            process.machine.platter.on_call = lambda: self._note(Kind.SLOW_DISK, Kind.FAILING_DISK)
        process.on_hook = lambda name: self._note(Kind.SLOW_HOOK)
        self.run.faults.before_step(process)

    def _wrote(self, buffers: list[Buffer]) -> list[Buffer]:
        self._note(Kind.PARTIAL_WRITE)
        return buffers

    def _note(self, *kinds: Kind) -> float:
        world = self.run.world
        for kind in kinds:
            self.during.setdefault(kind, set()).update((side, world.state_of(side)) for side in Side)
        return 0.0


@cache
def rehearse(tables: Tables) -> Seen:
    """Run this pair three times: undisturbed, and with each side killed once and brought back."""
    undisturbed = Schedule(capacity=1 << 12, turn=0.002, work=0.0003)
    spectators: list[_Spectator] = []

    def watch(run: Run) -> _Spectator:
        spectators.append(_Spectator(run))
        return spectators[-1]

    with Bench(tables) as bench:
        bench.run(undisturbed, watch=watch)
        for side in Side:
            state = max(
                sorted(tables.complete(side).idle), key=lambda state: spectators[0].visits[side, state]
            )
            killed = Fault(
                kind=Kind.RESTART, target=side, side=side, state=state, visit=2, how="kill", seconds=0.1
            )
            bench.run(attrs.evolve(undisturbed, faults=(killed,)), watch=watch)
    return _seen(tables, spectators)


def _seen(tables: Tables, spectators: list[_Spectator]) -> Seen:
    first = spectators[0]
    half = first.run.world.schedule.rounds / 2
    tables_of = {side: tables.complete(side) for side in Side}

    def states(side: Side, *, often: bool, stepping: bool) -> tuple[str, ...]:
        table = tables_of[side]
        return tuple(
            state
            for state in table.states
            if state in {table.initial, *in_rounds(table)}
            and (first.visits[side, state] > half) == often
            and ((side, state) in first.steps) == stepping
        )

    return Seen(
        rounds={side: states(side, often=True, stepping=True) for side in Side},
        once={side: states(side, often=False, stepping=True) for side in Side},
        passed={side: states(side, often=True, stepping=False) for side in Side},
        during={
            kind: frozenset().union(*(each.during.get(kind, ()) for each in spectators))
            for kind in (Kind.PARTIAL_WRITE, Kind.SLOW_DISK, Kind.FAILING_DISK, Kind.SLOW_HOOK)
        },
    )
