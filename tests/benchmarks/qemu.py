"""A real QEMU Primary: rounds against our standby and against a QEMU Secondary; and decoding, in memory."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import qemus
from qemu import Qemu
from standby_process import StandbyProcess
from vm_stream import DEVICES, EOS, footer, head, record, start

from colo_fsm.stream import PAGE_SIZE, Blocks, Buffer, PatchSink, VmInitialDecoder

SECONDS = 3.0
TARGET_RATIO = 10
TARGET_ROUNDS = 450
SIZE = 1 << 30
PIECE = 1 << 18
"""What a driver reads at a time."""
TARGET_RATE = 2.0
TARGET_MEMORY = 64 << 20


def rounds(folder: Path, uri: str) -> float:
    """Rounds a second that a Primary makes with the Secondary at `uri`, its guest idle, delay 1."""
    with Qemu(folder, "primary") as primary:
        primary.replicate(uri, 1)
        primary.until(lambda: primary.resumes > 3 or None, "three rounds")
        before, began = primary.resumes, time.perf_counter()
        time.sleep(SECONDS)
        primary.read_events()
        return (primary.resumes - before) / (time.perf_counter() - began)


def with_qemu(folder: Path) -> float:
    """A QEMU Secondary, over TCP."""
    with Qemu(folder, "secondary", incoming="tcp:127.0.0.1:0") as secondary:
        secondary.enable_colo()
        return rounds(folder, secondary.uri)


def with_standby(folder: Path) -> float:
    """The same with ours."""
    with StandbyProcess(folder) as standby:
        return rounds(folder, standby.uri)


class Image(PatchSink):
    """One block of memory."""

    def __init__(self, blocks: Blocks) -> None:
        (size,) = blocks.values()
        self.memory = bytearray(size)
        self._view = memoryview(self.memory)

    def put(self, _: str, offset: int, data: Buffer) -> None:
        self._view[offset : offset + PAGE_SIZE] = data

    def get(self, _: str, offset: int) -> Buffer:
        return self._view[offset : offset + PAGE_SIZE]


def pieces() -> Iterator[bytes]:
    """A VM of SIZE bytes, every other page random, every other page zero, as a driver would read it."""
    noise = random.Random(1).randbytes(64 * PAGE_SIZE)
    yield head() + start(blocks={"pc.ram": SIZE}) + b"\x03" + struct.pack(">I", 2)
    yield record(0, 0x02, "pc.ram") + b"\0"
    piece = bytearray()
    for number in range(1, SIZE // PAGE_SIZE):
        address = number * PAGE_SIZE
        if number % 2:
            at = number % 128 // 2 * PAGE_SIZE
            piece += struct.pack(">Q", address | 0x28) + noise[at : at + PAGE_SIZE]
        else:
            piece += struct.pack(">Q", address | 0x22) + b"\0"
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + EOS + footer(2) + DEVICES + b"\0"


def decode() -> tuple[float, float]:
    """Seconds to decode it into an image that is there; and bytes of memory, at the peak, over the image.

    Making the stream and getting 1 GiB from the kernel are not counted, as in `copy`.
    """
    before = resident()
    image = Image({"pc.ram": SIZE})
    decoder = VmInitialDecoder(lambda blocks: image, limit=SIZE)
    took = 0.0
    for piece in pieces():
        began = time.perf_counter()
        decoder.feed(piece)
        took += time.perf_counter() - began
    assert decoder.complete
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before - SIZE


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def copy() -> float:
    """Seconds of one memcpy of the same number of bytes, into memory that is there."""
    source = memoryview(random.Random(1).randbytes(SIZE >> 4))
    target = memoryview(bytearray(SIZE))
    began = time.perf_counter()
    for at in range(0, SIZE, len(source)):
        target[at : at + len(source)] = source
    return time.perf_counter() - began


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def main() -> None:
    """Print all of it."""
    print("a real QEMU Primary over TCP, 64 MiB, guest idle, checkpoint delay 1 ms, rounds a second")
    if qemus.current().binary is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("  not measured: qemu-system-x86_64 or /dev/kvm is missing")
    else:
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours = with_qemu(Path(folder)), with_standby(Path(folder))
        ratio = ours / theirs
        print(f"  QEMU Secondary                 {theirs:8.0f}")
        print(f"  colo-fsm standby               {ours:8.0f}   {ratio:.0f}x", end="")
        met = ratio >= TARGET_RATIO and ours >= TARGET_ROUNDS
        print(f"  target {TARGET_RATIO}x and {TARGET_ROUNDS}: {verdict(met)}")
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        floor = pool.apply(copy)
        took, over = pool.apply(decode)
    rate = SIZE / took / 1e9
    print("decoding 1 GiB of RAM, every other page random, every other zero, into memory")
    print(f"  one memcpy of as much          {SIZE / floor / 1e9:8.2f} GB/s")
    print(f"  decoding                       {rate:8.2f} GB/s   1/{took / floor:.1f}", end="")
    print(f"  target {TARGET_RATE:g} GB/s: {verdict(rate >= TARGET_RATE)}")
    print(f"  memory over the image          {over / 2**20:8.0f} MiB", end="")
    print(f"   target {TARGET_MEMORY >> 20} MiB: {verdict(over <= TARGET_MEMORY)}")
