"""A stored checkpoint of a virtual machine, and the migration stream that a new QEMU loads it from."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping

import attrs

from colo_fsm.replica import Checkpoint
from colo_fsm.stream import (
    Buffer,
    DeviceSection,
    VmInitialDecoder,
    device_sections,
    layout,
    vm,
)

END_MARK = b"\0"
_FOOTER_SIZE = 5


class NotAVm(ValueError):
    """A store holds a checkpoint, but not of a virtual machine."""


@attrs.frozen(eq=False)
class VmCheckpoint:
    """One complete checkpoint of a VM. `blocks` are views into the store, valid until its next commit.

    `devices` are the device sections of its last round, without the end mark; `head` is what stands
    before the sections of its stream; `description` is None where the source gave none. `return_path`: the
    Primary opened one, as QEMU 11 and later do for COLO. `early`: see `VmInitialDecoder`, as the initial
    stream had them; a round has them among its `devices`.
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
    early: tuple[bytes, bytes] = attrs.field(default=(b"", b""), repr=False)

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
            (b64decode(meta.get("early_first", "")), b64decode(meta.get("early", ""))),
        )

    @property
    def sections(self) -> tuple[DeviceSection, ...]:
        """The device sections; their offsets are into `devices`."""
        found = None if self.description is None else layout(self.description)
        return device_sections(self.devices + END_MARK, found)

    def stream(self, *, mapped: str | None = None) -> Iterator[Buffer]:
        """What `qemu-system-x86_64 <same machine> -incoming` takes, in pieces, zero pages as records.

        `mapped`: see `encode.vm`.
        """
        early, devices = self._parted()
        return vm(self.head, self.ram_section, self.blocks, devices, self.description, early, mapped)

    def _parted(self) -> tuple[tuple[bytes, bytes], bytes]:
        """The early sections, as the last round has them, and the others."""
        places: dict[tuple[str, int], int] = {}
        for place, sections in enumerate(self.early):
            for section in device_sections(sections + END_MARK) if sections else ():
                places[section.name, section.instance] = place
        if not places:
            return self.early, self.devices
        parts = [b"", b"", b""]
        at = 0
        for section in self.sections:
            end = section.offset + section.size + _FOOTER_SIZE
            parts[places.get((section.name, section.instance), 2)] += self.devices[at:end]
            at = end
        first, second, devices = parts
        return ((first, second) if first or second else self.early), devices


def meta_of(vm: VmInitialDecoder, description: bytes | None) -> dict[str, str]:
    """What a store keeps beside the memory and the devices; `VmCheckpoint.of` reads it."""
    meta = {"machine": vm.machine, "head": b64encode(vm.head).decode(), "ram_section": str(vm.ram.section)}
    if vm.return_path:
        meta["return_path"] = "opened"
    for key, sections in zip(("early_first", "early"), vm.early, strict=True):
        if sections:
            meta[key] = b64encode(sections).decode()
    if description is not None:
        # a description is long and repeats itself; it is written with every round
        meta["description"] = b64encode(zlib.compress(description, 9)).decode()
    return meta
