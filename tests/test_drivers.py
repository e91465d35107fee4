"""Both drivers and their pairs: turns, waiting, events, hooks, beginning and ending, one suite for both.

`side` is a `Live` (replicas.py), which hides whether methods block or are awaited.
"""

from __future__ import annotations

import gc
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from protocols import goodbye, remus
from replicas import (
    DRIVERS,
    GENERATION,
    GREETING,
    NEVER,
    PATIENCE,
    READY,
    Broken,
    Counting,
    DriverName,
    Live,
    LoopThread,
    OneShot,
    descriptors,
    initial_bytes,
    live,
    unix,
)

from colo_fsm.colo import PRIMARY, SECONDARY, State
from colo_fsm.fsm import SIGN_OF_LIFE, FailoverStatus, GuestFailed, LinkLost, Side, Table, Transition
from colo_fsm.replica import (
    CheckpointTaken,
    ClaimAnswered,
    DirectoryStore,
    Dropped,
    MemoryStore,
    NotCommitted,
    NotRunning,
    Options,
    Serving,
    StoreError,
    link_pair,
)
from colo_fsm.replica.events import MOST_UNREAD

ON_REQUEST = Options(interval=NEVER, min_interval=NEVER)
P, S = Side.PRIMARY, Side.SECONDARY


class Make:
    """Makes the sides of one test, all with one driver, and ends what is left of them."""

    def __init__(self, driver: DriverName, loop: LoopThread) -> None:
        self.driver = driver
        self._loop = loop
        self._made: list[Live] = []

    def __call__(self, side: Side, guest: Any, link: Any, **more: Any) -> Live:
        made = live(self.driver, self._loop, side, guest, link, **{"arbiter": OneShot()} | more)
        self._made.append(made)
        return made

    def both(self, ours: Any = None, theirs: Any = None, options: Options = ON_REQUEST) -> tuple[Live, Live]:
        """A Primary that runs, and its Secondary."""
        left, right = link_pair()
        held: Any = {"arbiter": OneShot(), "options": options}
        there = self(S, theirs or Counting(), right, **held)
        here = self(P, ours or Counting(), left, **held)
        there.enter()
        here.enter()
        return here, there

    def end(self) -> None:
        """The Secondaries first."""
        for side in sorted(self._made, key=lambda made: made.pair.side, reverse=True):
            if side.begun:
                side.leave()


@pytest.fixture(params=DRIVERS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    before = set(threading.enumerate())
    with LoopThread() as loop:
        made = Make(request.param, loop)
        try:
            yield made
        finally:
            made.end()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


def when(side: Live, state: State) -> threading.Event:
    """Set once this side is there."""
    reached = threading.Event()
    side.pair.on_transition(lambda _: reached.set(), state)
    return reached


def checkpoint(side: Live) -> None:
    """One checkpoint that covers all that is true now."""
    answered = threading.Event()
    side.do(lambda: side.pair.outbox.hold(answered.set))
    side.do(side.pair.request_checkpoint)
    assert answered.wait(PATIENCE)


def test_an_answer_waits_for_a_round_and_not_for_a_clock(make: Make) -> None:
    """With the longest interval there is."""
    here, _ = make.both(options=Options(interval=24 * 3600))
    for _ in range(3):
        answered = threading.Event()
        here.do(lambda: here.pair.outbox.hold(answered.set))  # noqa: B023 - it is done at once
        assert answered.wait(PATIENCE)
    assert 1 <= here.pair.checkpoint <= 3


class Gated:
    """A hook that says when it is entered, and returns when it may."""

    def __init__(self, guest: Counting, hook: str) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        guest.at[hook] = self._wait

    def _wait(self) -> None:
        self.entered.set()
        assert self.go_on.wait(PATIENCE)


class TestTurns:
    def test_a_suspend_waits_for_open_turns_and_no_turn_begins_meanwhile(
        self, make: Make, pool: ThreadPoolExecutor
    ) -> None:
        ours = Counting()
        here, _ = make.both(ours)
        replied = when(here, State.REPLIED)

        def late() -> bool:
            with here.turn():
                return ours.running and ours.calls[-1] == "resume"

        with here.turn():
            here.do(here.pair.request_checkpoint)
            assert replied.wait(PATIENCE)
            waiting = pool.submit(late)
            assert "suspend" not in ours.calls
            assert not waiting.done()
        assert waiting.result(PATIENCE) is True
        assert ours.calls == ["save", "resume", "suspend", "save", "resume"]

    def test_no_turn_begins_while_suspended(self, make: Make, pool: ThreadPoolExecutor) -> None:
        ours = Counting()
        here, _ = make.both(ours)
        saving = Gated(ours, "save")
        began: list[bool] = []

        def late() -> None:
            with here.turn():
                began.append(ours.running)

        here.do(here.pair.request_checkpoint)
        assert saving.entered.wait(PATIENCE)
        waiting = pool.submit(late)
        checked = began.copy()
        saving.go_on.set()
        waiting.result(PATIENCE)
        assert (checked, began) == ([], [True])

    @pytest.mark.parametrize("what", ["committed", "turn"])
    def test_what_would_wait_for_its_own_turn_is_refused_at_once(self, make: Make, what: str) -> None:
        """A suspend that comes between would wait for the outer turn, and that for the suspend."""
        here, _ = make.both()
        with pytest.raises(RuntimeError, match="after the turn"):
            here.inside_a_turn(what)
        checkpoint(here)

    def test_the_turn_of_another_pair_is_no_obstacle(self, make: Make) -> None:
        """Two pairs in one process do not know of each other."""
        here, _ = make.both(options=Options(interval=0.0))
        other, _ = make.both(options=Options(interval=0.0))
        other.inside_a_turn("turn", here)
        other.inside_a_turn("committed", here)
        checkpoint(other)

    def test_a_turn_that_raises_is_over(self, make: Make) -> None:
        here, _ = make.both()
        with suppress(Broken), here.turn():
            raise Broken
        checkpoint(here)

    def test_a_turn_that_does_not_end_is_a_fault_in_time(self, make: Make) -> None:
        ours = Counting()
        here, there = make.both(
            ours, options=Options(interval=NEVER, min_interval=NEVER, hook_deadline=0.1, claim_retry=0.05)
        )
        with here.turn():
            here.do(here.pair.request_checkpoint)
            there.running()
            assert here.pair.state is State.FAILOVER, "it does not claim with a guest that is not suspended"
        assert here.settled() is State.STOPPED
        assert isinstance(here.pair.session.error, GuestFailed)
        assert "a turn failed: TimeoutError: it has been open for 0.1" in str(here.pair.session.error)

    def test_a_failover_does_not_wait_for_a_turn(self, make: Make) -> None:
        """The peer takes over at once; a side does not claim before its own turns are over."""
        here, there = make.both()
        replied = when(here, State.REPLIED)
        with here.turn():
            here.do(here.pair.request_checkpoint)
            assert replied.wait(PATIENCE)
            here.do(here.pair.request_failover)
            there.running()
            assert here.pair.state is State.FAILOVER
        assert here.wait() is State.STOPPED
        assert here.pair._replica.arbiter.claims == [S, P]  # type: ignore[attr-defined]

    def test_leaving_waits_for_a_turn_and_not_for_ever(self, make: Make) -> None:
        here, _ = make.both(options=Options(interval=NEVER, min_interval=NEVER, hook_deadline=0.1))
        with here.turn():
            here.do(here.pair.request_leave)
            assert here.wait() is State.ENDED


class TestStopped:
    def test_what_waits_is_told(self, make: Make, pool: ThreadPoolExecutor) -> None:
        here, there = make.both()
        waiting = pool.submit(here.committed)
        while not len(here.pair.outbox):
            time.sleep(0.001)
        here.pair._replica.arbiter.claim(GENERATION, S)
        here.do(here.pair.request_failover)
        with pytest.raises(NotCommitted):
            waiting.result(PATIENCE)
        assert here.wait() is State.STOPPED
        with pytest.raises(NotCommitted):
            here.committed()
        with pytest.raises(NotRunning), here.turn():
            pass
        there.running()
        assert (there.pair.state, there.pair.token) == (State.ALONE, 1)

    def test_running_waits_on_a_secondary(self, make: Make, pool: ThreadPoolExecutor) -> None:
        theirs = Counting()
        here, there = make.both(theirs=theirs)
        waiting = pool.submit(there.running)
        checkpoint(here)
        assert not waiting.done()
        assert not theirs.running
        here.do(here.pair.request_leave)
        waiting.result(PATIENCE)
        assert theirs.running

    def test_running_raises_what_was_wrong(self, make: Make) -> None:
        left, right = link_pair()
        there = make(S, Counting(), right)
        there.enter()
        with left:
            left.sendall(b"nonsense")
            with pytest.raises(Exception, match="magic"):
                there.running()
            assert there.wait() is State.STOPPED

    @pytest.mark.parametrize("ask", ["request_leave", "request_failover", "request_checkpoint"])
    def test_requests_after_the_end_do_nothing(self, make: Make, ask: str) -> None:
        here, there = make.both()
        there.leave()
        here.leave()
        for side in (here, there):
            side.do(getattr(side.pair, ask))
        assert here.pair.state is there.pair.state is State.ENDED

    def test_leaving_after_the_end(self, make: Make) -> None:
        """The usual way: the link breaks, the work stops with NotRunning, the block ends."""
        here, there = make.both()
        here.pair._replica.arbiter.claim(GENERATION, S)  # else either may win
        there.do(there.pair.request_failover)
        assert here.wait() is State.STOPPED
        here.exit()
        there.running()
        there.exit()
        assert there.pair.state is State.ENDED

    def test_a_failover(self, make: Make) -> None:
        here, there = make.both()
        here.pair._replica.arbiter.claim(GENERATION, S)
        there.do(there.pair.request_failover)
        there.running()
        assert there.pair.failover_status is FailoverStatus.COMPLETED
        assert here.wait() is State.STOPPED
        assert isinstance(here.pair.session.error, LinkLost)

    def test_who_has_lost_is_told_to_whom(self, make: Make) -> None:
        here, there = make.both()
        here.pair._replica.arbiter.claim(GENERATION, S)
        there.do(there.pair.request_failover)
        assert here.wait() is State.STOPPED
        for ask in (here.running, lambda: here.turn().__enter__()):
            with pytest.raises(NotRunning, match="the claim was lost to the secondary") as caught:
                ask()
            assert caught.value.__cause__ is here.pair.session.error


SIGNS = Options(interval=NEVER, min_interval=NEVER, deadline=2.0)
"""A sign of life every 0.4 s."""


class TestSlowIsNotDead:
    """The test is the peer: it lets the hook return once it has seen a sign of life."""

    @pytest.mark.parametrize("hook", ["save", "resume"])
    def test_a_primary_at_work(self, make: Make, hook: str) -> None:
        left, right = link_pair()
        ours, seen = Counting(), threading.Event()
        here = make(P, ours, left, options=SIGNS)
        ours.at[hook] = lambda: seen.wait(PATIENCE)
        with right, ThreadPoolExecutor(1) as pool:
            entered = pool.submit(here.enter)
            right.settimeout(PATIENCE)
            read = right.makefile("rb").read
            assert read(len(GREETING)) == GREETING
            if hook == "save":
                assert read(4) == SIGN_OF_LIFE
                seen.set()
                right.sendall(READY)
            else:
                right.sendall(READY)
                assert _ends_with(read, SIGN_OF_LIFE)
                seen.set()
            entered.result(PATIENCE)
            assert here.pair.session.error is None
            here.leave()

    def test_a_secondary_at_work(self, make: Make) -> None:
        left, right = link_pair()
        theirs, seen = Counting(paged=False), threading.Event()
        there = make(S, theirs, right, options=SIGNS)
        theirs.at["load"] = lambda: seen.wait(PATIENCE)
        with left:
            there.enter()
            left.settimeout(PATIENCE)
            left.sendall(initial_bytes())
            read = left.makefile("rb").read
            assert read(4) == SIGN_OF_LIFE
            seen.set()
            assert _ends_with(read, READY)
            there.leave()


def _ends_with(read: Any, tail: bytes) -> bool:
    """Read until this has come."""
    data = b""
    while not data.endswith(tail):
        piece = read(1)
        assert piece, data
        data += piece
    return True


class TestBeginning:
    def test_a_primary_whose_peer_goes_away_says_so(self, make: Make) -> None:
        left, right = link_pair()
        right.close()
        with pytest.raises(Exception, match=r"Can't (send|receive) COLO message"):
            make(P, Counting(), left).enter()

    @pytest.mark.parametrize(
        ("ask", "state"), [("request_leave", State.ENDED), ("request_failover", State.STOPPED)]
    )
    def test_a_secondary_that_only_listens(self, make: Make, ask: str, state: State, tmp_path: Path) -> None:
        there = make(S, Counting(), unix(tmp_path))
        there.enter()
        there.do(getattr(there.pair, ask))
        assert there.wait() is state

    @pytest.mark.parametrize("ask", ["request_leave", "request_failover"])
    def test_a_request_before_it_begins(self, make: Make, ask: str) -> None:
        """Whoever hands a pair to a signal handler cannot know when the signal comes."""
        left, right = link_pair()
        there = make(S, Counting(), right)
        there.do(getattr(there.pair, ask))
        there.enter()
        assert there.wait() in (State.ENDED, State.STOPPED)
        left.close()

    @pytest.mark.parametrize("sent", [b"", b"QEVM"])
    def test_a_secondary_leaves_a_primary_that_says_nothing(self, make: Make, sent: bytes) -> None:
        left, right = link_pair()
        with left:
            there = make(S, Counting(), right)
            there.enter()
            left.sendall(sent)
            there.do(there.pair.request_leave)
            assert there.wait() is State.ENDED

    def test_the_address_is_known_for_good(self, make: Make) -> None:
        there = make(S, Counting(), "tcp:127.0.0.1:0")
        there.enter()
        address = there.pair.address
        assert address is not None
        assert address.port > 0
        here = make(P, Counting(), str(address))
        here.enter()
        assert (here.pair.address, there.pair.address) == (None, address)
        there.leave()
        assert there.pair.address == address

    @pytest.mark.parametrize("ask", ["request_leave", "request_failover"])
    def test_a_primary_that_connects_can_be_given_up(
        self, make: Make, ask: str, tmp_path: Path, pool: ThreadPoolExecutor
    ) -> None:
        here = make(P, Counting(), unix(tmp_path), options=Options(connect_timeout=NEVER))
        entering = pool.submit(here.enter)
        while not here.pair._driver:
            time.sleep(0.001)
        here.do(getattr(here.pair, ask))
        with pytest.raises(Exception, match=r"stopped|Failover requested"):
            entering.result(PATIENCE)
        assert not here.pair._replica.arbiter.claims  # type: ignore[attr-defined]

    @pytest.mark.parametrize("where", ["nonsense", "tcp:192.0.2.1:9998"])
    def test_a_wrong_address_leaves_the_store_to_others(self, make: Make, where: str, tmp_path: Path) -> None:
        arbiter = f"sqlite:{tmp_path / 'claim.db'}"
        with pytest.raises(ValueError, match=r"no address|another machine"):
            make(S, Counting(), where, store=tmp_path / "store", arbiter=arbiter)
        DirectoryStore(tmp_path / "store").close()

    @pytest.mark.parametrize("wrong", [PRIMARY, SECONDARY], ids=["side", "effect"])
    def test_a_wrong_table_does_too(self, make: Make, wrong: Any, tmp_path: Path) -> None:
        if wrong is SECONDARY:
            wrong = Table(S, wrong.words, wrong.lines, (*wrong.start, "dance"))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"the primary's table|dance"):
            make(S, Counting(), unix(tmp_path), store=tmp_path / "store", table=wrong)
        DirectoryStore(tmp_path / "store").close()

    def test_a_listener_survives_connections_that_fail(
        self, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        place = FailingPlace(
            tmp_path, [ConnectionAbortedError(103, "aborted"), OSError(24, "too many files")]
        )
        there = make(S, Counting(), unix(tmp_path))
        there.pair._life._place = place
        there.enter()
        here = make(P, Counting(), unix(tmp_path))
        here.enter()
        checkpoint(here)
        told = [r.getMessage() for r in caplog.records if "accept" in r.getMessage()]
        assert len(told) == 2
        assert "too many files" in told[1]

    def test_a_listener_that_is_no_more_ends_the_pair(self, make: Make, tmp_path: Path) -> None:
        there = make(S, Counting(), unix(tmp_path))
        there.pair._life._place = FailingPlace(tmp_path, [OSError(9, "bad descriptor")])
        there.enter()
        with suppress(OSError), socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(tmp_path / "s"))
            with pytest.raises(OSError, match="bad descriptor"):
                there.wait()
        there.begun = False


class FailingPlace:
    """Listens at a Unix socket; the first accepts fail like this."""

    def __init__(self, path: Path, errors: list[OSError]) -> None:
        self._path = path
        self._errors = errors

    def resolve(self) -> Any: ...
    def new_socket(self, family: int) -> Any: ...

    def listen(self) -> Any:
        errors = self._errors

        class Failing(socket.socket):
            def accept(self) -> Any:
                if errors:
                    raise errors.pop(0)
                return super().accept()

        listener = Failing(socket.AF_UNIX)
        listener.bind(str(self._path / "s"))
        listener.listen()
        return listener


class TestEvents:
    def test_several_subscribers_and_an_end(self, make: Make) -> None:
        here, there = make.both()
        first, second, theirs = here.events(), here.events(), there.events()
        here.do(lambda: here.pair.announce("tcp:somewhere:1"))
        checkpoint(here)
        there.leave()
        here.leave()
        seen = list(first)
        assert list(second) == seen
        assert list(first) == []
        assert isinstance(seen[0], Serving)
        assert [e.number for e in seen if isinstance(e, CheckpointTaken)] == [1]
        assert next(e.dest for e in seen if isinstance(e, Transition)) is State.REQUESTED
        assert isinstance(seen[-1], Transition | ClaimAnswered)
        assert [e.dest for e in theirs if isinstance(e, Transition)][-2:] == [State.LOADED, State.ENDED]
        assert list(here.events()) == []

    def test_whoever_subscribes_at_the_last_moment_sees_the_end(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late: list[Any] = []
        close = DirectoryStore.close

        def closing(store: DirectoryStore) -> None:
            late.append(there.pair.events())
            close(store)

        monkeypatch.setattr(DirectoryStore, "close", closing)
        there = make(S, Counting(), unix(tmp_path), store=tmp_path / "store")
        there.enter()
        there.leave()
        assert list(there.followed(late[0])) == []

    def test_an_iterator_that_nobody_follows_keeps_nothing(self, make: Make) -> None:
        """Who breaks out of the loop must not fill the memory for the rest of the pair's life."""
        here, _ = make.both()
        events = here.pair.events()
        here.do(lambda: here.pair.announce("a"))
        assert next(here.followed(events)) == Serving("a")
        kept = weakref.ref(events)
        del events
        gc.collect()
        assert kept() is None

    def test_unread_events_are_bounded_and_the_newest_stay(self, make: Make) -> None:
        here, _ = make.both()
        events = here.events()
        for n in range(MOST_UNREAD + 5):
            here.pair.announce(str(n))
        assert next(events) == Dropped(5)
        assert [next(events) for _ in range(MOST_UNREAD)] == [
            Serving(str(n)) for n in range(5, MOST_UNREAD + 5)
        ]


class TestRequests:
    def test_checkpoints_requested_from_many_threads(self, make: Make, pool: ThreadPoolExecutor) -> None:
        ours, theirs = Counting(), Counting()
        lock = threading.Lock()
        here, _ = make.both(ours, theirs)

        def client() -> None:
            for _ in range(20):
                with here.turn(), lock:
                    ours.count += 1
                    counted = ours.count
                checkpoint(here)
                assert theirs.count >= counted

        for done in [pool.submit(client) for _ in range(3)]:
            done.result(PATIENCE)
        assert ours.count == 60

    def test_the_longest_interval(self, make: Make) -> None:
        here, _ = make.both(options=Options(interval=24 * 3600))
        checkpoint(here)


class TestHooks:
    def test_they_are_called_on_a_thread_of_the_pair(self, make: Make) -> None:
        ours, theirs = Counting(), Counting()
        here, _ = make.both(ours, theirs)
        checkpoint(here)
        threads = {"blocking": ({"colo-fsm primary"}, {"colo-fsm secondary"})}
        hooks = {"colo-fsm-hooks"}
        assert (ours.threads, theirs.threads) == threads.get(make.driver, (hooks, hooks))

    def test_neighbours_share_one_call(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """To hand something to a thread and back costs more than most hooks."""
        from colo_fsm.replica.wish import Call

        here, _ = make.both()
        calls: list[str] = []
        run = Call.run

        def noted(call: Call) -> Any:
            calls.append(threading.current_thread().name)
            return run(call)

        monkeypatch.setattr(Call, "run", noted)
        checkpoint(here)
        assert len(calls) <= 5, "two of the Primary, two of the Secondary, and an end"

    def test_a_failed_hook_is_told_once(self, make: Make, caplog: pytest.LogCaptureFixture) -> None:
        ours = Counting()
        here, there = make.both(ours)
        ours.failing = {"save"}
        here.do(here.pair.request_checkpoint)
        here.settled()
        there.settled()
        assert isinstance(here.pair.session.error, GuestFailed)
        told = [r.getMessage() for r in caplog.records if "guest.save" in r.getMessage()]
        assert told == ["guest.save failed: Broken: save"]
        assert {r.name.split(".")[0] for r in caplog.records} == {"colo_fsm"}

    @pytest.mark.parametrize("hook", ["suspend", "save", "resume", "load"])
    def test_a_hook_that_hangs_is_a_fault_in_time(
        self, make: Make, hook: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The other side goes on; the guest is left alone until the hook has returned."""
        ours, theirs = Counting(), Counting()
        here, there = make.both(
            ours, theirs, Options(interval=NEVER, min_interval=NEVER, hook_deadline=0.2, claim_retry=0.2)
        )
        sick, well, guest = (there, here, theirs) if hook == "load" else (here, there, ours)
        hanging = Gated(guest, hook)
        here.do(here.pair.request_checkpoint)
        assert hanging.entered.wait(PATIENCE)
        calls = list(guest.calls)
        assert sick.settled() is State.STOPPED
        assert well.settled() is State.ALONE
        assert sick.wait() is State.STOPPED
        assert guest.calls == calls, "no second thread is inside the guest"
        assert f"guest.{hook} failed: TimeoutError: no answer in 0.2 s" in caplog.text
        hanging.go_on.set()

    def test_a_claim_that_hangs_is_not_asked_again_before_it_is_back(self, make: Make) -> None:
        class Hanging(OneShot):
            asked = 0
            go_on = threading.Event()

            def claim(self, generation: int, side: Side) -> Any:
                self.asked += 1
                if self.asked == 1:
                    assert self.go_on.wait(PATIENCE)
                    raise OSError("too late")
                return super().claim(generation, side)

        arbiter = Hanging()
        left, right = link_pair()
        there = make(S, Counting(), right, arbiter=OneShot())
        here = make(
            P, Counting(), left, arbiter=arbiter, options=Options(hook_deadline=0.1, claim_retry=0.05)
        )
        there.enter()
        here.enter()
        events = here.events()
        here.do(here.pair.request_failover)
        unanswered = 0
        for event in events:
            unanswered += type(event).__name__ == "ClaimUnanswered"
            if unanswered == 3:
                break
        assert arbiter.asked == 1
        arbiter.go_on.set()
        assert here.settled() is State.ALONE


class TestEnding:
    @pytest.mark.parametrize("side", [P, S])
    def test_what_cannot_be_entered_leaves_nothing_open(self, make: Make, side: Side, tmp_path: Path) -> None:
        make(S, Counting(), unix(tmp_path)).do(int)  # the loop has opened what it keeps
        gc.collect()
        before = descriptors()
        refused = (
            make(P, Counting(), unix(tmp_path), options=Options(connect_timeout=0.0))
            if side is P
            else make(S, Counting(), f"unix:{tmp_path}", store=tmp_path / "store")
        )
        with pytest.raises(OSError, match=r"start the Secondary first|in use"):
            refused.enter()
        assert descriptors() == before

    def test_a_drop_that_raises_at_the_end_keeps_nobody_waiting(
        self, make: Make, tmp_path: Path, pool: ThreadPoolExecutor
    ) -> None:
        left, right = link_pair()
        with left:
            there = make(S, Counting(), right, store=tmp_path / "store")
            there.enter()
            events = there.events()
            running = pool.submit(there.running)
            there.do(lambda: there.pair.outbox.hold(int, broken))
            there.do(there.pair.request_leave)
            assert there.wait() is State.ENDED
            with pytest.raises((NotRunning, GuestFailed)):
                running.result(PATIENCE)
            assert len(list(events)) > 0
            DirectoryStore(tmp_path / "store").close()

    def test_every_step_of_the_end_is_done_though_one_raises(self, make: Make, tmp_path: Path) -> None:
        """What was held too late for the table's own discard is dropped at the very end."""
        left, right = link_pair()
        with left:
            there = make(S, Counting(), right, store=tmp_path / "store")
            there.pair._replica.outbox.discard = broken  # type: ignore[method-assign]
            there.enter()
            events = there.events()
            there.do(there.pair.request_leave)
            with pytest.raises(Broken):
                there.wait()
            assert left.recv(1) == b""
            list(events)
            with pytest.raises((NotRunning, GuestFailed)):
                there.running()
            DirectoryStore(tmp_path / "store").close()
        there.begun = False

    def test_the_peer_sees_the_end_though_a_child_holds_the_link(self, make: Make) -> None:
        """A fork that came before copies the descriptor, and would keep the connection alive."""
        here, there = make.both()
        copy = here.pair._replica.link.dup()  # type: ignore[union-attr]
        with copy:
            here.do(here.pair.request_leave)
            assert here.wait() is State.ENDED
            there.running()

    def test_a_store_is_not_closed_under_a_hook(self, make: Make, pool: ThreadPoolExecutor) -> None:
        """A pair that is interrupted while its hook thread is inside `commit`."""
        inside, go_on, order = threading.Event(), threading.Event(), []

        class Slow(MemoryStore):
            def commit(self, *args: Any) -> None:
                inside.set()
                assert go_on.wait(PATIENCE)
                super().commit(*args)
                order.append("committed")

            def close(self) -> None:
                order.append("closed")
                super().close()

        left, right = link_pair()
        store = Slow()
        there = make(S, Counting(), right, store=store)
        there.pair._life._close = store.close
        here = make(P, Counting(), left, options=ON_REQUEST)
        there.enter()
        here.enter()
        here.do(here.pair.request_checkpoint)
        assert inside.wait(PATIENCE)
        there.do(lambda: there.pair._driver.interrupt(Interrupted()))  # type: ignore[union-attr]
        with pytest.raises(Interrupted):
            there.wait()
        assert order == []
        go_on.set()
        while len(order) < 2:
            time.sleep(0.001)
        assert order == ["committed", "closed"]
        there.begun = False
        here.do(here.pair.request_failover)


class Interrupted(BaseException):
    """What a cancelled task or a ^C throws into a script."""


def broken() -> None:
    raise Broken("drop")


class TestAnyTable:
    def test_one_that_is_not_colos_replicates_a_guest_and_survives_its_primary(
        self, make: Make, tmp_path: Path
    ) -> None:
        ours, theirs, arbiter = Counting(), Counting(), OneShot()
        more: Any = {"arbiter": arbiter, "options": Options(interval=0.0)}
        there = make(S, theirs, unix(tmp_path), table=remus.SECONDARY, **more)
        there.enter()
        told = there.events()
        here = make(P, ours, unix(tmp_path), table=remus.PRIMARY, **more)
        here.enter()
        taken = here.events()
        for _ in range(3):
            acknowledged = here.count(ours)
        here.leave()
        there.running()
        assert arbiter.claims == [S]
        assert theirs.count >= acknowledged == 3
        there.leave()
        for events in (taken, told):
            numbers = [e.number for e in events if isinstance(e, CheckpointTaken)]
            assert len(numbers) >= 2
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    def test_a_planned_end_that_is_said_needs_no_claim(self, make: Make) -> None:
        left, right = link_pair()
        arbiter = OneShot()
        there = make(S, Counting(), right, table=goodbye.SECONDARY, arbiter=arbiter)
        here = make(P, Counting(), left, table=goodbye.PRIMARY, arbiter=arbiter, options=ON_REQUEST)
        there.enter()
        here.enter()
        checkpoint(here)
        here.leave()
        assert there.wait() is State.ENDED
        assert arbiter.claims == []


def test_a_store_that_is_in_use_is_said(make: Make, tmp_path: Path) -> None:
    make(S, Counting(), unix(tmp_path), store=tmp_path / "store").enter()
    with pytest.raises(StoreError, match="in use"):
        make(S, Counting(), unix(tmp_path), store=tmp_path / "store")
