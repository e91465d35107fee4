"""Which device sections are disks: a checkpoint restored onto a disk that has moved on is corrupt.

Told by the names that QEMU gives its sections. An IDE or AHCI controller is part of the machine and
always there; whether it has a drive shows in its state: the signature of an empty slot stays ff ff in
the cylinder registers, and an identified drive makes the section longer. Measured with 7.2 and 10.2, an
isapc with 10.0 and 11.1. A
CD-ROM drive counts, for its section is the same with a medium and without. A SCSI controller does not:
its disks have sections of their own. What is in a floppy drive does not show.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from colo_fsm.stream import DeviceSection

DISKS = frozenset(
    {
        "virtio-blk", "vhost-user-blk", "scsi-disk", "nvme", "nvme-ns", "usb-storage", "sd-card", "mmc",
        "emmc", "pflash_cfi01", "pflash_cfi02",
    }
)  # fmt: skip


@attrs.frozen
class Controller:
    """Where an empty controller's section has the two cylinder registers of each drive."""

    size: int
    first: int
    stride: int
    drives: int

    def is_empty(self, body: bytes) -> bool:
        """Whether no drive is behind it."""
        places = range(self.first, self.first + self.drives * self.stride, self.stride)
        return len(body) == self.size and all(body[at : at + 2] == b"\xff\xff" for at in places)


CONTROLLERS = {
    "ide": Controller(430, 333, 28, 4),
    "isa-ide": Controller(58, 17, 28, 2),  # one for each port of an isapc
    "ich9_ahci": Controller(4168, 293, 644, 6),
}


def disks(sections: Iterable[DeviceSection], devices: bytes) -> list[str]:
    """The names of the sections that belong to disks; `devices` is what the sections lie in."""
    return [s.name for s in sections if _is_disk(s, devices)]


def _is_disk(section: DeviceSection, devices: bytes) -> bool:
    device = section.name.rpartition("/")[2]
    if device in CONTROLLERS:
        return not CONTROLLERS[device].is_empty(devices[section.offset : section.offset + section.size])
    return device in DISKS
