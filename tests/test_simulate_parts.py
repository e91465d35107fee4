"""What the simulation is made of: its clock, network and disk do what their real ones do."""

from __future__ import annotations

import errno
import random
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from store_process import commit, initial, whole

from colo_fsm.check.simulate.disk import Killed, Platter, SimulatedDisk
from colo_fsm.check.simulate.kernel import Kernel
from colo_fsm.check.simulate.net import Listener, Network, Place, Socket, connected
from colo_fsm.replica.store import DirectoryStore, Store, StoreError
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


def made(*, capacity: int = 1 << 16, chop: float = 0.0) -> Network:
    return Network(Kernel(), random.Random(1), capacity=capacity, delay=0.01, chop=chop)


def ends(**options: Any) -> tuple[Kernel, Socket, Socket]:
    network = made(**options)
    return network.kernel, *connected(network)


def run(kernel: Kernel) -> None:
    while kernel.step():
        pass


class TestConnection:
    @pytest.mark.parametrize("chop", [0.0, 1.0])
    def test_bytes_arrive_in_order(self, chop: float) -> None:
        kernel, primary, secondary = ends(chop=chop)
        sent, pieces = random.Random(2).randbytes(5000), list[bytes]()
        secondary.poke = lambda: pieces.append(secondary.recv(5000))
        for at in range(0, len(sent), 100):
            assert primary.sendmsg([sent[at : at + 100]]) == 100
        run(kernel)
        assert b"".join(pieces) == sent
        assert (len(pieces) > 100) == bool(chop)

    def test_nothing_has_arrived(self) -> None:
        _, primary, _ = ends()
        with pytest.raises(BlockingIOError):
            primary.recv(1)
        assert not primary.ready(writing=False)

    def test_room(self) -> None:
        kernel, primary, secondary = ends(capacity=10)
        assert primary.sendmsg([b"0123456", b"789abcd"]) == 10
        assert not primary.ready(writing=True)
        with pytest.raises(BlockingIOError):
            primary.sendmsg([b"abcd"])
        poked = list[float]()
        primary.poke = lambda: poked.append(kernel.now)
        run(kernel)
        assert secondary.recv(4) == b"0123"
        assert secondary.recv(100) == b"456789"
        run(kernel)
        assert poked
        assert primary.ready(writing=True)
        assert primary.sendmsg([b"abcd"]) == 4

    def test_close_ends_behind_the_data(self) -> None:
        kernel, primary, secondary = ends()
        primary.sendmsg([b"last"])
        primary.close()
        run(kernel)
        assert secondary.recv(9) == b"last"
        assert secondary.recv(9) == b""
        secondary.sendmsg([b"too late"])
        run(kernel)
        with pytest.raises(BrokenPipeError):
            secondary.sendmsg([b"again"])

    def test_shutdown_ends_behind_the_data_though_it_stays_open(self) -> None:
        kernel, primary, secondary = ends()
        primary.sendmsg([b"last"])
        primary.shutdown(socket.SHUT_RDWR)
        run(kernel)
        assert (secondary.recv(9), secondary.recv(9)) == (b"last", b"")
        with pytest.raises(BrokenPipeError):
            primary.sendmsg([b"more"])

    def test_close_with_unread_bytes_is_a_reset(self) -> None:
        kernel, primary, secondary = ends()
        secondary.sendmsg([b"unread"])
        run(kernel)
        primary.close()
        run(kernel)
        with pytest.raises(ConnectionResetError):
            secondary.recv(9)

    @pytest.mark.parametrize(("keep_tail", "reset"), [(True, False), (False, False), (False, True)])
    def test_broken_off(self, keep_tail: bool, reset: bool) -> None:
        kernel, primary, secondary = ends()
        primary.sendmsg([b"under way"])
        for end in primary.ends:
            end.break_off(keep_tail=keep_tail, reset=reset)
        assert not primary.whole
        run(kernel)
        if reset:
            with pytest.raises(ConnectionResetError):
                secondary.recv(9)
        elif keep_tail:
            assert secondary.recv(9) == b"under way"
        assert secondary.recv(9) == b""
        with pytest.raises(BrokenPipeError):
            primary.sendmsg([b"more"])

    def test_silence_fills_the_writers_buffer(self) -> None:
        kernel, primary, secondary = ends(capacity=10)
        primary.fall_silent()
        assert primary.sendmsg([b"0123456789"]) == 10
        run(kernel)
        assert not secondary.ready(writing=False)
        assert not primary.ready(writing=True)

    def test_delay(self) -> None:
        kernel, primary, secondary = ends()
        primary.hold(5.0)
        primary.sendmsg([b"late"])
        arrived = list[float]()
        secondary.poke = lambda: arrived.append(kernel.now)
        run(kernel)
        assert arrived == [5.0]

    def test_a_write_cut_short(self) -> None:
        _, primary, _ = ends()
        cut = list[bool]()
        primary.most = 3
        primary.limited = lambda: cut.append(True)
        assert primary.sendmsg([b"abcdef"]) == 3
        assert cut == [True]
        with pytest.raises(BlockingIOError):
            primary.sendmsg([b"def"])
        primary.most = None
        assert primary.sendmsg([b"def"]) == 3


class TestListening:
    WHERE = "unix:/somewhere"

    def connecting(self, network: Network) -> Socket:
        place = Place(network, self.WHERE, [])
        ((family, where),) = place.resolve()
        link = place.new_socket(family)
        with pytest.raises(BlockingIOError):
            link.connect(where)
        assert not link.ready(writing=True)
        return link

    def listening(self, network: Network) -> Listener:
        return Place(network, self.WHERE, []).listen()

    def test_connected(self) -> None:
        network = made()
        listener, link = self.listening(network), self.connecting(network)
        run(network.kernel)
        assert link.ready(writing=True)
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        link.getpeername()
        link.sendmsg([b"before it is accepted"])
        run(network.kernel)
        accepted, _ = listener.accept()
        assert accepted.recv(99) == b"before it is accepted"
        with pytest.raises(BlockingIOError):
            listener.accept()

    @pytest.mark.parametrize("how", ["nobody", "closed", "refusing"])
    def test_refused(self, how: str) -> None:
        network = made()
        if how != "nobody":
            listener = self.listening(network)
            if how == "closed":
                listener.close()
            network.refuses = lambda: how == "refusing"
        link = self.connecting(network)
        run(network.kernel)
        assert link.ready(writing=True)
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        with pytest.raises(OSError, match="not connected"):
            link.getpeername()

    def test_a_machine_without_power_says_nothing(self) -> None:
        network = made()
        self.listening(network).vanish()
        link = self.connecting(network)
        run(network.kernel)
        assert not link.ready(writing=True)

    @pytest.mark.parametrize("said", [b"", b"hello"])
    def test_who_waits_is_turned_away_when_nobody_listens_any_more(self, said: bytes) -> None:
        network = made()
        listener, link = self.listening(network), self.connecting(network)
        run(network.kernel)
        link.sendmsg([said])
        run(network.kernel)
        listener.close()
        run(network.kernel)
        if said:
            with pytest.raises(ConnectionResetError):
                link.recv(1)
        assert link.recv(1) == b""

    def test_one_at_a_time(self) -> None:
        network = made()
        self.listening(network)
        with pytest.raises(OSError, match="in use"):
            self.listening(network)


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
