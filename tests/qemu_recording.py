"""A recording of a real pair, made by a tap: for the tests of what reads one."""

from __future__ import annotations

import random
from pathlib import Path

import attrs
from qemu import ON_DEMAND, Qemu

from colo_fsm.qemu.checkpoint import VmCheckpoint
from colo_fsm.qemu.watch.capture import Capture, Recorder
from colo_fsm.qemu.watch.rounds import Round, Verdict
from colo_fsm.qemu.watch.tap import Tap
from colo_fsm.replica import DirectoryStore

MEMORY = 16
"""MiB."""
REGION, SIZE = 4 << 20, 1 << 20
"""Guest memory that no firmware uses."""


@attrs.frozen
class Recording:
    """`survivor` is the memory that the real Secondary had at REGION after the Primary's death."""

    path: Path
    store: Path
    rounds: list[Round]
    verdict: Verdict
    survivor: bytes

    @property
    def capture(self) -> Capture:
        return Capture(self.path)


def dirty(primary: Qemu, number: int) -> None:
    """Nothing in one round, little in the next, then much."""
    rng = random.Random(number)
    if number % 3 == 1:
        primary.write(REGION + rng.randrange(SIZE - 100), rng.randbytes(100))
    elif number % 3 == 2:
        primary.write(REGION + rng.randrange(8) * 4096, rng.randbytes(100 * 4096))


def record(folder: Path, rounds: int) -> Recording:
    """A pair of so many rounds; then the Primary is killed, and the Secondary takes over."""
    path, store = folder / "capture", folder / "store"
    done: list[Round] = []
    with (
        Qemu(folder, "secondary", incoming="tcp:127.0.0.1:0", memory=MEMORY) as secondary,
        Recorder(path) as recorder,
        DirectoryStore(store) as kept,
        Tap("tcp:127.0.0.1:0", secondary.uri, done.append, recorder=recorder, store=kept) as tap,
        Qemu(folder, "primary", memory=MEMORY) as primary,
    ):
        secondary.enable_colo()
        primary.replicate(str(tap.address), ON_DEMAND)
        for number in range(1, rounds + 1):
            dirty(primary, number)
            primary.checkpoint()
        primary.kill()
        verdict = tap.wait(20)
        secondary.lost_heartbeat()
        survivor = secondary.read(REGION, SIZE)
        assert kept.newest is not None
        assert VmCheckpoint.of(kept.newest).blocks["pc.ram"][REGION : REGION + SIZE] == survivor
    return Recording(path, store, done, verdict, survivor)
