"""The production code under seeded faults: all holds, every run is the same again, and what was covered."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import attrs
import pytest

from colo_fsm.check.simulate import (
    SAFE_KINDS,
    Bench,
    Fault,
    Kind,
    Report,
    Schedule,
    generate,
    many,
    run_many,
    run_seeds,
)
from colo_fsm.fsm import Side

CHUNK = 200
CHUNKS = [pytest.param(at * CHUNK, marks=() if at < 5 else pytest.mark.soak) for at in range(10)]
"""2,000 seeds, of which `make test` has half; so that workers share them evenly."""

P, S = Side.PRIMARY, Side.SECONDARY
ONCE_FAILED = (
    Schedule(
        seed=5549, noise=78764095704123, rounds=12, clients=2, interval=0.05, deadline=2.0, claim_retry=0.3,
        latency=0.0002, work=0.0003, fsync=True, on_demand=False,
        faults=(
            Fault(kind=Kind.CRASH, target=S, side=P, state="replied", visit=8),
            Fault(kind=Kind.POWER_FAILURE, target=S, side=S, state="sending"),
            Fault(kind=Kind.RESTART, target=P, side=P, state="alone", how="spare", seconds=0.05),
            Fault(kind=Kind.SILENT, target=S, side=S, state="init", delay=0.02, how="both"),
        ),
    ),
    Schedule(
        seed=7858, noise=59840319237951, rounds=12, interval=0.005, deadline=0.5, claim_retry=0.05,
        pause=0.05, latency=0.005, work=0.002, capacity=4096, chop=1.0, on_demand=False,
        faults=(
            Fault(kind=Kind.GUEST_FAILURE, target=P, side=P, state="received", visit=3, how="resume"),
            Fault(kind=Kind.RESTART, target=S, side=P, state="received", op=1, how="power", seconds=0.5),
            Fault(kind=Kind.ARBITER_LOSS, target=P, side=P, state="ended", how="both", seconds=0.1),
            Fault(kind=Kind.POWER_FAILURE, target=S, side=P, state="failover"),
        ),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> object:
    with Bench() as made:
        yield made


class TestSeeds:
    @pytest.mark.parametrize("first", CHUNKS)
    def test_nothing_lost_one_side_linearizable(self, first: int) -> None:
        result = run_seeds(range(first, first + CHUNK), SAFE_KINDS)
        assert [(o.schedule.seed, *map(str, o.problems)) for o in result.failures] == []
        coverage = result.coverage
        assert (coverage.counts["failed"], coverage.counts["runs"]) == (0, CHUNK)
        assert coverage.counts["short"] == 0, "fewer than ten checkpoints, and no fault has ended it"
        assert coverage.counts["survived"] > 0.9 * CHUNK, "too often nobody is left: no proof"
        assert set(coverage.struck) == set(SAFE_KINDS)
        assert Report().impossible(coverage) == []

    @pytest.mark.parametrize("kind", [Kind.CORRUPT, Kind.REORDER, Kind.DUPLICATE, Kind.INJECT])
    def test_what_no_link_does(self, kind: Kind) -> None:
        """Each keeps what docs/simulation.md promises of it, and what it documents can be seen."""
        result = run_seeds(range(200, 400), [kind])
        assert [(o.schedule.seed, *map(str, o.problems)) for o in result.failures] == []
        assert result.coverage.struck[kind] > 100
        documented = {Kind.CORRUPT: "store", Kind.INJECT: "lost"}
        if kind in documented:
            assert result.coverage.documented[documented[kind]] > 0, "an expected failure that never fails"
        else:
            assert not result.coverage.documented

    @pytest.mark.parametrize("schedule", ONCE_FAILED, ids=lambda schedule: schedule.seed)
    def test_what_once_failed(self, bench: Bench, schedule: Schedule) -> None:
        assert bench.run(schedule).problems == ()

    def test_both_messages_that_release(self) -> None:
        used = {generate(seed).release_on for seed in range(50)}
        assert len(used) == 2


class TestReplay:
    SEEDS = range(1000, 1040)

    def test_the_same_again(self, bench: Bench) -> None:
        for seed in self.SEEDS:
            first, second = (bench.run(generate(seed), trace=True) for _ in range(2))
            assert first.trace == second.trace
            assert first == second

    def test_from_json(self, bench: Bench) -> None:
        for seed in self.SEEDS:
            schedule = generate(seed)
            copy = Schedule.from_json(schedule.to_json())
            assert copy == schedule
            assert bench.run(copy).digest == bench.run(schedule).digest

    def test_in_another_process(self, bench: Bench) -> None:
        """Where sets and dictionaries of texts have another order."""
        code = (
            "from colo_fsm.check.simulate import Bench, generate\n"
            "with Bench() as bench:\n"
            f"    print(*(bench.run(generate(seed)).digest for seed in {self.SEEDS!r}))"
        )
        printed = {
            subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | {"PYTHONHASHSEED": hash_seed},
            ).stdout
            for hash_seed in ("1", "2")
        }
        here = " ".join(bench.run(generate(seed)).digest for seed in self.SEEDS)
        assert printed == {here + "\n"}

    def test_noise_makes_another_run(self, bench: Bench) -> None:
        schedule = generate(1)
        assert bench.run(schedule).digest != bench.run(attrs.evolve(schedule, noise=1)).digest


class TestCoverage:
    def test_without_faults(self, bench: Bench) -> None:
        outcome = bench.run(Schedule(rounds=20))
        assert outcome.ok
        assert (outcome.strikes, outcome.ended_by_fault, outcome.survived) == ((), False, True)
        assert outcome.counts["checkpoints"] >= 20
        assert outcome.counts["operations"] > 10

    def test_processes_add_up(self) -> None:
        here = run_seeds(range(60), SAFE_KINDS).coverage
        there = run_many(0, SAFE_KINDS, seeds=60, jobs=2).coverage
        assert here == there

    def test_as_long_as_there_is_time(self) -> None:
        assert run_many(0, SAFE_KINDS, seconds=0.5, jobs=1).coverage.counts["runs"] > 0

    def test_an_interrupt_does_not_wait_for_what_the_processes_are_at(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run_or_hang(seeds: range, *_: object) -> many.Result:
            while seeds.start:
                time.sleep(1)
            return many.Result()

        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(many, "run_seeds", run_or_hang)
        with pytest.raises(KeyboardInterrupt):
            run_many(0, SAFE_KINDS, jobs=2, progress=interrupt)
        assert multiprocessing.active_children() == []

    def test_text(self) -> None:
        coverage = run_seeds(range(30), SAFE_KINDS).coverage
        text = str(coverage)
        assert text.startswith("schedules    30: ")
        assert "lost 0, split brain 0, linearizability 0" in text
        text = Report().matrices(coverage)
        lines = text.splitlines()
        for table in ("while the primary was", "while the secondary was"):
            at = next(i for i, line in enumerate(lines) if line.startswith(table))
            rows = lines[at : at + 1 + len(+coverage.planned)]
            assert len({len(line) for line in rows}) == 1, "not aligned"
        assert "not reached yet: " in text

    def test_json(self) -> None:
        data = Report().as_json(run_seeds(range(30), SAFE_KINDS).coverage)
        assert data["runs"] == 30
        assert data["problems"] == dict.fromkeys(data["problems"], 0)
        assert sum(hits for *_, hits in data["cells"]) == 2 * sum(data["struck"].values())
        assert data["missing"]
