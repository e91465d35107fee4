"""VMs that QEMU handles: a standby holds them through a round, and QEMU loads what is restored of them."""

from __future__ import annotations

import shlex
from pathlib import Path

import attrs
import pytest
import qemus
from click.testing import CliRunner
from qemu import Qemu, each_version, needs_kvm
from standby_process import StandbyProcess

from colo_fsm.cli.app import cli
from colo_fsm.qemu import VmCheckpoint
from colo_fsm.replica import DirectoryStore

pytestmark = needs_kvm

WRITTEN = 12 << 20
VIRTIO_MEM = (
    "-object", "memory-backend-ram,id=m0,size=64M", "-device", "virtio-mem-pci,memdev=m0,requested-size=32M",
)  # fmt: skip


@attrs.frozen
class Vm:
    machine: str
    extra: tuple[str, ...] = ()
    memory: str = "24"
    defaults: bool = False


VMS = {
    "two user-mode NICs": Vm("pc", ("-nic", "user", "-nic", "user")),
    "isapc": Vm("isapc"),
    "the CD-ROM drive that QEMU adds": Vm("pc", defaults=True),
    "a CD-ROM": Vm("q35", ("-cdrom", "{medium}")),
}
MORE = {
    "microvm": Vm("microvm"),
    "q35 with all that QEMU adds": Vm("q35", defaults=True),
    "a CD-ROM in a pc": Vm("pc", ("-cdrom", "{medium}")),
    "virtio-mem in a q35": Vm("q35", VIRTIO_MEM, memory="64,maxmem=1G"),
}


def held_and_restored(folder: Path, vm: Vm, above: int | None = None) -> VmCheckpoint:
    """Hold it for a round, and let a QEMU load what is restored; the checkpoint, without its memory.

    `above` is where in its RAM that begins which is above 4 GiB.
    """
    medium = folder / "medium"
    medium.write_bytes(bytes(2 << 20))
    extra = [word.replace("{medium}", str(medium)) for word in vm.extra]
    primary = Qemu(folder, "primary", machine=vm.machine, memory=vm.memory, extra=extra)  # type: ignore[arg-type]
    if vm.defaults:
        primary.arguments.remove("-nodefaults")
    places = {WRITTEN: WRITTEN} if above is None else {WRITTEN: WRITTEN, (4 << 30) + WRITTEN: above + WRITTEN}
    with StandbyProcess(folder) as standby:
        with primary:
            primary.replicate(standby.uri)
            for address in places:
                primary.write(address, b"%x" % address)
            primary.checkpoint()
            primary.kill()
        assert standby.wait() == 0
    command = shlex.join([qemus.PROGRAM, *primary.arguments])
    result = CliRunner().invoke(cli, ["restore", str(standby.store), "--check", command])
    assert (result.exit_code, result.stderr) == (0, "checkpoint 1 loads: paused\n")
    with DirectoryStore(standby.store) as store:
        assert store.newest is not None
        ram = store.newest.blocks["microvm.ram" if vm.machine == "microvm" else "pc.ram"]
        for address, place in places.items():
            written = b"%x" % address
            assert bytes(ram[place : place + len(written)]) == written
        return attrs.evolve(VmCheckpoint.of(store.newest), blocks={})


@pytest.mark.parametrize("name", [*VMS, *(pytest.param(name, marks=pytest.mark.soak) for name in MORE)])
def test_a_vm_is_held_and_restored(tmp_path: Path, name: str) -> None:
    held_and_restored(tmp_path, (VMS | MORE)[name])


@each_version
def test_virtio_mem_has_its_section_before_the_end_of_ram(tmp_path: Path) -> None:
    """And there it is restored, as the round had it. 7.2 has none."""
    vm = held_and_restored(tmp_path, Vm("pc", VIRTIO_MEM, memory="64,maxmem=1G"))
    name, there = b"virtio-mem-device-early", qemus.current().number >= (8, 1)
    assert (name in vm.early[0] + vm.early[1], name in vm.devices) == (there, there)
    stream = b"".join(vm.stream())
    end_of_ram = stream.index(b"\x03" + vm.ram_section.to_bytes(4, "big"))
    sections = stream[: len(stream) - len(vm.description or b"")]
    assert [sections.count(name), sections.count(name, 0, end_of_ram)] == [there, there]


@pytest.mark.soak
def test_more_than_4_gib_of_ram(tmp_path: Path) -> None:
    """Behind the hole for devices, which a pc has at 3 GiB then, it goes on at 4 GiB of addresses."""
    held_and_restored(tmp_path, Vm("pc", memory="4608"), above=3 << 30)
