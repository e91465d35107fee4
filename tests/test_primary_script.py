"""What the Primary's script sends, and when it begins and releases."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from replicas import (
    GENERATION,
    GREETING,
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
    initial_bytes,
    live_bytes,
    same,
    state_bytes,
)

from colo_fsm.colo import COLOMessage, ReleaseOn, ResumeOn, State
from colo_fsm.fsm import GuestFailed, Side, UnexpectedMessage
from colo_fsm.replica import CapacityExceeded, CheckpointTaken, Options, Saved, StateGuest
from colo_fsm.stream import PAGE_SIZE, Page

ROUND = REPLY + RECEIVED + LOADED


def primary(guest: object = None, **more: object) -> Bench:
    """A Primary whose Secondary is ready."""
    return Bench(Side.PRIMARY, guest, **more).start().receive(READY)  # type: ignore[arg-type]


def page(count: int) -> bytes:
    return struct.pack(">Q", count).ljust(PAGE_SIZE, b"\xee")


class TestWhatItSends:
    def test_the_initial_state(self) -> None:
        made = Bench(Side.PRIMARY, Counting()).start()
        greeting, rest = made.writes
        assert greeting == GREETING, "before a save that may take long"
        sent = greeting + rest
        expected = initial_bytes(b"%020d" % 0, {0: page(0)}).partition(struct.pack(">BI", 6, 2) + b"{}")[0]
        assert sent.startswith(expected)
        assert (made.replica.generation, made.state) == (GENERATION, State.INIT)
        assert made.guest.calls == ["save"]

    def test_a_round(self) -> None:
        made = primary(Counting()).lapse().receive(REPLY)
        round_ = SEND + live_bytes({0: page(0)}) + SIZE + state_bytes(b"%020d" % 0)
        assert made.writes[2:] == [REQUEST, round_]

    @pytest.mark.parametrize("rounds", [1, 3])
    def test_a_round_is_two_writes(self, rounds: int) -> None:
        made = primary()
        for _ in range(rounds):
            made.lapse().receive(ROUND)
        assert len(made.writes) == 2 + 2 * rounds
        assert made.replica.checkpoint == rounds

    def test_large_state_is_one_write_of_several_buffers(self) -> None:
        class Large(Counting):
            blocks = {"ram": 256 * PAGE_SIZE}

            def save(self, full: bool) -> Saved:
                return Saved((Page("ram", i * PAGE_SIZE, b"\1" * PAGE_SIZE) for i in range(256)), b"x")

        made = primary(Large()).lapse().receive(REPLY)
        assert len(made.writes) == 5
        assert len(made.writes[4]) > 256 * PAGE_SIZE

    def test_only_what_changed(self) -> None:
        class Service:
            state = bytes(10) + b"\1" * 3 * PAGE_SIZE

            def get_state(self) -> bytes:
                return self.state

            def set_state(self, state: bytes) -> None: ...

        service = Service()
        made = primary(StateGuest(service, 4 * PAGE_SIZE)).lapse().receive(ROUND)
        service.state = service.state[:5000] + b"\2" + service.state[5001:]
        made.lapse().receive(ROUND)
        taken = [e for e in made.events if isinstance(e, CheckpointTaken)]
        assert [(e.number, e.pages) for e in taken] == [(1, 0), (2, 1)]
        assert [e.sent for e in taken] == [len(w) - 16 for w in made.writes[3::2]]


class TestCapacity:
    class Service:
        def __init__(self, used: int) -> None:
            self.state = bytes(used)

        def get_state(self) -> bytes:
            return self.state

        def set_state(self, state: bytes) -> None: ...

    def test_what_is_used_is_told(self) -> None:
        made = primary(StateGuest(self.Service(77), 4 * PAGE_SIZE)).lapse().receive(ROUND)
        assert [e.used for e in made.events if isinstance(e, CheckpointTaken)] == [77]

    def test_a_guest_that_does_not_say(self) -> None:
        made = primary(Counting()).lapse().receive(ROUND)
        assert [e.used for e in made.events if isinstance(e, CheckpointTaken)] == [None]

    def test_a_warning_when_it_is_nearly_full(self, caplog: pytest.LogCaptureFixture) -> None:
        """Once each time: it may shrink again."""
        service, warned = self.Service(0), []
        made = primary(StateGuest(service, 10 * PAGE_SIZE))
        for pages in (7, 8, 9, 7, 8):
            service.state = bytes(pages * PAGE_SIZE)
            made.lapse().receive(ROUND)
            warned.append(len(caplog.messages))
        assert warned == [0, 1, 1, 1, 2]
        assert f"uses {8 * PAGE_SIZE} of its {10 * PAGE_SIZE} bytes" in caplog.text


class TestWhenItBegins:
    def test_after_the_interval(self) -> None:
        made = primary(options=Options(interval=2.0))
        for _ in range(3):
            assert made.wait.timeout == 2.0
            made.lapse().receive(ROUND)
        assert made.replica.checkpoint == 3

    def test_a_wake_up_does_not_put_it_off(self) -> None:
        made = primary(options=Options(interval=2.0)).wake(after=1.5)
        assert made.wait.timeout == 0.5

    def test_a_request_begins_at_once_and_once(self) -> None:
        made = primary(options=Options(interval=2.0))
        made.replica.pace.requested = True
        made.wake()
        assert made.state is State.REQUESTED
        made.receive(ROUND)
        assert (made.state, made.wait.timeout) == (State.LOADED, 2.0)

    def test_an_answer_asks_for_its_checkpoint(self) -> None:
        made = primary(options=Options(interval=77.0))
        out: list[str] = []
        made.replica.outbox.hold(lambda: out.append("a"))
        assert made.wake().state is State.REQUESTED
        made.receive(ROUND)
        assert (made.state, made.replica.checkpoint, out) == (State.REQUESTED, 1, ["a"])

    def test_whoever_waits_for_a_promise_asks_for_it_too(self) -> None:
        made = primary(options=Options(interval=77.0))
        kept: list[str] = []
        made.replica.outbox.promise(lambda: kept.append("kept"), lambda: kept.append("broken"))
        made.wake().receive(ROUND)
        assert (made.state, made.replica.checkpoint, kept) == (State.REQUESTED, 1, ["kept"])

    def test_answers_that_come_while_one_is_under_way_share_the_next(self) -> None:
        made = primary(options=Options(interval=77.0))
        out: list[int] = []
        made.replica.outbox.hold(lambda: out.append(0))
        made.wake().receive(REPLY)
        for number in range(1, 100):
            made.replica.outbox.hold(lambda number=number: out.append(number))  # type: ignore[misc]
        made.receive(RECEIVED + LOADED)
        assert (made.state, out) == (State.REQUESTED, [0])
        made.receive(ROUND)
        assert (made.state, out, made.replica.checkpoint) == (State.LOADED, list(range(100)), 2)

    def test_the_load_of_answers_that_ask_is_bounded(self) -> None:
        made = primary(options=Options(interval=77.0, min_interval=2.0))
        made.wake(after=1.5).replica.outbox.hold(lambda: None)
        assert (made.wake().state, made.wait.timeout) == (State.READY, 0.5)
        assert made.lapse().state is State.REQUESTED

    def test_a_request_inside_a_round_begins_the_next(self) -> None:
        made = primary(options=Options(interval=2.0)).lapse()
        made.replica.pace.requested = True
        made.wake().receive(ROUND)
        assert made.state is State.REQUESTED

    def test_legal_messages_ahead_of_their_turn_wait(self) -> None:
        made = Bench(Side.PRIMARY).start().receive(READY + ROUND + ROUND)
        assert (made.state, made.replica.checkpoint, made.reads) == (State.READY, 0, False)
        made.lapse()
        assert (made.state, made.replica.checkpoint) == (State.LOADED, 1)
        made.lapse()
        assert made.replica.checkpoint == 2
        assert made.session.error is None

    @pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
    def test_any_chunks(self, step: int) -> None:
        made = Bench(Side.PRIMARY).start().receive(READY + ROUND + ROUND + LOADED, step=step)
        assert made.replica.checkpoint == (2 if step < 1000 else 0)
        while not made.session.error:
            made.lapse()
        expected = UnexpectedMessage(
            Side.PRIMARY, State.LOADED, COLOMessage.VMSTATE_LOADED, COLOMessage.CHECKPOINT_REPLY
        )
        assert same(made.session.error, expected)
        assert made.replica.checkpoint == 2

    @pytest.mark.parametrize(("resume_on", "pause"), [*zip(ResumeOn, (8.0, 10.0, 14.0), strict=True)])
    def test_times(self, resume_on: ResumeOn, pause: float) -> None:
        """`pause` is how long the guest stood still, `total` the whole round."""
        made = primary(options=Options(resume_on=resume_on, interval=100, min_interval=1)).lapse()
        made.guest.at["save"] = lambda: setattr(made, "now", made.now + 8)
        made.now += 1
        made.receive(REPLY)
        made.now += 2
        made.receive(RECEIVED)
        made.now += 4
        made.receive(LOADED)
        (taken,) = (e for e in made.events if isinstance(e, CheckpointTaken))
        assert (taken.pause, taken.total) == (pause, 15.0)
        assert made.wait.timeout == 86 + pause, "counted from when the guest ran on"


class TestOutputCommit:
    @pytest.mark.parametrize("release_on", [ReleaseOn.RECEIVED, ReleaseOn.LOADED])
    def test_output_waits_for_its_checkpoint(self, release_on: ReleaseOn) -> None:
        out: list[str] = []
        made = primary(options=Options(release_on=release_on, min_interval=0.1))
        made.replica.outbox.hold(lambda: out.append("before"))
        made.lapse().receive(REPLY)
        made.replica.outbox.hold(lambda: out.append("after"))
        assert out == []
        made.receive(RECEIVED)
        assert out == (["before"] if release_on is ReleaseOn.RECEIVED else [])
        made.receive(LOADED)
        assert out == ["before"]
        made.lapse().receive(ROUND)
        assert out == ["before", "after"]

    def test_the_initial_state_covers_nothing_that_comes_later(self) -> None:
        out: list[str] = []
        made = Bench(Side.PRIMARY).start()
        made.replica.outbox.hold(lambda: out.append("a"))
        made.receive(READY)
        assert out == []

    def test_all_leaves_when_it_runs_alone_and_not_before(self) -> None:
        out: list[str] = []
        made = primary(arbiter=OneShot(unreachable=1)).lapse().receive(REPLY)
        made.replica.outbox.hold(lambda: out.append("a"))
        made.end_of_link()
        assert (made.state, out) == (State.FAILOVER, [])
        made.lapse()
        assert (made.state, out) == (State.ALONE, ["a"])

    def test_nothing_leaves_when_it_stops(self) -> None:
        out: list[str] = []
        made = primary().lapse().receive(REPLY)
        made.replica.outbox.hold(lambda: out.append("sent"), lambda: out.append("dropped"))
        made.arbiter.claim(GENERATION, Side.SECONDARY)
        made.end_of_link()
        assert out == ["dropped"]

    def test_a_delivery_that_raises_harms_no_other(self) -> None:
        """Nobody must wait for ever, and the driver must survive it."""
        out: list[str] = []
        made = primary()
        made.replica.outbox.hold(lambda: out.append("first"))
        made.replica.outbox.hold(broken)
        made.replica.outbox.hold(lambda: out.append("last"))
        made.lapse().receive(ROUND)
        assert out == ["first", "last"]
        assert isinstance(made.session.error, GuestFailed)
        assert isinstance(made.session.error.cause, Broken)


def broken() -> None:
    raise Broken("delivery")


class TestGuest:
    def test_the_order_of_its_hooks(self) -> None:
        made = primary().lapse().receive(ROUND)
        assert made.guest.calls == ["save", "resume", "suspend", "save", "resume"]

    @pytest.mark.parametrize("hook", ["suspend", "save"])
    def test_a_hook_that_raises_inside_a_round(self, hook: str) -> None:
        """The side whose guest failed lets the healthy one claim first, and only then asks."""
        made = primary()
        made.guest.failing = {hook}
        made.lapse().receive(REPLY)
        assert same(made.session.error, GuestFailed(f"guest.{hook}", made.session.error.cause))  # type: ignore[union-attr]
        assert isinstance(made.session.error.cause, Broken)  # type: ignore[union-attr]
        assert not any(w.startswith(SEND) for w in made.writes)
        assert (made.state, made.arbiter.claims) == (State.FAILOVER, [])  # type: ignore[attr-defined]
        made.lapse()
        assert made.state is State.ALONE

    def test_a_guest_that_cannot_go_on_leaves_the_claim_to_the_other(self) -> None:
        """Should it win after all, it answers nobody before its guest runs."""
        out: list[str] = []
        made = primary(options=Options(resume_on=ResumeOn.LOADED)).lapse().receive(REPLY)
        made.replica.outbox.hold(lambda: out.append("answered"))
        made.guest.failing = {"resume"}
        made.receive(RECEIVED)
        held = list(out)
        made.replica.outbox.hold(lambda: out.append("too early"))
        made.receive(LOADED)
        assert (made.state, made.arbiter.claims) == (State.FAILOVER, [])  # type: ignore[attr-defined]
        made.lapse()
        assert made.state is State.STOPPED
        assert "too early" not in out
        assert held in ([], ["answered"])

    @pytest.mark.parametrize("hook", ["save", "resume"])
    def test_a_hook_that_raises_before_ready(self, hook: str) -> None:
        made = Bench(Side.PRIMARY, Counting(failing=(hook,))).start()
        if hook == "resume":
            made.receive(READY)
        assert isinstance(made.session.error, GuestFailed)
        if hook == "resume":
            assert (made.state, made.arbiter.claims) == (State.FAILOVER, [])  # type: ignore[attr-defined]
            made.lapse()
        assert made.state is State.STOPPED
        assert not made.guest.running

    def test_an_arbiter_that_opens_nothing(self) -> None:
        class Away(OneShot):
            def open(self) -> int:
                raise Broken("away")

        made = Bench(Side.PRIMARY, arbiter=Away()).start()
        assert isinstance(made.session.error, GuestFailed)
        assert (made.session.error.hook, made.state, made.writes) == ("arbiter", State.STOPPED, [GREETING])

    def test_pages_that_raise_while_they_are_read(self) -> None:
        class Lazy(Counting):
            def save(self, full: bool) -> Saved:
                def pages() -> Iterator[Page]:
                    yield Page("ram", 0, bytes(PAGE_SIZE))
                    if not full:
                        raise Broken("pages")

                return Saved(pages(), b"x")

        made = primary(Lazy()).lapse().receive(REPLY)
        assert isinstance(made.session.error, GuestFailed)
        assert isinstance(made.session.error.cause, Broken)
        assert len(made.writes) == 3

    @pytest.mark.parametrize(
        "saved",
        [
            pytest.param(lambda: None, id="nothing"),
            pytest.param(lambda: Saved([], "text"), id="text"),  # type: ignore[arg-type]
            pytest.param(lambda: Saved([Page("disk", 0, bytes(PAGE_SIZE))], b""), id="unknown block"),
            pytest.param(lambda: Saved([Page("ram", 1, bytes(PAGE_SIZE))], b""), id="not aligned"),
            pytest.param(lambda: Saved([Page("ram", PAGE_SIZE, bytes(PAGE_SIZE))], b""), id="outside"),
        ],
    )
    @pytest.mark.parametrize("full", [True, False])
    def test_what_a_guest_saves_wrongly_is_its_fault(self, saved: Callable[[], Saved], full: bool) -> None:
        class Wrong(Counting):
            def save(self, now: bool) -> Saved:
                return saved() if now is full else super().save(now)

        made = Bench(Side.PRIMARY, Wrong()).start()
        if not full:
            made.receive(READY).lapse().receive(REPLY)
        assert isinstance(made.session.error, GuestFailed)
        assert made.session.error.hook == "guest.save"

    def test_an_outgrown_capacity_is_said_and_not_sent(self) -> None:
        class Service:
            size = 10

            def get_state(self) -> bytes:
                return bytes(self.size)

            def set_state(self, state: bytes) -> None: ...

        service = Service()
        made = primary(StateGuest(service, 100)).lapse().receive(ROUND)
        service.size = PAGE_SIZE + 1
        made.lapse().receive(REPLY)
        assert isinstance(made.session.error, GuestFailed)
        assert isinstance(made.session.error.cause, CapacityExceeded)
        assert str(PAGE_SIZE + 1) in str(made.session.error)
        assert made.writes[-1] == REQUEST


def test_checkpoints_are_numbered_as_they_are_released() -> None:
    made = primary()
    for number in range(1, 4):
        made.lapse().receive(REPLY + RECEIVED)
        assert made.replica.checkpoint == number - 1
        made.receive(LOADED)
        assert made.replica.checkpoint == number
    numbers = [e.number for e in made.events if isinstance(e, CheckpointTaken)]
    assert all(b == a + 1 for a, b in pairwise(numbers))
