"""The store holds the Primary's RAM byte for byte: compared in each round, while the guest is stopped."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from qemu import Qemu, each_version, needs_kvm
from qemu_guest import counting_guest
from qemu_relay import Direction, Relay
from standby_process import LOADED, StandbyProcess

from colo_fsm.stream import PAGE_SIZE

MEMORY = 32 << 20
FREE = 1 << 20
"""From here on the counting guest writes nothing."""


class Comparing(Relay):
    """Holds up each vmstate-loaded, before which no guest runs, and compares `ram` with the image."""

    def __init__(self, target: str, ram: Path, store: Path) -> None:
        super().__init__(target)
        self._ram, self._store = ram, store
        self.differ: list[list[int]] = []
        """For each round the pages that do."""

    def _record(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        if direction == "s2p" and data.endswith(LOADED):
            ours, theirs = self._image(), self._ram.read_bytes()
            pages = range(0, MEMORY, PAGE_SIZE)
            self.differ.append(
                [at for at in pages if ours[at : at + PAGE_SIZE] != theirs[at : at + PAGE_SIZE]]
            )
        return super()._record(direction, data)

    def _image(self) -> bytes:
        (image,) = self._store.glob("image-*")
        with image.open("rb") as file:
            return file.read(MEMORY)


def change(primary: Qemu, chance: random.Random) -> None:
    """Pages with contents, short and long runs of zeros over them, and what was zeros already."""
    for _ in range(chance.randint(0, 8)):
        length = chance.choice((1, 3, 40, 300)) * PAGE_SIZE
        at = chance.randrange(FREE, MEMORY - length, PAGE_SIZE)
        primary.write(at, chance.choice((bytes(length), chance.randbytes(64) * (length // 64))))


@needs_kvm
@each_version
@pytest.mark.parametrize("rounds", [8, pytest.param(50, marks=pytest.mark.soak)])
def test_the_image_is_the_primarys_ram(tmp_path: Path, rounds: int) -> None:
    ram = tmp_path / "ram"
    backend = f"memory-backend-file,id=ram,size={MEMORY},mem-path={ram},share=on"
    options = (*counting_guest(tmp_path), "-object", backend)
    chance = random.Random(rounds)
    with (
        StandbyProcess(tmp_path) as standby,
        Comparing(standby.uri, ram, standby.store) as relay,
        Qemu(
            tmp_path, "primary", machine="pc,memory-backend=ram", memory=MEMORY >> 20, extra=options
        ) as primary,
    ):
        change(primary, chance)
        primary.replicate(relay.uri)
        for _ in range(rounds):
            change(primary, chance)
            primary.checkpoint()
        assert relay.differ[:rounds] == [[]] * rounds
