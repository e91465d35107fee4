"""Our own sides, and those of protocols that are not COLO, pass every suite; tables with a fault do not."""

from __future__ import annotations

import shlex
from pathlib import Path

import attrs
import pytest
import vm_stream
from protocols import goodbye, remus
from tested_sides import COLO_FSM, TIMEOUT, conformance

from colo_fsm.colo import COLO, PRIMARY, SECONDARY, TABLES, Mode, Profile, State, Variant
from colo_fsm.colo import COLOMessage as M
from colo_fsm.conform.plan import SUITES, plan
from colo_fsm.conform.play import play_all
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets.sessions import Sessions
from colo_fsm.fsm import (
    CompleteTable,
    Fault,
    Send,
    Side,
    Table,
    TableMachine,
    Trigger,
    complete,
    fault,
    recv,
    row,
)
from colo_fsm.qemu.watch.capture import Recorder

GUEST = """
from colo_fsm import StateGuest
class Counter:
    value = 0
    def get_state(self): return b"%d" % self.value
    def set_state(self, state): self.value = int(state)
def guest(): return StateGuest(Counter(), 4096)
"""


# -- self


VARIANTS = [(profile, mode) for profile in Profile for mode in Mode]


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(("profile", "mode"), VARIANTS)
def test_our_own_sessions_pass_all(side: Side, profile: Profile, mode: Mode) -> None:
    result = conformance(
        "self", "--side", side, "--profile", profile, "--mode", mode, "--suite", ",".join(SUITES)
    )
    cases = plan(side, profile=profile, mode=mode).cases(SUITES)
    assert result.exit_code == 0
    last = result.output.splitlines()[-1]
    assert last.startswith(f"self, {side}: {len(cases)} cases in ")
    assert "fail" not in last


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("module", ["remus", "goodbye"])
def test_protocols_that_are_not_colo_pass_all(side: Side, module: str) -> None:
    tables = [word for each in Side for word in (f"--{each}", f"protocols.{module}:{each.upper()}")]
    result = conformance("self", "--side", side, *tables, "--suite", "tour,switch,wp,wp1")
    words = {"remus": remus.REMUS, "goodbye": goodbye.WORDS}[module]
    assert words is not COLO
    assert result.exit_code == 0
    assert " pass" in result.output


# -- tables with a fault, and the row that is named


def without(table: Table, effect: Send) -> Table:
    lines = (
        attrs.evolve(line, effects=tuple(e for e in line.effects if e != effect)) for line in table.lines
    )
    return attrs.evolve(table, lines=tuple(lines))


def with_row(table: Table, state: State, trigger: Trigger, dest: State | None) -> Table:
    return attrs.evolve(table, lines=(row(state, trigger, dest), *table.lines))


S = State
PLANTED = {
    "sending --recv_vmstate_size--> sized": without(SECONDARY, Send(M.VMSTATE_LOADED)),
    "loaded --recv_vmstate_send--> failover": with_row(SECONDARY, S.LOADED, recv(M.VMSTATE_SEND), None),
    "replied --fault_invalid--> failover": with_row(SECONDARY, S.REPLIED, fault(Fault.INVALID), None),
    "sized --recv_vmstate_loaded--> failover": with_row(PRIMARY, S.SIZED, recv(M.VMSTATE_LOADED), S.RECEIVED),
    "init --recv_checkpoint_ready--> ready": without(PRIMARY, Send(M.CHECKPOINT_REQUEST)),
}


@pytest.mark.parametrize("wanted", PLANTED)
@pytest.mark.parametrize("suite", ["tour", "wp1"])
def test_a_table_with_a_fault_fails_at_its_row(wanted: str, suite: str) -> None:
    broken: Table = PLANTED[wanted]
    declared: CompleteTable = complete(TABLES[broken.side], Variant())
    target = Sessions(TableMachine(complete(broken, Variant())), declared)
    results = play_all(plan(broken.side).cases([suite]), target, Pace(1.0))
    rows = {result.deviation.row for result in results if result.deviation is not None}
    assert rows == {wanted}


# -- our own sides as processes


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Side, list[str]]:
    """The arguments that test our own Secondary and our own Primary, as `colo-fsm` starts them."""
    (tmp_path / "tested_guest.py").write_text(GUEST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    common = "--no-arbiter --deadline 1000 --guest tested_guest:guest"
    sides = {
        Side.SECONDARY: f"cmd:{shlex.join(COLO_FSM)} secondary --listen {{address}} {common}",
        Side.PRIMARY: f"cmd:{shlex.join(COLO_FSM)} primary --connect {{address}} --interval-ms 1 {common}",
    }
    more = {Side.SECONDARY: ["--guest", "tested_guest:guest"], Side.PRIMARY: []}
    return {side: [sides[side], "--side", side, "--timeout", TIMEOUT, *more[side]] for side in Side}


SAMPLES = {
    Side.SECONDARY: ("colo/secondary/1.3", "colo/secondary/9.2", "colo/secondary/wp/07"),
    Side.PRIMARY: ("colo/primary/1.1", "colo/primary/wp/07"),
}


@pytest.mark.parametrize("side", Side)
def test_our_own_side_passes(side: Side, ours: dict[Side, list[str]]) -> None:
    result = conformance(*ours[side], *(word for id in SAMPLES[side] for word in ("--only", id)))
    assert result.exit_code == 0, result.output


@pytest.mark.soak
@pytest.mark.parametrize("side", Side)
def test_our_own_side_passes_all(side: Side, ours: dict[Side, list[str]]) -> None:
    result = conformance(*ours[side], "--suite", ",".join(SUITES))
    assert result.exit_code == 0, result.output


@pytest.fixture
def standby(tmp_path: Path) -> list[str]:
    """The arguments that test our own standby, with the state of a VM that a tap has recorded."""
    with Recorder(tmp_path / "capture") as recorder:
        stream = vm_stream.initial(before=vm_stream.command(8)) + vm_stream.described()
        recorder.write(0.0, Side.PRIMARY, stream)
    options = "--no-arbiter --deadline 1000 --disks-elsewhere --store {folder}/store"
    target = f"cmd:{shlex.join(COLO_FSM)} standby --listen {{address}} {options}"
    return [target, "--side", "secondary", "--timeout", TIMEOUT, "--capture", str(tmp_path / "capture")]


def test_our_own_standby_passes_with_a_vms_state(standby: list[str]) -> None:
    result = conformance(*standby, "--only", "colo/secondary/1.1", "--only", "colo/secondary/9.2")
    assert result.exit_code == 0, result.output


@pytest.mark.soak
def test_our_own_standby_passes_all(standby: list[str]) -> None:
    result = conformance(*standby, "--suite", ",".join(SUITES))
    assert result.exit_code == 0, result.output


def test_a_faulty_table_of_ones_own_in_a_process_is_found(
    ours: dict[Side, list[str]], tmp_path: Path
) -> None:
    text = """
import attrs
from colo_fsm.colo import COLOMessage as M, SECONDARY, State
from colo_fsm.fsm import recv, row, send
line = row(State.READY, recv(M.VMSTATE_SEND), State.READY, send(M.CHECKPOINT_REPLY))
tolerant = attrs.evolve(SECONDARY, lines=(line, *SECONDARY.lines))
"""
    (tmp_path / "tested_tables.py").write_text(text)
    wanted = "ready --recv_vmstate_send--> failover"
    (id,) = (case.id for case in plan("secondary").cases(["tour"]) if case.steps[1].row == wanted)
    target, *options = ours[Side.SECONDARY]
    result = conformance(f"{target} --table tested_tables:tolerant", *options, "--only", id)
    assert result.exit_code == 1
    told = f"  expected   gives up\n  got        checkpoint-reply\n  row        {wanted}\n"
    assert told in result.output
