"""Any pair of tables is simulated: a protocol of three messages, and what is learned of it by watching."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import pytest
from click.testing import CliRunner

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
from colo_fsm.fsm import Do as do
from colo_fsm.fsm import (
    Fault,
    Message,
    Side,
    SyncPoint,
    Table,
    Words,
    begin,
    done,
    lost,
    otherwise,
    recv,
    row,
    send,
    won,
)
from colo_fsm.fsm import fault as fault_of


class M(Message):
    BEGUN = 10
    EPOCH = 11
    COMMITTED = 12


class S(StrEnum):
    FRESH = "fresh"
    RUNNING = "running"
    SAVING = "saving"
    SENT = "sent"
    LOADING = "loading"
    LOADING_AGAIN = "loading_again"
    BROKEN = "broken"
    SOLO = "solo"
    HALTED = "halted"
    LEFT = "left"


WORDS = Words(
    "Epochs",
    points=(
        SyncPoint(M.BEGUN, Side.SECONDARY, S.RUNNING),
        SyncPoint(M.EPOCH, Side.PRIMARY, S.SENT),
        SyncPoint(M.COMMITTED, Side.SECONDARY, S.RUNNING),
    ),
    initial=S.FRESH,
    failover=S.BROKEN,
)
BOTH = (
    row((S.FRESH, S.RUNNING), begin.leave, S.LEFT, do.disconnect, do.suspend, do.discard),
    row(S.SOLO, begin.leave, S.LEFT, do.suspend),
    row(S.BROKEN, won, S.SOLO, do.resume, do.release_all),
    row(S.BROKEN, lost, S.HALTED, do.discard),
    row(S.BROKEN, begin.leave, S.HALTED, do.discard),
    row(S.SOLO, fault_of(Fault.GUEST_FAILED), S.HALTED, do.suspend, do.discard),
    row(S.FRESH, otherwise, S.HALTED, do.disconnect, do.discard),
    row((S.BROKEN, S.SOLO, S.HALTED, S.LEFT), otherwise, None),
)  # fmt: skip
PRIMARY = Table(
    Side.PRIMARY,
    WORDS,
    start=(do.send_initial,),
    error=(do.disconnect, do.suspend, do.claim),
    lines=(
        row(S.FRESH, recv(M.BEGUN), S.RUNNING, do.resume),
        row(S.RUNNING, begin.checkpoint, S.SAVING, do.suspend, do.save),
        row(S.SAVING, done(do.save), S.SENT, send(M.EPOCH), do.send_live, do.send_state, do.resume),
        row(S.SENT, recv(M.COMMITTED), S.RUNNING, do.release),
        *BOTH,
    ),
)
SECONDARY = Table(
    Side.SECONDARY,
    WORDS,
    start=(do.receive_initial,),
    error=(do.disconnect, do.suspend, do.claim),
    lines=(
        row(S.FRESH, done(do.receive_initial), S.RUNNING, send(M.BEGUN)),
        row(S.RUNNING, recv(M.EPOCH), S.SENT, do.receive_live, do.receive_state, do.store),
        row(S.SENT, done(do.store), S.LOADING, do.load),
        row(S.LOADING, done(do.load), S.RUNNING, send(M.COMMITTED)),
        # what is stored and not loaded is loaded before anything is claimed
        row((S.SENT, S.LOADING), otherwise, S.LOADING_AGAIN, do.load),
        row(S.LOADING_AGAIN, done(do.load), S.BROKEN, do.disconnect, do.claim),
        row(S.LOADING_AGAIN, fault_of(Fault.GUEST_FAILED), S.HALTED, do.disconnect, do.suspend, do.discard),
        row(S.LOADING_AGAIN, otherwise, None),
        *BOTH,
    ),
)
TABLES = Tables(PRIMARY, SECONDARY)


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
        assert seen.passed == {Side.PRIMARY: ("sending",), Side.SECONDARY: ("requested",)}
        writing = {state for side, state in seen.during[Kind.PARTIAL_WRITE] if side is Side.PRIMARY}
        assert writing == {"init", "requested", "sized", "received"}, "in the last two the peer writes"
        assert seen.once[Side.PRIMARY] == ("init", "ready")

    def test_another_protocol(self) -> None:
        primary = TABLES.complete(Side.PRIMARY)
        assert in_rounds(primary) == ("running", "saving", "sent")
        assert [row.trigger.message for row in releasing(primary)] == [M.COMMITTED]
        seen = rehearse(TABLES)
        assert seen.rounds[Side.PRIMARY] == ("running", "saving", "sent")
        assert seen.once == dict.fromkeys(Side, ("fresh",))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(TABLES) as made:
        yield made


def test_without_faults(bench: Bench) -> None:
    outcome = bench.run(Schedule())
    assert outcome.ok
    assert outcome.counts["checkpoints"] >= 10
    assert outcome.counts["operations"] > 10


def test_all_holds() -> None:
    result = run_seeds(range(200), SAFE_KINDS, TABLES)
    assert [(o.schedule.seed, *map(str, o.problems)) for o in result.failures] == []
    assert set(result.coverage.struck) == set(SAFE_KINDS)
    assert Report(TABLES).impossible(result.coverage) == []


def test_its_states_are_aimed_at() -> None:
    schedules = [generate(seed, SAFE_KINDS, TABLES) for seed in range(200)]
    states = {fault.state for schedule in schedules for fault in schedule.faults}
    assert states >= {"running", "saving", "sent", "fresh", "broken", "solo"}
    assert states <= set(S)


def test_in_other_processes() -> None:
    here = run_seeds(range(60), SAFE_KINDS, TABLES).coverage
    assert run_many(0, SAFE_KINDS, TABLES, seeds=60, jobs=2).coverage == here


def test_one_that_releases_too_early_is_found() -> None:
    """A row's fault is as good as a driver's."""
    lines = (
        row(
            S.SAVING, done(do.save), S.SENT, send(M.EPOCH), do.send_live, do.send_state, do.release, do.resume
        ),
        *(line for line in PRIMARY.lines if line.sources != (S.SAVING,)),
    )
    early = Tables(Table(Side.PRIMARY, WORDS, lines, PRIMARY.start, PRIMARY.error), SECONDARY)
    result = run_seeds(range(100), [Kind.CRASH, Kind.POWER_FAILURE], early)
    assert {problem.kind for outcome in result.failures for problem in outcome.problems} >= {"lost"}


class TestCommand:
    MINE = "test_simulate_tables"

    def run(self, *arguments: str) -> str:
        result = CliRunner().invoke(simulate, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def test_tables_of_ones_own(self) -> None:
        tables = ("--primary", f"{self.MINE}:PRIMARY", "--secondary", f"{self.MINE}:SECONDARY")
        output = self.run("--seeds", "20", "--jobs", "1", "--matrix", *tables)
        assert "lost 0, split brain 0" in output
        assert "while the primary was  fresh  running  saving  sent" in " ".join(output.split(" "))

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("--primary", "test_simulate_tables:SECONDARY"), "is no Table of the primary"),
            (("--primary", "test_simulate_tables:WORDS"), "is no Table of the primary"),
            (("--primary", "test_simulate_tables:NOTHING"), "AttributeError"),
            (("--primary", "test_simulate_tables:PRIMARY"), "speak different words"),
        ],
    )
    def test_refused(self, arguments: tuple[str, ...], text: str) -> None:
        result = CliRunner().invoke(simulate, arguments)
        assert result.exit_code == 2
        assert text in result.output


def test_replayed(tmp_path: Path, bench: Bench) -> None:
    schedule = generate(7, SAFE_KINDS, TABLES)
    assert bench.run(Schedule.from_json(schedule.to_json())).digest == bench.run(schedule).digest
