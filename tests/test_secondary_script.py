"""What the Secondary's script takes, refuses, stores and loads."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from replicas import (
    GENERATION,
    LOADED,
    READY,
    RECEIVED,
    REPLY,
    REQUEST,
    SEND,
    SIZE,
    Bench,
    Broken,
    Counting,
    OneShot,
    Visits,
    initial_bytes,
    live_bytes,
    round_bytes,
    state_bytes,
)

from colo_fsm.arbiter import ArbiterUnreachable, GenerationClaimed
from colo_fsm.colo import State
from colo_fsm.fsm import GuestFailed, InvalidState, Side, Truncated, UnknownMessage
from colo_fsm.replica import Checkpoint, CheckpointTaken, MemoryStore, Options
from colo_fsm.replica.link import READ_SIZE
from colo_fsm.stream import PAGE_SIZE, Blocks, Delta, PatchSink, StreamError


class Telling(Counting):
    """Notes what it is told to have changed."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []

    def load(self, checkpoint: Checkpoint) -> None:
        self.told.append(checkpoint.changed)
        super().load(checkpoint)


def secondary(guest: Any = None, **more: Any) -> Bench:
    """A Secondary that is ready, with a guest at 4."""
    made = Bench(Side.SECONDARY, guest, **more).start().receive(initial_bytes(b"4", {0: page(4)}))
    assert made.state is State.READY
    return made


def visited(guest: Any = None, **more: Any) -> tuple[Bench, Visits]:
    """A Secondary whose first visitor is let in, and who comes after that one."""
    made, visitors = Bench(Side.SECONDARY, guest, **more), Visits()
    made.replica.come_from(visitors)
    visitors.came = made.link
    return made.start(), visitors


def page(count: int) -> bytes:
    return struct.pack(">Q", count).ljust(PAGE_SIZE, b"\xee")


def newest(made: Bench) -> tuple[int, bytes, bytes]:
    found = made.store.newest
    assert found is not None
    return found.number, found.device, bytes(found.blocks["ram"])


class TestRounds:
    def test_the_initial_state_is_stored_and_loaded_before_ready(self) -> None:
        made = secondary(Counting())
        assert newest(made) == (0, b"4", page(4))
        assert (made.guest.count, made.guest.running, made.writes) == (4, False, [READY])
        assert made.replica.generation == GENERATION

    def test_a_round(self) -> None:
        made = secondary(Counting()).receive(round_bytes(b"5", {0: page(5)}))
        assert newest(made) == (1, b"5", page(5))
        assert (made.guest.count, made.guest.running, made.replica.checkpoint) == (5, False, 1)

    def test_a_round_is_three_writes(self) -> None:
        """The reply, and an answer each before and after the load, which takes its time."""
        made = secondary()
        for piece in (REQUEST, SEND, live_bytes(), SIZE, state_bytes(b"5")):
            made.receive(piece)
        assert made.writes == [READY, REPLY, RECEIVED, LOADED]

    def test_received_leaves_when_stored_and_before_the_load(self) -> None:
        made = secondary()
        seen: list[object] = []
        made.guest.at["load"] = lambda: seen.append((made.writes[-1][-4:], newest(made)[0]))
        made.receive(round_bytes(b"5"))
        assert seen == [(RECEIVED, 1)]

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 1 << 20])
    def test_any_chunks(self, step: int) -> None:
        data = initial_bytes(b"4", {0: page(4)})
        data += b"".join(round_bytes(b"%d" % n, {0: page(n)}) for n in (5, 6, 7))
        made = Bench(Side.SECONDARY, Counting()).start().receive(data + LOADED, step=step)
        assert newest(made) == (3, b"7", page(7))
        assert made.guest.calls == ["load"] * 4 + ["resume"]
        assert type(made.session.error) is UnknownMessage
        assert made.state is State.ALONE
        # the last answer may still wait for company when the stranger's message is looked at
        answers = READY + (REPLY + RECEIVED + LOADED) * 3
        assert b"".join(made.writes) in (answers, answers.removesuffix(LOADED))

    def test_a_whole_round_and_the_next_request_in_one_read(self) -> None:
        made = secondary().receive(round_bytes(b"5") + REQUEST)
        assert (made.state, made.replica.checkpoint) == (State.REPLIED, 1)
        made.receive(round_bytes(b"6")[4:])
        assert (made.state, made.guest.count) == (State.LOADED, 6)

    def test_what_it_tells(self) -> None:
        made = secondary(Counting()).receive(round_bytes(b"5", {0: page(5)}))
        (taken,) = (e for e in made.events if isinstance(e, CheckpointTaken))
        sent = len(live_bytes({0: page(5)})) + len(state_bytes(b"5")) - 8
        assert (taken.number, taken.pages, taken.sent) == (1, 1, sent)

    def test_the_newest_checkpoint_is_not_loaded_twice(self) -> None:
        made = secondary().receive(round_bytes(b"5")).end_of_link()
        assert made.guest.calls == ["load", "load", "resume"]
        assert (made.state, made.guest.count) == (State.ALONE, 5)

    def test_a_guest_is_told_what_has_changed_since_it_has_loaded(self) -> None:
        """All may have in the first checkpoint, and where a load has failed before."""
        guest = Telling()
        made = secondary(guest).receive(round_bytes(b"5", {0: page(5)}) + round_bytes(b"5"))
        assert guest.told == [None, {"ram": [(0, PAGE_SIZE)]}, {}]
        guest.failing = {"load"}
        made.receive(round_bytes(b"7", {0: page(7)}))
        assert guest.told[3:] == [{"ram": [(0, PAGE_SIZE)]}, None]

    @pytest.mark.parametrize("cut", range(4, len(round_bytes(b"5")), 5))
    def test_a_part_of_a_round_changes_nothing(self, cut: int) -> None:
        made = secondary(Counting()).receive(round_bytes(b"5", {0: page(5)})[:cut]).end_of_link()
        assert newest(made) == (0, b"4", page(4))
        assert (made.state, made.guest.count, made.guest.running) == (State.ALONE, 4, True)


class TestRefused:
    def test_other_blocks(self) -> None:
        other = initial_bytes(b"4", capacity=2 * PAGE_SIZE)
        made = Bench(Side.SECONDARY).start().receive(other)
        assert isinstance(made.session.error, InvalidState)
        text = str(made.session.error)
        assert "{'ram': 8192}" in text
        assert "{'ram': 4096}" in text
        assert "same guest and capacity" in text
        assert (made.state, made.over, made.store.newest) == (State.STOPPED, True, None)

    def test_a_claimed_generation(self) -> None:
        made = Bench(Side.SECONDARY, arbiter=OneShot(granted=Side.PRIMARY)).start().receive(initial_bytes())
        assert isinstance(made.session.error, GuestFailed)
        assert isinstance(made.session.error.cause, GenerationClaimed)
        assert "start both sides again" in str(made.session.error)
        assert (made.state, made.store.newest, made.writes) == (State.STOPPED, None, [])

    @pytest.mark.parametrize("size", [1001, 1 << 40, (1 << 64) - 1])
    def test_a_size_over_the_limit(self, size: int) -> None:
        """Refused before there is room for it, and before one byte of it is read."""
        made = secondary(options=Options(state_limit=1000 + 2 * PAGE_SIZE))
        size += 2 * PAGE_SIZE if size < 2000 else 0
        tracemalloc.start()
        try:
            made.receive(REQUEST + SEND + live_bytes() + SIZE + struct.pack(">Q", size))
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
        assert isinstance(made.session.error, InvalidState)
        assert str(size) in str(made.session.error)
        assert newest(made)[0] == 0
        assert made.state is State.ALONE

    def test_a_state_as_large_as_the_limit(self) -> None:
        device = bytes(5000)
        size = len(state_bytes(device)) - 8
        made = secondary(Anything(), options=Options(state_limit=size))
        made.receive(round_bytes(device))
        assert (made.state, newest(made)[1]) == (State.LOADED, device)

    def test_the_limit_is_for_the_device_state_and_not_for_memory(self) -> None:
        """A guest's memory is bounded by its own declared blocks."""
        made = Bench(Side.SECONDARY, options=Options(state_limit=1000)).start().receive(initial_bytes())
        assert made.session.error is None
        assert made.state is State.READY

    @pytest.mark.parametrize(
        "bad",
        [
            pytest.param(SEND + b"\x05", id="subsection"),
            pytest.param(SEND + live_bytes({0: page(5)}).replace(b"\3ram", b"\3rom"), id="unknown block"),
            pytest.param(SEND + live_bytes({PAGE_SIZE: page(5)}), id="outside"),
            pytest.param(SEND + live_bytes({0: page(5)}) + SIZE + struct.pack(">Q", 0), id="no state"),
            pytest.param(SEND + live_bytes({0: page(5)}) + SIZE + struct.pack(">Q", 3) + b"abc", id="junk"),
            pytest.param(
                SEND + live_bytes() + SIZE + struct.pack(">Q", len(state_bytes(b"5")) - 7)
                + state_bytes(b"5")[8:] + b"\0",
                id="trailing byte",
            ),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("step", [1, 1 << 20])
    def test_malformed(self, bad: bytes, step: int) -> None:
        made = secondary(Counting())
        made.receive(REQUEST)
        for at in range(0, len(bad), step):
            if made.state is not State.ALONE:
                made.receive(bad[at : at + step])
        assert isinstance(made.session.error, InvalidState)
        assert isinstance(made.session.error.cause, StreamError)
        assert newest(made) == (0, b"4", page(4))
        assert (made.state, made.guest.count) == (State.ALONE, 4)
        assert RECEIVED not in made.writes

    def test_a_malformed_initial_state(self) -> None:
        made = Bench(Side.SECONDARY).start().receive(b"GET / HTTP/1.1\r\n")
        assert isinstance(made.session.error, InvalidState)
        assert (made.state, made.over, made.writes) == (State.STOPPED, True, [])

    @pytest.mark.parametrize("cut", [0, 3, 40, len(initial_bytes()) - 1])
    def test_a_link_that_ends_in_the_initial_state(self, cut: int) -> None:
        made = Bench(Side.SECONDARY).start().receive(initial_bytes()[:cut]).end_of_link()
        assert type(made.session.error) is Truncated
        assert (made.state, made.store.newest, made.arbiter.claims) == (State.STOPPED, None, [])  # type: ignore[attr-defined]


class Anything(Counting):
    """Loads any device state."""

    def load(self, checkpoint: Checkpoint) -> None:
        self._note("load")


class FullStore(MemoryStore):
    """Its disk is full, at one of its methods."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self._method = method

    def _check(self, method: str) -> None:
        if method == self._method:
            raise OSError(28, "No space left on device")

    def begin(self, blocks: Blocks) -> PatchSink:
        self._check("begin")
        sink = super().begin(blocks)
        return FullSink() if self._method == "put" else sink

    def complete(self, generation: int, device: bytes, *more: Any, **how: Any) -> None:
        self._check("complete")
        super().complete(generation, device, *more)

    def commit(self, delta: Delta, device: bytes, meta: Mapping[str, str] | None = None) -> None:
        self._check("commit")
        super().commit(delta, device, meta)


class FullSink(PatchSink):
    def put(self, block: str, offset: int, data: object, /) -> None:
        raise OSError(28, "No space left on device")

    def get(self, block: str, offset: int) -> bytes:
        raise AssertionError("nobody asks for a page of our own streams")


class Away(OneShot):
    """An arbiter that cannot be reached."""

    def check(self, generation: int) -> None:
        raise ArbiterUnreachable("test:", "it is away")


class TestVisitors:
    """Several may come, one after the other; see `door`."""

    def test_a_state_of_a_generation_that_is_over_is_not_taken(self) -> None:
        """Its device state would be held in memory: what is read of it is one piece at the most."""
        piece = READ_SIZE
        stream = initial_bytes(bytes(64 << 20), {0: page(4)})
        made, visitors = visited(arbiter=OneShot(granted=Side.PRIMARY))
        taken = 0
        tracemalloc.start()
        try:
            while not visitors.dismissed:
                made.receive(stream[taken : taken + piece])
                taken += piece
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert taken < stream.index(b"colo-fsm/generation") + 2 * piece
        assert most < 8 * piece
        assert "is over, the primary has claimed it" in visitors.dismissed[0]
        assert (made.state, made.reads) == (State.INIT, True)

    def test_the_time_that_the_arbiter_takes_is_not_the_primarys(self) -> None:
        made, _ = visited()

        def take_long() -> None:
            made.now += 45.0

        made.during["check"] = take_long
        stream = initial_bytes(b"4", {0: page(4)})
        made.receive(stream[: stream.index(b"guest")])
        assert made.wait.timeout == 50.0

    @pytest.mark.parametrize("step", [1, 1 << 20])
    def test_a_state_behind_the_generation_is_taken_in_any_pieces(self, step: int) -> None:
        made, visitors = visited()
        made.receive(initial_bytes(b"4" * 100, {0: page(4)}) + REQUEST, step)
        assert (newest(made)[1], made.state, visitors.dismissed) == (b"4" * 100, State.REPLIED, [])

    @pytest.mark.parametrize("method", ["begin", "put", "complete"])
    def test_a_store_that_fails_ends_this_side(self, method: str) -> None:
        """Whoever comes next would fare no better."""
        made, visitors = visited(store=FullStore(method))
        made.receive(initial_bytes(b"4", {0: page(4)}))
        assert (made.state, made.over, visitors.dismissed) == (State.STOPPED, True, [])
        assert str(made.session.error) == "store failed: OSError: [Errno 28] No space left on device"

    def test_an_arbiter_that_fails_ends_this_side(self) -> None:
        made, visitors = visited(arbiter=Away())
        made.receive(initial_bytes(b"4", {0: page(4)}))
        assert (made.state, made.over, visitors.dismissed) == (State.STOPPED, True, [])
        assert "arbiter test: is unreachable" in str(made.session.error)

    def test_a_state_that_does_not_load_is_its_primarys(self) -> None:
        made, visitors = visited(Counting(failing=("load",)))
        made.receive(initial_bytes(b"4", {0: page(4)}))
        assert (made.state, len(visitors.dismissed)) == (State.INIT, 1)
        made.guest.failing = set()
        made.receive(initial_bytes(b"5", {0: page(5)}))
        assert (made.state, made.guest.count) == (State.READY, 5)


class TestEmbedder:
    @pytest.mark.parametrize("method", ["begin", "put", "complete"])
    def test_a_store_without_room_for_the_initial_state(self, method: str) -> None:
        made = Bench(Side.SECONDARY, store=FullStore(method)).start()
        made.receive(initial_bytes(b"4", {0: page(4)}))
        assert isinstance(made.session.error, GuestFailed)
        assert made.session.error.hook == "store"
        assert isinstance(made.session.error.cause, OSError)
        assert (made.state, made.over, made.writes) == (State.STOPPED, True, [])

    def test_a_store_without_room_for_a_round(self) -> None:
        """Nothing is said to be received, and the healthy Primary is left to claim first."""
        made = secondary(store=FullStore("commit")).receive(round_bytes(b"5"))
        assert isinstance(made.session.error, GuestFailed)
        assert made.session.error.hook == "store"
        assert RECEIVED not in made.writes
        assert newest(made)[:2] == (0, b"4")
        assert (made.state, made.arbiter.claims) == (State.FAILOVER, [])  # type: ignore[attr-defined]
        made.lapse()
        assert made.state is State.ALONE

    def test_a_store_that_closed_itself(self) -> None:
        """`Store.commit`: a fault after the new one was safe closes it; what it holds is not known here."""

        class Closing(MemoryStore):
            def commit(self, delta: Delta, device: bytes, meta: Mapping[str, str] | None = None) -> None:
                self.close()
                raise OSError(5, "Input/output error")

        made = secondary(store=Closing()).receive(round_bytes(b"5"))
        assert isinstance(made.session.error, GuestFailed)
        while not made.over:
            made.lapse()
        assert (made.state, made.guest.running) == (State.STOPPED, False)

    def test_a_guest_that_cannot_load_the_initial_state(self) -> None:
        made = Bench(Side.SECONDARY, Counting(failing=("load",))).start()
        made.receive(initial_bytes(b"4", {0: page(4)}))
        assert isinstance(made.session.error, GuestFailed)
        assert isinstance(made.session.error.cause, Broken)
        assert (made.state, made.writes) == (State.STOPPED, [])

    def test_a_half_loaded_guest_never_runs(self) -> None:
        made = secondary()
        made.guest.failing = {"load"}
        made.receive(round_bytes(b"5"))
        assert isinstance(made.session.error, GuestFailed)
        assert (made.state, made.writes[-1][-4:]) == (State.STOPPED, RECEIVED)
        assert (made.guest.running, made.arbiter.claims) == (False, [])  # type: ignore[attr-defined]

    def test_a_guest_that_cannot_resume(self) -> None:
        made = secondary()
        made.guest.failing = {"resume"}
        made.end_of_link()
        assert isinstance(made.session.error, GuestFailed)
        assert (made.state, made.over, made.guest.running) == (State.STOPPED, True, False)
