"""A VM is played to Secondaries of ours, in order and not. `test_qemu_replay_real` has QEMUs."""

from __future__ import annotations

import gc
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from standby_process import LOADED, READY, RECEIVED, REPLY, REQUEST, SEND, SIZE, initial, live, state
from vm_link import a_round, number_in, recorded
from vm_stream import command

from colo_fsm.arbiter import Unarbitrated
from colo_fsm.cli.app import cli
from colo_fsm.colo import COLOMessage, SecondarySession, State
from colo_fsm.qemu import Held, StandbyReplica, VmCheckpoint
from colo_fsm.qemu.watch.capture import Capture
from colo_fsm.qemu.watch.replay import End, How, Outcome, Recorded, Replay, Source, Stored
from colo_fsm.replica import DirectoryStore, MemoryStore, Options, Store, link_pair
from colo_fsm.replica.blocking import Pair
from colo_fsm.stream import pong, shut

M = COLOMessage
ROUNDS = 3
STATES = (State.REQUESTED, State.REPLIED, State.SENDING, State.SIZED, State.RECEIVED, State.LOADED)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Capture:
    return recorded(tmp_path_factory.mktemp("made") / "capture", ROUNDS)


class Peer:
    """The other end of a link: says all this at once, and takes what it gets until the link ends."""

    def __init__(self, *answers: bytes) -> None:
        self.link, self._end = socket.socketpair()
        self.got = b""
        self._end.sendall(b"".join(answers))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._end:
            while data := self._end.recv(1 << 18):
                self.got += data

    def received(self) -> bytes:
        """All that was sent, up to the end."""
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.got


ALL = (READY, *(REPLY, RECEIVED, LOADED) * 4)
"""What a Secondary says in four rounds."""


def to_standby(source: Source, rounds: int, store: Store, end: End = End()) -> Outcome:  # noqa: B008
    """Play it to a standby with this store."""
    ours, theirs = link_pair()
    replica = StandbyReplica(
        SecondarySession(), Held(), Unarbitrated(), Options(),
        store=store, generation=7, disks_elsewhere=False, memory_limit=1 << 20,
    )  # fmt: skip
    pair = Pair(replica, theirs)
    pair.on_transition(lambda _: pair.request_leave(), State.ALONE)
    with pair:
        outcome = Replay(source, ours, rounds, end).run()
        pair.wait(20)
    return outcome


class TestInOrder:
    @pytest.mark.parametrize("rounds", range(ROUNDS + 1))
    def test_recorded_rounds_are_stored(self, capture: Capture, rounds: int) -> None:
        with MemoryStore() as store:
            source = Recorded(capture)
            assert source.rounds == ROUNDS
            outcome = to_standby(source, rounds, store)
            assert outcome == Outcome(True, rounds, True, (), State.ENDED, None)
            assert number_in(store) == rounds

    def test_past_the_recorded_ones_come_rounds_in_which_nothing_changes(self, capture: Capture) -> None:
        peer = Peer(*ALL)
        assert Replay(Recorded(capture), peer.link, ROUNDS + 1).run().rounds == ROUNDS + 1
        played = b"".join(a_round(n) for n in range(1, ROUNDS + 1))
        nothing = REQUEST + SEND + b"\0" + SIZE + state(ROUNDS)
        assert peer.received() == initial() + played + nothing

    @pytest.mark.parametrize("rounds", [0, 2])
    def test_a_recording_of_the_initial_state_alone(self, rounds: int, tmp_path: Path) -> None:
        peer = Peer(*ALL)
        assert Replay(Recorded(recorded(tmp_path / "c", 0)), peer.link, rounds).run().ended
        nothing = REQUEST + SEND + b"\0" + SIZE + state(0)
        assert peer.received() == initial() + nothing * rounds

    @pytest.mark.parametrize("return_path", [True, False])
    def test_a_checkpoint(self, capture: Capture, return_path: bool) -> None:
        with MemoryStore() as store, MemoryStore() as before, MemoryStore() as again:
            to_standby(Recorded(capture), ROUNDS, before)
            assert before.newest is not None
            to_standby(Stored(VmCheckpoint.of(before.newest), return_path), 3, store)
            assert store.newest is not None
            source = Stored(VmCheckpoint.of(store.newest))  # as its Primary
            assert source.rounds == 0
            sent = b"".join(map(bytes, source.initial()))
            assert (command(1) in sent, command(8) in sent) == (return_path, not return_path)
            assert to_standby(source, 2, again) == Outcome(True, 2, True, (), State.ENDED, None)
            assert again.newest is not None
            assert (again.newest.number, again.newest.meta) == (2, store.newest.meta)
            assert {n: bytes(b) for n, b in again.newest.blocks.items()} == {
                n: bytes(b) for n, b in store.newest.blocks.items()
            }
            assert again.newest.device == store.newest.device

    def test_every_message_is_told(self, capture: Capture) -> None:
        told: list[tuple[bool, int]] = []
        peer = Peer(*ALL)
        Replay(Recorded(capture), peer.link, 1, on_message=lambda *what: told.append(what)).run()
        sent = [M.CHECKPOINT_REQUEST, M.VMSTATE_SEND, M.VMSTATE_SIZE]
        assert [m for was_sent, m in told if was_sent] == sent
        assert [m for was_sent, m in told if not was_sent][:4] == [
            M.CHECKPOINT_READY, M.CHECKPOINT_REPLY, M.VMSTATE_RECEIVED, M.VMSTATE_LOADED
        ]  # fmt: skip

    def test_what_belongs_to_the_return_path_is_no_message(self, capture: Capture) -> None:
        peer = Peer(pong(1), shut(), READY, pong(2), REPLY, RECEIVED, LOADED)
        outcome = Replay(Recorded(capture), peer.link, 1).run()
        assert (outcome.rounds, outcome.ended) == (1, True)
        peer.received()


BEFORE = {
    State.REQUESTED: REQUEST,
    State.REPLIED: REQUEST,
    State.SENDING: REQUEST + SEND + live(2),
    State.SIZED: a_round(2),
    State.RECEIVED: a_round(2),
    State.LOADED: b"",
}
"""What has been sent of round 2 where it is broken off, in each state."""


class TestEnds:
    @pytest.mark.parametrize("at", STATES)
    def test_a_break_leaves_a_whole_checkpoint(self, capture: Capture, at: State) -> None:
        with MemoryStore() as store:
            outcome = to_standby(Recorded(capture), 1, store, End(How.BREAK, at))
            assert outcome == Outcome(True, 1, True, (), State.FAILOVER, None)
            assert number_in(store) == (2 if at is State.RECEIVED else 1)

    @pytest.mark.parametrize("at", STATES)
    def test_a_break_inside_a_state_leaves_its_last_byte_out(self, capture: Capture, at: State) -> None:
        peer = Peer(*ALL)
        outcome = Replay(Recorded(capture), peer.link, 1, End(How.BREAK, at)).run()
        assert (outcome.ended, outcome.rounds) == (True, 1)
        got = peer.received()[len(initial()) + len(a_round(1)) :]
        cut = at in (State.SENDING, State.SIZED)
        assert got == (BEFORE[at][:-1] if cut else BEFORE[at])

    @pytest.mark.parametrize("at", STATES)
    def test_an_illegal_message_comes_there(self, capture: Capture, at: State) -> None:
        told: list[int] = []
        peer = Peer(*ALL)
        replay = Replay(
            Recorded(capture), peer.link, 1, End(How.ILLEGAL, at, 77), silence=0.01,
            on_message=lambda sent, message: told.append(message) if sent else None,
        )  # fmt: skip
        outcome = replay.run()
        assert (outcome.ended, outcome.error, outcome.state) == (True, None, State.FAILOVER)
        got = peer.received()[len(initial()) + len(a_round(1)) :]
        assert got == BEFORE[at] + struct.pack(">I", 77)
        assert told[-1] == 77

    def test_what_a_secondary_then_says_is_heard(self, capture: Capture) -> None:
        ours, theirs = socket.socketpair()
        replay = Replay(Recorded(capture), ours, 0, End(How.ILLEGAL, State.LOADED, 9), silence=20)
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(replay.run()))
        thread.start()
        with theirs:
            theirs.recv(len(initial()), socket.MSG_WAITALL)
            theirs.sendall(READY)
            assert theirs.recv(4) == struct.pack(">I", 9)
            theirs.sendall(REPLY + struct.pack(">I", 88) + pong(3))
        thread.join(20)
        assert outcomes == [Outcome(True, 0, True, (2, 88), State.FAILOVER, None)]


class TestWhatGoesWrong:
    def test_a_secondary_that_misbehaves(self, capture: Capture) -> None:
        peer = Peer(READY, LOADED)
        outcome = Replay(Recorded(capture), peer.link, 1).run()
        assert (outcome.ready, outcome.ended, outcome.state) == (True, False, State.FAILOVER)
        assert outcome.error == "Unexpected COLO message 6, expected 2"
        assert peer.received() == initial()

    def test_a_secondary_that_says_nothing(self, capture: Capture) -> None:
        peer = Peer(READY)
        outcome = Replay(Recorded(capture), peer.link, 1, deadline=0.05).run()
        assert (outcome.ready, outcome.ended) == (True, False)
        assert outcome.error == "Can't receive COLO message: Connection timed out"
        peer.received()

    @pytest.mark.parametrize("end", [End(), End(How.ILLEGAL, State.LOADED, 9)])
    def test_a_secondary_that_is_gone(self, capture: Capture, end: End) -> None:
        link, other = socket.socketpair()
        other.close()
        outcome = Replay(Recorded(capture), link, 1, end).run()
        assert outcome == Outcome(False, 0, False, (), State.STOPPED, "Can't send COLO message: Broken pipe")

    def test_a_secondary_that_ends(self, capture: Capture) -> None:
        link, other = socket.socketpair()
        with other:
            other.sendall(READY)
            other.shutdown(socket.SHUT_WR)
            outcome = Replay(Recorded(capture), link, 1).run()
        assert (outcome.ready, outcome.ended) == (True, False)
        assert outcome.error == "Can't receive COLO message: Input/output error"

    @pytest.mark.parametrize(
        "bad",
        [(True, M.VMSTATE_SEND), (False, M.CHECKPOINT_REPLY), (True, 9), (False, M.VMSTATE_LOADED)],
    )
    def test_what_on_message_raises_is_raised_and_the_link_is_closed(
        self, capture: Capture, bad: tuple[bool, int]
    ) -> None:
        """Be it an OSError: that is not the link's."""

        def fail(sent: bool, message: int) -> None:
            if (sent, message) == bad:
                raise BrokenPipeError("nobody reads what I print")

        peer = Peer(*ALL)
        end = End(How.ILLEGAL, State.LOADED, 9)
        replay = Replay(Recorded(capture), peer.link, 1, end, silence=0.01, on_message=fail)
        with pytest.raises(BrokenPipeError, match="nobody reads"):
            replay.run()
        peer.received()

    def test_what_the_source_raises_is_raised_and_the_link_is_closed(self, capture: Capture) -> None:
        class Failing(Recorded):
            def live(self, number: int) -> Iterator[bytes]:
                raise OSError("the disk is broken")

        peer = Peer(*ALL)
        with pytest.raises(OSError, match="the disk is broken"):
            Replay(Failing(capture), peer.link, 1).run()
        peer.received()

    def test_no_descriptor_is_left_open(self, capture: Capture) -> None:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for end in (End(), End(How.BREAK, State.SENDING)):
            peer = Peer(*ALL)
            Replay(Recorded(capture), peer.link, 1, end).run()
            peer.received()
            assert len(os.listdir("/proc/self/fd")) == before


def run(*arguments: str | Path) -> tuple[int, list[str]]:
    result = CliRunner().invoke(cli, ["replay", *map(str, arguments)])
    return result.exit_code, result.output.splitlines()


class TestCommand:
    @pytest.fixture
    def server(self) -> Iterator[str]:
        """Where a Secondary that says it all at once listens."""
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                with server.accept()[0] as link:
                    link.sendall(b"".join(ALL))
                    while link.recv(1 << 18):
                        pass

            thread = threading.Thread(target=answer)
            thread.start()
            yield f"tcp:127.0.0.1:{server.getsockname()[1]}"
            thread.join(20)

    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            ((), 0, "ready, 3 rounds, stopped between two rounds"),
            (("--rounds", "1"), 0, "ready, 1 round, stopped between two rounds"),
            (("--rounds", "2", "--end", "break"), 0, "ready, 2 rounds, closed the link in 'sending'"),
            (("--rounds", "0", "--end", "break", "--at", "requested"), 0,
             "ready, 0 rounds, closed the link in 'requested'"),
            (("--rounds", "9", "--deadline", "0.05"), 1,
             "ready, 4 rounds; then it failed: Can't receive COLO message: Connection timed out"),
        ],
    )  # fmt: skip
    def test_what_it_says(
        self, capture: Capture, server: str, arguments: tuple[str, ...], status: int, said: str
    ) -> None:
        assert run(capture.path, "--connect", server, *arguments) == (status, [said])

    def test_an_illegal_message_and_what_was_said(self, capture: Capture, server: str) -> None:
        status, said = run(
            capture.path,
            "--connect",
            server,
            "--rounds",
            "0",
            "--end",
            "illegal:4294967295",
            "--at",
            "replied",
            "-v",
        )
        assert status == 0
        *told, last = said
        assert told[:2] == ["received checkpoint-ready", "received checkpoint-reply"]
        assert told[-1] == "sent message 4294967295"
        assert last.startswith(
            "ready, 0 rounds, sent message 4294967295 in 'replied'; the Secondary then said "
        )

    def test_a_store(self, capture: Capture, server: str, tmp_path: Path) -> None:
        with DirectoryStore(tmp_path / "vm") as store:
            to_standby(Recorded(capture), 2, store)
        assert run(tmp_path / "vm", "--connect", server) == (
            0,
            ["ready, 1 round, stopped between two rounds"],
        )


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
    capture: Capture, arguments: list[str], status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("colo_fsm.cli.watch.CONNECT_TIMEOUT", 0.0)
    result = CliRunner().invoke(cli, ["replay", str(capture.path), "--connect", "tcp:h:1", *arguments])
    assert result.exit_code == status
    assert said in result.output.splitlines()[-1]


def test_what_cannot_be_played_is_one_line(capture: Capture, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    DirectoryStore(empty).close()
    cut = tmp_path / "cut"
    cut.mkdir()
    for name in ("p2s", "s2p", "index"):
        (cut / name).write_bytes((capture.path / name).read_bytes()[:10_000])
    for path, said in ((tmp_path, "neither"), (empty, "no checkpoint yet"), (cut, "no whole initial state")):
        result = CliRunner().invoke(cli, ["replay", str(path), "--connect", "tcp:127.0.0.1:1"])
        assert result.exit_code == 1
        assert said in result.output
        assert result.output.count("\n") == 1
