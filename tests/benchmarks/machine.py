"""What a trigger and a session cost: our machine against stock `transitions`."""

from __future__ import annotations

import gc
import timeit
import tracemalloc
from collections.abc import Callable

import attrs
import transitions

from colo_fsm.colo import PrimarySession, SecondarySession, State, colo_machine
from colo_fsm.fsm import Side, definition

ROUND = (
    "begin_checkpoint",
    "recv_checkpoint_reply",
    "done_save",
    "done_send_live",
    "recv_vmstate_received",
    "recv_vmstate_loaded",
)
TARGET_RATIO = 20
TARGET_BYTES = 300
SESSIONS = 10_000


@attrs.define
class Model:
    """The least a machine needs: a state."""

    state: State = State.READY


def per_trigger(machine: transitions.Machine, number: int = 3000, repeat: int = 25) -> float:
    """Microseconds a trigger, the best of `repeat`, through `machine.events[name].trigger(model)`."""
    model = Model()
    triggers: list[Callable[[Model], bool]] = [machine.events[name].trigger for name in ROUND]
    assert all(t(model) for t in triggers)
    assert model.state is State.LOADED

    def once() -> None:
        for name in ROUND:
            machine.events[name].trigger(model)

    return min(timeit.repeat(once, number=number, repeat=repeat)) / number / len(ROUND) * 1e6


def per_session() -> float:
    """Bytes a session over the shared machine, the two sides mixed."""
    PrimarySession(), SecondarySession()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    sessions = [PrimarySession() if n % 2 else SecondarySession() for n in range(SESSIONS)]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(sessions)


def main() -> None:
    """Print both, and whether the targets are met."""
    machine = colo_machine(Side.PRIMARY)
    stock = transitions.Machine(model=None, **definition(machine.table))
    ours, theirs = per_trigger(machine), per_trigger(stock)
    met = "met" if theirs / ours >= TARGET_RATIO else "MISSED"
    print("state machine, the Primary's table, one checkpoint round, no callbacks")
    print(f"  stock transitions {transitions.__version__:<8} {theirs:8.3f} us a trigger")
    print(f"  ours                       {ours:8.3f} us a trigger", end="")
    print(f"   1/{theirs / ours:.0f}  target 1/{TARGET_RATIO}: {met}")
    size = per_session()
    met = "met" if size <= TARGET_BYTES else "MISSED"
    print(f"  a session                  {size:8.0f} bytes over the machine   target {TARGET_BYTES}: {met}")
