"""A standby takes Primaries until one was ready, and ends in order whenever it is told to."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from standby_process import READY, REPLY, StreamPrimary, initial, live, state
from vm_link import keep, number_in
from vm_stream import command, head, start

from colo_fsm.arbiter import Arbiter, ArbiterError, Claim, GenerationClaimed, Unarbitrated
from colo_fsm.colo import State
from colo_fsm.fsm import LinkLost, Side
from colo_fsm.qemu import Held, Outcome, Standby, StandbyReplica, VmRound
from colo_fsm.replica import (
    ClaimAnswered,
    ClaimUnanswered,
    DirectoryStore,
    MemoryStore,
    Options,
    Refused,
    Store,
)
from colo_fsm.replica.door import LET_RUN
from colo_fsm.stream.sections import shut

PATIENCE = 20


class Silent(Unarbitrated):
    """An arbiter that does not answer."""

    def claim(self, generation: int, side: Side) -> Claim:
        raise ArbiterError("out of reach")


class Lost(Unarbitrated):
    def claim(self, generation: int, side: Side) -> Claim:
        return super().claim(generation, side.peer)


class Holding:
    """A standby at work in a thread. `told` is what it said, `outcome` waits for its end."""

    def __init__(
        self,
        arbiter: Arbiter | None = None,
        tell: Callable[[object], None] = lambda _: None,
        store: Store | None = None,
        **more: Any,
    ) -> None:
        self.store = store or MemoryStore()
        self.told: list[object] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        arbiter = arbiter or Unarbitrated()
        options = Options(claim_retry=0.01)
        make = partial(
            StandbyReplica, guest=Held(), arbiter=arbiter, options=options, store=self.store, generation=7,
            disks_elsewhere=False, **{"memory_limit": 1 << 20, **more},
        )  # fmt: skip
        self._tell = tell
        self.standby = Standby(self.listener, make, self._note)
        self._outcomes: list[Outcome] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=lambda: self._outcomes.append(self.standby.run()))

    def __enter__(self) -> Holding:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.standby.end()
        self._thread.join(PATIENCE)
        self.listener.close()
        self.store.close()
        assert not self._thread.is_alive()

    def _note(self, event: object) -> None:
        with self._news:
            self.told.append(event)
            self._news.notify_all()
        self._tell(event)

    def says(self, kind: type) -> Any:
        """Wait until it has told such an event; the first."""
        with self._news:
            assert self._news.wait_for(lambda: any(isinstance(e, kind) for e in self.told), PATIENCE)
        return next(e for e in self.told if isinstance(e, kind))

    def outcome(self) -> Outcome:
        self._thread.join(PATIENCE)
        return self._outcomes[0]

    def primary(self) -> StreamPrimary:
        link = socket.create_connection(self.listener.getsockname(), PATIENCE)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return StreamPrimary(link)


class TestOutcome:
    def test_a_claim_that_is_won(self) -> None:
        with Holding() as holding:
            with holding.primary() as primary:
                primary.begin().rounds(1, 2)
            outcome = holding.outcome()
            assert (outcome.state, outcome.token) == (
                State.ALONE,
                Unarbitrated().claim(7, Side.SECONDARY).token,
            )
            assert isinstance(outcome.error, LinkLost)
            assert number_in(holding.store) == 2
            assert holding.says(ClaimAnswered).won
            rounds = [e for e in holding.told if isinstance(e, VmRound)]
            assert [(e.number, e.pages, e.zero_pages) for e in rounds] == [(1, 4, 0), (2, 4, 0)]
            for e in rounds:
                assert (e.live_bytes, e.vmstate_bytes) == (len(live(1)), len(state(1)) - 8)
                assert e.sent == e.live_bytes + e.vmstate_bytes
                assert 0 < e.total < PATIENCE

    def test_a_claim_that_is_lost(self) -> None:
        with Holding(Lost()) as holding:
            with holding.primary() as primary:
                primary.begin().round(1)
            assert (holding.outcome().state, holding.outcome().token) == (State.STOPPED, 0)

    def test_who_never_came_to_a_checkpoint_does_not_keep_the_next_one_out(self) -> None:
        with Holding() as holding:
            for size in (0, 10, 9000):
                with holding.primary() as stranger:
                    stranger.link.sendall(initial()[:size])
            with holding.primary() as primary:
                primary.begin().round(1)
            assert holding.outcome().state is State.ALONE
            assert holding.says(Refused)

    def test_who_breaks_the_connection_off_does_not_keep_the_next_one_out(self) -> None:
        with Holding() as holding:
            for size in (0, 10, 9000) * 3:
                with holding.primary() as stranger:
                    stranger.link.sendall(initial()[:size])
                    stranger.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with holding.primary() as primary:
                primary.begin().round(1)
            assert holding.outcome().state is State.ALONE


class Asked(Unarbitrated):
    """Nobody may ask it."""

    def claim(self, generation: int, side: Side) -> Claim:
        raise AssertionError("claimed for a VM that was never protected")


PLAIN = "this is a plain migration: x-colo is off on the Primary"


class TestProtected:
    """Nothing is claimed before a VM has had its first round, and what was held before stays until then."""

    def test_a_vm_that_is_lost_before_its_first_round_is_not_claimed_for(self) -> None:
        with Holding(Asked()) as holding:
            with holding.primary() as stranger:
                stranger.begin()
                stranger.link.sendall(struct.pack(">I", 1))
                stranger.expect(REPLY)
            assert "before its first round was whole" in holding.says(Refused).why
            with holding.primary() as primary:
                primary.begin().round(1)
                assert number_in(holding.store) == 1

    @pytest.mark.parametrize(
        ("machine", "hint"),
        [
            ("pc-i440fx-11.1", r"\(switch return-path on, and then x-colo\)"),
            ("pc-q35-7.2", r"\(switch x-colo on, before it return-path if this is QEMU 11 or later\)"),
            ("microvm", r"\(switch x-colo on, before it return-path if .*\)"),
        ],
    )
    def test_a_plain_migration_is_told_apart_and_can_be_restored(self, machine: str, hint: str) -> None:
        with Holding(Asked()) as holding:
            with holding.primary() as migration:
                migration.link.sendall(initial(3).replace(head(), head(machine), 1))
                migration.expect(READY)
            assert re.search(f"{PLAIN}.*{hint}; `cont`", holding.says(Refused).why)
            assert holding.store.newest is not None
            assert holding.store.newest.number == 0

    def test_a_primary_that_says_it_does_colo_is_no_plain_migration(self) -> None:
        with Holding(Asked()) as holding:
            with holding.primary() as primary:
                primary.link.sendall(initial().replace(start(), command(8) + start(), 1))
                primary.expect(READY)
            assert holding.says(Refused).why.startswith("the VM was lost before its first round")

    def test_a_return_path_may_be_of_either_kind(self) -> None:
        with Holding(Asked()) as holding:
            with holding.primary() as primary:
                primary.link.sendall(initial().replace(start(), command(1) + start(), 1))
                primary.expect(shut() + READY)
            assert "x-colo is off" in holding.says(Refused).why
            assert "or the VM was lost before its first round was whole" in holding.says(Refused).why

    def test_whoever_has_begun_a_round_is_no_plain_migration(self) -> None:
        for opened, answers in (b"", b""), (command(1), shut()):
            with Holding(Asked()) as holding:
                with holding.primary() as primary:
                    primary.link.sendall(initial().replace(start(), opened + start(), 1))
                    primary.expect(answers + READY)
                    primary.link.sendall(struct.pack(">I", 1))
                    primary.expect(REPLY)
                assert holding.says(Refused).why.startswith("the VM was lost before its first round")

    @pytest.mark.parametrize("more", [b"", struct.pack(">I", 1), struct.pack(">I", 5)])
    def test_the_checkpoint_of_before_is_kept_until_the_new_one_has_a_round(
        self, tmp_path: Path, more: bytes
    ) -> None:
        with DirectoryStore(tmp_path) as store:
            keep(store, 3)
        with DirectoryStore(tmp_path) as store, Holding(Asked(), store=store) as holding:
            with holding.primary() as stranger:
                stranger.begin()
                stranger.link.sendall(more)
            holding.says(Refused)
            assert number_in(store) == 3
            with holding.primary() as primary:
                primary.begin()
                assert {p.name for p in tmp_path.glob("image-*")} == {"image-1", "image-2"}
                primary.round(1)
                assert number_in(store) == 1
                assert {p.name for p in tmp_path.glob("image-*")} == {"image-2"}
            holding.standby.end()

    def test_after_initial_is_for_who_wants_it_all_the_same(self) -> None:
        with Holding(after_initial=True) as holding:
            with holding.primary() as primary:
                primary.begin()
            assert holding.outcome().state is State.ALONE


class TestStrangers:
    def test_a_second_primary_runs_on_and_sees_its_link_end(self) -> None:
        with Holding() as holding, holding.primary() as primary:
            primary.begin().round(1)
            with holding.primary() as second:
                second.link.sendall(initial())
                assert second.link.recv(100) == LET_RUN
            assert "busy" in holding.says(Refused).why
            primary.rounds(2, 5)

    def test_a_guest_of_our_own_is_told_which_command_it_wants(self) -> None:
        with Holding() as holding, holding.primary() as ours:
            ours.link.sendall(head("colo-fsm"))
            assert b"needs colo-fsm secondary" in ours.link.recv(1000)

    def test_more_memory_than_the_limit_is_refused_before_it_is_made(self) -> None:
        with Holding(memory_limit=1 << 13) as holding, holding.primary() as primary:
            primary.link.sendall(initial())
            assert "over the limit of 8192" in holding.says(Refused).why
            assert holding.store.begun is None  # type: ignore[attr-defined]

    def test_by_default_the_limit_is_what_there_is_room_for(self, tmp_path: Path) -> None:
        with DirectoryStore(tmp_path) as store, Holding(store=store, memory_limit=None) as holding:
            with holding.primary() as stranger:
                stranger.link.sendall(head() + start(blocks={"pc.ram": 1 << 50}))
                assert "over the limit of" in holding.says(Refused).why
            assert not list(tmp_path.glob("image-*"))


class Closed(Unarbitrated):
    """Its generation is over."""

    def check(self, generation: int) -> None:
        raise GenerationClaimed(generation, Side.PRIMARY)


class Failing(MemoryStore):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def complete(self, *_: Any, **__: Any) -> None:
        raise OSError(self.number, os.strerror(self.number))


class TestItsOwnFault:
    """What nobody's VM could be held with ends it; what is about one VM does not."""

    @pytest.mark.parametrize(
        ("arbiter", "store", "said"),
        [
            (Closed(), None, "generation 7 is over"),
            (None, Failing(errno.EIO), "store failed: OSError: [Errno 5] Input/output error"),
        ],
    )
    def test_ends_it_with_its_own_error(
        self, arbiter: Arbiter | None, store: Store | None, said: str
    ) -> None:
        with Holding(arbiter, store=store) as holding, holding.primary() as primary:
            primary.link.sendall(initial())
            outcome = holding.outcome()
            assert outcome.state is State.STOPPED
            assert said in str(outcome.error)
            assert not [event for event in holding.told if isinstance(event, Refused)]

    def test_a_vm_that_is_too_large_for_the_disk_does_not_keep_the_next_one_out(self) -> None:
        with Holding(store=Failing(errno.ENOSPC)) as holding:
            for _ in range(2):
                with holding.primary() as primary:
                    primary.link.sendall(initial())
                    assert primary.link.recv(100) == LET_RUN
            assert "No space left on device" in holding.says(Refused).why


@contextlib.contextmanager
def listening(holding: Holding) -> Iterator[None]:
    yield


@contextlib.contextmanager
def first_bytes(holding: Holding) -> Iterator[None]:
    with holding.primary() as primary:
        primary.link.sendall(initial()[:9000])
        yield


@contextlib.contextmanager
def between_rounds(holding: Holding) -> Iterator[None]:
    with holding.primary() as primary:
        primary.begin().round(1)
        yield


@contextlib.contextmanager
def awaiting_the_claim(holding: Holding) -> Iterator[None]:
    with holding.primary() as primary:
        primary.begin().round(1)
    holding.says(ClaimUnanswered)
    yield


class TestEnd:
    @pytest.mark.parametrize("moment", [listening, first_bytes, between_rounds])
    def test_in_order_at_any_moment(
        self, moment: Callable[[Holding], contextlib.AbstractContextManager[None]]
    ) -> None:
        with Holding() as holding, moment(holding):
            holding.standby.end()
            assert holding.outcome() == Outcome(State.ENDED, None, 0)
            holding.standby.end()

    def test_before_it_began(self) -> None:
        holding = Holding()
        holding.standby.end()
        assert holding.standby.run() == Outcome(State.ENDED, None, 0)
        holding.listener.close()
        holding.standby.end()

    def test_while_the_arbiter_does_not_answer(self) -> None:
        with Holding(Silent()) as holding, awaiting_the_claim(holding):
            holding.standby.end()
            outcome = holding.outcome()
            assert (outcome.state, outcome.token) == (State.STOPPED, 0)

    @pytest.mark.parametrize("whole", [True, False])
    def test_while_the_pair_ends_by_itself(self, whole: bool) -> None:
        """Whichever is first, nothing raises; and if the claim was won, that is said."""
        for _ in range(10):
            with Holding() as holding:
                with holding.primary() as primary:
                    if whole:
                        primary.begin().round(1)
                    else:
                        primary.link.sendall(initial()[:9000])
                    enders = [threading.Thread(target=holding.standby.end) for _ in range(2)]
                    for thread in enders:
                        thread.start()
                for thread in enders:
                    thread.join()
                outcome = holding.outcome()
                won = any(isinstance(e, ClaimAnswered) and e.won for e in holding.told)
                assert outcome.state is (State.ALONE if won else State.ENDED)


class TestTell:
    def test_what_it_raises_is_logged_and_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        def fail(event: object) -> None:
            raise BrokenPipeError("nobody reads")

        with Holding(tell=fail) as holding:
            with holding.primary() as stranger:
                stranger.link.sendall(b"nonsense")
            holding.says(Refused)
            with holding.primary() as primary:
                primary.begin().rounds(1, 3)
            assert holding.outcome().state is State.ALONE
            assert number_in(holding.store) == 3
            assert len([e for e in holding.told if isinstance(e, VmRound)]) == 3
        assert "nobody reads" in caplog.text
        assert any(r.levelno == logging.ERROR and "is told" in r.getMessage() for r in caplog.records)


def test_the_answer_does_not_wait_for_a_description() -> None:
    """`-machine suppress-vmdesc=on` leaves it out; otherwise it comes in any pieces."""
    whole = initial()
    at = whole.rindex(b"\x06", 0, whole.rindex(b'{"devices"'))
    with Holding() as holding, holding.primary() as primary:
        primary.link.sendall(whole[:at])
        primary.expect(READY)
        for piece in (whole[at : at + 2], whole[at + 2 : -1], whole[-1:]):
            primary.link.sendall(piece)
        primary.round(1)
        newest = holding.store.newest
        assert newest is not None
        assert "description" in newest.meta
