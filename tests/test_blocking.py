"""The blocking driver and its pair: what is different when threads take the place of tasks."""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from replicas import NEVER, PATIENCE, Broken, Counting, OneShot, descriptors, unix

from colo_fsm.colo import State
from colo_fsm.fsm import GuestFailed, Transition
from colo_fsm.replica import (
    CheckpointTaken,
    DirectoryStore,
    NotCommitted,
    NotRunning,
    Options,
    Serving,
    blocking,
    link_pair,
)
from colo_fsm.replica.blocking import Pair

ON_REQUEST = Options(interval=NEVER)
EAGER = Options(interval=0.0)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(1.0)
        assert not thread.is_alive(), thread


@contextmanager
def both(ours: Any = None, theirs: Any = None, options: Options = ON_REQUEST) -> Iterator[tuple[Pair, Pair]]:
    """A Primary that runs, and its Secondary. They leave, the Secondary first."""
    left, right = link_pair()
    held: Any = {"arbiter": OneShot(), "options": options}
    there = blocking.secondary(theirs or Counting(), listen=right, **held)
    here = blocking.primary(ours or Counting(), peer=left, **held)
    there.__enter__()
    here.__enter__()
    try:
        yield here, there
    finally:
        for pair in (there, here):
            if not pair.session.over:
                pair.request_leave()
            pair.wait(PATIENCE)


def checkpoint(pair: Pair) -> None:
    """One checkpoint that covers all that is true now."""
    answered = threading.Event()
    pair.outbox.hold(answered.set)
    pair.request_checkpoint()
    assert answered.wait(PATIENCE)


class TestTurns:
    def test_a_suspend_waits_for_open_turns_and_no_turn_begins_meanwhile(self) -> None:
        ours = Counting()
        with both(ours) as (here, _), ThreadPoolExecutor() as pool:
            replied = threading.Event()
            here.on_transition(lambda _: replied.set(), State.REPLIED)
            with here.turn():
                here.request_checkpoint()
                assert replied.wait(PATIENCE)
                late = pool.submit(self._turn, here, ours)
                assert "suspend" not in ours.calls
                assert not late.done()
            assert late.result(PATIENCE) is True
            assert ours.calls == ["save", "resume", "suspend", "save", "resume"]

    @staticmethod
    def _turn(here: Pair, ours: Counting) -> bool:
        with here.turn():
            return ours.running and ours.calls[-1] == "resume"

    def test_committed_inside_a_turn_is_refused_at_once(self) -> None:
        with both() as (here, _):
            with here.turn(), pytest.raises(RuntimeError, match="after the turn"):
                here.committed(PATIENCE)
            checkpoint(here)

    def test_a_turn_inside_a_turn_is_refused_at_once(self) -> None:
        with both() as (here, _), here.turn(), pytest.raises(RuntimeError), here.turn():
            pass

    def test_a_turn_that_raises_is_over(self) -> None:
        with both() as (here, _):
            with suppress(Broken), here.turn():
                raise Broken
            checkpoint(here)

    def test_committed_gives_up(self) -> None:
        with both() as (here, _):
            with pytest.raises(TimeoutError):
                here.committed(0.01)
            checkpoint(here)


class TestStopped:
    def test_what_waits_is_told(self) -> None:
        with both() as (here, there), ThreadPoolExecutor() as pool:
            waiting = pool.submit(here.committed)
            while not len(here.outbox):
                pass
            here._replica.arbiter.claim(7, there.side)
            here.request_failover()
            with pytest.raises(NotCommitted):
                waiting.result(PATIENCE)
            assert here.wait(PATIENCE) is State.STOPPED
            with pytest.raises(NotCommitted):
                here.committed(PATIENCE)
            with pytest.raises(NotRunning), here.turn():
                pass
            there.running()
            assert there.state is State.ALONE

    @pytest.mark.parametrize("ask", ["request_leave", "request_failover", "request_checkpoint"])
    def test_requests_after_the_end_do_nothing(self, ask: str) -> None:
        with both() as (here, there):
            pass
        getattr(here, ask)()
        getattr(there, ask)()
        assert here.state is there.state is State.ENDED

    def test_the_end_of_the_block_after_the_end_of_the_pair(self) -> None:
        """The usual way: the link breaks, the work stops with NotRunning, the `with` block ends."""
        left, right = link_pair()
        arbiter = OneShot()
        with blocking.secondary(Counting(), listen=right, arbiter=arbiter) as there:
            with blocking.primary(Counting(), peer=left, arbiter=arbiter) as here:
                arbiter.claim(7, there.side)  # else either may win
                there.request_failover()
                assert here.wait(PATIENCE) is State.STOPPED
            there.running()

    def test_a_primary_whose_peer_goes_away_says_so(self) -> None:
        left, right = link_pair()
        right.close()
        with pytest.raises(Exception, match=r"Can't (send|receive) COLO message"):
            blocking.primary(Counting(), peer=left, arbiter=OneShot()).__enter__()

    @pytest.mark.parametrize(
        ("ask", "state"), [("request_leave", State.ENDED), ("request_failover", State.STOPPED)]
    )
    def test_a_secondary_that_only_listens(self, ask: str, state: State, tmp_path: Path) -> None:
        there = blocking.secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot())
        there.__enter__()
        getattr(there, ask)()
        assert there.wait(PATIENCE) is state

    @pytest.mark.parametrize("ask", ["request_leave", "request_failover"])
    def test_a_request_before_it_begins(self, ask: str) -> None:
        """Whoever hands a pair to a signal handler cannot know when the signal comes."""
        left, right = link_pair()
        there = blocking.secondary(Counting(), listen=right, arbiter=OneShot())
        getattr(there, ask)()
        there.__enter__()
        try:
            assert there.wait(1.0) in (State.ENDED, State.STOPPED)
        finally:
            left.close()
            there.wait(PATIENCE)

    def test_a_secondary_leaves_a_primary_that_says_nothing(self) -> None:
        left, right = link_pair()
        there = blocking.secondary(Counting(), listen=right, arbiter=OneShot())
        there.__enter__()
        left.sendall(b"QEVM")
        there.request_leave()
        try:
            assert there.wait(1.0) is State.ENDED
        finally:
            left.close()
            there.wait(PATIENCE)

    def test_the_address_is_known_for_good(self) -> None:
        with blocking.secondary(Counting(), listen="tcp:127.0.0.1:0", arbiter=OneShot()) as there:
            address = there.address
            assert address is not None
            here = blocking.primary(Counting(), peer=str(address), arbiter=OneShot())
            here.__enter__()
            try:
                assert there.address == address
            finally:
                there.request_leave()
                there.wait(PATIENCE)
                here.request_leave()
                here.wait(PATIENCE)


class TestEvents:
    def test_several_subscribers_and_an_end(self) -> None:
        with both() as (here, _):
            first, second = here.events(), here.events()
            here.announce("tcp:somewhere:1")
            checkpoint(here)
        seen = list(first)
        assert list(second) == seen
        assert isinstance(seen[0], Serving)
        assert [e.number for e in seen if isinstance(e, CheckpointTaken)] == [1]
        assert next(e.dest for e in seen if isinstance(e, Transition)) is State.REQUESTED
        assert list(here.events()) == []

    def test_whoever_subscribes_at_the_last_moment_sees_the_end(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        there = blocking.secondary(
            Counting(), listen=unix(tmp_path), arbiter=OneShot(), store=tmp_path / "store"
        )
        late: list[Iterator[object]] = []
        close = DirectoryStore.close

        def closing(store: DirectoryStore) -> None:
            late.append(there.events())
            close(store)

        monkeypatch.setattr(DirectoryStore, "close", closing)
        there.__enter__()
        there.request_leave()
        there.wait(PATIENCE)
        with ThreadPoolExecutor() as pool:
            assert pool.submit(list, late[0]).result(PATIENCE) == []


class TestRequests:
    def test_checkpoints_requested_from_many_threads(self) -> None:
        ours, theirs = Counting(), Counting()
        lock = threading.Lock()
        with both(ours, theirs) as (here, _), ThreadPoolExecutor() as pool:

            def client() -> None:
                for _ in range(40):
                    with here.turn(), lock:
                        ours.count += 1
                        counted = ours.count
                    checkpoint(here)
                    assert theirs.count >= counted

            for done in [pool.submit(client) for _ in range(3)]:
                done.result(PATIENCE)
            assert ours.count == 120

    @pytest.mark.parametrize("interval", [math.inf, 1e12])
    def test_an_interval_without_end(self, interval: float) -> None:
        with both(options=Options(interval=interval)) as (here, _):
            checkpoint(here)


class TestHooks:
    def test_they_run_on_the_pairs_thread(self) -> None:
        ours, theirs = Counting(), Counting()
        with both(ours, theirs) as (here, _):
            checkpoint(here)
        assert (ours.threads, theirs.threads) == ({"colo-fsm primary"}, {"colo-fsm secondary"})

    def test_a_failed_hook_is_told_once_and_by_no_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        ours = Counting()
        with both(ours) as (here, there):
            ours.failing = {"save"}
            over = threading.Event()
            for state in (State.ALONE, State.STOPPED):
                here.on_transition(lambda _: over.set(), state)
            here.request_checkpoint()
            assert over.wait(PATIENCE)
            assert isinstance(here.session.error, GuestFailed)
            assert here.state is not State.ALONE or there.wait(PATIENCE) is State.STOPPED
        assert [r.getMessage() for r in caplog.records].count("guest.save failed: Broken: save") == 1


class TestClosing:
    @pytest.mark.parametrize("enter", ["primary", "secondary"])
    def test_what_cannot_be_entered_leaves_nothing_open(self, enter: str, tmp_path: Path) -> None:
        gc.collect()
        before = descriptors()
        make: dict[str, Callable[[], Pair]] = {
            "primary": lambda: blocking.primary(
                Counting(), peer=unix(tmp_path), arbiter=OneShot(), options=Options(connect_timeout=0.0)
            ),
            "secondary": lambda: blocking.secondary(
                Counting(), listen=f"unix:{tmp_path}", arbiter=OneShot(), store=tmp_path / "store"
            ),
        }
        pair = make[enter]()
        with pytest.raises(OSError, match=r"start the Secondary first|in use"):
            pair.__enter__()
        assert descriptors() == before
