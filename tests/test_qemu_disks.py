"""Disks are told by what a real QEMU sends of them; machines without any are not refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from qemu import Accel, Qemu, each_version, needs_kvm, needs_qemu
from standby_process import REPLACE, StandbyProcess

from colo_fsm.qemu.hold.inspect import inspect_file

pytestmark = needs_qemu

DRIVE = ("-drive", "if=none,id=d,format=raw,file={image}")
HD, CD = (*DRIVE, "-device", "ide-hd,drive=d,bus={bus}"), (*DRIVE, "-device", "ide-cd,drive=d,bus={bus}")
SCSI_HD = (*DRIVE, "-device", "scsi-hd,drive=d")


def put(where: str, options: Sequence[str]) -> tuple[str, ...]:
    return tuple(option.replace("{bus}", where) for option in options)


BOOTED = 0x600
BOOT_SECTOR = bytes.fromhex("31c0 8ed8 c606000621 f4 ebfd").ljust(510, b"\0") + b"\x55\xaa"
"""xor ax, ax; mov ds, ax; mov byte [0x600], '!'; hlt; jmp $-1"""

DISKS = {
    "virtio-blk": ("pc", (*DRIVE, "-device", "virtio-blk-pci,drive=d"), ["virtio-blk"]),
    "scsi-disk": ("pc", ("-device", "virtio-scsi-pci", *SCSI_HD), ["scsi-disk"]),
    "scsi-disk at a megasas": ("pc", ("-device", "megasas", *SCSI_HD), ["scsi-disk"]),
    "usb-storage": ("pc", ("-usb", *DRIVE, "-device", "usb-storage,drive=d"), ["scsi-disk", "usb-storage"]),
    "first ide drive": ("pc", put("ide.0", HD), ["ide"]),
    "last ide drive": ("pc", put("ide.1,unit=1", HD), ["ide"]),
    "ide drive beside a CD-ROM": ("pc", (*put("ide.1", HD), "-device", "ide-cd,bus=ide.1"), ["ide"]),
    "first ahci drive": ("q35", put("ide.0", HD), ["ich9_ahci"]),
    "last ahci drive": ("q35", put("ide.5", HD), ["ich9_ahci"]),
    "ahci drive beside a CD-ROM": ("q35", (*put("ide.3", HD), "-device", "ide-cd"), ["ich9_ahci"]),
    "ahci at a pc": ("pc", ("-device", "ich9-ahci,id=a", *put("a.0", HD)), ["ich9_ahci"]),
    "sd-card": ("q35", ("-device", "sdhci-pci", *DRIVE, "-device", "sd-card,drive=d"), ["sd-card"]),
    "pflash": ("pc", ("-drive", "if=pflash,format=raw,file={image}"), ["pflash_cfi01"]),
}
EMPTY = {
    "pc": ("pc", ()),
    "q35": ("q35", ()),
    "ide at a q35": ("q35", ("-device", "piix4-ide")),
    "ahci at a pc": ("pc", ("-device", "ich9-ahci")),
    "scsi controllers": ("pc", ("-device", "virtio-scsi-pci", "-device", "megasas")),
    "ide CD-ROM": ("pc", put("ide.0", CD)),
    "two ide CD-ROMs": ("pc", (*put("ide.1", CD), "-device", "ide-cd,bus=ide.1")),
    "empty ide CD-ROM": ("pc", ("-device", "ide-cd,bus=ide.1,unit=1")),
    "ahci CD-ROM": ("q35", put("ide.2", CD)),
    "empty ahci CD-ROM": ("q35", ("-device", "ide-cd")),
}


def found(
    folder: Path,
    machine: str,
    options: Sequence[str],
    *,
    defaults: bool = False,
    booted: bool = False,
    ports: Sequence[tuple[int, int]] = (),
    eject: str | None = None,
) -> list[str]:
    """The devices that are taken for disks in the stream of this machine, before it runs or when it has.

    `ports` are written to from outside, address and byte; the medium in the drive `eject` is taken out.
    """
    image = folder / "image"
    image.write_bytes(BOOT_SECTOR.ljust(4 << 20, b"\0"))
    extra = [option.replace("{image}", str(image)) for option in options]
    accel: Accel = "kvm" if booted else "tcg"
    qemu = Qemu(folder, "source", machine=machine, memory=16, accel=accel, paused=not booted, extra=extra)
    if defaults:
        qemu.arguments.remove("-nodefaults")
    with qemu:
        if booted:  # the firmware jumps to the boot sector, which tells
            qemu.until(lambda: qemu.read(BOOTED, 1) == b"!" or None, "boot sector")
        for port, value in ports:
            qemu.out(port, value)
        if eject is not None:
            qemu.qmp("eject", id=eject, force=True)
        qemu.migrate(f"exec:cat > {folder}/stream")
        qemu.until(lambda: qemu.qmp("query-migrate")["status"] == "completed" or None, "stream")
    return sorted(name.rpartition("/")[2] for name in inspect_file(folder / "stream").disks)


@pytest.mark.parametrize("name", DISKS)
def test_a_disk_is_told(tmp_path: Path, name: str) -> None:
    machine, options, names = DISKS[name]
    assert found(tmp_path, machine, options) == names


@pytest.mark.parametrize("name", EMPTY)
def test_a_controller_without_a_disk_is_none(tmp_path: Path, name: str) -> None:
    machine, options = EMPTY[name]
    assert found(tmp_path, machine, options) == []


@each_version
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), []),
        (put("ide.0", HD), ["isa-ide"]),
        (put("ide.1,unit=1", HD), ["isa-ide"]),
        (put("ide.1", CD), []),
    ],
)
def test_the_drives_of_an_isapc(tmp_path: Path, options: tuple[str, ...], names: list[str]) -> None:
    assert found(tmp_path, "isapc", options) == names


@pytest.mark.parametrize("machine", ["pc", "q35", "isapc"])
def test_the_cd_rom_drive_that_qemu_adds_is_no_disk(tmp_path: Path, machine: str) -> None:
    assert found(tmp_path, machine, (), defaults=True) == []


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_a_cd_rom_drive_is_none_when_its_medium_is_taken_out(tmp_path: Path, machine: str) -> None:
    assert found(tmp_path, machine, put("ide.1", [*CD[:-1], f"{CD[-1]},id=cd"]), eject="cd") == []


@needs_kvm
@pytest.mark.parametrize(
    "name",
    [
        "first ide drive",
        "first ahci drive",
        pytest.param("ide drive beside a CD-ROM", marks=pytest.mark.soak),
        pytest.param("ahci drive beside a CD-ROM", marks=pytest.mark.soak),
    ],
)
def test_a_disk_is_told_when_the_guest_has_used_it(tmp_path: Path, name: str) -> None:
    machine, options, names = DISKS[name]
    assert found(tmp_path, machine, options, booted=True) == names


@pytest.mark.parametrize(("options", "names"), [(put("ide.0", HD), ["ide"]), (put("ide.0", CD), [])])
def test_a_drive_is_told_in_the_middle_of_a_transfer(
    tmp_path: Path, options: tuple[str, ...], names: list[str]
) -> None:
    """It was asked what it is, and nobody has read the answer."""
    identify = 0xEC if names else 0xA1
    assert found(tmp_path, "pc", options, ports=[(0x1F6, 0xA0), (0x1F7, identify)]) == names


@needs_kvm
def test_the_standby_refuses_disks_until_it_is_told_that_they_are_taken_care_of(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4 << 20))
    disk = ["-drive", f"if=virtio,format=raw,file={image}"]
    with StandbyProcess(tmp_path) as standby:
        with Qemu(tmp_path, "refused", memory=16, extra=disk) as primary:
            primary.enable_colo()
            primary.migrate(standby.uri)
            standby.says(r"has disks \(\S*/virtio-blk\).*--disks-elsewhere")
            standby.says("listening goes on")
        with Qemu(tmp_path, "diskless", memory=16) as primary:
            primary.replicate(standby.uri)
            primary.checkpoint()
        assert standby.wait() == 0
    with StandbyProcess(tmp_path, REPLACE, "--disks-elsewhere") as standby:
        with Qemu(tmp_path, "taken", memory=16, extra=disk) as primary:
            primary.replicate(standby.uri)
            primary.checkpoint()
        assert standby.wait() == 0
        assert standby.objects[-1]["rounds"] == 1
