"""What only an event loop asks of a pair: to be cancelled, and to stay free. All else: test_drivers.py."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from replicas import (
    NEVER,
    PATIENCE,
    AsyncCounting,
    Counting,
    OneShot,
    unix,
)

from colo_fsm.colo import State
from colo_fsm.fsm import GuestFailed
from colo_fsm.replica import (
    Address,
    DirectoryStore,
    Options,
    Pair,
    link_pair,
    primary,
    secondary,
)
from colo_fsm.replica.aio import LoopDriver, until
from colo_fsm.replica.gate import Answer
from colo_fsm.replica.wish import Script

ON_REQUEST = Options(interval=NEVER, min_interval=NEVER)
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
    def test_a_task_made_in_a_turn_may_wait_after_it(self) -> None:
        """To answer in a task of its own is what a server does."""

        async def main() -> None:
            async with both(options=EAGER) as (here, _):
                async with here.turn():
                    answer = asyncio.create_task(here.committed())
                await answer

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


class TestStart:
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
                _, pending = await asyncio.wait([starting], timeout=60.0)
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

    @pytest.mark.parametrize("where", ["nobody listens", "a name that takes its time"])
    def test_a_start_that_is_given_up_connects_to_nobody_later(
        self, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A Secondary that comes up would take it for a Primary, and stop for good."""
        go_on = threading.Event()
        if where != "nobody listens":
            monkeypatch.setattr(Address, "resolve", lambda _: go_on.wait(PATIENCE) and [])

        async def main() -> None:
            guest = Counting()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await primary(guest, peer=unix(tmp_path), arbiter=OneShot()).__aenter__()
            assert guest.calls == []
            monkeypatch.undo()
            async with secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot()) as there:
                await asyncio.sleep(0.2)
                assert there.state is State.INIT
                assert there.session.error is None

        try:
            run(main())
        finally:
            go_on.set()

    def test_a_start_that_is_given_up_listens_to_nobody_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not either where a name server had the address once nobody wanted it any more."""
        go_on, made, listen = threading.Event(), list[socket.socket](), Address.listen

        def late(address: Address) -> socket.socket:
            assert go_on.wait(PATIENCE)
            made.append(listen(address))
            return made[0]

        monkeypatch.setattr(Address, "listen", late)

        async def main() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot()).__aenter__()
            go_on.set()
            async with asyncio.timeout(PATIENCE):
                while not made or made[0].fileno() >= 0:
                    await asyncio.sleep(0.001)

        try:
            run(main())
        finally:
            go_on.set()

    def test_a_loop_that_ends_takes_its_pairs_along(self, tmp_path: Path) -> None:
        """Nobody has left this one; `asyncio.run` cancels what is left."""
        pairs: list[Pair] = []

        async def main() -> None:
            pairs.append(
                secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot(), store=tmp_path / "d")
            )
            await pairs[0].__aenter__()

        asyncio.run(main())
        with pytest.raises(FileNotFoundError), socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(tmp_path / "s"))
        DirectoryStore(tmp_path / "d").close()


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

    def test_a_coroutine_that_hangs_is_cancelled_in_time(self) -> None:
        class Hanging(AsyncCounting):
            cancelled = False

            async def save(self, full: bool) -> Any:
                if not full:
                    try:
                        await asyncio.Event().wait()
                    finally:
                        self.cancelled = True
                return await super().save(full)

        async def main() -> None:
            ours = Hanging()
            async with both(ours, options=Options(interval=NEVER, min_interval=NEVER, hook_deadline=0.1)) as (
                here,
                there,
            ):
                here.request_checkpoint()
                await there.running()
                late = "TimeoutError: no answer in 0.1 s, its hook_deadline"
                assert str(here.session.error) == f"guest.save failed: {late}"
                assert ours.cancelled

        run(main())

    def test_a_coroutine_that_was_cancelled_has_failed(self) -> None:
        class Cancelled(AsyncCounting):
            async def save(self, full: bool) -> Any:
                if not full:
                    raise asyncio.CancelledError
                return await super().save(full)

        async def main() -> None:
            async with both(Cancelled()) as (here, there):
                here.request_checkpoint()
                await there.running()
                assert isinstance(here.session.error, GuestFailed)

        run(main())


def test_who_wakes_a_loop_from_another_thread_does_it_as_asyncio_asks() -> None:
    """In debug mode a loop refuses what another thread does to it by itself."""

    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        answer = Answer()
        thread = threading.Timer(0.0, answer.settle)
        waiting = asyncio.ensure_future(until(answer, answer.get))
        await asyncio.sleep(0)
        thread.start()
        assert await waiting is True
        thread.join()

    run(main())


def test_where_the_next_checkpoint_is_asked_for_an_answer_takes_it_on_the_spot() -> None:
    """There is nobody to wait for. Else the loop goes on first, and those that come meanwhile join."""

    async def main() -> None:
        out: list[str] = []
        async with both(options=Options(interval=NEVER)) as (here, _):
            stood: list[object] = []
            for word in ("first", "second"):
                here.outbox.hold(partial(out.append, word))
                stood.append(here.state)
                async with asyncio.timeout(PATIENCE):
                    while not here._replica.pace.replied:
                        await asyncio.sleep(0)
            assert (stood, out) == ([State.READY, State.REPLIED], ["first", "second"])

    run(main())


def test_an_interrupt_after_the_end_does_nothing() -> None:
    async def main() -> None:
        ended: list[BaseException | None] = []

        def script() -> Script[None]:
            return
            yield

        driver = LoopDriver(script(), ended.append)
        driver.start()
        driver.interrupt(KeyboardInterrupt())
        assert ended == [None]

    run(main())


def test_what_broke_a_handshake_is_not_its_own_cause() -> None:
    """Whoever looks for the causes of an error comes to an end."""

    class Refusing(OneShot):
        def open(self) -> int:
            raise RuntimeError("not now")

    async def story() -> None:
        ours, its = link_pair()
        with its, pytest.raises(GuestFailed) as raised:
            async with primary(Counting(), peer=ours, arbiter=Refusing()):
                pass
        causes: list[BaseException | None] = [raised.value]
        while causes[-1] is not None:
            causes.append(causes[-1].__cause__)
            assert causes[-1] not in causes[:-1]
        assert isinstance(causes[-2], RuntimeError)

    asyncio.run(story())
