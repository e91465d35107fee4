"""Builds `answering_guest.c`, a guest that answers over its network cards, and asks it as a client would."""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qemu_lines import PATIENCE

COUNT = 0x10000
"""The guest physical address of the count, a little-endian u32 of the guest's own."""

_SCRIPT = f"""
answers = {COUNT:#x}; gdt_pointer_16 = gdt_pointer - 0xf0000;
SECTIONS {{
  . = 0xf0000; .all : {{ *(.start) *(.text*) *(.rodata*) }}
  . = 0x20000; .bss (NOLOAD) : {{ *(.bss*) *(COMMON) *(.data*) }}
  /DISCARD/ : {{ *(*) }}
}}
"""
_FLAGS = (
    "-m32 -march=i386 -Os -ffreestanding -fno-pic -fno-pie -fno-stack-protector -nostdlib -static -no-pie"
)


@functools.cache
def image() -> bytes:
    """64 KiB in place of firmware. Raises CalledProcessError with gcc's own words."""
    source = Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory(prefix="answering-") as folder:
        script, linked, flat = (Path(folder) / name for name in ("script.ld", "linked", "flat"))
        script.write_text(_SCRIPT)
        flags = [*_FLAGS.split(), "-Wl,--build-id=none,-m,elf_i386", f"-Wl,-T,{script}"]
        subprocess.run(["gcc", *flags, "-Wall", "-Werror", "-o", linked, source], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".all", linked, flat], check=True)
        code = flat.read_bytes()
    assert len(code) < 0xFFF0
    reset = b"\xea\0\0\0\xf0"  # jmp 0xf000:0
    return code.ljust(0xFFF0, b"\xf4") + reset.ljust(16, b"\0")


def answering_guest(folder: Path, cards: int = 1) -> tuple[str, ...]:
    """Options for `Qemu(extra=...)`: the guest, and `cards` network cards for the netdevs n0, n1."""
    path = folder / "answering.bin"
    path.write_bytes(image())
    options = ["-bios", str(path)]
    for n in range(cards):
        options += ["-device", f"rtl8139,netdev=n{n},addr={4 + n},mac=52:54:00:12:34:5{n},romfile="]
    return tuple(options)


def user_netdev(port: int, n: int = 0, *, bursts: bool = False) -> tuple[str, str]:
    """QEMU's own network: `port` of 127.0.0.1 leads to answers over UDP and TCP, the next one to `bursts`."""
    net, guest = f"10.0.{2 + n}.0/24", f"10.0.{2 + n}.15:7"
    forward = ",".join(f"hostfwd={kind}:127.0.0.1:{port}-{guest}" for kind in ("udp", "tcp"))
    if bursts:
        forward += f",hostfwd=udp:127.0.0.1:{port + 1}-{guest[:-1]}9"
    return "-netdev", f"user,id=n{n},net={net},{forward}"


class Asker:
    """A client over UDP of `port`, one request at a time, that sends again what was not answered."""

    AGAIN, WAIT = 0.05, 0.5
    """Seconds: when to send again, and when to look whether it is over."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._number = 0
        self.latencies: list[float] = []
        """Seconds to each answer, from the first time that it was asked for."""

    def ask(self, patience: float = PATIENCE) -> int | None:
        """The count in the answer to a new request; None: there is none in time."""
        self._number += 1
        began = time.monotonic()
        while (waited := time.monotonic() - began) < patience:
            try:
                self._socket.send(struct.pack(">Q", self._number))
            except OSError:  # nobody is there
                time.sleep(0.001)
            answer = self.hears(min(self.AGAIN, patience - waited))
            if answer is not None:
                self.latencies.append(time.monotonic() - began)
                return answer
        return None

    def hears(self, patience: float = PATIENCE) -> int | None:
        """The same for the request of before."""
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            with contextlib.suppress(OSError):
                number, count = struct.unpack(">QI", self._socket.recv(100))
                if number == self._number:
                    return int(count)
        return None

    def asks_until(self, over: Callable[[], object]) -> int:
        """Ask on and on; the last count."""
        last = 0
        while not over():
            last = self.ask(self.WAIT) or last
        return last

    def asks_for(self, seconds: float) -> int:
        """Ask on for so long; the last count."""
        end = time.monotonic() + seconds
        return self.asks_until(lambda: time.monotonic() > end)

    def close(self) -> None:
        self._socket.close()


class Burst:
    """A client over UDP, of the port behind `port`, that asks for many packets at once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port + 1))

    def ask(self, count: int, size: int) -> None:
        """So many packets of so many bytes."""
        self._socket.send(struct.pack(">IH2x", count, size))

    def heard(self, quiet: float = 0.5) -> int:
        """How many come, until none has for so many seconds."""
        self._socket.settimeout(quiet)
        found = 0
        with contextlib.suppress(TimeoutError):
            while self._socket.recv(2048):
                found += 1
        return found

    def close(self) -> None:
        self._socket.close()


class Pcap:
    """What a filter-dump has written. `counts`: those in the answers over UDP, in order."""

    def __init__(self, path: Path) -> None:
        data, at = path.read_bytes(), 24
        self.counts: list[int] = []
        while at + 16 <= len(data):
            (size,) = struct.unpack_from("=I", data, at + 8)
            frame = data[at + 16 : at + 16 + size]
            if frame[12:14] == b"\x08\0" and frame[23] == 17 and frame[34:36] == b"\0\7":
                self.counts += struct.unpack_from(">I", frame, 50)
            at += 16 + size
