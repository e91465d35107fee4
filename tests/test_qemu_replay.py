"""A recorded and a stored VM are played to real QEMU Secondaries, in order and not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from qemu import Qemu, needs_kvm
from qemu_recording import MEMORY, REGION, SIZE, Recording, record

from colo_fsm.cli.app import cli
from colo_fsm.colo import COLOMessage, State
from colo_fsm.qemu.checkpoint import VmCheckpoint
from colo_fsm.qemu.replay import End, How, Outcome, Recorded, Replay, Source, Stored
from colo_fsm.replica import Address, DirectoryStore

M = COLOMessage
ROUNDS = 5
STATES = (State.REQUESTED, State.REPLIED, State.SENDING, State.SIZED, State.RECEIVED, State.LOADED)

pytestmark = needs_kvm


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
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


class Answers:
    """A Secondary of ours that answers with what it is told to."""

    def __init__(self, *answers: int) -> None:
        self.answers = b"".join(a.to_bytes(4, "big") for a in answers)
        self.link, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._end:
            self._end.sendall(self.answers)
            while self._end.recv(1 << 18):
                pass

    def join(self) -> None:
        self._thread.join()


def test_a_secondary_that_misbehaves(recording: Recording) -> None:
    peer = Answers(M.CHECKPOINT_READY, M.VMSTATE_LOADED)
    outcome = Replay(Recorded(recording.capture), peer.link, 1).run()
    peer.join()
    assert (outcome.ready, outcome.ended, outcome.state) == (True, False, State.FAILOVER)
    assert outcome.error == "Unexpected COLO message 6, expected 2"


def test_a_secondary_that_says_nothing(recording: Recording) -> None:
    peer = Answers(M.CHECKPOINT_READY)
    outcome = Replay(Recorded(recording.capture), peer.link, 1, deadline=0.2).run()
    peer.join()
    assert (outcome.ready, outcome.ended) == (True, False)
    assert outcome.error == "Can't receive COLO message: Connection timed out"


def test_a_secondary_that_is_gone(recording: Recording) -> None:
    link, end = socket.socketpair()
    end.close()
    outcome = Replay(Recorded(recording.capture), link, 1).run()
    assert (outcome.ready, outcome.ended) == (False, False)
    assert outcome.error == "Can't send COLO message: Broken pipe"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--end", "perhaps"], 2, "write stop, break, or illegal:N"),
        (["--end", "illegal:4294967296"], 2, "write stop, break, or illegal:N"),
        (["--at", "sized"], 2, "--at STATE goes with"),
        (["--end", "break", "--at", "failover"], 2, "'failover' is not one of"),
        (["--connect", "somewhere"], 2, "'somewhere' is no address"),
        (["--connect", "unix:/nowhere"], 1, "nobody listens at unix:/nowhere"),
    ],
)
def test_bad_usage_is_one_line(
    recording: Recording, arguments: list[str], status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colo_fsm.cli.watch.CONNECT_TIMEOUT", 0.0)
    result = CliRunner().invoke(cli, ["replay", str(recording.path), "--connect", "tcp:h:1", *arguments])
    assert result.exit_code == status
    assert said in result.output.splitlines()[-1]


def test_what_cannot_be_played_is_one_line(recording: Recording, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    DirectoryStore(empty).close()
    cut = tmp_path / "cut"
    cut.mkdir()
    for name in ("p2s", "s2p", "index"):
        (cut / name).write_bytes((recording.path / name).read_bytes()[:100_000])
    for path, said in ((tmp_path, "neither"), (empty, "no checkpoint yet"), (cut, "no whole initial state")):
        result = CliRunner().invoke(cli, ["replay", str(path), "--connect", "tcp:127.0.0.1:1"])
        assert result.exit_code == 1
        assert said in result.output
        assert result.output.count("\n") == 1
