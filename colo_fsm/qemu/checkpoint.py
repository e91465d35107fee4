"""A stored checkpoint of a virtual machine, and the migration stream that a new QEMU loads it from."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping

import attrs

from colo_fsm.replica import Checkpoint
from colo_fsm.stream import PAGE_SIZE, Buffer, DeviceSection, Page, device_sections, vm

END_MARK = b"\0"


class NotAVm(ValueError):
    """A store holds a checkpoint, but not of a virtual machine."""


@attrs.frozen(eq=False)
class VmCheckpoint:
    """One complete checkpoint of a VM. `blocks` are views into the store, valid until its next commit.

    `devices` are the device sections of its last round, without the end mark; `head` is what stands
    before the RAM sections of its stream; `description` is None where the source gave none.
    `return_path`: the Primary opened one, as QEMU 11 and later do for COLO.
    """

    generation: int
    number: int
    machine: str
    head: bytes = attrs.field(repr=False)
    ram_section: int
    blocks: Mapping[str, memoryview] = attrs.field(repr=False)
    devices: bytes = attrs.field(repr=False)
    description: bytes | None = attrs.field(repr=False)
    return_path: bool = False

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> VmCheckpoint:
        """The VM in a store's checkpoint. Raises NotAVm."""
        meta = checkpoint.meta
        if "machine" not in meta:
            raise NotAVm("the store holds a checkpoint of another kind of guest, not of a virtual machine")
        description = meta.get("description")
        return cls(
            checkpoint.generation,
            checkpoint.number,
            meta["machine"],
            b64decode(meta["head"]),
            int(meta["ram_section"]),
            checkpoint.blocks,
            checkpoint.device,
            None if description is None else zlib.decompress(b64decode(description)),
            "return_path" in meta,
        )

    @property
    def sections(self) -> tuple[DeviceSection, ...]:
        """The device sections; their offsets are into `devices`."""
        return device_sections(self.devices + END_MARK)

    def stream(self) -> Iterator[Buffer]:
        """What `qemu-system-x86_64 <same machine> -incoming` takes, in pieces, zero pages as records."""
        sizes = {name: len(view) for name, view in self.blocks.items()}
        return vm(self.head, self.ram_section, sizes, self._pages(), self.devices, self.description)

    def _pages(self) -> Iterator[Page]:
        for name, view in self.blocks.items():
            for offset in range(0, len(view), PAGE_SIZE):
                yield Page(name, offset, view[offset : offset + PAGE_SIZE])


def meta_of(
    machine: str, head: bytes, ram_section: int, description: bytes | None, return_path: bool = False
) -> dict[str, str]:
    """What a store keeps beside the memory and the devices; `VmCheckpoint.of` reads it."""
    meta = {"machine": machine, "head": b64encode(head).decode(), "ram_section": str(ram_section)}
    if return_path:
        meta["return_path"] = "opened"
    if description is not None:
        # a description is long and repeats itself; it is written with every round
        meta["description"] = b64encode(zlib.compress(description, 9)).decode()
    return meta
