"""The asyncio driver and its pair: turns, waiting, events, and an event loop that stays free."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from replicas import (
    NEVER,
    PATIENCE,
    AsyncCounting,
    Broken,
    Counting,
    OneShot,
    descriptors,
    unix,
)

from colo_fsm.colo import State
from colo_fsm.fsm import FailoverStatus, GuestFailed, LinkLost, Transition
from colo_fsm.replica import (
    CheckpointTaken,
    ClaimAnswered,
    NotCommitted,
    NotRunning,
    Options,
    Pair,
    Serving,
    link_pair,
    primary,
    secondary,
)

ON_REQUEST = Options(interval=NEVER)
EAGER = Options(interval=0.0)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run it to its end, which must leave no task and no complaint behind."""
    complaints: list[Any] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await asyncio.wait_for(main, PATIENCE)
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(watched())
    assert not complaints


@asynccontextmanager
async def both(
    ours: Any = None, theirs: Any = None, options: Options = ON_REQUEST
) -> AsyncIterator[tuple[Pair, Pair]]:
    """A Primary that runs, and its Secondary. They leave, the Secondary first."""
    left, right = link_pair()
    held: Any = {"arbiter": OneShot(), "options": options}
    there = secondary(theirs or Counting(), listen=right, **held)
    here = primary(ours or Counting(), peer=left, **held)
    await there.__aenter__()
    await here.__aenter__()
    try:
        yield here, there
    finally:
        await there.__aexit__(None, None, None)
        await here.__aexit__(None, None, None)


async def checkpoint(pair: Pair) -> None:
    """One checkpoint that covers all that is true now."""
    waiting = asyncio.ensure_future(pair.committed())
    await asyncio.sleep(0)
    pair.request_checkpoint()
    await waiting


class TestTurns:
    def test_a_suspend_waits_for_open_turns(self) -> None:
        async def main() -> None:
            ours = Counting()
            async with both(ours) as (here, _):
                async with here.turn():
                    here.request_checkpoint()
                    while here.state is not State.REPLIED:
                        await asyncio.sleep(0.001)
                    for _ in range(10):
                        await asyncio.sleep(0)
                    assert "suspend" not in ours.calls
                while here.checkpoint == 0:
                    await asyncio.sleep(0.001)
                assert ours.calls[:4] == ["save", "resume", "suspend", "save"]

        run(main())

    def test_no_turn_begins_while_suspended(self) -> None:
        async def main() -> None:
            ours, saving, go_on = Counting(), threading.Event(), threading.Event()
            began: list[bool] = []

            async def late(here: Pair) -> None:
                async with here.turn():
                    began.append(ours.running)

            async with both(ours) as (here, _):
                ours.at["save"] = lambda: saving.set() or go_on.wait(PATIENCE)  # type: ignore[func-returns-value]
                here.request_checkpoint()
                await asyncio.to_thread(saving.wait, PATIENCE)
                turn = asyncio.create_task(late(here))
                for _ in range(10):
                    await asyncio.sleep(0)
                assert began == []
                go_on.set()
                await turn
                assert began == [True]

        run(main())

    def test_committed_inside_a_turn_is_refused_at_once(self) -> None:
        async def main() -> None:
            async with both() as (here, _):
                async with here.turn():
                    with pytest.raises(RuntimeError, match="after the turn"):
                        await here.committed()
                await checkpoint(here)

        run(main())

    def test_a_task_made_in_a_turn_may_wait_after_it(self) -> None:
        """To answer in a task of its own is what a server does."""

        async def main() -> None:
            async with both(options=EAGER) as (here, _):
                async with here.turn():
                    answer = asyncio.create_task(here.committed())
                await answer

        run(main())

    def test_a_turn_inside_a_turn_is_refused_at_once(self) -> None:
        """A suspend that comes between them would wait for the outer, and the inner for the suspend."""

        async def main() -> None:
            async with both() as (here, _), here.turn():
                with pytest.raises(RuntimeError):
                    async with here.turn():
                        pass

        run(main())

    def test_a_turn_that_raises_is_over(self) -> None:
        async def main() -> None:
            async with both() as (here, _):
                with pytest.raises(Broken):
                    async with here.turn():
                        raise Broken
                await checkpoint(here)

        run(main())

    def test_a_cancelled_turn_is_over(self) -> None:
        async def main() -> None:
            async with both() as (here, _):
                inside = asyncio.Event()

                async def turn() -> None:
                    async with here.turn():
                        inside.set()
                        await asyncio.Event().wait()

                task = asyncio.create_task(turn())
                await inside.wait()
                task.cancel()
                await checkpoint(here)

        run(main())


class TestStopped:
    def test_what_waits_is_told(self) -> None:
        async def main() -> None:
            async with both() as (here, there):
                waiting = asyncio.ensure_future(here.committed())
                await asyncio.sleep(0)
                here._replica.arbiter.claim(7, there.side)
                here.request_failover()
                with pytest.raises(NotCommitted):
                    await waiting
                assert await here.wait() is State.STOPPED
                with pytest.raises(NotCommitted):
                    await here.committed()
                with pytest.raises(NotRunning):
                    async with here.turn():
                        pass
                await there.running()
                assert there.state is State.ALONE
                assert there.token == 1

        run(main())

    def test_running_waits_on_a_secondary(self) -> None:
        async def main() -> None:
            theirs = Counting()
            async with both(theirs=theirs) as (here, there):
                waiting = asyncio.ensure_future(there.running())
                await checkpoint(here)
                assert not waiting.done()
                assert not theirs.running
                here.request_leave()
                await waiting
                assert theirs.running

        run(main())

    def test_running_raises_what_was_wrong(self) -> None:
        async def main() -> None:
            left, right = link_pair()
            async with secondary(Counting(), listen=right, arbiter=OneShot()) as there:
                left.sendall(b"nonsense")
                with pytest.raises(Exception, match="magic"):
                    await there.running()
                assert await there.wait() is State.STOPPED
            left.close()

        run(main())

    def test_a_primary_whose_peer_goes_away_does_not_start(self) -> None:
        async def main() -> None:
            left, right = link_pair()
            right.close()
            with pytest.raises(Exception, match="Can't"):
                async with primary(Counting(), peer=left, arbiter=OneShot()):
                    pytest.fail("it must not run")

        run(main())

    def test_a_start_can_be_given_up(self) -> None:
        """The peer is there and says nothing; a cancelled start must end, and close the link."""

        async def main() -> None:
            left, right = link_pair()
            guest = Counting()
            with right, pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await primary(guest, peer=left, arbiter=OneShot()).__aenter__()
            assert left.fileno() == -1
            assert not guest.running

        run(main())

    def test_a_start_can_be_given_up_while_the_first_copy_is_stuck(self) -> None:
        async def main() -> None:
            left, right = link_pair()
            guest = Counting()
            left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
            starting = asyncio.ensure_future(primary(guest, peer=left, arbiter=OneShot()).__aenter__())
            while "save" not in guest.calls:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            starting.cancel()
            try:
                _, pending = await asyncio.wait([starting], timeout=1.0)
            finally:
                right.close()
            assert not pending
            assert starting.cancelled()

        run(main())

    def test_a_start_that_is_given_up_too_late_suspends_the_guest(self) -> None:
        """It is cancelled while the guest is being resumed: a guest left running is one too many."""

        async def main() -> None:
            left, right = link_pair()
            ours, arbiter = Counting(), OneShot()
            resuming, go_on = threading.Event(), threading.Event()
            ours.at["resume"] = lambda: resuming.set() or go_on.wait(PATIENCE)  # type: ignore[func-returns-value]
            async with secondary(Counting(), listen=right, arbiter=arbiter) as there:
                starting = asyncio.ensure_future(primary(ours, peer=left, arbiter=arbiter).__aenter__())
                await asyncio.to_thread(resuming.wait, PATIENCE)
                starting.cancel()
                await asyncio.sleep(0)
                go_on.set()
                with pytest.raises(asyncio.CancelledError):
                    await starting
                await there.running()
                assert not ours.running

        run(main())

    @pytest.mark.parametrize("sent", [b"", b"QEVM"])
    def test_a_secondary_leaves_a_primary_that_says_nothing(self, sent: bytes) -> None:
        async def main() -> None:
            left, right = link_pair()
            left.sendall(sent)
            there = secondary(Counting(), listen=right, arbiter=OneShot())
            await there.__aenter__()
            await asyncio.sleep(0)
            there.request_leave()
            waiting = asyncio.ensure_future(there.wait())
            try:
                _, pending = await asyncio.wait([waiting], timeout=1.0)
            finally:
                left.close()
            assert not pending
            assert await waiting is State.ENDED

        run(main())

    @pytest.mark.parametrize(
        ("ask", "state"), [("request_leave", State.ENDED), ("request_failover", State.STOPPED)]
    )
    def test_a_secondary_that_only_listens(self, ask: str, state: State, tmp_path: Path) -> None:
        async def main() -> None:
            async with secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot()) as there:
                getattr(there, ask)()
                assert await there.wait() is state

        run(main())

    def test_the_address_is_known_for_good(self) -> None:
        async def main() -> None:
            async with secondary(Counting(), listen="tcp:127.0.0.1:0", arbiter=OneShot()) as there:
                address = there.address
                assert address is not None
                assert address.port > 0
                async with primary(Counting(), peer=str(address), arbiter=OneShot()) as here:
                    assert here.address is None
                    assert there.address == address
                    there.request_leave()
                    await there.wait()
            assert there.address == address

        run(main())


class TestEvents:
    def test_several_subscribers_and_an_end(self) -> None:
        async def main() -> None:
            async with both() as (here, there):
                first, second = here.events(), here.events()
                theirs = there.events()
                here.announce("tcp:somewhere:1")
                await checkpoint(here)
            seen = [event async for event in first]
            assert [event async for event in second] == seen
            assert [event async for event in first] == []
            assert isinstance(seen[0], Serving)
            assert [e.number for e in seen if isinstance(e, CheckpointTaken)] == [1]
            assert isinstance(seen[-1], Transition | ClaimAnswered)
            states = [e.dest async for e in theirs if isinstance(e, Transition)]
            assert states[-2:] == [State.LOADED, State.ENDED]
            assert [event async for event in here.events()] == []

        run(main())

    def test_an_iterator_that_nobody_follows_keeps_nothing(self) -> None:
        """Who breaks out of the loop must not fill the memory for the rest of the pair's life."""

        async def main() -> None:
            async with both() as (here, _):
                events = here.events()
                here.announce("a")
                async for _event in events:
                    break
                kept = weakref.ref(events)
                del events
                gc.collect()
                assert kept() is None

        run(main())


class TestRequests:
    def test_checkpoints_requested_at_any_moment(self) -> None:
        async def main() -> None:
            ours, theirs = Counting(), Counting()
            async with both(ours, theirs) as (here, _):

                async def client(turns: int) -> None:
                    for n in range(turns):
                        async with here.turn():
                            ours.count += 1
                            counted = ours.count
                        committed = asyncio.ensure_future(here.committed())
                        for _ in range(n % 7):
                            await asyncio.sleep(0)
                        here.request_checkpoint()
                        await committed
                        assert theirs.count >= counted

                await asyncio.gather(*(client(40) for _ in range(3)))
                assert ours.count == 120

        run(main())

    def test_failover(self) -> None:
        async def main() -> None:
            async with both() as (here, there):
                here._replica.arbiter.claim(7, there.side)  # else either may win
                there.request_failover()
                await there.running()
                assert there.failover_status is FailoverStatus.COMPLETED
                assert await here.wait() is State.STOPPED
                assert isinstance(here.session.error, LinkLost)

        run(main())

    @pytest.mark.parametrize("interval", [math.inf, 1e12])
    def test_an_interval_without_end(self, interval: float) -> None:
        async def main() -> None:
            async with both(options=Options(interval=interval)) as (here, _):
                await checkpoint(here)

        run(main())


class TestHooks:
    @pytest.mark.parametrize("hook", ["save", "load"])
    def test_blocking_hooks_leave_the_loop_free(self, hook: str) -> None:
        """The hook waits for the loop to do something; it would wait for ever on the loop's thread."""

        async def main() -> None:
            ours, theirs, entered, go_on = Counting(), Counting(), threading.Event(), threading.Event()
            async with both(ours, theirs) as (here, _):

                def wait() -> None:
                    entered.set()
                    assert go_on.wait(PATIENCE), "the loop is blocked"

                {"save": ours, "load": theirs}[hook].at[hook] = wait
                committed = asyncio.ensure_future(checkpoint(here))
                while not entered.is_set():
                    await asyncio.sleep(0.001)
                go_on.set()
                await committed
            for guest in (ours, theirs):
                assert all(name.startswith("colo-fsm-hooks") for name in guest.threads)

        run(main())

    def test_coroutine_hooks_run_on_the_loop_and_leave_it_free(self) -> None:
        class Slow(AsyncCounting):
            async def save(self, full: bool) -> Any:
                if not full:
                    entered.set()
                    await go_on.wait()
                return await super().save(full)

        entered, go_on = asyncio.Event(), asyncio.Event()

        async def main() -> None:
            ours, theirs = Slow(), AsyncCounting()
            async with both(ours, theirs) as (here, _):
                committed = asyncio.ensure_future(checkpoint(here))
                await entered.wait()
                go_on.set()
                await committed
            assert ours.inner.threads | theirs.inner.threads == {threading.current_thread().name}
            assert theirs.inner.calls == ["load", "load"]

        run(main())

    def test_a_failed_hook_is_told_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            ours = Counting()
            async with both(ours) as (here, _):
                ours.failing = {"save"}
                here.request_checkpoint()
                await settled(here)
                assert isinstance(here.session.error, GuestFailed)
                assert not ours.running or here.state is State.ALONE

        with caplog.at_level(logging.WARNING):
            run(main())
        told = [r.getMessage() for r in caplog.records if "guest.save" in r.getMessage()]
        assert told == ["guest.save failed: Broken: save"]
        assert {r.name.split(".")[0] for r in caplog.records} == {"colo_fsm"}


async def settled(pair: Pair) -> None:
    while pair.state not in (State.ALONE, State.STOPPED):
        await asyncio.sleep(0.001)


class TestClosing:
    def test_what_cannot_be_entered_leaves_nothing_open(self, tmp_path: Path) -> None:
        async def main() -> None:
            gc.collect()
            before = descriptors()
            refused = primary(
                Counting(), peer=unix(tmp_path), arbiter=OneShot(), options=Options(connect_timeout=0.0)
            )
            with pytest.raises(ConnectionRefusedError, match="start the Secondary first"):
                await refused.__aenter__()
            taken = f"unix:{tmp_path}"
            with pytest.raises(OSError, match="in use"):
                await secondary(
                    Counting(), listen=taken, arbiter=OneShot(), store=tmp_path / "store"
                ).__aenter__()
            assert descriptors() == before

        run(main())

    def test_a_cancelled_loop_closes_what_listens(self, tmp_path: Path) -> None:
        async def main() -> None:
            there = secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot())
            await there.__aenter__()
            listener = there._listener
            assert listener is not None
            assert there._task is not None
            await asyncio.sleep(0)
            there._task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await there.wait()
            assert listener.fileno() == -1

        run(main())
