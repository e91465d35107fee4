"""Any pair of tables is simulated: two protocols that are not COLO, and what is learned by watching."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from protocols import goodbye, remus

from colo_fsm import Do, Side, Table
from colo_fsm.check.simulate import (
    SAFE_KINDS,
    Bench,
    Kind,
    Report,
    Schedule,
    Tables,
    generate,
    run_many,
    run_seeds,
)
from colo_fsm.check.simulate.rehearsal import rehearse
from colo_fsm.check.simulate.tables import closed, in_rounds, releasing
from colo_fsm.cli.simulate import simulate
from colo_fsm.fsm import done, row, send

P = Side.PRIMARY
REMUS = Tables(remus.PRIMARY, remus.SECONDARY)
GOODBYE = Tables(goodbye.PRIMARY, goodbye.SECONDARY)


class TestWhatFollows:
    """From the rows, and from watching a pair that is well."""

    def test_colo(self) -> None:
        tables = Tables()
        primary, secondary = (tables.complete(side) for side in Side)
        rounds = ("ready", "requested", "replied", "sending", "sized", "received", "loaded")
        assert in_rounds(primary) == in_rounds(secondary) == rounds
        assert closed(primary) == closed(secondary) == {"failover", "alone", "stopped", "ended"}
        assert [row.trigger.name for row in releasing(primary)] == [
            "recv_vmstate_received",
            "recv_vmstate_loaded",
        ]
        seen = rehearse(tables)
        assert seen.passed == {P: (), Side.SECONDARY: ("requested",)}
        assert seen.once[P] == ("init", "ready")
        writing = {state for side, state in seen.during[Kind.PARTIAL_WRITE] if side is P}
        assert writing == {"init", "requested", "sized", "received"}, "in the last two the peer writes"

    def test_remus(self) -> None:
        primary = REMUS.complete(P)
        assert in_rounds(primary) == ("committed", "saving", "epoch")
        assert [row.trigger.message for row in releasing(primary)] == [remus.M.COMMITTED]
        seen = rehearse(REMUS)
        assert seen.rounds[P] == ("committed", "saving", "epoch")
        assert seen.once == dict.fromkeys(Side, ("init",))


@pytest.mark.parametrize("tables", [REMUS, GOODBYE], ids=["remus", "goodbye"])
class TestRuns:
    @pytest.fixture
    def bench(self, tables: Tables) -> Iterator[Bench]:
        with Bench(tables) as made:
            yield made

    def test_without_faults(self, bench: Bench) -> None:
        outcome = bench.run(Schedule(rounds=20))
        assert outcome.ok
        assert outcome.counts["checkpoints"] >= 20
        assert outcome.counts["operations"] > 10

    def test_all_holds(self, tables: Tables) -> None:
        result = run_seeds(range(150), SAFE_KINDS, tables)
        assert [(o.schedule.seed, *map(str, o.problems)) for o in result.failures] == []
        assert set(result.coverage.struck) == set(SAFE_KINDS)
        assert result.coverage.counts["short"] == 0
        assert Report(tables).impossible(result.coverage) == []

    def test_its_own_states_are_aimed_at(self, tables: Tables) -> None:
        schedules = [generate(seed, SAFE_KINDS, tables) for seed in range(300)]
        states = {(fault.side, fault.state) for schedule in schedules for fault in schedule.faults}
        for side in Side:
            table = tables.complete(side)
            aimed_at = {state for where, state in states if where is side}
            assert {*in_rounds(table)} - {*rehearse(tables).passed[side]} <= aimed_at <= {*table.states}

    def test_replayed(self, tables: Tables, bench: Bench) -> None:
        schedule = generate(7, SAFE_KINDS, tables)
        assert bench.run(Schedule.from_json(schedule.to_json())).digest == bench.run(schedule).digest

    def test_in_other_processes(self, tables: Tables) -> None:
        here = run_seeds(range(60), SAFE_KINDS, tables).coverage
        assert run_many(0, SAFE_KINDS, tables, seeds=60, jobs=2).coverage == here


def test_a_row_that_releases_too_early_is_found() -> None:
    early = row(
        remus.S.SAVING, done(Do.save), remus.S.EPOCH,
        Do.resume, send(remus.M.EPOCH), Do.send_live, Do.send_state, Do.release,
    )  # fmt: skip
    lines = (early, *(line for line in remus.PRIMARY.lines if line.sources != (remus.S.SAVING,)))
    primary = Table(P, remus.REMUS, lines, remus.PRIMARY.start, remus.PRIMARY.error)
    result = run_seeds(range(100), [Kind.CRASH, Kind.POWER_FAILURE], Tables(primary, remus.SECONDARY))
    assert {problem.kind for outcome in result.failures for problem in outcome.problems} >= {"lost"}


class TestCommand:
    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(simulate, arguments)

    def test_tables_of_ones_own(self) -> None:
        tables = ("--primary", "protocols.remus:PRIMARY", "--secondary", "protocols.remus:SECONDARY")
        result = self.run("--seeds", "20", "--jobs", "1", "--matrix", *tables)
        assert result.exit_code == 0, result.output
        assert "lost 0, split brain 0" in result.output
        (head,) = (line for line in result.output.splitlines() if line.startswith("while the primary was"))
        assert head.split()[4:8] == ["init", "committed", "saving", "epoch"]

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ("protocols.remus:SECONDARY", "is no Table of the primary"),
            ("protocols.remus:REMUS", "is no Table of the primary"),
            ("protocols.remus:NOTHING", "AttributeError"),
            ("protocols.remus:PRIMARY", "give both tables of one protocol"),
        ],
    )
    def test_refused(self, spec: str, text: str) -> None:
        result = self.run("--primary", spec)
        assert result.exit_code == 2
        assert text in result.output
