"""What passes between the QEMUs of a pair, without any: some rounds of the tiny VM of `standby_process`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from standby_process import (
    LOADED,
    READY,
    RECEIVED,
    REPLY,
    REQUEST,
    SEND,
    SIZE,
    initial,
    live,
    page,
    state,
)
from vm_stream import BLOCKS

from colo_fsm.fsm import Side
from colo_fsm.qemu.incoming import IncomingVm
from colo_fsm.qemu.watch.capture import Capture, Recorder
from colo_fsm.replica import Store
from colo_fsm.stream import PAGE_SIZE

P2S, S2P = Side.PRIMARY, Side.SECONDARY


def a_round(number: int) -> bytes:
    """What the Primary sends in it."""
    return REQUEST + SEND + live(number) + SIZE + state(number)


def link(rounds: int) -> Iterator[tuple[Side, bytes]]:
    """Who sends what, up to where the Primary dies."""
    yield P2S, initial()
    yield S2P, READY
    for number in range(1, rounds + 1):
        yield P2S, REQUEST
        yield S2P, REPLY
        yield P2S, a_round(number)[len(REQUEST) :]
        yield S2P, RECEIVED
        yield S2P, LOADED
    yield P2S, b""
    yield S2P, b""


def recorded(path: Path, rounds: int) -> Capture:
    """A capture of that, a piece each millisecond."""
    with Recorder(path) as recorder:
        for at, (side, data) in enumerate(link(rounds)):
            recorder.write(at / 1000, side, data)
    return Capture(path)


def keep(store: Store, rounds: int) -> None:
    """Let the store have checkpoint number `rounds` of generation 7."""
    vm = IncomingVm(store, 7, limit=1 << 20)
    vm.initial.feed(initial())
    vm.complete()
    for number in range(1, rounds + 1):
        vm.live().feed(live(number))
        vm.commit(state(number)[8:])


def number_in(store: Store) -> int | None:
    """Which checkpoint the store holds, whole; None if it holds none."""
    newest = store.newest
    if newest is None:
        return None
    number = newest.number
    for name, size in BLOCKS.items():
        assert bytes(newest.blocks[name]) == page(number) * (size // PAGE_SIZE)
    assert newest.device == state(number)[8:-1]
    return number
