"""`colo-fsm watch-primary`: a VM whose standby is lost runs again, and never while it may run elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import qemus
from qemu import Qemu, each_version, needs_kvm
from qemu_guest import count, counting_guest, runs_on
from qemu_lines import PATIENCE
from standby_process import COMMAND, StandbyProcess
from watch_process import WatchProcess

from colo_fsm.arbiter import Arbiter, ArbiterUnreachable, Claim, SqliteArbiter
from colo_fsm.fsm import Side
from colo_fsm.qemu.free.machine import OVER, ROWS, On, S, WatchMachine
from colo_fsm.qemu.free.monitor import MonitorError, MonitorGone
from colo_fsm.qemu.free.watch import Happened, PrimaryWatch
from colo_fsm.qemu.incoming import IncomingVm

GENERATION = 7


class FakeQemu:
    """A monitor whose QEMU replicates; `asked` has what was asked to change something."""

    def __init__(self, events: Sequence[str] = ("COLO_EXIT",), *, running: bool = False) -> None:
        self.asked: list[str] = []
        self.running = running
        self.gates = {"gate": "child<filter-redirector>"}
        self.behind = [True]
        """Whether somebody is behind its gate, look by look."""
        self.refuses: dict[str, int] = {}
        """Commands, and how many times each is refused."""
        self._events = [*events]
        self._colo = True
        self.replicates = [True]
        """Whether its migration has come to COLO, look by look."""

    async def ask(self, command: str, **arguments: object) -> Any:
        await asyncio.sleep(0)
        if self.refuses.get(command):
            self.refuses[command] -= 1
            raise MonitorError(f"{command}: not now")
        match command:
            case "query-migrate":
                colo, self.replicates = self.replicates[0], self.replicates[1:] or self.replicates
                return {"status": "colo" if self._colo and colo else "completed"}
            case "query-status":
                return {"running": self.running, "status": "running" if self.running else "colo"}
            case "query-migrate-parameters":
                return {"x-checkpoint-delay": 0}
            case "query-chardev":
                here, self.behind = self.behind[0], self.behind[1:] or self.behind
                return [{"label": "go", "filename": "unix:/there" if here else "disconnected:unix:/there"}]
            case "qom-get":
                return {"outdev": "go", "indev": "gi"}[str(arguments["property"])]
            case "qom-list":
                return [{"name": name, "type": type} for name, type in self.gates.items()]
            case "x-colo-lost-heartbeat":
                self._colo = False
            case "object-del":
                self.gates.pop(str(arguments["id"]))
        self.running = {"stop": False, "cont": True}.get(command, self.running)
        self.asked.append(command)
        return {}

    async def event(self, timeout: float) -> str | None:
        await asyncio.sleep(0)
        if self._events:
            event = self._events.pop(0)
            if event == "gone":
                raise MonitorGone("its QMP has ended")
            return event
        return None


class Granting:
    """Grants to `winner`, once it answers: it does not for the first `silent` claims."""

    local_only = False

    def __init__(self, winner: Side = Side.PRIMARY, silent: int = 0) -> None:
        self.winner = winner
        self.silent = silent
        self.while_claimed: list[bool] = []
        self.qemu: FakeQemu | None = None

    def open(self) -> int:
        return GENERATION

    def check(self, generation: int) -> None: ...

    def claim(self, generation: int, side: Side) -> Claim:
        assert (generation, side) == (GENERATION, Side.PRIMARY)
        if self.qemu is not None:
            self.while_claimed.append(self.qemu.running)
        if self.silent:
            self.silent -= 1
            raise ArbiterUnreachable("test:", "it is away")
        return Claim(self.winner, 3)


def watched(qemu: FakeQemu, arbiter: Arbiter | None = None, **more: Any) -> list[Happened]:
    """All that happens, to the end."""
    told: list[Happened] = []
    watch = PrimaryWatch(qemu, arbiter or Granting(), GENERATION, told.append, claim_retry=0.0, **more)
    last = asyncio.run(watch.run())
    assert last == told[-1]
    return told


class TestMachine:
    def test_every_state_is_reached_and_only_the_last_ones_are_left_by_nothing(self) -> None:
        assert {row.dest for row in ROWS} == set(S)
        assert {row.source for row in ROWS} == set(S) - set(OVER)
        assert len({(row.source, row.trigger) for row in ROWS}) == len(ROWS)

    def test_nothing_runs_alone_but_behind_a_claim_that_was_won(self) -> None:
        assert {row.source for row in ROWS if row.dest is S.ALONE} == {S.FREEING}
        assert {row.trigger for row in ROWS if row.dest is S.FREEING and row.source is not S.FREEING} == {
            On.WON
        }

    def test_whoever_leaves_has_ended_in_every_state(self) -> None:
        for state in set(S) - set(OVER):
            made = WatchMachine()
            made.set_state(state)
            made.trigger(On.LEAVE)
            assert made.state is S.ENDED


class TestWatch:
    def test_what_happens_when_the_standby_is_lost(self) -> None:
        qemu = FakeQemu(["STOP", "RESUME", "COLO_EXIT"], running=True)
        arbiter = Granting()
        arbiter.qemu = qemu
        told = watched(qemu, arbiter, gates=["gate"])
        assert [h.state for h in told] == [S.WATCHING, S.CLAIMING, S.FREEING, S.ALONE]
        assert told[-1].token == 3
        assert arbiter.while_claimed == [False]
        assert qemu.asked == ["stop", "x-colo-lost-heartbeat", "cont", "object-del"]
        assert (qemu.running, qemu.gates) == (True, {})

    def test_a_gate_that_nobody_is_behind_is_opened_while_the_vm_is_not_replicated(self) -> None:
        qemu = FakeQemu([], running=True)
        qemu.behind, qemu.replicates = [True, True, False], [False] * 4 + [True]
        told = watched(qemu, gates=["gate"], deadline=0.0)
        assert [(h.state, h.on) for h in told[:2]] == [(S.WAITING, On.GATE_SHUT), (S.WATCHING, On.COLO)]
        assert "nobody was at gate any more" in told[0].why
        assert qemu.asked[0] == "object-del"

    def test_a_gate_that_nobody_is_behind_is_a_loss_while_it_is(self) -> None:
        qemu = FakeQemu([], running=True)
        qemu.behind = [False]
        told = watched(qemu, gates=["gate"], poll=0.0)
        assert [h.on for h in told] == [On.COLO, On.GATE_SHUT, On.WON, On.RUNS]
        assert qemu.asked == ["stop", "x-colo-lost-heartbeat", "cont", "object-del"]

    def test_a_gate_that_is_not_there_holds_nothing(self) -> None:
        assert watched(FakeQemu(), gates=["another"])[-1].state is S.ALONE

    @pytest.mark.parametrize("running", [False, True])
    def test_a_claim_that_is_lost_leaves_the_guest_stopped_and_its_gates_shut(self, running: bool) -> None:
        qemu = FakeQemu(running=running)
        last = watched(qemu, Granting(Side.SECONDARY), gates=["gate"])[-1]
        assert (last.state, last.token) == (S.STOPPED, 0)
        assert "the secondary has claimed generation 7" in last.why
        assert (qemu.running, qemu.asked) == (False, ["stop"] if running else [])
        assert qemu.gates

    def test_without_an_answer_the_guest_stays_stopped(self) -> None:
        arbiter = Granting(silent=3)
        arbiter.qemu = qemu = FakeQemu(running=True)
        told = watched(qemu, arbiter)
        assert [h.on for h in told].count(On.UNANSWERED) == 3
        assert "it is away" in told[2].why
        assert arbiter.while_claimed == [False] * 4
        assert qemu.running

    @pytest.mark.parametrize("command", ["stop", "x-colo-lost-heartbeat", "cont", "object-del"])
    def test_what_qemu_refuses_is_asked_again(self, command: str) -> None:
        qemu = FakeQemu(running=True)
        qemu.refuses = {command: 2}
        told = watched(qemu, gates=["gate"])
        assert [h.why for h in told].count(f"{command}: not now") == 2
        assert (told[-1].state, qemu.running, qemu.gates) == (S.ALONE, True, {})

    @pytest.mark.parametrize("running", [False, True])
    def test_silence_is_a_loss_too(self, running: bool) -> None:
        told = watched(FakeQemu([], running=running), deadline=0.0)
        assert told[1].on is On.LATE
        assert ("no round has begun" in told[1].why) is running

    def test_a_qemu_that_has_gone(self) -> None:
        last = watched(FakeQemu(["gone"]))[-1]
        assert (last.state, last.on) == (S.ENDED, On.GONE)

    def test_whoever_leaves_changes_nothing(self) -> None:
        qemu = FakeQemu([], running=True)

        async def left() -> Happened:
            task = asyncio.create_task(
                PrimaryWatch(qemu, Granting(), GENERATION, lambda _: None, deadline=1e9).run()
            )
            await asyncio.sleep(0.01)
            task.cancel()
            return await task

        assert asyncio.run(left()).on is On.LEAVE
        assert not qemu.asked


# -- with a real QEMU


@contextlib.contextmanager
def watched_vm(
    folder: Path, *options: str, delay: int = 5
) -> Iterator[tuple[Qemu, StandbyProcess, WatchProcess]]:
    """A VM that is replicated, its standby, and its watch."""
    arbiter = f"sqlite:{folder}/claim.db"
    extra = (*counting_guest(folder), "-qmp", f"unix:{folder}/w,server=on,wait=off")
    with (
        StandbyProcess(folder, "--arbiter", arbiter) as standby,
        Qemu(folder, "p", memory=16, extra=extra) as primary,
    ):
        claimed = ("--arbiter", arbiter, "--generation", str(standby.generation))
        with WatchProcess(folder, *claimed, *options) as watch:
            primary.replicate(standby.uri, delay)
            watch.comes_to("watching")
            yield primary, standby, watch
    assert not watch.said


def runs_alone(primary: Qemu) -> None:
    assert primary.qmp("query-migrate")["status"] == "completed"
    assert primary.qmp("query-status")["status"] == "running"
    primary.qmp("stop")
    runs_on(primary, count(primary.read))


@needs_kvm
class TestProcess:
    @each_version
    @pytest.mark.parametrize("_n", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 12))])
    def test_a_standby_is_killed_at_any_moment_and_the_vm_runs(self, tmp_path: Path, _n: int) -> None:
        with watched_vm(tmp_path) as (primary, standby, watch):
            time.sleep(random.uniform(0, 0.2))
            standby.kill()
            assert watch.wait() == 0
            assert watch.told[-1]["state"] == "alone"
            runs_alone(primary)

    def test_a_standby_that_hangs_has_lost_when_it_wakes(self, tmp_path: Path) -> None:
        with watched_vm(tmp_path, "--deadline", "1") as (primary, standby, watch):
            standby.process.send_signal(signal.SIGSTOP)
            assert watch.wait() == 0
            assert "late" in [told["on"] for told in watch.told]
            runs_alone(primary)
            standby.process.send_signal(signal.SIGCONT)
            assert standby.wait() == 1
            assert standby.objects[-1]["won"] is False

    def test_a_vm_that_runs_elsewhere_does_not_run_here(self, tmp_path: Path) -> None:
        with watched_vm(tmp_path) as (primary, standby, watch):
            arbiter = SqliteArbiter(tmp_path / "claim.db")
            assert arbiter.claim(standby.generation, Side.SECONDARY).winner is Side.SECONDARY
            standby.kill()
            assert watch.wait() == 1
            assert watch.told[-1]["state"] == "stopped"
            assert not primary.qmp("query-status")["running"]

    def test_its_gates_are_opened(self, tmp_path: Path) -> None:
        extra = ("--gate-object", "gate", "--gate-object", "another")
        with watched_vm(tmp_path, *extra) as (primary, standby, watch):
            primary.qmp("object-add", qom_type="iothread", id="gate")  # any object will do
            standby.kill()
            assert watch.wait() == 0
            assert "gate" not in [o["name"] for o in primary.qmp("qom-list", path="/objects")]


@each_version
@needs_kvm
def test_a_standby_that_dies_behind_the_first_copy(tmp_path: Path) -> None:
    """Up to 10.0 the guest stands still then; from 11 on the migration fails, and nothing is to be done."""
    extra = (*counting_guest(tmp_path), "-qmp", f"unix:{tmp_path}/w,server=on,wait=off")
    with (
        Qemu(tmp_path, "p", memory=16, extra=extra) as primary,
        socket.create_server(("127.0.0.1", 0)) as door,
    ):
        primary.enable_colo(5)
        primary.migrate(f"tcp:127.0.0.1:{door.getsockname()[1]}")
        link, _ = door.accept()
        with link:
            first_copy = IncomingVm(None, limit=1 << 30).initial
            while not first_copy.complete:
                first_copy.feed(link.recv(1 << 16))
        if qemus.current().number < (11,):
            primary.wait_event("COLO_EXIT")
            assert not primary.qmp("query-status")["running"]
            assert WatchProcess(tmp_path, "--no-arbiter", "--deadline", "0.1").wait() == 0
            runs_alone(primary)
        else:
            primary.until(lambda: primary.qmp("query-migrate")["status"] == "failed" or None, "its failure")
            assert primary.qmp("query-status")["status"] == "running"


@needs_kvm
class TestEnds:
    def test_a_qemu_that_ends_is_none_of_its_business(self, tmp_path: Path) -> None:
        with watched_vm(tmp_path) as (primary, standby, watch):
            primary.kill()
            assert watch.wait() == 1
            assert (watch.told[-1]["state"], watch.told[-1]["on"]) == ("ended", "gone")
            assert standby.wait() == 0

    def test_sigterm_leaves_the_vm_as_it_is(self, tmp_path: Path) -> None:
        with watched_vm(tmp_path) as (primary, _standby, watch):
            watch.process.send_signal(signal.SIGTERM)
            assert watch.wait() == 0
            assert watch.told[-1]["on"] == "leave"
            rounds = primary.resumes
            primary.until(lambda: primary.resumes > rounds or None, "another round")


def test_nobody_at_that_address(tmp_path: Path) -> None:
    watch = WatchProcess(tmp_path, "--no-arbiter")
    assert watch.wait() == 1
    assert "no QMP at" in watch.said


def test_a_qemu_that_tells_of_its_guest_before_it_greets_is_asked_again(tmp_path: Path) -> None:
    event = b'{"timestamp": {"seconds": 1, "microseconds": 1}, "event": "STOP"}\n'
    version = b'{"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}'
    greeting = b'{"QMP": {"version": ' + version + b', "capabilities": []}}\n'
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/w")
        listener.listen()
        listener.settimeout(PATIENCE)
        watch = WatchProcess(tmp_path, "--no-arbiter")
        with listener.accept()[0] as first:
            first.sendall(event + greeting)
            with listener.accept()[0] as second:
                second.sendall(greeting)
                assert b"qmp_capabilities" in second.recv(1000)
    assert watch.wait() == 1  # it has hung up


def test_a_claim_needs_its_generation() -> None:
    done = subprocess.run(
        [*COMMAND, "watch-primary", "--qmp", "unix:x", "--arbiter", "sqlite:x"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "--generation N" in done.stderr) == (2, True)
