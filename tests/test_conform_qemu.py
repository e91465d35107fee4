"""The target `qemu`: real QEMUs of each version as either side, held against the cases of COLO."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
import qemus
from qemu import each_version, needs_kvm, needs_qemu
from qemu_lines import PATIENCE

from colo_fsm.colo import COLOMessage
from colo_fsm.conform.case import Case, Result, Verdict
from colo_fsm.conform.expected import Expected, shipped
from colo_fsm.conform.link import CannotTest, Link, Target
from colo_fsm.conform.plan import SUITES, plan
from colo_fsm.conform.play import play, play_all
from colo_fsm.conform.run import Outcome
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets import qemu as module
from colo_fsm.conform.targets.qemu import QemuLink, QemuTarget
from colo_fsm.conform.voice import Voice
from colo_fsm.fsm import CompleteTable, Side
from colo_fsm.qemu.watch.shadow import TABLES
from colo_fsm.stream import Buffer

M = COLOMessage
SAMPLE = {
    Side.PRIMARY: ("1.1", "2.4", "4.2", "4.4", "7.3", "8.1", "9.1"),
    Side.SECONDARY: ("1.3", "3.2", "4.6", "5.3", "5.7", "7.6", "8.2"),
}
"""Cases by hand: of each kind one, and with each known deviation."""
DEVIATE = {
    Side.PRIMARY: {"colo/primary/4.2", "colo/primary/4.4", "colo/primary/7.3"},
    Side.SECONDARY: {"colo/secondary/5.7"},
}


def target(side: Side, binary: str | None = None) -> QemuTarget:
    """QEMUs of the version that runs."""
    return QemuTarget(binary or qemus.current().binary, TABLES[side], PATIENCE)


def pace() -> Pace:
    """An answer that has to come takes milliseconds, but this machine may be busy."""
    return Pace(PATIENCE / 4)


def cases(side: Side, *numbers: str) -> tuple[Case, ...]:
    return plan(side).cases(only=[f"colo/{side}/{number}" for number in numbers])


def found(target: Target, cases: Iterable[Case]) -> dict[str, Result]:
    """What came of each, two at a time."""
    return {result.case.id: result for result in play_all(cases, target, pace(), jobs=2)}


def verdicts(results: dict[str, Result]) -> dict[str, tuple[Verdict, str]]:
    """What two runs must have in common: what each case came to, and where it went wrong."""
    return {
        id: (each.verdict, "" if each.deviation is None else f"{each.deviation.step}: {each.deviation}")
        for id, each in results.items()
    }


def known() -> Expected:
    """What ships of this version, or of the one that was there when this was written: sid's moves on."""
    return shipped(qemus.current().expected)


@needs_kvm
@each_version
@pytest.mark.parametrize("side", Side)
def test_it_does_what_is_known_of_it_and_does_so_again(side: Side) -> None:
    with target(side) as it:
        assert (it.name, it.version) == (f"QEMU {qemus.current().found}, {side}", qemus.current().name)
        first = found(it, cases(side, *SAMPLE[side]))
        assert verdicts(found(it, cases(side, *SAMPLE[side]))) == verdicts(first)
    judged = [known().judged(result) for result in first.values()]
    assert [each for each in judged if not each.outcome.ok] == []
    assert {each.result.case.id for each in judged if each.outcome is Outcome.EXPECTED} == DEVIATE[side]


@pytest.mark.soak
@needs_kvm
@pytest.mark.parametrize("side", Side)
def test_all_suites_twice(side: Side) -> None:
    """What ships names all deviations, and no others."""
    every = plan(side).cases(SUITES)
    with target(side) as it:
        runs = [found(it, every) for _ in range(2)]
    assert verdicts(runs[0]) == verdicts(runs[1])
    for run in runs:
        judged = [known().judged(result) for result in run.values()]
        assert [each for each in judged if not each.outcome.ok] == []
        assert list(known().gone(judged)) == []


# -- what a report can tell


@needs_kvm
def test_the_exchange_says_how_it_has_given_the_pair_up() -> None:
    with target(Side.SECONDARY) as it:
        (wrong,) = found(it, cases(Side.SECONDARY, "3.2")).values()
        (crash,) = found(it, cases(Side.SECONDARY, "5.7")).values()
    *_, gives_up, _ = wrong.exchange
    assert gives_up.text.endswith("COLO_EXIT error: Unexpected COLO message 4, expected 3")
    assert wrong.verdict is Verdict.PASS
    assert crash.verdict is Verdict.FAIL
    assert str(crash.deviation).partition(", got a crash: ")[2] in ("SIGTRAP", "SIGABRT")
    assert "failed to allocate 4611686018427387904 bytes" in crash.evidence


@needs_kvm
def test_a_wrong_message_drops_a_round_of_the_primary_which_says_so() -> None:
    """The finding itself: it goes on, and what it has logged is told."""
    with target(Side.PRIMARY) as it:
        (result,) = found(it, cases(Side.PRIMARY, "4.2")).values()
    assert str(result.deviation) == "expected gives up or nothing, got checkpoint-request"
    assert result.evidence == "Unexpected COLO message 6, expected 5"


# -- a fault that is planted between it and us


class Swapping(Link):
    """Passes on what a Secondary says, but one message as another one."""

    def __init__(self, link: Link, one: M, other: M) -> None:
        self._link = link
        self._one, self._other = (message.to_bytes(4, "big") for message in (one, other))

    def send(self, data: Iterable[Buffer]) -> None:
        self._link.send(data)

    def receive(self, timeout: float) -> bytes | None:
        data = self._link.receive(timeout)
        return data and b"".join(map(self._passed, (data[at : at + 4] for at in range(0, len(data), 4))))

    def _passed(self, word: bytes) -> bytes:
        return self._other if word == self._one else word

    def end(self) -> None:
        self._link.end()

    def evidence(self) -> str:
        return self._link.evidence()


@attrs.frozen
class Relayed:
    """The same target with that in between."""

    it: QemuTarget
    one: M
    other: M
    name = "relayed"

    @property
    def table(self) -> CompleteTable:
        return self.it.table

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        with self.it.fresh() as (link, voice):
            yield Swapping(link, self.one, self.other), voice


@needs_kvm
@pytest.mark.parametrize(
    ("one", "other", "finds"),
    [
        (M.VMSTATE_LOADED, M.VMSTATE_RECEIVED, {"6.1": "vmstate-received, vmstate-received"}),
        (M.CHECKPOINT_REPLY, M.VMSTATE_SEND, {"2.1": "vmstate-send", "6.1": "vmstate-send"}),
    ],
    ids=str,
)
def test_one_message_in_place_of_another_is_found(one: M, other: M, finds: dict[str, str]) -> None:
    with target(Side.SECONDARY) as it:
        results = found(Relayed(it, one, other), cases(Side.SECONDARY, "1.1", "2.1", "6.1"))
    got = {id.rpartition("/")[2]: each.deviation.got for id, each in results.items() if each.deviation}
    assert got == finds


# -- what cannot be tested


@needs_qemu
@pytest.mark.parametrize(
    ("says", "why"),
    [
        (None, "there is no program .*/qemu that can be started"),
        ("exit 3", "qemu: ended with status 3 before it has answered qmp_capabilities$"),
        ("echo no KVM here >&2; exit 1", "ended with status 1 before .*: no KVM here$"),
        ("kill -SEGV $$", "ended by SIGSEGV before it has answered qmp_capabilities$"),
        ("exec sleep 600", r"qemu: does not answer qmp_capabilities in 0\.2 s$"),
        ('exec {binary} -only-migratable "$@" -device pvpanic,no=1', "ended with status 1 .*no"),
    ],
)
@pytest.mark.parametrize("side", Side)
def test_what_is_no_qemu_of_use_is_said_in_a_line(
    says: str | None, why: str, side: Side, tmp_path: Path
) -> None:
    binary = tmp_path / "qemu"
    if says is not None:
        binary.write_text(f"#!/bin/sh\n{says.format(binary=qemus.current().binary)}\n")
        binary.chmod(0o755)
    patience = 0.2 if why.endswith(r"0\.2 s$") else PATIENCE
    made = QemuTarget(str(binary), TABLES[side], patience)
    with pytest.raises(CannotTest, match=why) as raised, made as it, it.fresh():
        pass
    assert "\n" not in str(raised.value)


@needs_qemu
@pytest.mark.parametrize("side", Side)
def test_a_folder_in_which_no_socket_has_room(
    side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(CannotTest, match="too long") as raised, target(side) as it, it.fresh():
        pass
    assert "\n" not in str(raised.value)


# -- processes


def pid(link: Link) -> int:
    assert isinstance(link, QemuLink)
    return link._process.pid


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@needs_qemu
@pytest.mark.parametrize("side", Side)
def test_each_case_has_a_qemu_of_its_own_which_is_gone_behind_it(side: Side) -> None:
    pids = []
    with target(side) as it:
        for _ in range(2):
            with it.fresh() as (link, _):
                pids.append(pid(link))
        with pytest.raises(ZeroDivisionError), it.fresh() as (link, _):
            pids.append(pid(link) // (link is None))
    assert len(set(pids)) == 2
    assert all(map(gone, pids))
    with it.fresh() as (link, _):
        last = pid(link)
    assert gone(last)


@needs_qemu
def test_one_that_is_killed_has_given_the_pair_up() -> None:
    with target(Side.SECONDARY) as it, it.fresh() as (link, _):
        os.kill(pid(link), signal.SIGKILL)
        assert link.receive(PATIENCE) == b""
        assert link.crash() == "SIGKILL"
        assert link.evidence() == "ended by SIGKILL"


@needs_qemu
def test_one_that_is_late_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not run for a while, as on a busy machine: the time counts from when it has read."""
    monkeypatch.setattr(module, "LAG", PATIENCE)
    with target(Side.SECONDARY) as it, it.fresh() as (link, voice):
        link.send(voice.opening())
        while M.CHECKPOINT_READY not in voice.feed(link.receive(PATIENCE) or b""):
            pass
        os.kill(pid(link), signal.SIGSTOP)
        link.send([voice.bare(M.CHECKPOINT_REQUEST)])
        later = threading.Timer(1.5, os.kill, (pid(link), signal.SIGCONT))
        later.start()
        try:
            assert list(voice.feed(link.receive(1.0) or b"")) == [M.CHECKPOINT_REPLY]
            assert link.receive(0.01) is None
        finally:
            later.join()


@needs_qemu
def test_without_kvm_it_is_tcg_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KVM", "/nonexistent")
    with target(Side.SECONDARY) as it:
        assert it.name == f"QEMU {qemus.current().found} under TCG, secondary"
        (case,) = cases(Side.SECONDARY, "6.1")
        assert play(case, it, pace()).verdict is Verdict.PASS
