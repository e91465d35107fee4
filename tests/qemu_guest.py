"""A guest of 34 bytes that counts, in place of firmware: KVM stops it between two instructions.

    loop:  n += 1;  A := n;  page[n % 16] := n;  B := n

So in every whole state of its memory A is B or B + 1 (modulo 2**32), and the sixteen pages hold the last
sixteen numbers; only the page that A points to may still hold the number before, if B does as well. A
state that mixes two checkpoints breaks that, since the guest counts every few microseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qemu import Qemu

A, B, PAGES = 0x10000, 0x18000, 0x20000
"""Guest physical addresses, each in a page of its own; 16 pages from PAGES on."""

CODE = bytes.fromhex(
    "b80010 8ed8"  #    mov ax, 0x1000; mov ds, ax
    "b80020 8ec0"  #    mov ax, 0x2000; mov es, ax
    "6631c0"  #         xor eax, eax
    "6640"  #     loop: inc eax
    "66a30000"  #       mov [0x0000], eax
    "89c3 c1e30c"  #    mov bx, ax; shl bx, 12
    "2666 8907"  #      mov es:[bx], eax
    "66a30080"  #       mov [0x8000], eax
    "ebeb"  #           jmp loop
)


def counting_guest(folder: Path) -> tuple[str, str]:
    """Options for `Qemu(extra=...)`: a BIOS image of 64 KiB in `folder` that is this guest."""
    image = bytearray(b"\xf4" * 0x10000)
    image[: len(CODE)] = CODE
    image[0xFFF0:0xFFF5] = b"\xea\0\0\0\xf0"  # the reset vector: jmp 0xf000:0
    path = folder / "counting.bin"
    path.write_bytes(image)
    return "-bios", str(path)


def count(read: Callable[[int, int], bytes]) -> int:
    """The number that the guest has come to. Raises AssertionError if its memory is not whole.

    `read` is `Qemu.read` of a stopped QEMU, or anything else that has the memory of a checkpoint.
    """
    (a,) = struct.unpack("<I", read(A, 4))
    (b,) = struct.unpack("<I", read(B, 4))
    between = (a - b) % 2**32
    assert between in (0, 1), f"torn: A is {a}, B is {b}"
    for page in range(16):
        (found,) = struct.unpack("<I", read(PAGES + page * 4096, 4))
        last = a - (a - page) % 16
        allowed = {last, last - 16} if between and last == a else {last}
        assert found in {max(number, 0) for number in allowed}, f"torn: A is {a}, page {page} has {found}"
    return int(a)


def runs_on(qemu: Qemu, number: int) -> int:
    """Let a stopped guest run until it has counted on from `number`; it is stopped again."""

    def counted() -> int | None:
        qemu.qmp("cont")
        qemu.qmp("stop")
        found = count(qemu.read)
        return found if found != number else None

    return qemu.until(counted, f"a count behind {number}")
