"""What the simulation is made of: its clock, link and disk do what their real ones do."""

from __future__ import annotations

import errno
import random
from functools import partial
from pathlib import Path

import pytest
from store_process import commit, initial, whole

from colo_fsm.check.simulate.disk import Killed, Platter, SimulatedDisk
from colo_fsm.check.simulate.kernel import Kernel
from colo_fsm.check.simulate.link import Link
from colo_fsm.replica.directory import DirectoryStore
from colo_fsm.replica.store import Store, StoreError
from colo_fsm.stream.memory import PAGE_SIZE


class TestKernel:
    def test_order_and_time(self) -> None:
        kernel, seen = Kernel(), list[tuple[float, str]]()

        def note(name: str) -> None:
            seen.append((kernel.now, name))

        for delay, name in ((2.0, "c"), (1.0, "a"), (1.0, "b")):
            kernel.after(delay, partial(note, name))
        kernel.after(1.5, partial(note, "never")).cancel()
        while kernel.step():
            pass
        assert seen == [(1.0, "a"), (1.0, "b"), (2.0, "c")]


def made_link(*, capacity: int = 1 << 16, chop: float = 0.0) -> tuple[Kernel, Link]:
    kernel = Kernel()
    return kernel, Link(kernel, random.Random(1), capacity=capacity, delay=0.01, chop=chop)


def run(kernel: Kernel) -> None:
    while kernel.step():
        pass


class TestLink:
    @pytest.mark.parametrize("chop", [0.0, 1.0])
    def test_bytes_arrive_in_order(self, chop: float) -> None:
        kernel, link = made_link(chop=chop)
        sent, pieces = random.Random(2).randbytes(5000), list[bytes]()
        link.secondary.poke = lambda: pieces.append(link.secondary.read() or b"")
        for at in range(0, len(sent), 100):
            assert link.primary.write([sent[at : at + 100]]) == []
        run(kernel)
        assert b"".join(pieces) == sent
        assert (len(pieces) > 100) == bool(chop)

    def test_room(self) -> None:
        kernel, link = made_link(capacity=10)
        (left,) = link.primary.write([b"0123456", b"789abcd"])
        assert left == b"abcd"
        assert link.primary.write([left]) == [b"abcd"]
        poked = list[float]()
        link.primary.poke = lambda: poked.append(kernel.now)
        run(kernel)
        assert link.secondary.read() == b"0123456789"
        run(kernel)
        assert poked
        assert link.primary.write([left]) == []

    def test_close_ends_behind_the_data(self) -> None:
        kernel, link = made_link()
        link.primary.write([b"last"])
        link.primary.close()
        run(kernel)
        assert link.secondary.read() == b"last"
        assert link.secondary.read() == b""
        link.secondary.write([b"too late"])
        run(kernel)
        with pytest.raises(OSError, match="Broken pipe"):
            link.secondary.write([b"again"])

    def test_close_with_unread_bytes_is_a_reset(self) -> None:
        kernel, link = made_link()
        link.secondary.write([b"unread"])
        run(kernel)
        link.primary.close()
        run(kernel)
        with pytest.raises(ConnectionResetError):
            link.secondary.read()

    @pytest.mark.parametrize(("keep_tail", "reset"), [(True, False), (False, False), (False, True)])
    def test_broken_off(self, keep_tail: bool, reset: bool) -> None:
        kernel, link = made_link()
        link.primary.write([b"under way"])
        for end in link.ends:
            end.break_off(keep_tail=keep_tail, reset=reset)
        assert not link.whole
        run(kernel)
        if reset:
            with pytest.raises(ConnectionResetError):
                link.secondary.read()
        else:
            assert link.secondary.read() == (b"under way" if keep_tail else b"")
        assert link.secondary.read() == b""
        with pytest.raises(OSError, match="Broken pipe"):
            link.primary.write([b"more"])

    def test_silence_fills_the_writers_buffer(self) -> None:
        kernel, link = made_link(capacity=10)
        link.primary.silent = True
        assert link.primary.write([b"0123456789"]) == []
        run(kernel)
        assert link.secondary.read() is None
        assert link.primary.write([b"x"]) == [b"x"]

    def test_delay(self) -> None:
        kernel, link = made_link()
        link.primary.held_until = 5.0
        link.primary.write([b"late"])
        arrived = list[float]()
        link.secondary.poke = lambda: arrived.append(kernel.now)
        run(kernel)
        assert arrived == [5.0]

    def test_a_write_cut_short(self) -> None:
        _, link = made_link()
        cut = list[bool]()
        link.primary.most = 3
        link.primary.limited = lambda: cut.append(True)
        assert link.primary.write([b"abcdef"]) == [b"def"]
        assert cut == [True]
        link.primary.most = None
        assert link.primary.write([b"def"]) == []


PATH = Path("/anywhere")


def sound() -> float:
    """A call that takes no time and does not fail."""
    return 0.0


class Failing:
    """A platter that fails at one call, counted from 0."""

    def __init__(self, platter: Platter, call: int, error: BaseException) -> None:
        self.left, self.error, self.struck = call, error, False
        platter.on_call = self

    def __call__(self) -> float:
        self.left -= 1
        if self.left == -1:
            self.struck = True
            raise self.error
        return 0.0


def opened(platter: Platter, *, fsync: bool) -> tuple[DirectoryStore, SimulatedDisk]:
    disk = SimulatedDisk(platter, random.Random(1))
    return DirectoryStore(PATH, fsync=fsync, disk=disk), disk


def filled(*, fsync: bool) -> Platter:
    platter = Platter()
    store, _ = opened(platter, fsync=fsync)
    initial(store, 1)
    commit(store, 1, 1)
    commit(store, 1, 2)
    store.close()
    return platter


def step_commit(store: Store) -> None:
    commit(store, 1, 3)


def step_initial(store: Store) -> None:
    initial(store, 2)


class TestStoreOnTheDisk:
    """The production store, struck at each of its calls: it opens with a whole checkpoint, old or new."""

    STEPS = [(step_commit, (1, 3)), (step_initial, (2, 0))]

    @pytest.mark.parametrize("power", [False, True], ids=["killed", "power failure"])
    @pytest.mark.parametrize(("step", "following"), STEPS)
    def test_struck_at_every_call(self, power: bool, step: object, following: tuple[int, int]) -> None:
        assert callable(step)
        for call in range(200):
            platter = filled(fsync=power)
            failing = Failing(platter, call, Killed())
            disk = SimulatedDisk(platter, random.Random(call))
            try:
                step(DirectoryStore(PATH, fsync=power, disk=disk))
            except Killed:
                assert disk.dead
            disk.kill()
            platter.on_call = sound
            if power:
                platter.lose_power(random.Random(call))
            store, _ = opened(platter, fsync=power)
            assert whole(store) in ([(1, 2), following] if failing.struck else [following])
            commit(store, *divmod_next(whole(store)))
            store.close()
            if not failing.struck:
                assert call > 20
                return
        pytest.fail("never got through")

    @pytest.mark.parametrize(("step", "following"), STEPS)
    def test_an_error_at_every_call(self, step: object, following: tuple[int, int]) -> None:
        assert callable(step)
        for call in range(200):
            platter = filled(fsync=True)
            store, _ = opened(platter, fsync=True)
            failing = Failing(platter, call, OSError(errno.ENOSPC, "no space"))
            raised = False
            try:
                step(store)
            except OSError:
                raised = True
            platter.on_call = sound
            try:
                assert whole(store) == ((1, 2) if raised else following)
                store.close()
            except ValueError:
                pass  # closed: the fault came after the commit point
            store, _ = opened(platter, fsync=True)
            assert whole(store) in ([(1, 2), following] if raised else [following])
            store.close()
            if not failing.struck:
                return
        pytest.fail("never got through")

    def test_closing_never_fails_and_lets_go(self) -> None:
        for call in range(10):
            platter = filled(fsync=False)
            store, _ = opened(platter, fsync=False)
            store.begin({"ram": PAGE_SIZE})
            Failing(platter, call, OSError(errno.EIO, "input/output error"))
            store.close()
            platter.on_call = sound
            again, _ = opened(platter, fsync=False)
            assert whole(again) == (1, 2)
            again.close()

    def test_without_sync_a_power_failure_loses(self) -> None:
        """So the simulated one is worth something."""
        verdicts = set()
        for seed in range(40):
            platter = filled(fsync=False)
            platter.lose_power(random.Random(seed))
            try:
                store, _ = opened(platter, fsync=False)
                verdicts.add(whole(store) == (1, 2))
                store.close()
            except (StoreError, AssertionError):
                verdicts.add(False)
        assert False in verdicts

    def test_the_lock_goes_with_the_process(self) -> None:
        platter = filled(fsync=False)
        _, disk = opened(platter, fsync=False)
        with pytest.raises(StoreError, match="in use by another store"):
            opened(platter, fsync=False)
        disk.kill()
        store, _ = opened(platter, fsync=False)
        assert whole(store) == (1, 2)

    def test_calls_take_their_time(self) -> None:
        platter = Platter()
        platter.on_call = lambda: 0.5
        store, disk = opened(platter, fsync=False)
        opening = disk.time_taken()
        assert opening > 1
        initial(store, 1)
        assert disk.time_taken() > 1
        assert disk.time_taken() == 0


def divmod_next(found: tuple[int, int]) -> tuple[int, int]:
    """The checkpoint after this one, in its generation."""
    generation, number = found
    return generation, number + 1
