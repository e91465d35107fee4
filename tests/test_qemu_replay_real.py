"""A recorded and a stored VM are played to real QEMU Secondaries, in order and not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import qemus
from click.testing import CliRunner
from qemu import Qemu, each_version, needs_kvm
from qemu_recording import MEMORY, REGION, SIZE, Recording, record

from colo_fsm.cli.app import cli
from colo_fsm.colo import COLOMessage, State
from colo_fsm.qemu.checkpoint import VmCheckpoint
from colo_fsm.qemu.watch.replay import End, How, Outcome, Recorded, Replay, Source, Stored
from colo_fsm.replica import Address, DirectoryStore

M = COLOMessage
ROUNDS = 5
STATES = (State.REQUESTED, State.REPLIED, State.SENDING, State.SIZED, State.RECEIVED, State.LOADED)

pytestmark = needs_kvm


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, qemu_version: qemus.Version) -> Recording:
    return record(tmp_path_factory.mktemp("pair"), ROUNDS)


@contextmanager
def secondary(folder: Path) -> Iterator[Qemu]:
    with Qemu(folder, "replayed", incoming="tcp:127.0.0.1:0", memory=MEMORY) as qemu:
        qemu.enable_colo()
        yield qemu


def play(source: Source, qemu: Qemu, rounds: int, end: End = End()) -> Outcome:  # noqa: B008
    """Play it; a QEMU that was left alone then reports an error."""
    outcome = Replay(source, Address.parse(qemu.uri).connect(), rounds, end, silence=0.2).run()
    event = qemu.wait_event("COLO_EXIT")
    assert event["data"] == {"mode": "secondary", "reason": "error"}
    return outcome


def test_recorded_rounds_are_loaded(recording: Recording, tmp_path: Path) -> None:
    """The real Secondary has, in the end, the memory that the recorded one had."""
    with secondary(tmp_path) as qemu:
        outcome = play(Recorded(recording.capture), qemu, ROUNDS)
        assert outcome == Outcome(True, ROUNDS, True, (), State.ENDED, None)
        qemu.lost_heartbeat()
        assert qemu.read(REGION, SIZE) == recording.survivor


@pytest.mark.parametrize("rounds", [0, 3])
def test_a_stored_checkpoint_becomes_a_hot_standby(recording: Recording, rounds: int, tmp_path: Path) -> None:
    with DirectoryStore(recording.store) as store, secondary(tmp_path) as qemu:
        assert store.newest is not None
        assert store.newest.number == ROUNDS
        outcome = play(Stored(VmCheckpoint.of(store.newest)), qemu, rounds)
        assert outcome == Outcome(True, rounds, True, (), State.ENDED, None)
        qemu.lost_heartbeat()
        assert qemu.read(REGION, SIZE) == recording.survivor


@each_version
@pytest.mark.parametrize("kind", ["--return-path", "--no-return-path"])
def test_a_checkpoint_goes_to_a_qemu_of_either_kind(recording: Recording, kind: str, tmp_path: Path) -> None:
    """Whatever its Primary was; one of the other kind refuses it, or aborts, and the option is named."""
    fits = (qemus.current().number >= (11,)) is (kind == "--return-path")
    with secondary(tmp_path) as qemu:
        result = CliRunner().invoke(cli, ["replay", str(recording.store), "--connect", qemu.uri, kind])
    assert (result.exit_code == 0) is fits, result.output
    assert ("a QEMU from 11 on needs --return-path" in result.output) is not fits


def test_more_rounds_than_were_recorded(recording: Recording, tmp_path: Path) -> None:
    with secondary(tmp_path) as qemu:
        outcome = play(Recorded(recording.capture), qemu, ROUNDS + 3)
        assert (outcome.rounds, outcome.ended) == (ROUNDS + 3, True)
        qemu.lost_heartbeat()
        assert qemu.read(REGION, SIZE) == recording.survivor


@pytest.mark.parametrize("at", STATES)
def test_an_illegal_message_ends_colo(recording: Recording, at: State, tmp_path: Path) -> None:
    """At each sync point: the Secondary says no more than it owes, and leaves COLO with an error."""
    owed = {
        State.REQUESTED: (M.CHECKPOINT_REPLY,),
        State.SIZED: (M.VMSTATE_RECEIVED, M.VMSTATE_LOADED),
        State.RECEIVED: (M.VMSTATE_LOADED,),
    }
    for illegal in (M.CHECKPOINT_REPLY, 77):
        with secondary(tmp_path) as qemu:
            outcome = play(Recorded(recording.capture), qemu, 1, End(How.ILLEGAL, at, illegal))
            assert (outcome.ready, outcome.ended) == (True, True)
            # what it owes may have come before the message that does not belong there
            assert outcome.answers == owed.get(at, ())[len(owed.get(at, ())) - len(outcome.answers) :]
            said = qemu.log.read_text()
            assert "COLO message" in said or "Invalid message" in said


@pytest.mark.parametrize("at", STATES)
def test_a_broken_link_leaves_a_whole_checkpoint(recording: Recording, at: State, tmp_path: Path) -> None:
    """Broken in round 2, which changes much: the Secondary runs round 1, or 2 if all of it had arrived."""
    with secondary(tmp_path) as qemu:
        outcome = play(Recorded(recording.capture), qemu, 1, End(How.BREAK, at))
        assert (outcome.ready, outcome.ended) == (True, True)
        assert outcome.rounds == 1
        qemu.lost_heartbeat()
        found = qemu.read(REGION, SIZE)
    with secondary(tmp_path) as qemu:
        play(Recorded(recording.capture), qemu, 2 if at is State.RECEIVED else 1)
        qemu.lost_heartbeat()
        assert found == qemu.read(REGION, SIZE)


def test_command_line(recording: Recording, tmp_path: Path) -> None:
    def replay(directory: Path, *arguments: str) -> tuple[int, list[str]]:
        with secondary(tmp_path) as qemu:
            result = CliRunner().invoke(cli, ["replay", str(directory), "--connect", qemu.uri, *arguments])
            qemu.wait_event("COLO_EXIT")
            return result.exit_code, result.output.splitlines()

    assert replay(recording.path) == (0, [f"ready, {ROUNDS} rounds, stopped between two rounds"])
    assert replay(recording.store) == (0, ["ready, 1 round, stopped between two rounds"])
    assert replay(recording.path, "--rounds", "2", "--end", "break") == (
        0,
        ["ready, 2 rounds, closed the link in 'sending'"],
    )
    status, said = replay(recording.path, "--rounds", "0", "--end", "illegal:9", "--at", "replied", "-v")
    assert status == 0
    assert said == [
        "received checkpoint-ready",
        "sent checkpoint-request",
        "received checkpoint-reply",
        "sent message 9",
        "ready, 0 rounds, sent message 9 in 'replied'; the Secondary then said nothing",
    ]
