"""What a checkpoint or a migration stream holds, in the spirit of `qemu-img info`."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import attrs

from colo_fsm.replica import MemoryStore
from colo_fsm.replica.link import READ_SIZE
from colo_fsm.stream import PAGE_SIZE, ZERO_PAGE, DeviceSection, StreamError

from ..checkpoint import VmCheckpoint
from ..incoming import IncomingVm, what_fits
from .disks import disks


@attrs.frozen
class Block:
    """A RAM block: sizes in bytes, and the CRC-32 of its contents."""

    name: str
    size: int
    zero_pages: int
    checksum: str


@attrs.frozen
class Inspected:
    """All that can be told. `generation` and `checkpoint` are None for a plain stream."""

    machine: str
    generation: int | None
    checkpoint: int | None
    blocks: tuple[Block, ...]
    sections: tuple[DeviceSection, ...]
    disks: tuple[str, ...]
    has_description: bool
    vmstate_checksum: str

    def facts(self) -> Mapping[str, object]:
        """The single values, with the words to show them under."""
        return {
            "machine": self.machine,
            "generation": "-" if self.generation is None else self.generation,
            "checkpoint": "-" if self.checkpoint is None else self.checkpoint,
            "memory": f"{sum(b.size for b in self.blocks)} bytes",
            "vmstate": f"{sum(s.size for s in self.sections)} bytes, crc32 {self.vmstate_checksum}",
            "disks": ", ".join(self.disks) or "none",
            "description": "yes" if self.has_description else "no (QEMU warns, and loads all the same)",
        }


def inspect_checkpoint(vm: VmCheckpoint) -> Inspected:
    """A stored checkpoint."""
    sections = vm.sections
    return Inspected(
        vm.machine,
        vm.generation,
        vm.number,
        tuple(_block(name, view) for name, view in vm.blocks.items()),
        sections,
        tuple(disks(sections, vm.devices)),
        vm.description is not None,
        f"{zlib.crc32(vm.devices):08x}",
    )


def inspect_file(path: Path) -> Inspected:
    """A file with a migration stream. Raises StreamError, OSError."""
    with MemoryStore() as store:
        vm = IncomingVm(store, limit=what_fits(store))
        state = vm.initial
        with open(path, "rb") as file:
            while not state.over and (piece := file.read(READ_SIZE)):
                state.feed(piece)
        if not state.complete or (state.bytes > state.vm.bytes and not state.over):
            raise StreamError(state.bytes, "the stream ends too early")
        vm.complete()
        assert store.newest is not None
        found = inspect_checkpoint(VmCheckpoint.of(store.newest))
    return attrs.evolve(found, generation=None, checkpoint=None)


def _block(name: str, view: memoryview) -> Block:
    pages = range(0, len(view), PAGE_SIZE)
    zero = sum(bytes(view[at : at + PAGE_SIZE]) == ZERO_PAGE for at in pages)
    return Block(name, len(view), zero, f"{zlib.crc32(view):08x}")
