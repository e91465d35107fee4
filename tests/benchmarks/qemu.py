"""A real QEMU Primary, 64 MiB, delay 1 ms: our standby beside a QEMU Secondary; and decoding in memory."""

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

from .table import Row

SECONDS, QUICK = 3.0, 0.3
SIZE = 1 << 30
PIECE = 1 << 18
"""What a driver reads at a time."""


def rounds(folder: Path, uri: str, seconds: float) -> float:
    """Rounds a second that a Primary makes with the Secondary at `uri`, its guest idle, delay 1."""
    with Qemu(folder, "primary") as primary:
        primary.replicate(uri, 1)
        primary.until(lambda: primary.resumes > 3 or None, "three rounds")
        before, began = primary.resumes, time.perf_counter()
        time.sleep(seconds)
        primary.read_events()
        return (primary.resumes - before) / (time.perf_counter() - began)


def with_qemu(folder: Path, seconds: float = SECONDS) -> float:
    """A QEMU Secondary, over TCP."""
    with Qemu(folder, "secondary", incoming="tcp:127.0.0.1:0") as secondary:
        secondary.enable_colo()
        return rounds(folder, secondary.uri, seconds)


def with_standby(folder: Path, seconds: float = SECONDS) -> float:
    """The same with ours."""
    with StandbyProcess(folder) as standby:
        return rounds(folder, standby.uri, seconds)


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


def pieces(size: int) -> Iterator[bytes]:
    """A VM of this many bytes, every other page random, every other page zero, as a driver would read it."""
    noise = random.Random(1).randbytes(64 * PAGE_SIZE)
    yield head() + start(blocks={"pc.ram": size}) + b"\x03" + struct.pack(">I", 2)
    yield record(0, 0x02, "pc.ram") + b"\0"
    piece = bytearray()
    for number in range(1, size // PAGE_SIZE):
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


def decode(size: int = SIZE) -> tuple[float, float]:
    """Seconds to decode it into an image that is there; and bytes of memory, at the peak, over the image.

    Making the stream and getting the memory from the kernel are not counted, as in `copy`.
    """
    before = resident()
    image = Image({"pc.ram": size})
    decoder = VmInitialDecoder(lambda blocks: image, limit=size)
    took = 0.0
    for piece in pieces(size):
        began = time.perf_counter()
        decoder.feed(piece)
        took += time.perf_counter() - began
    assert decoder.complete
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before - size


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def copy(size: int = SIZE) -> float:
    """Seconds of one memcpy of the same number of bytes, into memory that is there."""
    source = memoryview(random.Random(1).randbytes(size >> 4))
    target = memoryview(bytearray(size))
    began = time.perf_counter()
    for at in range(0, size, len(source)):
        target[at : at + len(source)] = source
    return time.perf_counter() - began


def rows(quick: bool) -> Iterator[Row]:
    """All of it; without a QEMU and KVM only what needs none."""
    if qemus.current().binary is not None and os.access("/dev/kvm", os.R_OK | os.W_OK):
        seconds = QUICK if quick else SECONDS
        with tempfile.TemporaryDirectory() as folder:
            theirs, ours = with_qemu(Path(folder), seconds), with_standby(Path(folder), seconds)
        yield Row("standby, idle VM", ours, "rounds/s", "QEMU Secondary", theirs)
    size = SIZE >> 4 if quick else SIZE
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        floor = pool.apply(copy, (size,))
        took, over = pool.apply(decode, (size,))
    what = f"decoding {size >> 20} MiB of RAM" if quick else "decoding 1 GiB of RAM"
    yield Row(what, size / took / 1e9, "GB/s", "memcpy", size / floor / 1e9)
    yield Row(f"{what}, memory over the image", over / 2**20, "MiB")
