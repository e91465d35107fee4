"""Streams as a real QEMU writes them, but small, and the pieces that they come in."""

from __future__ import annotations

import gc
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from colo_fsm.stream import PAGE_SIZE, Blocks, Buffer, Decoder, PatchSink, VmInitialDecoder

BLOCKS = {"pc.ram": 3 * PAGE_SIZE, "pc.bios": PAGE_SIZE}
A = b"A" * PAGE_SIZE
MIXED = bytes(range(256)) * (PAGE_SIZE // 256)
RAM_ID = 2


class Memory(PatchSink):
    """A memory image that takes pages and lends them to be patched."""

    def __init__(self, blocks: Blocks = BLOCKS) -> None:
        self.blocks = {name: bytearray(size) for name, size in blocks.items()}
        self.patched = 0

    def put(self, block: str, offset: int, data: Buffer, /) -> None:
        self.blocks[block][offset : offset + PAGE_SIZE] = data

    def get(self, block: str, offset: int, /) -> Buffer:
        self.patched += 1
        return self.blocks[block][offset : offset + PAGE_SIZE]


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def name(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def head(machine: str = "pc-i440fx-7.2") -> bytes:
    return b"QEVM" + u32(3) + b"\x07" + u32(len(machine)) + machine.encode()


def subsection(what: str, body: bytes, version: int = 1) -> bytes:
    return b"\x05" + name(what) + u32(version) + body


def command(number: int, data: bytes = b"") -> bytes:
    return b"\x08" + u16(number) + u16(len(data)) + data


def record(address: int, flags: int, block: str = "") -> bytes:
    return (address | flags).to_bytes(8, "big") + (name(block) if block else b"")


EOS = record(0, 0x10)


def ram(kind: int, records: bytes, number: int = RAM_ID) -> bytes:
    """A RAM part or end section."""
    return bytes([kind]) + u32(number) + records + EOS + b"\x7e" + u32(number)


def start(what: str = "ram", blocks: Blocks = BLOCKS) -> bytes:
    listed = b"".join(name(block) + size.to_bytes(8, "big") for block, size in blocks.items())
    body = name(what) + u32(0) + u32(4) + record(sum(blocks.values()), 0x04) + listed
    return ram(1, body)


PAGES = (
    record(0, 0x08, "pc.ram")
    + A
    + record(PAGE_SIZE, 0x22)
    + b"\x00"
    + record(2 * PAGE_SIZE, 0x22)
    + b"\x00"
    + record(0, 0x08, "pc.bios")
    + MIXED
)
MEMORY = {"pc.ram": A + bytes(2 * PAGE_SIZE), "pc.bios": MIXED}


def header(number: int, what: str, instance: int = 0, version: int = 1) -> bytes:
    return b"\x04" + u32(number) + name(what) + u32(instance) + u32(version)


def footer(number: int) -> bytes:
    return b"\x7e" + u32(number)


def device(number: int, what: str, body: bytes, instance: int = 0, version: int = 1) -> bytes:
    return header(number, what, instance, version) + body + footer(number)


DEVICES = (
    device(0, "timer", b"\x00" * 8)
    + device(7, "apic", b"apic one", instance=0, version=3)
    + device(8, "apic", b"apic two", instance=1, version=3)
    + device(4, "0000:00:01.1/ide", b"")
)
DESCRIPTION = b'{"devices": []}'


def initial(
    *, before: bytes = b"", pages: bytes = PAGES, between: bytes = b"", devices: bytes = DEVICES
) -> bytes:
    """An initial stream up to its end mark, with things of one's own where QEMU may have commands."""
    return head() + before + start() + ram(2, pages) + between + ram(3, b"") + devices + b"\x00"


def described(description: bytes = DESCRIPTION) -> bytes:
    return b"\x06" + u32(len(description)) + description


LIMIT = sum(BLOCKS.values())
REQUEST = u32(1)


def ping(value: int) -> bytes:
    return command(2, u32(value))


def new_initial(memory: Memory | None = None) -> VmInitialDecoder:
    return VmInitialDecoder(lambda blocks: memory or Memory(), limit=LIMIT)


Pieces = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def at_random(data: bytes, seed: int = 0) -> Iterator[bytes]:
    rng = random.Random(seed or len(data))
    at = 0
    while at < len(data):
        step = rng.choice((0, 1, 7, 8, 9, 4095, 4096, 4105, 20000))
        yield data[at : at + step]
        at += step


def feed_all(decoder: Decoder, pieces: Iterator[bytes]) -> bytes:
    """Feed every piece as a socket's reader would; return what the decoder left over."""
    rest = bytearray()
    for piece in pieces:
        rest += piece
        # Resizing fails if the decoder has kept a view of the buffer.
        del rest[: decoder.feed(rest)]
        assert decoder.complete or not rest
    return bytes(rest)


@contextmanager
def memory_under(limit: int) -> Iterator[None]:
    """What is done inside never needs more than `limit` bytes at a time."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < limit


def calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls; what the collector of garbage calls in between is not counted."""
    count = 0

    def counting(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    collects = gc.isenabled()
    gc.disable()
    sys.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(None)
        if collects:
            gc.enable()
    return count
