"""The benchmarks still run: their smallest parts, without a look at the figures."""

from __future__ import annotations

from pathlib import Path

import transitions
from benchmarks import machine, members

from colo_fsm.colo import colo_machine
from colo_fsm.fsm import Side, definition


def test_both_machines_are_timed_over_the_same_round() -> None:
    ours = colo_machine(Side.PRIMARY)
    stock = transitions.Machine(model=None, **definition(ours.table))
    assert machine.per_trigger(ours, number=10, repeat=1) > 0
    assert machine.per_trigger(stock, number=10, repeat=1) > 0


def test_members_are_killed_beside_a_copy(tmp_path: Path) -> None:
    assert members.floor(tmp_path, 1 << 20) > 0
    ((answers, protected),) = members.kills(tmp_path, 1 << 20, 1, True)
    assert answers > 0
    assert protected > 0
