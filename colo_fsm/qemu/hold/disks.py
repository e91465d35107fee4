"""Which device sections are disks: a checkpoint restored onto a disk that has moved on is corrupt.

Told by the names that QEMU gives its sections, but for IDE and AHCI controllers, which are part of the
machine and always there: what is behind one, `drives` tells. A CD-ROM drive is none, for nobody writes to
it: with the same medium, or without one, it is as it was. A SCSI controller does not count: its disks have
sections of their own. What is in a floppy drive does not show.
"""

from __future__ import annotations

from collections.abc import Iterable

from colo_fsm.stream import DeviceSection

from .drives import CONTROLLERS, Drive

DISKS = frozenset(
    {
        "virtio-blk", "vhost-user-blk", "scsi-disk", "nvme", "nvme-ns", "usb-storage", "sd-card", "mmc",
        "emmc", "pflash_cfi01", "pflash_cfi02",
    }
)  # fmt: skip


def disks(sections: Iterable[DeviceSection], devices: bytes, *, fresh: bool = True) -> list[str]:
    """The names of the sections that belong to disks; `devices` is what the sections lie in.

    Not `fresh`: those that show while the VM runs. No drive can be added to a controller then, and in the
    middle of something it may be hard to read.
    """
    return [s.name for s in sections if _is_disk(s, devices, fresh)]


def _is_disk(section: DeviceSection, devices: bytes, fresh: bool) -> bool:
    device = section.name.rpartition("/")[2]
    if device not in CONTROLLERS:
        return device in DISKS
    body = devices[section.offset : section.offset + section.size]
    drives = CONTROLLERS[device].drives(body, fresh=fresh)
    return fresh if drives is None else Drive.DISK in drives
