"""A guest of 64 bytes, in place of firmware: it powers itself off when its power button is pressed.

For `-machine pc`: the registers of ACPI are at 0x600 once PCI function 00:01.3 has been told so.
"""

from __future__ import annotations

from pathlib import Path

CODE = bytes.fromhex(
    "66b8400b0080 baf80c 66ef"  #   mov eax, 0x80000b40; mov dx, 0xcf8; out dx, eax
    "66b801060000 bafc0c 66ef"  #   mov eax, 0x601; mov dx, 0xcfc; out dx, eax: where they are
    "66b8800b0080 baf80c 66ef"  #   mov eax, 0x80000b80; mov dx, 0xcf8; out dx, eax
    "b001 bafc0c ee"  #             mov al, 1; mov dx, 0xcfc; out dx, al: and that they are
    "ba0206 b80001 ef"  #           mov dx, 0x602; mov ax, 0x100; out dx, ax: its button counts
    "ba0006 ed"  #            loop: mov dx, 0x600; in ax, dx
    "a90001 74f7"  #                test ax, 0x100; jz loop: the power button
    "ba0406 b80020 ef"  #           mov dx, 0x604; mov ax, 0x2000; out dx, ax: off
    "ebfe"  #                       jmp $
)


def powered_guest(folder: Path) -> tuple[str, str]:
    """Options for QEMU's command line: a BIOS image of 64 KiB in `folder` that is this guest."""
    image = bytearray(b"\xf4" * 0x10000)
    image[: len(CODE)] = CODE
    image[0xFFF0:0xFFF5] = b"\xea\0\0\0\xf0"  # the reset vector: jmp 0xf000:0
    path = folder / "power.bin"
    path.write_bytes(image)
    return "-bios", str(path)
