"""Streams of guests of our own, but small."""

from __future__ import annotations

from vm_stream import MIXED, A, ram, record

from colo_fsm.stream import (
    PAGE_SIZE,
    ZERO_PAGE,
    Delta,
    InitialDecoder,
    LiveDecoder,
    Page,
    Ram,
    initial,
    live,
)

FULL = b"\xff" * PAGE_SIZE
BLOCKS = {"low": 3 * PAGE_SIZE, "hi": 2 * PAGE_SIZE, "rom": PAGE_SIZE}
EVERYTHING = [
    Page("low", 0, A),
    Page("low", PAGE_SIZE, ZERO_PAGE),
    Page("low", 2 * PAGE_SIZE, FULL),
    Page("hi", PAGE_SIZE, MIXED),
    Page("hi", 0, ZERO_PAGE),
    Page("rom", 0, A),
]
PAGE_RECORD = record(0, 0x08, "low") + A


def image(pages: list[Page]) -> dict[tuple[str, int], bytes]:
    return {(page.block, page.offset): bytes(page.data) for page in pages}


def small_initial(pages: list[Page] = EVERYTHING, device: bytes = b"device") -> bytes:
    return b"".join(initial(BLOCKS, pages, device, generation=7))


def small_live(pages: list[Page] = EVERYTHING) -> bytes:
    return b"".join(live(BLOCKS, pages))


def new_initial() -> InitialDecoder:
    return InitialDecoder(lambda blocks: Delta())


def new_live() -> LiveDecoder:
    return LiveDecoder(Ram(BLOCKS), Delta())


def section(kind: int, records: bytes = b"", number: int = 1) -> bytes:
    """A RAM part or end section."""
    return ram(kind, records, number)
