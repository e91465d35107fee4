"""Schedules are data: drawn from a seed, kept as JSON, printed, and made short."""

from __future__ import annotations

import json
from collections import Counter

import attrs
import pytest

from colo_fsm.check.simulate import SAFE_KINDS, WIRE_KINDS, Fault, Kind, Schedule, generate, shrink
from colo_fsm.colo import State
from colo_fsm.fsm import Side

CRASH = Fault(kind=Kind.CRASH, target=Side.PRIMARY, side=Side.SECONDARY, state=State.SIZED, visit=3, op=1)
SILENT = Fault(
    kind=Kind.SILENT, target=Side.PRIMARY, side=Side.PRIMARY, state=State.LOADED, visit=5, delay=0.002
)


class TestGenerate:
    def test_a_seed_is_a_schedule(self) -> None:
        assert [generate(seed) for seed in range(100)] == [generate(seed) for seed in range(100)]
        assert len({generate(seed).noise for seed in range(100)}) == 100

    def test_one_to_four_faults(self) -> None:
        counts = Counter(len(generate(seed).faults) for seed in range(500))
        assert set(counts) == {1, 2, 3, 4}
        assert min(counts.values()) > 20

    def test_only_what_was_asked_for(self) -> None:
        for seed in range(200):
            assert {fault.kind for fault in generate(seed).faults} <= set(SAFE_KINDS)
            assert {fault.kind for fault in generate(seed, [Kind.DELAY]).faults} == {Kind.DELAY}

    @pytest.mark.parametrize("kind", WIRE_KINDS)
    def test_what_no_link_does_has_schedules_of_its_own(self, kind: Kind) -> None:
        for seed in range(100):
            kinds = [fault.kind for fault in generate(seed, [kind]).faults]
            assert kind in kinds
            assert set(kinds) <= {kind, *SAFE_KINDS}
            if kind is not Kind.INJECT:
                assert kinds.count(kind) == 1


class TestJson:
    def test_there_and_back(self) -> None:
        for kinds in (SAFE_KINDS, WIRE_KINDS):
            for seed in range(100):
                schedule = generate(seed, kinds)
                assert Schedule.from_json(schedule.to_json()) == schedule

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            json.dumps({"faults": []}),
            Schedule().to_json().replace("rounds", "bounds"),
            Schedule(faults=(CRASH,)).to_json().replace('"crash"', '"crush"'),
        ],
    )
    def test_something_else(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            Schedule.from_json(text)


def test_printed() -> None:
    first, *rest = str(Schedule(seed=5, faults=(CRASH, SILENT))).splitlines()
    assert first.startswith("seed=5 noise=0 rounds=10 ")
    assert rest == [
        "1. crash at the primary when secondary sized, visit 3, step 1",
        "2. silent at the primary when primary loaded, visit 5, step 0, 2 ms later",
    ]


class TestShrink:
    SCHEDULE = Schedule(seed=1, noise=2, clients=4, chop=1.0, faults=(SILENT, CRASH, SILENT))

    def test_to_what_matters(self) -> None:
        def fails(schedule: Schedule) -> bool:
            return any(fault.kind is Kind.CRASH and fault.visit >= 2 for fault in schedule.faults)

        short = shrink(self.SCHEDULE, fails)
        assert short == Schedule(seed=1, noise=2, faults=(attrs.evolve(CRASH, visit=2, op=0),))

    def test_to_no_fault_at_all(self) -> None:
        assert shrink(self.SCHEDULE, lambda schedule: True) == Schedule(seed=1, noise=2)

    def test_nothing_to_leave_out(self) -> None:
        assert shrink(self.SCHEDULE, lambda schedule: schedule == self.SCHEDULE) == self.SCHEDULE

    def test_it_ends(self) -> None:
        asked = 0

        def fails(schedule: Schedule) -> bool:
            nonlocal asked
            asked += 1
            return True

        far = attrs.evolve(CRASH, visit=10**9, op=10**9, count=10**9, delay=1.0)
        shrink(Schedule(faults=(far,) * 4), fails)
        assert asked < 1000
