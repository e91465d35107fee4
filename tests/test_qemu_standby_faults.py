"""Whatever the Primary sends, and whenever the standby dies: the store holds a whole checkpoint.

The VM here is a small stream (see `standby_process`): in checkpoint n every page, and the devices, say n.
"""

from __future__ import annotations

import contextlib
import logging
import random
import resource
import socket
import struct
import subprocess
import threading
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import pytest
from replicas import FakeLink, Told
from standby_process import (
    COMMAND,
    LOADED,
    READY,
    RECEIVED,
    REPLACE,
    REPLY,
    REQUEST,
    SEND,
    SIZE,
    StandbyProcess,
    StreamPrimary,
    devices,
    initial,
    live,
    page,
    state,
    until,
)
from vm_link import a_round, number_in
from vm_stream import BLOCKS, command, device, footer, head, ram, record, u32

from colo_fsm.arbiter import SqliteArbiter, Unarbitrated, UnknownGeneration
from colo_fsm.colo import SecondarySession, State
from colo_fsm.fsm import ProtocolError, Side, Transition
from colo_fsm.qemu import Held, StandbyReplica
from colo_fsm.replica import DirectoryStore, Event, MemoryStore, Options
from colo_fsm.replica.door import LET_RUN
from colo_fsm.replica.wish import Call, Wait
from colo_fsm.stream import PAGE_SIZE, StreamError, pong, shut

GENERATION = 7
SOAK = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    """pytest would keep every error, and with it the memory of every VM."""
    caplog.set_level(logging.CRITICAL, logger="colo_fsm")


class Script:
    """The standby's script, its link a byte string that ends; no thread, no socket, no clock."""

    def __init__(self, **more: Any) -> None:
        self.store = MemoryStore()
        self.link = FakeLink()
        self.events: list[Event] = []
        given: dict[str, Any] = {"disks_elsewhere": False, "memory_limit": 1 << 30, "options": Options()}
        given |= {"arbiter": Unarbitrated()}
        self.replica = StandbyReplica(
            SecondarySession(),
            Held(),
            store=self.store,
            generation=GENERATION,
            clock=lambda: 0.0,
            **given | more,
        )
        self.replica.link = self.link
        self._queue = self.replica.events.follow(Told(self.events))

    @property
    def state(self) -> StrEnum:
        return self.replica.session.state

    @property
    def sent(self) -> bytes:
        return b"".join(self.link.written)

    @property
    def errors(self) -> list[ProtocolError]:
        return [e.error for e in self.events if isinstance(e, Transition) and e.error is not None]

    def run(self, data: bytes, step: int = 1 << 20) -> Self:
        """Until the script is over; whoever won the claim leaves then."""
        self.link.incoming = [*(data[at : at + step] for at in range(0, len(data), step)), b""]
        script = self.replica.run()
        go, answer = script.send, None
        with contextlib.suppress(StopIteration):
            while True:
                wish = go(answer)
                try:
                    go, answer = script.send, wish.run() if isinstance(wish, Call) else None
                except Exception as error:  # noqa: BLE001 - as the drivers do
                    go, answer = script.throw, error
                if isinstance(wish, Wait) and wish.socket is None:
                    assert self.state is State.ALONE
                    self.replica.leave_requested = True
        return self


def refused(bad: bytes, **more: Any) -> str:
    """The one error of a standby that holds checkpoint 1 and then gets this round, or this start."""
    made = Script(**more).run(initial() + a_round(1) + bad)
    assert number_in(made.store) == 1
    assert made.sent.count(RECEIVED) == 1
    assert made.state is State.ENDED
    (error,) = made.errors
    return str(error)


class TestTruncated:
    """The link ends at each byte of a stream of two rounds."""

    DATA = initial() + a_round(1) + a_round(2)
    DESCRIBED = len(DATA) - 2 * len(a_round(1))
    BEGUN = DESCRIBED - len(b'\x06....{"devices": []}')
    ENDS = [BEGUN, len(DATA) - len(a_round(1)), len(DATA)]

    def test_it_is_small(self) -> None:
        assert len(self.DATA) < 60_000
        assert self.DATA[: self.BEGUN].endswith(footer(4) + b"\0")

    @pytest.mark.parametrize("stride", [11, pytest.param(1, marks=SOAK)])
    def test_at_every_byte(self, stride: int) -> None:
        near = {at + n for at in (0, *self.ENDS) for n in range(-40, 80)}
        for cut in sorted((near & set(range(len(self.DATA)))) | set(range(0, len(self.DATA), stride))):
            made = Script().run(self.DATA[:cut])
            held = sum(cut >= end for end in self.ENDS) - 1
            held -= self.BEGUN < cut < self.DESCRIBED  # once it has begun, the description belongs to it
            assert number_in(made.store) == (held if held >= 0 else None), cut
            assert made.sent.count(RECEIVED) == max(held, 0), cut
            assert made.sent.startswith(READY) is (held >= 0), cut
            assert made.state is (State.ENDED if held > 0 else State.STOPPED), cut
            assert len(made.errors) == 1, cut


class TestDeadline:
    def test_the_first_copy_has_ten_times_as_long_and_a_pause_between_rounds_all_time(self) -> None:
        made = Script(options=Options(deadline=3.0))
        assert made.replica.deadline() == 30
        found: dict[str, float | None] = {}
        made.replica.session.on_transition(lambda t: found.setdefault(t.dest, made.replica.deadline()))
        made.run(initial() + a_round(1))
        assert [found[s] for s in (State.READY, State.REPLIED, State.SIZED, State.LOADED)] == [
            None,
            3,
            3,
            None,
        ]


class TestPings:
    """A PING may stand between sections; its answer goes out before the next message does."""

    def test_in_the_initial_stream(self) -> None:
        made = Script().run(initial().replace(devices(0), command(2, u32(5)) + devices(0)) + a_round(1))
        assert made.sent == pong(5) + READY + REPLY + RECEIVED + LOADED

    def test_the_return_path_of_qemu_11_ends_before_ready(self) -> None:
        made = Script().run(initial().replace(head(), head() + command(1) + command(2, u32(1))) + a_round(1))
        assert made.sent == pong(1) + shut() + READY + REPLY + RECEIVED + LOADED

    def test_in_a_round(self) -> None:
        pinged = a_round(1).replace(SEND, SEND + command(2, u32(6)) + command(2, u32(7)), 1)
        made = Script().run(initial() + pinged + a_round(2))
        answers = pong(6) + pong(7) + RECEIVED + LOADED
        assert made.sent == READY + REPLY + answers + REPLY + RECEIVED + LOADED


class TestBadInput:
    @pytest.mark.parametrize("flips", [1500, pytest.param(40_000, marks=SOAK)])
    def test_a_flipped_byte_is_never_worse_than_another_byte_of_a_page(self, flips: int) -> None:
        """What cannot be known to be wrong (contents) is stored; all else ends with one error."""
        rng = random.Random(flips)
        good = initial() + a_round(1) + a_round(2)
        last = len(good) - len(a_round(2))
        for _ in range(flips):
            at = rng.randrange(last, len(good)) if rng.random() < 0.5 else rng.randrange(len(good))
            data = bytearray(good)
            data[at] ^= rng.randrange(1, 256)
            made = Script().run(bytes(data), step=rng.choice((1 << 20, 4097)))
            newest = made.store.newest
            received = made.sent.count(RECEIVED)
            assert len(made.errors) == 1, at
            assert received == (0 if newest is None else newest.number), at
            if at >= last:
                assert received in (1, 2), at
                if received == 1:
                    assert number_in(made.store) == 1, at

    def test_unknown_flags_and_pages_elsewhere(self) -> None:
        page_at = record(0, 0x08, "pc.ram") + page(2)

        def error(records: bytes) -> str:
            return refused(REQUEST + SEND + ram(3, records) + b"\0" + SIZE + state(2))

        assert "(at byte 5)" in error(record(0, 0x80))
        assert "switch multifd off" in error(record(0, 0x200))
        assert "block 'pc.nothing' is not in the block list" in error(record(0, 0x08, "pc.nothing") + page(2))
        outside = record(3 * PAGE_SIZE, 0x08, "pc.ram") + page(2)
        assert "page at 0x3000 is outside block 'pc.ram'" in error(outside)
        assert "outside" in error(record(1 << 60, 0x08, "pc.ram") + page(2))
        assert "at byte" in error(page_at + record(0, 0x400))

    def test_unknown_sections_and_footers_in_the_live_state(self) -> None:
        good = ram(3, record(0, 0x08, "pc.ram") + page(2))

        def error(data: bytes) -> str:
            return refused(REQUEST + SEND + data + b"\0" + SIZE + state(2))

        assert "section type 0x0a" in error(good + b"\x0a")
        assert "section type 0x01" in error(b"\x01" + good)
        assert f"footer of section 9 at the end of section 2 (at byte {len(good) - 4})" in error(
            good[:-4] + struct.pack(">I", 9)
        )

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"", "does not begin with a device section"),
            (b"\0", "does not begin with a device section"),
            (devices(2), "does not end with the end of stream"),
            (devices(2)[:-1] + b"\0", "does not end"),
            (device(0, "timer", b"2") + b"\0\0", "does not end"),
            (device(0, "timer", b"2")[:-5] + footer(1) + b"\0", "does not end"),
            (devices(2) + device(0, "timer", b"2") + b"\0", "has the id 0 of another one"),
            (b"\x02" + devices(2)[1:] + b"\0", "does not begin with a device section"),
            (b"\xff" * 300, "does not begin with a device section"),
        ],
    )
    def test_malformed_devices_are_never_stored_and_never_answered(self, data: bytes, problem: str) -> None:
        error = refused(REQUEST + SEND + live(2) + SIZE + struct.pack(">Q", len(data)) + data)
        assert problem in error
        assert "at byte" in error

    @pytest.mark.parametrize("size", [1001, 1 << 40, 1 << 60, (1 << 64) - 1])
    def test_a_size_over_the_limit(self, size: int) -> None:
        bad = REQUEST + SEND + live(2) + SIZE + struct.pack(">Q", size) + b"x" * 2000
        assert f"{size} bytes is over the limit of 1000" in refused(bad, options=Options(state_limit=1000))

    def test_a_disk_that_appears_in_a_round(self) -> None:
        data = devices(2) + device(9, "0000:00:05.0/virtio-blk", b"x") + b"\0"
        bad = REQUEST + SEND + live(2) + SIZE + struct.pack(">Q", len(data)) + data
        assert "has disks (0000:00:05.0/virtio-blk)" in refused(bad)
        made = Script(disks_elsewhere=True).run(initial() + a_round(1) + bad)
        assert made.sent.count(RECEIVED) == 2

    @pytest.mark.parametrize(
        ("before", "after", "problem"),
        [
            (struct.pack(">Q", 4 * PAGE_SIZE | 4), struct.pack(">Q", 1 << 60 | 4), "over the limit"),
            (struct.pack(">Q", 3 * PAGE_SIZE), struct.pack(">Q", 1 << 60), "add up to more"),
            (b"QEVM", b"QEVN", "magic"),
            (b"QEVM\0\0\0\3", b"QEVM\0\0\0\4", "version 4"),
        ],
    )
    def test_a_start_that_is_wrong_is_refused_before_room_is_made(
        self, before: bytes, after: bytes, problem: str
    ) -> None:
        made = Script().run(initial().replace(before, after, 1))
        (error,) = made.errors
        assert problem in str(error)
        assert isinstance(error.__cause__, StreamError)
        assert "at byte" in str(error)
        assert (made.store.newest, made.sent, made.state) == (None, LET_RUN, State.STOPPED)

    def test_a_disk_in_the_initial_state(self) -> None:
        data = initial().replace(devices(0), devices(0) + device(9, "0000:00:05.0/virtio-blk", b"x"))
        made = Script().run(data + a_round(1))
        (error,) = made.errors
        assert "has disks (0000:00:05.0/virtio-blk)" in str(error)
        assert (made.store.newest, made.sent, made.state) == (None, LET_RUN, State.STOPPED)
        assert Script(disks_elsewhere=True).run(data + a_round(1)).sent.count(RECEIVED) == 1

    def test_limits_are_what_is_still_taken(self) -> None:
        memory, state_size = sum(BLOCKS.values()), len(state(0)) - 8
        exact = Script(memory_limit=memory, options=Options(state_limit=state_size))
        assert exact.run(initial() + a_round(1)).sent.count(RECEIVED) == 1
        for more, problem in (
            ({"memory_limit": memory - 1}, "over the limit"),
            ({"options": Options(state_limit=len(devices(0)) - 1)}, "device sections of more than"),
        ):
            made = Script(**more).run(initial())
            (error,) = made.errors
            assert problem in str(error)
            assert (made.store.newest, made.sent) == (None, LET_RUN)

    def test_a_generation_that_is_over_is_refused_before_anything_is_received(self) -> None:
        class Over(Unarbitrated):
            def check(self, generation: int) -> None:
                raise UnknownGeneration("the arbiter", generation)

        made = Script(arbiter=Over()).run(initial() + a_round(1))
        (error,) = made.errors
        assert str(error).startswith("arbiter failed: UnknownGeneration")
        assert (made.store.newest, made.sent, made.state) == (None, LET_RUN, State.STOPPED)

    def test_an_ide_controller_that_is_not_understood_is_refused_at_the_start_alone(self) -> None:
        """Nothing is added to it while the VM runs, and in the middle of something it may be hard to read."""
        ide = device(9, "isa-ide", b"in the middle")
        data = devices(2) + ide + b"\0"
        busy = REQUEST + SEND + live(2) + SIZE + struct.pack(">Q", len(data)) + data
        made = Script().run(initial() + a_round(1) + busy)
        assert made.sent.count(RECEIVED) == 2
        made = Script().run(initial().replace(devices(0), devices(0) + ide))
        assert any("has disks (isa-ide)" in str(error) for error in made.errors)
        assert made.sent == LET_RUN

    def test_a_description_that_is_none(self) -> None:
        made = Script().run(initial().replace(b'{"devices"', b'["devices"') + a_round(1))
        (error,) = made.errors
        assert "the description is not JSON" in str(error)
        assert (made.store.newest, made.sent, made.state) == (None, LET_RUN, State.STOPPED)


class TestProcess:
    """The same as a process, its store a directory."""

    def test_bad_starts_change_nothing_and_listening_goes_on(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby:
            with StreamPrimary(standby.connect()) as primary:
                primary.begin().rounds(1, 3)
            assert standby.wait() == 0
        with StandbyProcess(tmp_path, REPLACE) as standby:
            for cut in (100, 3000, len(initial()) - 40):
                before = len(standby.said)
                with standby.connect() as link:
                    link.sendall(initial(5)[:cut])
                standby.says("(?s)Can't receive.*listening goes on", start=before)
            with standby.connect() as link:
                link.sendall(b"Q")
            standby.says("(?s)hung up before.*listening goes on")
            standby.kill()
            with DirectoryStore(standby.store) as store:
                assert number_in(store) == 3

    def test_a_connection_that_says_nothing_is_given_up(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path, "--greeting-deadline", "0.05") as standby, standby.connect():
            standby.says("(?s)said nothing.*listening goes on")
        with StandbyProcess(tmp_path, "--deadline", "0.05") as standby:
            with standby.connect() as link:
                link.sendall(initial()[:5000])
                standby.says("(?s)timed out.*listening goes on")
            with StreamPrimary(standby.connect()) as primary:
                primary.begin()
                standby.terminate()
                assert standby.wait() == 0

    def test_malformed_devices(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby:
            with StreamPrimary(standby.connect()) as primary:
                primary.begin().round(1)
                bad = state(2)[:-2] + b"\1\0"
                primary.link.sendall(REQUEST)
                primary.expect(REPLY)
                primary.link.sendall(SEND + live(2) + SIZE + bad)
                assert primary.link.recv(4) == b""
            assert standby.wait() == 0
            last = standby.objects[-1]
            assert (last["state"], last["rounds"], last["won"]) == ("alone", 1, True)
            assert "at byte" in last["reason"]
        with DirectoryStore(standby.store) as store:
            assert number_in(store) == 1

    @pytest.mark.parametrize("kills", [8, pytest.param(200, marks=SOAK)])
    def test_sigkill_at_random_moments(self, tmp_path: Path, kills: int) -> None:
        held: tuple[int, int | None] | None = None
        for _ in range(kills):
            with StandbyProcess(tmp_path, REPLACE) as standby, StreamPrimary(standby.connect()) as primary:
                killer = threading.Timer(random.uniform(0, 0.15), standby.kill)
                primary.begin()
                killer.start()
                try:
                    primary.rounds(1, 1 << 30)
                except (ConnectionError, BrokenPipeError):
                    pass
                finally:
                    killer.join()
            with DirectoryStore(standby.store) as store:
                number = number_in(store)
                assert store.newest is not None
                found = store.newest.generation, number
                if found != held or primary.received:
                    assert number in (primary.received, primary.received + 1)
                    assert store.newest.generation == standby.generation
                held = found  # stays until a round of the next VM is whole

    def test_sigkill_while_a_new_initial_state_arrives(self, tmp_path: Path) -> None:
        with StandbyProcess(tmp_path) as standby:
            with StreamPrimary(standby.connect()) as primary:
                primary.begin().rounds(1, 2)
            assert standby.wait() == 0
        with StandbyProcess(tmp_path, REPLACE) as standby, standby.connect() as link:
            link.sendall(initial()[:9000])
            until(lambda: list(standby.store.glob("image-*"))[1:] or None, "second image")
            standby.kill()
        with DirectoryStore(standby.store) as store:
            assert number_in(store) == 2

    @pytest.mark.parametrize("at", ["initial", "round"])
    def test_a_full_disk_keeps_the_old_checkpoint(self, tmp_path: Path, at: str) -> None:
        with StandbyProcess(tmp_path) as standby:
            with StreamPrimary(standby.connect()) as primary:
                primary.begin().rounds(1, 2)
            assert standby.wait() == 0
        with StandbyProcess(tmp_path, REPLACE) as standby:
            with StreamPrimary(standby.connect()) as primary:
                if at == "round":
                    primary.begin().round(1)
                limit(standby.process.pid, 5000)
                if at == "initial":
                    primary.link.sendall(initial())
                    standby.says("(?s)File too large.*listening goes on")
                else:
                    primary.link.sendall(a_round(2))
                    primary.expect(REPLY)
                    assert primary.link.recv(4) == b""
                    assert standby.wait() == 0
                    assert "File too large" in standby.objects[-1]["reason"]
            standby.kill()
            with DirectoryStore(standby.store) as store:
                assert number_in(store) == (2 if at == "initial" else 1)


def limit(pid: int, size: int) -> None:
    """No file of this process may grow beyond that: what a full disk is like."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def held(folder: Path, *options: str) -> StandbyProcess:
    """A standby whose Primary made one round and is gone."""
    with StandbyProcess(folder, *options) as standby:
        with StreamPrimary(standby.connect()) as primary:
            primary.begin().round(1)
        standby.wait()
        return standby


class TestFailover:
    SHOW = 'echo "$COLO_FSM_GENERATION $COLO_FSM_TOKEN $COLO_FSM_STORE" > {folder}/ran'

    def command(self, folder: Path) -> tuple[str, str]:
        return "--on-failover", self.SHOW.format(folder=folder)

    def test_the_command_gets_generation_token_and_directory(self, tmp_path: Path) -> None:
        arbiter = SqliteArbiter(tmp_path / "claim.db")
        generation = arbiter.open()
        standby = held(
            tmp_path, "--arbiter", str(arbiter), "--generation", str(generation), *self.command(tmp_path)
        )
        assert standby.process.returncode == 0
        assert standby.generation == generation
        token = arbiter.claim(generation, Side.PRIMARY).token
        assert (tmp_path / "ran").read_text() == f"{generation} {token} {standby.store}\n"

    def test_the_command_may_open_the_store(self, tmp_path: Path) -> None:
        restore = " ".join([*COMMAND, "restore", "$COLO_FSM_STORE", "-o", str(tmp_path / "mig")])
        assert held(tmp_path, "--on-failover", restore).process.returncode == 0
        assert (tmp_path / "mig").read_bytes().startswith(b"QEVM")

    def test_without_an_arbiter_it_is_run_as_well(self, tmp_path: Path) -> None:
        standby = held(tmp_path, "--no-arbiter", *self.command(tmp_path))
        assert (tmp_path / "ran").read_text().startswith(f"{standby.generation} ")

    def test_it_is_not_run_when_the_claim_is_lost(self, tmp_path: Path) -> None:
        arbiter = SqliteArbiter(tmp_path / "claim.db")
        with StandbyProcess(tmp_path, "--arbiter", str(arbiter), *self.command(tmp_path)) as standby:
            with StreamPrimary(standby.connect()) as primary:
                primary.begin().round(1)
                assert arbiter.claim(standby.generation, Side.PRIMARY).winner is Side.PRIMARY
            assert standby.wait() == 1
        assert standby.objects[-1]["state"] == "stopped"
        assert standby.objects[-1]["won"] is False
        assert "claim lost" in standby.said
        assert not (tmp_path / "ran").exists()

    def test_an_arbiter_out_of_reach_suspends_it_and_it_says_so(self, tmp_path: Path) -> None:
        arbiter = SqliteArbiter(tmp_path / "claim.db")
        with StandbyProcess(tmp_path, "--arbiter", str(arbiter), *self.command(tmp_path)) as standby:
            with StreamPrimary(standby.connect()) as primary:
                primary.begin().round(1)
                (tmp_path / "claim.db").rename(tmp_path / "away")
            standby.says("does not answer: .*suspended, asking again in 1 s")
            assert not (tmp_path / "ran").exists()
            (tmp_path / "away").rename(tmp_path / "claim.db")
            assert standby.wait() == 0
        assert (tmp_path / "ran").exists()

    def test_a_command_that_fails(self, tmp_path: Path) -> None:
        standby = held(tmp_path, "--on-failover", "exit 3")
        assert standby.process.returncode == 1
        assert standby.said.splitlines()[-1].startswith("Error: COMMAND ended with status 3")

    @pytest.mark.parametrize("moment", ["listening", "between rounds", "initial"])
    def test_sigterm_ends_it_with_0_and_nothing_is_claimed(self, tmp_path: Path, moment: str) -> None:
        with StandbyProcess(tmp_path, *self.command(tmp_path)) as standby:
            if moment == "listening":
                standby.terminate()
            else:
                with StreamPrimary(standby.connect()) as primary:
                    if moment == "initial":
                        primary.link.sendall(initial()[:9000])
                        until(lambda: list(standby.store.glob("image-*")) or None, "image")
                    else:
                        primary.begin().round(1)
                    standby.terminate()
                    standby.wait()
            assert standby.wait() == 0
            rounds = int(moment == "between rounds")
            assert standby.objects[-1] == {"state": "ended", "reason": None, "rounds": rounds, "won": False}
            assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("options", [(), ("--json",)])
    def test_nobody_hears_what_it_says_any_more_and_it_takes_over(
        self, tmp_path: Path, options: tuple[str, ...]
    ) -> None:
        where = ("--listen", f"unix:{tmp_path / 'at'}", "--store", str(tmp_path / "vm"), "--no-arbiter")
        command = [*COMMAND, "standby", *where, *options, *self.command(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            link = socket.socket(socket.AF_UNIX)
            link.connect(str(tmp_path / "at"))
            with StreamPrimary(link) as primary:
                primary.begin().round(1)
            assert process.wait(20) == 0
        assert (tmp_path / "ran").exists()

    def test_json(self, tmp_path: Path) -> None:
        first, last = held(tmp_path).objects
        seconds = first.pop("seconds")
        assert seconds > 0
        assert first == {
            "round": 1, "pages": 4, "zero_pages": 0,
            "live_bytes": len(live(1)), "vmstate_bytes": len(state(1)) - 8,
        }  # fmt: skip
        assert last == {
            "state": "alone", "reason": "Can't receive COLO message: Input/output error",
            "rounds": 1, "won": True,
        }  # fmt: skip


class TestUsage:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ((), "--arbiter URL, or --no-arbiter"),
            (("--arbiter", "sqlite:x.db", "--no-arbiter"), "--arbiter URL, or --no-arbiter"),
            (("--arbiter", "nonsense"), "names no arbiter"),
            (("--listen", "127.0.0.1:1", "--no-arbiter"), "write tcp:HOST:PORT"),
            (("--listen", "tcp:0.0.0.0:0", "--arbiter", "sqlite:x.db"), "serves one only"),
        ],
    )
    def test_bad_usage(self, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
        status, said = start(tmp_path, *options)
        assert (status, words in " ".join(said.split())) == (2, True), said

    def test_a_store_in_use_and_a_generation_that_is_over(self, tmp_path: Path) -> None:
        with DirectoryStore(tmp_path / "vm"):
            status, said = start(tmp_path, "--no-arbiter")
            assert (status, "in use" in said) == (1, True)
        arbiter = SqliteArbiter(tmp_path / "claim.db")
        generation = arbiter.open()
        arbiter.claim(generation, Side.PRIMARY)
        status, said = start(tmp_path, "--arbiter", str(arbiter), "--generation", str(generation))
        assert (status, "is over" in said) == (1, True)


def start(folder: Path, *options: str) -> tuple[int, str]:
    """Status and words of a standby that does not begin."""
    if "--listen" not in options:
        options = (*options, "--listen", "tcp:127.0.0.1:0")
    command = [*COMMAND, "standby", "--store", str(folder / "vm"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=20)
    return done.returncode, done.stderr
