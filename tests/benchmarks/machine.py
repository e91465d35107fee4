"""What a trigger and a session cost: our machine against other libraries.

The Primary's table, one checkpoint round, no callbacks, microseconds a trigger, the best of some runs.
"""

from __future__ import annotations

import gc
import timeit
import tracemalloc
from collections.abc import Callable, Iterator
from importlib.metadata import version

import attrs
import transitions

from colo_fsm.colo import PrimarySession, SecondarySession, State, colo_machine
from colo_fsm.fsm import Side

from . import libraries
from .table import Row

ROUND = (
    "begin_checkpoint",
    "recv_checkpoint_reply",
    "done_save",
    "done_send_live",
    "recv_vmstate_received",
    "recv_vmstate_loaded",
)
SESSIONS = 10_000


@attrs.define
class Model:
    """The least a machine needs: a state."""

    state: State = State.READY


def ours(machine: transitions.Machine) -> libraries.Round:
    """Through `machine.events[name].trigger(model)`."""
    model = Model()
    triggers: list[Callable[[Model], bool]] = [machine.events[name].trigger for name in ROUND]
    return [lambda trigger=trigger: trigger(model) for trigger in triggers], lambda: str(model.state)


def per_trigger(round_: libraries.Round, number: int = 3000, repeat: int = 15) -> float:
    """Microseconds a trigger, the best of `repeat`."""
    fire, _ = round_

    def once() -> None:
        for each in fire:
            each()

    return min(timeit.repeat(once, number=number, repeat=repeat)) / number / len(fire) * 1e6


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


def rows(quick: bool) -> Iterator[Row]:
    """Ours beside each; the target is beside stock `transitions`."""
    number, repeat = (10, 1) if quick else (3000, 15)
    machine = colo_machine(Side.PRIMARY)
    figure = per_trigger(ours(machine), number, repeat)
    for name, make in libraries.LIBRARIES.items():
        theirs = per_trigger(make(machine.table, ROUND), max(1, number // 10), min(repeat, 5))
        what = "a trigger" if name == "transitions" else f"a trigger, beside {name}"
        yield Row(what, figure, "us", f"{name} {version(name)}", theirs)
    yield Row("a session over its machine", per_session(), "bytes")
