"""A real VM and its standby, beside a QEMU Secondary: first copy, zero pages, rounds, pauses, restore.

`COLO_FSM_BENCH_GIB` is the VM's size in GiB, 1 unless it says otherwise: then only what hangs on the size is
measured, and kept beside the other.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import qemus
from qemu import Qemu
from standby_process import COMMAND, StandbyProcess
from vm_stream import RAM_ID, ram, record

from colo_fsm.qemu.incoming import RoundDelta
from colo_fsm.replica import DirectoryStore
from colo_fsm.replica.link import READ_SIZE
from colo_fsm.stream import PAGE_SIZE, Ram, VmLiveDecoder

from .table import Row

GIB = int(os.environ.get("COLO_FSM_BENCH_GIB", "1"))
KEPT_AS = "standby" if GIB == 1 else f"standby, {GIB} GiB"
SIZE = GIB << 30
PIECE = 16 << 20
MEMORY = Path("/dev/shm")  # noqa: S108 - what is made in it is private
DISK = Path(tempfile.gettempdir())
UNLIMITED = 100 << 30
"""Bytes a second; QEMU sends at most 128 MiB a second unless it is told otherwise."""
SECONDS = 3.0
RUNS = 5


@attrs.frozen
class Replicated:
    """Seconds of a first copy, rounds a second after it at delay 1, seconds of the guest's pauses at 20."""

    copied: float
    rounds: float
    pauses: list[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.pauses)

    @property
    def p99(self) -> float:
        return sorted(self.pauses)[int(len(self.pauses) * 0.99)]


def fill(path: Path, filled: bool) -> None:
    """A file for a VM's RAM: noise from 16 MiB on, or nothing."""
    with path.open("wb") as file:
        file.truncate(SIZE)
        noise = os.urandom(PIECE)
        for at in range(PIECE, SIZE, PIECE) if filled else ():
            file.seek(at)
            file.write(noise)


def vm(folder: Path, name: str, ram: Path | None, incoming: str | None = None) -> Qemu:
    """A VM of SIZE whose RAM begins as the file says, or empty."""
    backend = "memory-backend-ram" if ram is None else "memory-backend-file"
    options = f"{backend},id=pc.ram,size={SIZE},x-use-canonical-path-for-ramblock-id=off"
    options += "" if ram is None else f",mem-path={ram}"
    return Qemu(
        folder, name, machine="pc,memory-backend=pc.ram", memory=SIZE >> 20, incoming=incoming,
        extra=["-object", options],
    )  # fmt: skip


def pauses(primary: Qemu) -> list[float]:
    """Seconds from each STOP to its RESUME, by QEMU's own clock."""
    found, stopped = [], None
    for event in primary.events:
        at = event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
        if event["event"] == "STOP":
            stopped = at
        elif event["event"] == "RESUME" and stopped is not None:
            found.append(at - stopped)
            stopped = None
    return found


def replicated(primary: Qemu, uri: str) -> Replicated:
    """The Primary replicates to `uri`."""
    primary.qmp("migrate-set-parameters", max_bandwidth=UNLIMITED)
    began = time.perf_counter()
    primary.replicate(uri, 1)
    copied = time.perf_counter() - began
    primary.until(lambda: primary.resumes > 3 or None, "three rounds")  # the first has all of RAM once more
    before, began = primary.resumes, time.perf_counter()
    time.sleep(SECONDS)
    primary.read_events()
    rate = (primary.resumes - before) / (time.perf_counter() - began)
    primary.qmp("migrate-set-parameters", x_checkpoint_delay=20)
    primary.read_events()
    seen = len(pauses(primary))
    time.sleep(SECONDS)
    primary.read_events()
    return Replicated(copied, rate, pauses(primary)[seen:])


@contextlib.contextmanager
def standby(folder: Path, store: Path) -> Iterator[StandbyProcess]:
    with tempfile.TemporaryDirectory(dir=store) as where, StandbyProcess(Path(where)) as process:
        yield process


def with_standby(folder: Path, ram: Path, store: Path) -> Replicated:
    """Our standby, its store below `store`."""
    with standby(folder, store) as ours, vm(folder, "primary", ram) as primary:
        return replicated(primary, ours.uri)


def with_qemu(folder: Path, ram: Path) -> Replicated:
    """A QEMU Secondary."""
    with vm(folder, "secondary", None, "tcp:127.0.0.1:0") as secondary, vm(folder, "primary", ram) as primary:
        secondary.enable_colo()
        return replicated(primary, secondary.uri)


def dd(source: Path, folder: Path) -> float:
    """Seconds in which `dd` writes a VM's RAM to a file."""
    with tempfile.NamedTemporaryFile(dir=folder) as target:
        command = ["dd", f"if={source}", f"of={target.name}", "bs=1M", "conv=notrunc"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began


def into_file(folder: Path, ram: Path, where: Path) -> float:
    """Seconds in which QEMU itself migrates a VM into a file, which nobody decodes."""
    with tempfile.NamedTemporaryFile(dir=where) as target, vm(folder, "primary", ram) as primary:
        primary.qmp("migrate-set-parameters", max_bandwidth=UNLIMITED)
        began = time.perf_counter()
        primary.migrate(f"exec:cat > {target.name}")
        primary.until(lambda: primary.qmp("query-migrate")["status"] == "completed" or None, "a migration")
        return time.perf_counter() - began


def qemu_failover(folder: Path, ram: Path) -> float:
    """Seconds from a Primary's SIGKILL until its QEMU Secondary runs."""
    with vm(folder, "secondary", None, "tcp:127.0.0.1:0") as secondary, vm(folder, "primary", ram) as primary:
        secondary.enable_colo()
        primary.qmp("migrate-set-parameters", max_bandwidth=UNLIMITED)
        primary.replicate(secondary.uri, 20)
        primary.until(lambda: primary.resumes > 3 or None, "three rounds")
        began = time.perf_counter()
        primary.kill()
        secondary.lost_heartbeat()
        return time.perf_counter() - began


def failover(folder: Path, ram: Path, mapped: bool) -> float:
    """Seconds from a Primary's SIGKILL until the VM runs again from our store, which is in memory."""
    with standby(folder, MEMORY) as ours:
        with vm(folder, "primary", ram) as primary:
            primary.qmp("migrate-set-parameters", max_bandwidth=UNLIMITED)
            primary.replicate(ours.uri, 20)
            primary.until(lambda: primary.resumes > 3 or None, "three rounds")
            began = time.perf_counter()
            primary.kill()
        assert ours.wait() == 0
        restore = [*COMMAND, "restore", "--unchecked", str(ours.store)]
        if mapped:
            file, stream = ours.store.parent / "ram", ours.store.parent / "stream"
            subprocess.run([*restore, "--ram", str(file), "-o", str(stream)], check=True)
            restored = vm(folder, "restored", file, f"exec:cat {stream}")
        else:
            restored = vm(folder, "restored", None, f"exec:{' '.join(restore)} -o -")
        with restored:
            restored.wait_loaded()
            return time.perf_counter() - began


def copies(folder: Path) -> Iterator[Row]:
    """First copies and pauses."""
    ram = folder / "ram"
    fill(ram, True)
    theirs, ours = with_qemu(folder, ram), with_standby(folder, ram, MEMORY)
    yield Row(f"first copy of a VM, {GIB} GiB, tmpfs", ours.copied, "s", "QEMU Secondary", theirs.copied)
    on_disk = with_standby(folder, ram, DISK)
    work = f"first copy of a VM, {GIB} GiB, disk"
    yield Row(work, on_disk.copied, "s", "dd", dd(ram, DISK))
    alone = into_file(folder, ram, DISK)
    yield Row(f"{work}, beside its QEMU", on_disk.copied, "s", "QEMU's own migration into a file", alone)
    yield Row(f"standby of {GIB} GiB, idle VM", ours.rounds, "rounds/s", "QEMU Secondary", theirs.rounds)
    for which in ("p50", "p99") if GIB == 1 else ():
        mine, other = (getattr(each, which) * 1e3 for each in (ours, theirs))
        yield Row(f"standby, guest pause at 20 ms, {which}", mine, "ms", "QEMU Secondary", other)
    fill(ram, False)
    theirs, ours = with_qemu(folder, ram), with_standby(folder, ram, MEMORY)
    yield Row(f"first copy of a VM, {GIB} GiB, empty", ours.copied, "s", "QEMU Secondary", theirs.copied)


def zero_round() -> tuple[float, int]:
    """Seconds from the bytes of a round of 1 GiB of zeros into the store; bytes that this grows by."""
    pages = (1 << 30) // PAGE_SIZE
    records = b"".join(record(number * PAGE_SIZE, 0x22) + b"\0" for number in range(1, pages))
    live = ram(3, record(0, 0x02, "pc.ram") + b"\0" + records) + b"\0"
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, DirectoryStore(folder) as store:
        store.begin({"pc.ram": 1 << 30})
        store.complete(1, b"")
        before = room(Path(folder))
        began = time.perf_counter()
        delta = RoundDelta(store)
        decoder = VmLiveDecoder(Ram({"pc.ram": 1 << 30}, RAM_ID), delta)
        for at in range(0, len(live), READ_SIZE):
            decoder.feed(live[at : at + READ_SIZE])
        assert decoder.zero_pages == pages
        store.commit(delta, b"")
        return time.perf_counter() - began, room(Path(folder)) - before


def room(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(entry.stat().st_blocks * 512 for entry in folder.iterdir())


def failovers(folder: Path) -> Iterator[Row]:
    """From a SIGKILL to a guest that runs."""
    ram = folder / "ram"
    fill(ram, True)
    theirs = statistics.median(qemu_failover(folder, ram) for _ in range(RUNS))
    for what, mapped in (("", True), (", RAM read from a pipe", False)):
        took = statistics.median(failover(folder, ram, mapped) for _ in range(RUNS))
        work = f"SIGKILL of a {GIB} GiB VM to its guest running{what}"
        yield Row(work, took, "s", "QEMU Secondary", theirs)


def rows(quick: bool) -> Iterator[Row]:
    """All of it; nothing without a QEMU and KVM, and of a sample nothing that takes a minute."""
    if qemus.current().binary is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        if GIB == 1:
            took, grown = zero_round()
            yield Row("round of 262,144 zero pages", took, "s")
            yield Row("round of 262,144 zero pages, what the store grows by", grown / 1024, "KiB")
        if quick:
            yield Row("dd of a file to the disk", dd(Path("/proc/self/exe"), DISK), "s")
        else:
            yield from copies(Path(folder))
            yield from failovers(Path(folder))
